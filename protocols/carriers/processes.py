"""Start, watch and stop child processes, so that none outlives its parent.

Standard library only. A child leads its own process group, writes one log, has an empty working directory
of its own, and on Linux is sent SIGTERM by the kernel when its parent dies, even by `kill -9`. What a
killed parent left all the same is found by its pid file and ended by `sweep`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

GRACE_S = 10.0
_POLL_S = 0.05
_KILLED_S = 5.0  # how long the kernel may take over a SIGKILL
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Program:
    """Say what to start: a name, a command, its whole environment, and the folder of its log and pid file."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path

    @property
    def log(self) -> Path:
        """Return where the program's output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Return where its process id is kept while it runs."""
        return self.folder / f"{self.name}.pid"


class Child:
    """Hold one running program; forget it only once it has ended."""

    def __init__(self, program: Program, process: subprocess.Popen[bytes]) -> None:
        self.program = program
        self.started = time.monotonic()
        self._process = process

    @property
    def name(self) -> str:
        """Return the program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """Return the process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s`; say whether it has ended."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def start(program: Program) -> Child:
    """Start a program in a process group of its own.

    Call it from a thread that lives as long as the child should: it is the thread that the kernel watches.
    """
    cwd = program.folder / program.name
    cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        process = subprocess.Popen(
            program.command,
            cwd=cwd,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  only async-signal-safe calls in there
        )
    _write_pid(program.pid_file, process.pid)
    return Child(program, process)


def stop(children: Iterable[Child], grace_s: float = GRACE_S) -> None:
    """End the children and all they started: SIGTERM to all at once, SIGKILL to what outlasts the grace."""
    children = list(children)
    for child in children:
        _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for child in children:
        child.wait(max(0.0, deadline - time.monotonic()))
        _end_group(child.pid, deadline)  # what it started may outlive it
        child.wait(_KILLED_S)
        child.program.pid_file.unlink(missing_ok=True)


def dead(children: Iterable[Child]) -> list[Child]:
    """Return those that no longer run."""
    return [child for child in children if not child.running]


def sweep(folder: Path, grace_s: float = GRACE_S) -> list[str]:
    """End what a killed parent left running, by the pid files in `folder`; return the names.

    A pid is signalled only if the process with that number started when the file says: numbers are reused.
    """
    swept = []
    for pid_file in sorted(folder.glob("*.pid")):
        pid = _recorded(pid_file)
        if pid is not None:
            _signal_group(pid, signal.SIGTERM)
            _end_group(pid, time.monotonic() + grace_s)
            swept.append(pid_file.stem)
        pid_file.unlink(missing_ok=True)
    return swept


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Within, SIGINT, SIGTERM and SIGHUP set the event instead of ending the process. Main thread only."""
    stopping = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    try:
        yield stopping
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def alive(pid: int) -> bool:
    """Say whether a process of that number exists and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] != ["Z"]


def _die_with(parent: int) -> Callable[[], object] | None:
    """Return what the child runs between fork and exec: on Linux, ask for SIGTERM when the parent dies."""
    libc = _LIBC
    if libc is None:
        return None

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def _write_pid(pid_file: Path, pid: int) -> None:
    descriptor = os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{pid} {_born(pid)}\n")


def _recorded(pid_file: Path) -> int | None:
    """Return the pid in a pid file if that very process still runs."""
    words = pid_file.read_text(encoding="ascii").split()
    if len(words) != 2 or not words[0].isdigit():
        return None
    pid = int(words[0])
    return pid if alive(pid) and _born(pid) == words[1] != "" else None


def _born(pid: int) -> str:
    """Return the kernel's start time of a process, in ticks since boot; empty where it cannot be known."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_group(group: int, deadline: float) -> None:
    """Give the process group until the deadline to end by itself, then kill it."""
    _await_group(group, deadline)
    if _group_lives(group):
        _signal_group(group, signal.SIGKILL)
        _await_group(group, time.monotonic() + _KILLED_S)


def _await_group(group: int, deadline: float) -> None:
    """Wait until the process group is empty, or until the deadline."""
    while time.monotonic() < deadline and _group_lives(group):
        time.sleep(_POLL_S)


def _group_lives(group: int) -> bool:
    """Say whether the group has a member that is no zombie (without /proc: any member)."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    fields = [_stat(pid) for pid in pids]  # state, parent, group, ...
    return not pids or any(f[2:3] == [str(group)] and f[0] != "Z" for f in fields)
