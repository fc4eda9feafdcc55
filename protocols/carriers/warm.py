"""Run Flower programs that share one import: load their code once, fork each, and fork their tasks too.

    python warm.py --task flwr-clientapp -- flower-supernode ARGS -- flower-superexec ARGS

Importing Flower takes seconds of processor time, and a SuperExec starts a new program for every message. Here the
code is loaded once; each program, and each task that a SuperExec starts, is a fork that begins in milliseconds. A
task still is a process of its own: it begins from the fresh import, and has seen no secret and no earlier task.

Run as a file, not as a module: none of our own modules may be loaded when an app's bundle brings its own.
The one file that reaches into Flower's modules; it refuses to start where they are not as in 1.41.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

Main = Callable[[], object]

IDLE_S = 0.5  # how often an idle SuperNode asks the SuperLink for letters; Flower says 3 s
BUSY_S = 0.1  # how often a busy one looks whether the answer is there; Flower says 0.5 s
GRACE_S = 6.0  # for the programs to end after SIGTERM
HEARD_S = 2.0  # after which a program that is still there has not heard the first SIGTERM
LAST_MOMENT_S = 2.0  # for tasks to end after their programs
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Say which programs to run, each with its arguments, and which tasks they may start."""

    programs: tuple[tuple[str, ...], ...]
    tasks: tuple[str, ...]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Plan:
        """Read the command line. Raises: ValueError."""
        parts: list[list[str]] = [[]]
        for argument in arguments:
            if argument == "--":
                parts.append([])
            else:
                parts[-1].append(argument)
        options, *programs = parts
        if not programs or not all(programs) or options[::2] != ["--task"] * (len(options) // 2):
            raise ValueError("expected [--task NAME ...] -- PROGRAM ARGS [-- PROGRAM ARGS ...]")
        return cls(tuple(tuple(p) for p in programs), tuple(options[1::2]))


def main(arguments: Sequence[str]) -> None:
    """Load the code, fork the programs, and end when one of them does, with the first one's status."""
    plan = Plan.parse(arguments)
    mains = {name: _load(name) for name in (*(p[0] for p in plan.programs), *plan.tasks)}
    _preload()
    _pull_sooner()
    gc.freeze()  # the forks share these pages as long as nobody writes to them
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:  # ends with the programs, by the end of file
        near.close()
        _nursery(far, {name: mains[name] for name in plan.tasks})
    far.close()
    children: list[int] = []
    for program in plan.programs:
        pid = _fork(signal.SIGTERM)
        if pid == 0:
            _adapt(near, plan.tasks)
            _become(mains[program[0]], program)
        children.append(pid)
    near.close()
    _keep(children)


def _load(name: str) -> Main:
    """Return the function behind one of Flower's commands."""
    (entry,) = entry_points(group="console_scripts", name=name)
    loaded: Main = entry.load()
    return loaded


def _fork(last_word: int) -> int:
    """Fork; the child is sent the signal `last_word` when we die."""
    parent, pid = os.getpid(), os.fork()
    if pid == 0 and _LIBC is not None:
        _LIBC.prctl(1, last_word)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
    return pid


def _become(program: Main, command: Sequence[str]) -> NoReturn:
    """Be `program`, as if started with `command`."""
    sys.argv = list(command)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # the forks share its state, which nothing secret may rest on
    status: Any = program()
    sys.exit(status)  # as a console script does


def _nursery(requests: socket.socket, tasks: dict[str, Main]) -> NoReturn:
    """Fork a task for every request until the programs are gone; then give the tasks a moment, and end them.

    A task that has lost its SuperExec may wait for it for ever, in Flower's own exit handler: it is killed.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a task: the kernel buries it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while request := requests.recv(65_536):
        command, quiet = json.loads(request)
        if _fork(signal.SIGKILL) == 0:
            requests.close()
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if quiet:
                _silence()
            _become(tasks[command[0]], command)
    deadline = time.monotonic() + LAST_MOMENT_S
    while _children_live() and time.monotonic() < deadline:
        time.sleep(0.1)
    sys.exit(0)


def _children_live() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _adapt(nursery: socket.socket, tasks: Sequence[str]) -> None:
    """Have a SuperExec start its tasks in the nursery, and an idle SuperNode ask more often."""

    def popen(command: Sequence[str], stdout: int | None = None, **rest: Any) -> object:
        if command[0] not in tasks:
            return subprocess.Popen(command, stdout=stdout, **rest)
        return nursery.send(json.dumps([list(command), stdout == subprocess.DEVNULL]).encode())

    executor = importlib.import_module("flwr.supercore.superexec.executor.subprocess_executor")
    _replace(executor, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL))
    supernode = sys.modules.get("flwr.supernode.start_client_internal")
    if supernode is not None:
        _replace(supernode, "time", SimpleNamespace(sleep=lambda s: time.sleep(IDLE_S if s > 1 else BUSY_S)))


def _preload() -> None:
    """Load what every task needs before it comes to its app."""
    importlib.import_module("httpx")
    importlib.import_module("httpcore")
    importlib.import_module("numpy")
    importlib.import_module("msgpack")
    importlib.import_module("flwr.app")
    importlib.import_module("flwr.clientapp")


def _pull_sooner() -> None:
    """Have whoever waits for an object that is still on its way look again after 0.1 s; Flower says 1 s."""
    objects = importlib.import_module("flwr.supercore.inflatable.inflatable_utils")
    for name in ("pull_objects", "pull_and_inflate_object_from_tree"):
        defaults = getattr(objects, name).__kwdefaults__
        defaults["initial_backoff"] = min(BUSY_S, defaults["initial_backoff"])


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Replace what a module imported as `name`. Raises: AttributeError if it has none."""
    getattr(module, name)
    setattr(module, name, value)


def _keep(children: Sequence[int]) -> NoReturn:
    """Wait until one of the programs ends, or we are told to; end the others, and as the first one did."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    statuses: dict[int, int] = {}
    due = [float("inf")] * 2  # when to send SIGTERM, and when SIGKILL
    while len(statuses) < len(children):
        time.sleep(0.05)
        _bury(children, statuses)
        now = time.monotonic()
        if due[1] == float("inf") and (statuses or stopping):
            # Who stops us usually signals the whole group, and a second SIGTERM would cut a good-bye short.
            due = [now if statuses else now + HEARD_S, now + GRACE_S]
        if now >= due[0]:
            _signal(children, statuses, signal.SIGTERM)
            due[0] = float("inf")
        if now >= due[1]:
            _signal(children, statuses, signal.SIGKILL)
    _end_as(statuses[children[0]])


def _bury(children: Sequence[int], statuses: dict[int, int]) -> None:
    for pid in children:
        if pid not in statuses:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                statuses[pid] = os.waitstatus_to_exitcode(status)


def _signal(children: Sequence[int], statuses: dict[int, int], number: int) -> None:
    for pid in children:
        if pid not in statuses:
            os.kill(pid, number)


def _end_as(status: int) -> NoReturn:
    """End with an exit status, or by a signal if it is negative."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
