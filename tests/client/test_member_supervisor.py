"""Real small programs are kept running, and none is left behind."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from client import supernode
from client.folder import Road
from client.settings import RoadSettings
from client.supervisor import Hopeless, Team, keep_running
from protocols.carriers.processes import Program, alive

SLEEP = "import time; time.sleep(600)"


def _program(folder: Path, name: str, code: str) -> Program:
    return Program(name, (sys.executable, "-c", code), {"PATH": os.environ["PATH"]}, folder)


def _quiet(_line: str) -> None:
    return


def _until(condition: Callable[[], bool], tick: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        tick()
        time.sleep(0.02)


def test_a_program_that_was_killed_is_started_again_after_its_delay(tmp_path: Path) -> None:
    statuses: list[int] = []

    def delay(status: int) -> float:
        statuses.append(status)
        return 0.5

    team = Team("one", lambda: (_program(tmp_path, "one", SLEEP),), delay, say=_quiet)
    try:
        team.tick()
        first = team.children[0].pid
        os.kill(first, signal.SIGKILL)
        _until(lambda: not team.children, team.tick)
        buried = time.monotonic()
        _until(lambda: bool(team.children), team.tick)
        assert time.monotonic() - buried >= 0.4
        assert team.children[0].pid != first
        assert statuses == [-signal.SIGKILL]
    finally:
        team.stop()


def test_when_one_of_a_team_dies_the_others_are_stopped_and_all_are_started_anew(tmp_path: Path) -> None:
    ports = iter(range(10))

    def programs() -> tuple[Program, Program]:
        port = next(ports)
        return _program(tmp_path, "node", f"port = {port}; {SLEEP}"), _program(tmp_path, "exec", SLEEP)

    team = Team("two", programs, lambda _status: 0.0, say=_quiet)
    try:
        team.tick()
        node, executor = (child.pid for child in team.children)
        os.kill(executor, signal.SIGKILL)
        _until(lambda: team.starts == 2, team.tick)
        assert not alive(node)
        assert "port = 1" in " ".join(team.children[0].program.command)
    finally:
        team.stop()


def test_a_team_waits_until_it_may_start(tmp_path: Path) -> None:
    enrolled = threading.Event()
    team = Team("one", lambda: (_program(tmp_path, "one", SLEEP),), lambda _s: 0.0, enrolled.is_set, _quiet)
    try:
        team.tick()
        assert not team.children
        enrolled.set()
        team.tick()
        assert team.children
    finally:
        team.stop()


def test_a_hopeless_program_ends_everything_and_leaves_nothing_running(tmp_path: Path) -> None:
    def hopeless(_status: int) -> float:
        raise Hopeless("wrong settings")

    other = Team("other", lambda: (_program(tmp_path, "other", SLEEP),), lambda _s: 0.0, say=_quiet)
    broken = Team("broken", lambda: (_program(tmp_path, "broken", "raise SystemExit(78)"),), hopeless, say=_quiet)
    other.tick()
    pid = other.children[0].pid
    with pytest.raises(Hopeless, match="wrong settings"):
        keep_running([other, broken], threading.Event())
    assert not alive(pid)


def test_stopping_ends_every_program(tmp_path: Path) -> None:
    team = Team("one", lambda: (_program(tmp_path, "one", SLEEP),), lambda _s: 0.0, say=_quiet)
    stopping = threading.Event()
    pids: list[int] = []

    def stop_when_up() -> None:
        _until(lambda: bool(team.children))
        pids.append(team.children[0].pid)
        stopping.set()

    thread = threading.Thread(target=stop_when_up)
    thread.start()
    keep_running([team], stopping)
    thread.join()
    assert not alive(pids[0])
    assert not list(tmp_path.glob("*.pid"))


def test_a_supernode_that_was_killed_waits_until_the_superlink_has_forgotten_it() -> None:
    assert supernode.restart_delay(-signal.SIGKILL) > 60
    assert supernode.restart_delay(0) < 5  # it said good-bye
    assert supernode.restart_delay(1) < 60


def test_a_supernode_is_started_with_keys_and_certificates_and_nothing_of_the_home(tmp_path: Path) -> None:
    road = Road(tmp_path / "road")
    started = supernode.program(road, RoadSettings("clinic", "127.0.0.1:9", Path("/run/d.sock")))
    for flag in ("--auth-supernode-private-key", "--root-certificates", "--superexec-auth-secret-file"):
        assert flag in started.command
    assert "--insecure" not in started.command
    paths = [word for word in started.command if word.startswith(str(tmp_path))]
    assert len(paths) >= 7
    assert all(word.startswith(str(road.root)) for word in paths)
    assert started.environment["FLWR_HOME"] == str(road.flower_home)
    assert started.environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert started.command[started.command.index("--isolation") + 1] == "process"
    port = started.command[started.command.index("--port") + 1]
    assert f"127.0.0.1:{port}" in started.command  # where the SuperExec finds it
