"""Take orders, have Flower carry them, and start again what a crash interrupted."""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property

from protocols.faults import WireError
from server import bundle
from server.folder import Folder
from server.orders import RunFolder, Who, read_order
from server.store import Store, StoredRun
from server.superlink import SuperLink, Unreachable

log = logging.getLogger("parley.runs")

MOST_ATTEMPTS = 5  # a ServerApp that dies that often dies of the order


class State(StrEnum):
    """Say how far a run has come."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class UnknownRun(Exception):
    """There is no run by that id."""


class BadOrder(Exception):
    """The order cannot be run; says why, in names and counts."""


@dataclass(frozen=True, slots=True)
class View:
    """Be what may be shown of a run: its state, the trips so far, and what failed."""

    id: str
    started: str
    state: State
    attempts: int
    trips: tuple[dict[str, object], ...]
    failure: dict[str, str]


class Runs:
    """Submit runs to the SuperLink and keep them going. Safe to use from several threads."""

    def __init__(self, folder: Folder, store: Store, superlink: SuperLink) -> None:
        self._folder = folder
        self._store = store
        self._superlink = superlink
        self._lock = threading.Lock()

    def submit(self, spec: bytes) -> str:
        """Start the run that `spec` orders; return its id, which is also its session.

        Raises: BadOrder for an order that is none or names who has not enrolled. Unreachable: the run is kept,
        and started by `tend` later.
        """
        run = secrets.token_hex(16)
        who = self._who(spec, run)
        with self._lock:
            RunFolder.make(self._folder.runs / run, spec, who)
            self._store.add_run(run)
            self._start(run)
        return run

    def view(self, run: str) -> View:
        """Return how a run stands. Raises: UnknownRun."""
        stored = self._stored(run)
        folder = self.folder(run)
        failure = folder.why()
        state = State.SUCCEEDED if folder.result.exists() else State.FAILED if failure else State.RUNNING
        return View(run, stored.started, state, stored.attempts, tuple(folder.trips()), failure)

    def folder(self, run: str) -> RunFolder:
        """Return a run's folder. Raises: UnknownRun."""
        return RunFolder(self._folder.runs / self._stored(run).id)

    def stop(self, run: str) -> None:
        """End a run for good. Raises: UnknownRun, Unreachable."""
        stored, folder = self._stored(run), self.folder(run)
        with self._lock:
            if not folder.ended:
                folder.fail("Stopped", "")
            if stored.flower_run is not None:
                self._superlink.stop_run(stored.flower_run)

    def tend(self, *, afresh: bool = False) -> None:
        """Start again the runs whose ServerApp is gone; `afresh` means that none can have survived.

        A run that Flower has ended without a result is started anew on the same folder, and resumes.
        """
        with self._lock:
            for stored in self._store.runs():
                if self.folder(stored.id).ended or not (afresh or self._gone(stored)):
                    continue
                if stored.attempts >= MOST_ATTEMPTS:
                    self.folder(stored.id).fail("GaveUp", f"its app ended {stored.attempts} times without a result")
                    continue
                if stored.flower_run is not None:
                    self._superlink.stop_run(stored.flower_run)
                log.warning("run %s is started again", stored.id)
                self._start(stored.id)

    def _who(self, spec: bytes, run: str) -> Who:
        try:
            order = read_order(spec)
        except WireError:
            raise BadOrder("not an order") from None
        enrolled = {str(m.name): m for m in self._store.members() if m.keys is not None}
        strangers = sorted(set(order.members) - set(enrolled))
        if strangers:
            raise BadOrder(f"not enrolled: {', '.join(sorted(strangers))}, of {len(order.members)} members")
        keys = {m: str(known.keys.identity) for m in order.members if (known := enrolled[m]).keys is not None}
        nodes = {m: str(enrolled[m].node) for m in order.members}
        return Who(run, str(self._folder.identity_key), keys, nodes, str(self._folder.root))

    def _start(self, run: str) -> None:
        flower_run = self._superlink.start_run(self._fab, str(self._folder.runs / run))
        self._store.carried_by(run, flower_run)

    def _gone(self, stored: StoredRun) -> bool:
        """Say whether Flower no longer carries the run."""
        if stored.flower_run is None:
            return True
        carried = self._superlink.run(stored.flower_run)
        return carried is None or carried.status == "finished"

    def _stored(self, run: str) -> StoredRun:
        for stored in self._store.runs():
            if stored.id == run:
                return stored
        raise UnknownRun

    @cached_property
    def _fab(self) -> bytes:
        return bundle.build()


def plain(view: View) -> dict[str, object]:
    """Return a view as JSON knows it."""
    return asdict(view)


__all__ = ["BadOrder", "Runs", "State", "UnknownRun", "Unreachable", "View", "plain"]
