"""Programs forked from one import behave as if started by themselves: their end, their signals, their tasks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deployment import until

from protocols.carriers import processes, warm
from protocols.carriers.flower_road import environment
from protocols.carriers.flower_road import warm as command
from protocols.carriers.processes import Program
from protocols.carriers.warm import Plan


def test_a_command_line_survives_being_written_and_read() -> None:
    words = command(("flwr-clientapp",), ("flower-supernode", "--port", "1"), ("flower-superexec", "--insecure"))
    plan = Plan.parse(words[2:])
    assert plan.tasks == ("flwr-clientapp",)
    assert plan.programs == (("flower-supernode", "--port", "1"), ("flower-superexec", "--insecure"))


@pytest.mark.parametrize("words", [[], ["--"], ["--task", "--", "x"], ["x", "--", "y"], ["--", "x", "--"]])
def test_a_command_line_that_names_no_program_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Plan.parse(words)


def test_the_programs_run_as_a_file_and_bring_none_of_our_modules(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['warm.py']\n"
        "try: runpy.run_path(sys.orig_argv[-1], run_name='__main__')\n"
        "except ValueError: print(*sys.modules)"
    )
    words = [sys.executable, "-c", code, warm.__file__]
    loaded = subprocess.check_output(words, env=environment(tmp_path), cwd=tmp_path, text=True).split()
    assert not [name for name in loaded if name.partition(".")[0] in ("client", "server", "protocols", "privacy")]


def test_it_refuses_to_start_where_flowers_modules_are_not_as_expected() -> None:
    with pytest.raises(AttributeError):
        warm._replace(json, "no_such_name", None)


def keeper(folder: Path, *codes: str) -> processes.Child:
    """Run the real keeper over forks of small programs, in a process of its own."""
    code = (
        "import sys, os; from protocols.carriers import warm\n"
        "children = []\n"
        "for code in sys.argv[1:]:\n"
        "    pid = warm._fork(15)\n"
        "    if pid == 0:\n"
        "        warm._become(lambda: exec(code, {}), ['program'])\n"
        "    children.append(pid)\n"
        "warm._keep(children)\n"
    )
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return processes.start(Program("keeper", (sys.executable, "-c", code, *codes), env, folder))


SLEEP = "import time, os; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


@pytest.mark.parametrize(
    ("first", "status"),
    [("raise SystemExit(7)", 7), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", -9), ("os = 1 / 0", 1)],
)
def test_when_the_first_program_ends_so_do_the_others_and_as_it_did(tmp_path: Path, first: str, status: int) -> None:
    child = keeper(tmp_path, "import time; time.sleep(0.5); " + first, SLEEP)
    assert child.wait(20)
    assert child.returncode == status
    assert not processes._group_lives(child.pid)


def test_when_another_program_ends_the_first_one_is_asked_to(tmp_path: Path) -> None:
    polite = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); time.sleep(60)"
    child = keeper(tmp_path, polite, "import time; time.sleep(1)")
    assert child.wait(20)
    assert child.returncode == 3


@pytest.mark.slow
def test_a_program_that_ignores_sigterm_does_not_keep_the_others_waiting_for_ever(tmp_path: Path) -> None:
    child = keeper(tmp_path, STUBBORN, STUBBORN)
    until(lambda: child.program.log.read_text().count("up") == 2)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(warm.GRACE_S + 5)
    assert child.returncode == -9


def test_a_keeper_that_is_killed_takes_its_programs_with_it(tmp_path: Path) -> None:
    child = keeper(tmp_path, SLEEP, SLEEP)
    until(lambda: child.program.log.read_text().count("up") == 2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(5)
    until(lambda: not processes._group_lives(child.pid), 5)


def nursery(folder: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = (
        "import socket, sys, os, time; from protocols.carriers import warm\n"
        "def task():\n"
        "    with open(sys.argv[1], 'w') as f: f.write(f'{os.getpid()} {os.getppid()}')\n"
        "    print('spoke', flush=True)\n"
        "    time.sleep(float(sys.argv[2]))\n"
        f"warm._nursery(socket.socket(fileno={far.fileno()}), {{'task': task}})\n"
    )
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=env, pass_fds=[far.fileno()], stdout=log, stderr=log
        )
    far.close()
    return process, near


def born(folder: Path, near: socket.socket, name: str, seconds: float, quiet: bool = False) -> int:
    near.send(json.dumps([["task", str(folder / name), str(seconds)], quiet]).encode())
    until(lambda: (folder / name).exists() and (folder / name).read_text())
    return int((folder / name).read_text().split()[0])


def test_every_task_is_a_process_of_its_own_and_is_buried(tmp_path: Path) -> None:
    process, near = nursery(tmp_path)
    pids = [born(tmp_path, near, name, 0) for name in "abc"]
    assert len({*pids, process.pid}) == 4
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5)  # no zombies either
    near.close()
    assert process.wait(10) == 0


def test_a_quiet_task_says_nothing(tmp_path: Path) -> None:
    process, near = nursery(tmp_path)
    born(tmp_path, near, "a", 0, quiet=True)
    born(tmp_path, near, "b", 0)
    near.close()
    process.wait(10)
    assert (tmp_path / "log").read_text().count("spoke") == 1


def test_a_task_that_outstays_its_programs_is_ended(tmp_path: Path) -> None:
    process, near = nursery(tmp_path)
    pid = born(tmp_path, near, "a", 60)
    began = time.monotonic()
    near.close()
    process.wait(warm.LAST_MOMENT_S + 5)
    until(lambda: not processes.alive(pid), 5)
    assert time.monotonic() - began < warm.LAST_MOMENT_S + 8
