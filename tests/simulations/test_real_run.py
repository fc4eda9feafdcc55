"""A real run on real nodes: the adapter of every engine, nothing private on a wire or in a file, faults survived."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from protocols.carriers.processes import alive
from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.engine import simulate
from simulations.ordering import collect, order_for, watch
from simulations.texts import training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CANARY = "zq canary of the patient zq"


class Tap:
    """Stand between the members and the coordinator, forward every byte, and remember it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"

    def forward_to(self, port: int) -> None:
        self.port = port
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:  # the tap was closed
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:  # nobody there yet
                near.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.heard.append(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        self._server.close()


def pids(folder: Path) -> list[int]:
    """Every process that the deployment wrote down, and all their descendants."""
    found = {int(text) for f in folder.rglob("*.pid") if (text := f.read_text().split()[0]).isdigit()}
    while True:
        more = {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) in found} - found
        if not more:
            return sorted(found)
        found |= more


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return -1


def everything_written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of the deployment but the members' own data."""
    for file in folder.rglob("*"):
        if file.is_file() and "data" not in file.relative_to(folder).parts[:1]:
            yield file, file.read_bytes()


def test_a_real_run_gives_the_simulated_adapter_and_no_canary_leaves_its_home(
    experiment_file, tmp_path, short, deployment, caplog
):
    for member in ("ash", "birch", "cedar"):
        for text in (experiment_file.parent / member).glob("*.txt"):
            text.write_text(text.read_text() + CANARY * 3, encoding="utf-8")
    tap, folder = Tap(), short / "real"
    with deployment(experiment_file, folder, tap.address) as (experiment, texts, base, nodes):
        here, village = simulate(experiment, training(texts), base, tmp_path / "village")
        village.close()
        tap.forward_to(int(str(nodes.coordinator.listen).rpartition(":")[2]))
        console = Console(record=True, width=200)
        with real.up(nodes, console.print) as client:
            run = client.submit(order_for(experiment, base))
            view = watch(client, run, run_of(experiment).trips(experiment), console)
            result = collect(client, run, experiment.collaboration.name)
            running = pids(folder)
        assert len(running) >= 8
        assert [p for p in running if alive(p)] == [], "something is left running"
    tap.close()
    assert np.array_equal(result.adapter, here.adapter)
    assert result.answered == (3, 3)
    for name in nodes.homes:
        statement = nodes.statement(name)
        assert (statement.charges, statement.disclosures) == (2, 0)
        assert 0 < statement.spent.epsilon <= 8.0
    said = console.export_text() + caplog.text + json.dumps(dict(view))
    crossed = b"".join(tap.heard)
    assert len(crossed) > 10_000
    for canary in (CANARY, CANARY.encode().hex(), CANARY[3:9]):
        assert canary not in said
        assert canary.encode() not in crossed
    written = list(everything_written(folder))
    assert len(written) > 20
    for file, content in written:
        assert CANARY.encode() not in content, file
        for name in nodes.homes:
            assert f"{name} says 1 {name} says".encode() not in content, file


def test_a_daemon_killed_in_mid_run_costs_its_round_at_most_and_is_charged_once_for_each(
    experiment_file, short, deployment
):
    text = experiment_file.read_text().replace("rounds = 2", "rounds = 4").replace("steps = 2", "steps = 12")
    text = text.replace("quorum = 2", "quorum = 2\nunsafe_plain_sum = true")  # a secure sum: see test_real_sums.py
    experiment_file.write_text(text.replace("seed = 7\nunsafe_seeded_randomness = true", "seed = 7"))
    with deployment(experiment_file, short / "real") as (experiment, _, base, nodes):
        with real.up(nodes, lambda _line: None) as client:
            run = client.submit(order_for(experiment, base))
            _await_trips(client, run, 1)
            victim = nodes.homes["birch"] / "run"
            os.kill(int((victim / "daemon.pid").read_text().split()[0]), signal.SIGKILL)
            watch(client, run, 4, Console(quiet=True))
            result = collect(client, run, experiment.collaboration.name)
    assert all(n >= 2 for n in result.answered)
    assert result.answered[0] == 3
    assert result.answered[-1] == 3, "the member did not come back"
    charges = {name: nodes.statement(name).charges for name in nodes.homes}
    assert charges["ash"] == charges["cedar"] == 4
    assert sum(1 for n in result.answered if n == 3) <= charges["birch"] <= 4


def test_an_interrupted_demo_leaves_nothing_running(experiment_file, short):
    import subprocess
    import sys

    folder = short / "demo"
    command = [
        sys.executable,
        "-m",
        "simulations.cli",
        "demo",
        "--folder",
        "demo",  # relative: what `make demo` names
        "--experiment",
        str(experiment_file),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, cwd=short
    )
    deadline = time.monotonic() + 200
    while len(found := pids(folder)) < 6 if folder.exists() else True:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert [p for p in found if alive(p)] == []


def _await_trips(client, run: str, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(client.view(run)["trips"]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.2)
