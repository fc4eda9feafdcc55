"""Children end with their parent, and whoever started them can find them again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocols.carriers import processes
from protocols.carriers.processes import Program

SLEEP = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); " + SLEEP
PARENT = """
import sys, time, pathlib
from protocols.carriers.processes import Program, start
child = start(Program("child", (sys.executable, "-c", sys.argv[2]), {}, pathlib.Path(sys.argv[1])))
print(child.pid, flush=True)
time.sleep(60)
"""


def program(folder: Path, code: str, name: str = "child") -> Program:
    return Program(name, (sys.executable, "-c", code), {"PATH": os.environ["PATH"]}, folder)


def until(condition: object, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_a_child_runs_in_an_empty_folder_with_only_the_environment_it_was_given(tmp_path: Path) -> None:
    child = processes.start(program(tmp_path, "import os; print(os.listdir('.'), sorted(os.environ))"))
    assert child.wait(10)
    assert child.program.log.read_text().startswith("[] ['")
    assert "HOME" not in child.program.log.read_text()
    processes.stop([child])


def test_logs_and_pid_files_are_for_the_owner_only(tmp_path: Path) -> None:
    child = processes.start(program(tmp_path, SLEEP))
    modes = {stat.S_IMODE(f.stat().st_mode) for f in (child.program.log, child.program.pid_file)}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "child").stat().st_mode) == 0o700
    processes.stop([child])


def test_stopping_leaves_neither_process_nor_pid_file(tmp_path: Path) -> None:
    child = processes.start(program(tmp_path, SLEEP))
    until(lambda: "here" in child.program.log.read_text())
    processes.stop([child])
    assert not processes.alive(child.pid)
    assert not child.program.pid_file.exists()
    assert processes.dead([child]) == [child]


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    child = processes.start(program(tmp_path, STUBBORN))
    until(lambda: "up" in child.program.log.read_text())
    processes.stop([child], grace_s=0.3)
    assert child.returncode == -signal.SIGKILL


def test_stopping_a_child_stops_what_it_started(tmp_path: Path) -> None:
    grandchild = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]).pid)"
    child = processes.start(program(tmp_path, grandchild + "; sys.stdout.flush(); time.sleep(60)"))
    until(lambda: "up" in child.program.log.read_text())
    pid = int(next(line for line in child.program.log.read_text().splitlines() if line.isdigit()))
    assert processes.alive(pid)
    processes.stop([child], grace_s=0.5)
    assert not processes.alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with parent(tmp_path, SLEEP) as killed:
        pid = int(killed.stdout.readline())  # type: ignore[union-attr]
        killed.kill()
    until(lambda: not processes.alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")
def test_what_a_killed_parent_left_is_swept_by_its_pid_file(tmp_path: Path) -> None:
    with parent(tmp_path, STUBBORN) as killed:
        pid = int(killed.stdout.readline())  # type: ignore[union-attr]
        until(lambda: "up" in (tmp_path / "child.log").read_text())
        killed.kill()
    assert processes.alive(pid)  # it ignores the kernel's SIGTERM
    assert processes.sweep(tmp_path, grace_s=0.3) == ["child"]
    assert not processes.alive(pid)
    assert processes.sweep(tmp_path) == []


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP], process_group=0) as stranger:
        (tmp_path / "child.pid").write_text(f"{stranger.pid} 12345\n")
        assert processes.sweep(tmp_path) == []
        assert processes.alive(stranger.pid)
        stranger.kill()


def test_a_stop_signal_is_noticed_and_the_old_way_of_taking_it_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with processes.stop_signals() as stopping:
        assert not stopping.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before


def parent(folder: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PARENT, str(folder), code], stdout=subprocess.PIPE, text=True)
