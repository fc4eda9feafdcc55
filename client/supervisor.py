"""Keep teams of programs running: what dies is started again, what must wait waits, and at the end all stop."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protocols.carriers import processes
from protocols.carriers.processes import Child, Program

TICK_S = 0.2
WRONG_SETTINGS = 78  # EX_CONFIG: how a program says that starting it again mends nothing


class Hopeless(Exception):
    """A program ended in a way that starting it again would not mend."""


@dataclass(slots=True)
class Team:
    """Keep programs running that live and die together.

    `programs` is asked anew for every start; `delay` says, from the first casualty's exit status, how long to wait
    before the next one, or raises Hopeless; `may_start` holds the first start back.
    """

    name: str
    programs: Callable[[], Sequence[Program]]
    delay: Callable[[int], float]
    may_start: Callable[[], bool] = lambda: True
    say: Callable[[str], None] = print
    children: list[Child] = field(default_factory=list)
    starts: int = 0
    _not_before: float = 0.0

    def tick(self) -> None:
        """Look once: start the team if it is due, end it if one of it has died."""
        if not self.children:
            if time.monotonic() >= self._not_before and self.may_start():
                self.children = [processes.start(program) for program in self.programs()]
                self.starts += 1
            return
        fallen = processes.dead(self.children)
        if fallen:
            self._bury(fallen[0])

    def stop(self) -> None:
        """End every program of the team."""
        processes.stop(self.children)
        self.children = []

    def _bury(self, casualty: Child) -> None:
        processes.stop(self.children)  # the others too: together they can be started, apart they cannot
        # The first of the team is the one whose end decides how long to wait, even if another fell first.
        status = self.children[0].returncode or 0
        self.children = []
        delay = self.delay(status)
        self._not_before = time.monotonic() + delay
        self.say(f"{casualty.name} ended with status {casualty.returncode}; starting again in {delay:.0f} s")


def keep_running(teams: Sequence[Team], stopping: threading.Event) -> None:
    """Keep every team running until `stopping` is set or one is hopeless; leave nothing running.

    Call it from the main thread: the kernel ends the children with the thread that started them.
    """
    try:
        while not stopping.is_set():
            for team in teams:
                team.tick()
            stopping.wait(TICK_S)
    finally:
        processes.stop([child for team in teams for child in team.children])
        for team in teams:
            team.children = []
