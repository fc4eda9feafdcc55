"""Two members and a coordinator as the operators start them: a round, a killed SuperNode, and nothing left behind."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from client.folder import Folder
from client.init import Wishes, init
from client.model import layout_of, load_base
from client.supernode import UNACKNOWLEDGED_S
from privacy.units import Unit
from protocols.carriers.processes import alive
from protocols.catalog import CATALOG
from protocols.weights.average import Average
from protocols.weights.recipe import Recipe
from server import folder as coordinator_folder
from server.control import Client
from server.invitation import invite
from server.rounds import ORDERS, Order

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NAMES = ("bank", "clinic")
CANARY = f"canary-{secrets.token_hex(8)}"


@dataclass
class Town:
    """A coordinator and its members, each with its `up`."""

    root: Path
    coordinator: coordinator_folder.Folder
    homes: dict[str, Folder]
    model: Path
    ups: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.coordinator)

    def up(self, name: str, side: str, folder: Path) -> None:
        code = f"from {side}.cli import app; app()"
        with (self.root / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-c", code, "up", str(folder)]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self.ups[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def down(self) -> None:
        for process in self.ups.values():
            process.terminate()
        for process in self.ups.values():
            process.wait(60)

    def run(self, deadline_s: float) -> dict[str, object]:
        """Run one round and return its last view."""
        base = load_base(str(self.model))
        layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=3)
        recipe = Recipe(
            base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0,
            targets=("q_proj", "v_proj"), adapter_seed=3, record_tokens=16, rounds=1, steps=2, batch_size=8,
            optimizer="sgd", learning_rate=0.1, clipping_norm=1.0, unit=Unit.RECORD, epsilon=1.0, delta=1e-5,
        )  # fmt: skip
        task = CATALOG["average"].wire.encode(Average(recipe, 1, np.zeros(recipe.length, np.float32), None))
        run = self.client.submit(ORDERS.encode(Order("average", NAMES, task, float(deadline_s))))
        while (view := dict(self.client.view(run)))["state"] == "running":
            time.sleep(0.3)
        return view

    def online(self) -> set[str]:
        return {m["name"] for m in self.client.status()["members"] if m["online"]}

    def pids(self) -> list[int]:
        return [int(f.read_text().split()[0]) for f in self.root.rglob("*.pid")]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("t")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    coordinator = coordinator_folder.init(root / "coordinator", f"127.0.0.1:{port}")
    homes = {name: Folder(root / name) for name in NAMES}
    for name, home in homes.items():
        invite(coordinator, name, root / f"{name}.toml")
        data = root / f"{name}.jsonl"
        data.write_text("".join(f'{{"text": "{CANARY} note {n} of the {name}"}}\n' for n in range(50)))
        init(home.root, Wishes(root / f"{name}.toml", str(model_folder), data))
        policy = home.policy.read_text().replace("record_tokens = 128", "record_tokens = 16")
        home.policy.write_text(policy.replace("# unsafe_plain_sum", "unsafe_plain_sum"))
    made = Town(root, coordinator, homes, model_folder)
    try:
        made.up("coordinator", "server", coordinator.root)
        for name, home in homes.items():
            made.up(name, "client", home.root)
        made.client.await_ready(180, members=2)
        yield made
    finally:
        made.down()


def until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_round_goes_from_the_members_data_to_the_coordinators_result(town: Town) -> None:
    view = town.run(180)
    assert view["state"] == "succeeded", json.dumps(view)
    for home in town.homes.values():
        assert not home.invitation.exists()
        entries = _parley("ledger", str(home.root))
        assert "\n  charges 1\n" in entries


def test_a_daemon_stays_below_700_mb(town: Town) -> None:
    for home in town.homes.values():
        pid = (home.run / "daemon.pid").read_text().split()[0]
        peak = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
        assert int(peak[0].split()[1]) < 700 * 1024


def test_the_words_of_the_data_are_in_no_file_but_the_data(town: Town) -> None:
    for file in town.root.rglob("*"):
        if file.is_file() and file.suffix != ".jsonl":
            assert CANARY.encode() not in file.read_bytes(), file


def test_a_killed_supernode_is_missed_in_one_round_and_comes_back_by_itself(town: Town) -> None:
    until(lambda: town.online() == set(NAMES), 60)
    for pid in _flower_processes(town.homes["clinic"]):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    view = town.run(100)
    assert view["state"] == "succeeded", json.dumps(view)
    assert view["trips"][0]["answered"] == ["bank"]  # type: ignore[index]
    until(lambda: "clinic" not in town.online(), 90)
    until(lambda: "clinic" in town.online(), 180)
    assert time.monotonic() - killed > UNACKNOWLEDGED_S
    assert town.run(180)["trips"][0]["answered"] == list(NAMES)  # type: ignore[index]


def test_ending_all_leaves_nothing_running(town: Town) -> None:
    pids = town.pids()
    assert len(pids) >= 4
    town.down()
    assert not any(alive(pid) for pid in pids)
    assert not town.pids()
    marks = [str(town.root).encode()]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        assert not any(mark in line for mark in marks), line


def _flower_processes(home: Folder) -> list[int]:
    """Every process of the member's SuperNode: they share a process group, the first one's number."""
    group = int((home.road.run / "supernode.pid").read_text().split()[0])
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            found.append(int(stat.parent.name))
    return found


def _parley(*arguments: str) -> str:
    command = [sys.executable, "-c", "from client.cli import app; app()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
