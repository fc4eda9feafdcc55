"""Bring a member up: enrol it, keep its daemon and its SuperNode running, and leave nothing running at the end."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from client import supernode
from client.folder import Folder, Road
from client.invitation import Invitation
from client.lock import only_one
from client.settings import RoadSettings, Settings, require_private
from client.supervisor import WRONG_SETTINGS, Hopeless, Team, keep_running
from privacy.config import ConfigError
from privacy.policy import Policy
from protocols.carriers import processes
from protocols.carriers.processes import Program

_DAEMON_DELAY_S = 3.0
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_PASSED_ON_FAMILIES = ("HF_", "CUDA_", "OMP_", "MKL_", "NVIDIA_")
Say = Callable[[str], None]


class Part(Enum):
    """Name a half of a member that can be run on its own, as a user of its own."""

    DAEMON = "daemon"
    SUPERNODE = "supernode"


def up(root: Path, only: Part | None, say: Say) -> None:
    """Run the member whose home is `root` until SIGTERM or Ctrl-C.

    With `only` the SuperNode, `root` may also be a road folder that was moved out of its home.
    Raises: ConfigError before anything is started; Hopeless if a part cannot be kept running.
    """
    with ExitStack() as held:
        teams: list[Team] = []
        enrolment: Enrolling | None = None
        if only is not Part.SUPERNODE:
            folder = Folder(root)
            teams.append(_daemon_team(folder, _checked(folder), say))
            _claim(held, folder.run)
            enrolment = Enrolling(folder, say)
        if only is not Part.DAEMON:
            road = Road(root) if Road(root).settings.is_file() else Folder(root).road
            settings = RoadSettings.load(road.settings)
            _claim(held, road.run)
            teams.append(_road_team(road, settings, enrolment, say))
        stopping = held.enter_context(processes.stop_signals())
        if enrolment is not None:
            held.enter_context(enrolment.in_background(stopping))
        keep_running(teams, stopping)
    if enrolment is not None and enrolment.refusal is not None:
        raise Hopeless(enrolment.refusal)
    say("stopped")


class Enrolling:
    """Enrol in a thread of its own, since it may take as long as the coordinator is away."""

    def __init__(self, folder: Folder, say: Say) -> None:
        self.done = threading.Event()
        self.refusal: str | None = None
        self._folder, self._say = folder, say
        if not folder.invitation.exists():
            self.done.set()

    @contextmanager
    def in_background(self, stopping: threading.Event) -> Iterator[None]:
        """Within, enrol if that has not been done; a refusal sets `stopping`."""
        thread = threading.Thread(target=self._run, args=(stopping,), name="enrol", daemon=True)
        if not self.done.is_set():
            thread.start()
        yield

    def _run(self, stopping: threading.Event) -> None:
        from client.enrol import NotEnrolled, enrol_home

        try:
            if enrol_home(self._folder, stopping.wait, self._say):
                self.done.set()
                self._say("enrolled")
        except (NotEnrolled, ConfigError) as refused:
            self.refusal = str(refused)
            stopping.set()


def _checked(folder: Folder) -> Settings:
    """Read all that the daemon will read, so that what is wrong is said here and now. Raises: ConfigError."""
    settings = Settings.load(folder.settings)
    Policy.load(folder.policy)
    require_private(folder.identity)
    if folder.invitation.exists():
        Invitation.read(folder.invitation)
    if not settings.data.path.exists():
        raise ConfigError(folder.settings, "data.path", "no such file or folder")
    return settings


def _claim(held: ExitStack, run: Path) -> None:
    """Make sure that this is the only one, and that nothing of a killed one is left."""
    run.mkdir(mode=0o700, exist_ok=True)
    held.enter_context(only_one(run / "up.lock"))
    processes.sweep(run)


def _daemon_team(folder: Folder, settings: Settings, say: Say) -> Team:
    command = (sys.executable, "-m", "client.serve", str(folder.root))
    program = Program("daemon", command, _daemon_environment(), folder.run)

    def delay(status: int) -> float:
        if status == WRONG_SETTINGS:
            raise Hopeless(f"the daemon cannot serve {settings.member}: {_last_line(program.log)}")
        return _DAEMON_DELAY_S

    return Team("daemon", lambda: (program,), delay, say=say)


def _road_team(road: Road, settings: RoadSettings, enrolment: Enrolling | None, say: Say) -> Team:
    enrolled = enrolment.done.is_set if enrolment is not None else (lambda: True)
    return Team("road", lambda: (supernode.program(road, settings),), supernode.restart_delay, enrolled, say)


def _daemon_environment() -> dict[str, str]:
    """Return the daemon's whole environment: our own code, no proxy, no call to a model hub unless asked for."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_FAMILIES)
    }
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",  # glibc keeps one heap per thread otherwise, and never gives them back
        "MALLOC_TRIM_THRESHOLD_": "131072",  # nor what a round of training has used: 100 MB
        **kept,
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),  # the very code that runs here
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _last_line(log: Path) -> str:
    """Return the daemon's last word; its log holds no private text by construction."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].partition(" ERROR ")[2] or f"see {log}" if lines else f"see {log}"
