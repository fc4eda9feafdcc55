"""What leaves a home in a real run is what its trail says, byte for byte; and there is no other way out of it.

    SuperNode ── tap ── daemon (its own network: none; its sockets, processes and files watched)

The tap stands where the coordinator's code stands. Every byte it hears from a daemon is either the fixed silence or
an answer whose digest and size the trail had before.
"""

import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from client.audit import export, reconcile, verify
from client.enrol import enrol_home
from client.folder import Folder
from client.opening import identity_of
from client.settings import Settings
from privacy.ledger import Ledger
from protocols.carriers import processes
from protocols.carriers.processes import Program
from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.ordering import collect, order_for, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WATCHED = Path(__file__).with_name("watched_daemon.py")
TABLES = (
    *("unix", "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "netlink"),
    "../../self/net/unix",  # an accepted socket is listed where its peer lives: here
)
UNIX = f"({int(socket.AF_UNIX)}, "
SILENCE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n"
    b"content-type: text/plain; charset=utf-8\r\n\r\nno-answer"
)


@dataclass
class UnixTap:
    """Stand before a daemon's socket, forward every byte, and keep what came from the daemon, by connection."""

    near: Path
    far: Path
    said: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.near))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:  # the tap was closed
                return
            daemon = socket.socket(socket.AF_UNIX)
            try:
                daemon.connect(str(self.far))
            except OSError:  # nobody there yet
                caller.close()
                continue
            heard = bytearray()
            self.said.append(heard)
            threading.Thread(target=self._pump, args=(caller, daemon, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(daemon, caller, heard), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, heard: bytearray | None) -> None:
        try:
            while data := source.recv(65536):
                if heard is not None:
                    heard += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        self._server.close()


def no_network() -> tuple[str, ...]:
    """The command that takes all networks from a program, where the machine lets us."""
    command = ("unshare", "--user", "--map-root-user", "--net")
    if shutil.which("unshare") is None:
        return ()
    return command if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0 else ()


def sockets_of(pid: int) -> set[str]:
    """Say of each socket that a process holds what kind it is: unix, tcp, udp, ..."""
    left, kinds = open_sockets(pid), {}
    for _ in range(20):  # the kernel's lists are not read at one moment: what is in none is looked for again
        for table in TABLES:
            lines = Path(f"/proc/{pid}/net/{table}")
            kind = lines.name
            at = {"unix": 6, "packet": 8}.get(kind, 9)
            found = [line.split() for line in lines.read_text().splitlines()[1:]] if lines.exists() else []
            kinds |= {words[at]: kind for words in found if len(words) > at}
        left &= open_sockets(pid)
        if left <= set(kinds):
            break
        time.sleep(0.01)
    return {kinds.get(number, "unknown") for number in left}


def open_sockets(pid: int) -> set[str]:
    """Return the numbers of the sockets that a process holds."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(link)
        except OSError:  # closed just now
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


@contextmanager
def watched(nodes: real.Nodes, folder: Path) -> Iterator[tuple[object, dict[str, UnixTap], dict[str, Path]]]:
    """Bring everybody up, each daemon behind a tap, watched and without a network."""
    taps, notes, children = {}, {}, []
    cut = no_network()
    try:
        children.append(processes.start(real._program("coordinator", nodes.coordinator.root)))
        for name, home in nodes.homes.items():
            settings = Settings.load(home / "home.toml")
            near, notes[name] = home / "run" / "tap.sock", folder / f"{name}.notes"
            near.parent.mkdir(mode=0o700, exist_ok=True)
            taps[name] = UnixTap(near, settings.socket_in(home))
            road = home / "road" / "road.toml"
            road.write_text(road.read_text().replace(str(settings.socket_in(home)), str(near)))
            assert str(near) in road.read_text()
            command = (*cut, sys.executable, str(WATCHED), str(home), str(notes[name]))
            children.append(processes.start(Program(f"{name}-daemon", command, dict(os.environ), folder)))
        for home in nodes.homes.values():
            assert enrol_home(Folder(home), lambda seconds: bool(time.sleep(seconds)), lambda _line: None)
        for name, home in nodes.homes.items():
            command = (sys.executable, "-m", "simulations.cli", "member", "up", str(home), "--only", "supernode")
            children.append(processes.start(Program(f"{name}-road", command, dict(os.environ), folder)))
        real._await(nodes, children, lambda _line: None)
        yield nodes.client, taps, notes
    finally:
        processes.stop(reversed(children))
        for tap in taps.values():
            tap.close()


def answers(said: Sequence[bytearray]) -> Iterator[bytes]:
    """Take apart all that a daemon said: the bodies of its answers. Nothing else may be there."""
    for heard in map(bytes, said):
        rest = heard.replace(SILENCE, b"")
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            assert lines[0] == b"HTTP/1.1 200 OK"
            headers = dict(line.split(b": ") for line in lines[1:])
            assert set(headers) == {b"content-length", b"content-type"}
            assert headers[b"content-type"] == b"application/octet-stream"
            size = int(headers[b"content-length"])
            assert len(rest) >= size
            yield rest[:size]
            rest = rest[size:]


def trail(home: Path) -> list[dict]:
    ledger = Ledger(Settings.load(home / "home.toml").ledger_in(home))
    try:
        return [json.loads(line) for line in ledger.lines()]
    finally:
        ledger.close()


def test_every_byte_that_leaves_a_home_in_a_real_run_is_in_its_trail_and_there_is_no_other_way_out(
    experiment_file, short, tmp_path, deployment
):
    with deployment(experiment_file, short / "real") as (experiment, _, base, nodes):
        held: dict[str, set[str]] = {name: set() for name in nodes.homes}
        over = threading.Event()
        with watched(nodes, tmp_path) as (client, taps, notes):
            pids = {n: _daemon_pid(tmp_path / f"{n}-daemon.pid") for n in nodes.homes}

            def sample() -> None:
                while not over.wait(0.02):
                    for name, pid in pids.items():
                        held[name] |= sockets_of(pid)

            sampler = threading.Thread(target=sample)
            sampler.start()
            run = client.submit(order_for(experiment, base))
            watch(client, run, run_of(experiment).trips(experiment), Console(quiet=True))
            result = collect(client, run, experiment.collaboration.name)
            over.set()
            sampler.join()
    assert np.isfinite(result.adapter).all()
    assert result.answered == (3, 3)
    for name, home in nodes.homes.items():
        lines = trail(home)
        emitted = {line["answer"]: line["size"] for line in lines if line["kind"] == "emitted"}
        left = [(hashlib.sha256(body).hexdigest(), len(body)) for body in answers(taps[name].said)]
        assert len(left) == run_of(experiment).trips(experiment), name
        assert dict(left) == emitted, name
        cleared = {(x["session"], x["number"]) for x in lines if x["kind"] in ("charged", "disclosed", "said")}
        assert {(x["session"], x["number"]) for x in lines if x["kind"] == "emitted"} <= cleared
        assert held[name] <= {"unix"}, f"{name} held {held[name]}"
        assert "unix" in held[name], "nothing was sampled"
        check_notes(notes[name], home)
    check_trails(nodes, tmp_path)


def check_trails(nodes: real.Nodes, folder: Path) -> None:
    """Every trail verifies with its home's public key, and any two tell of the same sessions in the same words."""
    keys = {}
    for name, home in nodes.homes.items():
        assert verify(home).sound, verify(home).faults
        assert export(home, folder / f"{name}.jsonl").sound
        keys[name] = identity_of(Folder(home)).public
        assert verify(folder / f"{name}.jsonl", [keys[name]]).sound
        assert [line["member"] for line in trail(home) if line["kind"] == "started"] == [name]
        emitted, kept = ([x for x in trail(home) if x["kind"] == kind] for kind in ("emitted", "receipt"))
        assert [x["answer"] for x in kept] == [x["answer"] for x in emitted[:-1]]  # all but the farewell's
    for one, other in itertools.combinations(nodes.homes, 2):
        found = reconcile(folder / f"{one}.jsonl", folder / f"{other}.jsonl", list(keys.values()))
        assert found.both
        assert (found.differences, found.alone) == ((), ())


def check_notes(notes: Path, home: Path) -> None:
    """Nothing was dialled or started; two sockets were bound, and every file that was written is the home's."""
    seen = [json.loads(line) for line in notes.read_text().splitlines()]
    binds = [what for event, what in seen if event == "socket.bind"]
    assert len(binds) == 2
    assert all(".sock" in what for what in binds)
    assert any("daemon.sock" in what for what in binds)
    for event, what in seen:
        if event in ("open", "os.rename", "os.link", "os.symlink", "sqlite3.connect"):
            assert what == "/dev/null" or Path(what).is_relative_to(home.resolve()), f"{event} {what}"
        else:
            assert event == "socket.bind" or (event == "socket.__new__" and what.startswith(UNIX)), f"{event} {what}"
    assert any(event == "sqlite3.connect" for event, _ in seen), "the hook saw nothing"


def _daemon_pid(file: Path) -> int:
    return int(file.read_text().split()[0])
