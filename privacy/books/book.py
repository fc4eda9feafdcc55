"""Write the ledger: jobs of many threads share one transaction, and each appends its lines to the trail.

thread 1 ── job ─┐                                   every job in its own savepoint: one that is refused
thread 2 ── job ─┼─▶ the first to hold the file ─▶   takes back only itself
thread 3 ── job ─┘   runs all that wait              one COMMIT, one full sync, then all of them return
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from privacy.refusal import LedgerUnavailable, Refused
from privacy.trail import Field, Head, Peaks, line, link, stamp

T = TypeVar("T")
Clock = Callable[[], float]
_AT_ONCE = 256  # jobs in a transaction: whoever waits behind them waits for one sync
DAY = 24 * 60  # in minutes


@dataclass(frozen=True, slots=True)
class _State:
    """Hold where the trail ends."""

    seq: int
    at: str
    chain: bytes
    peaks: Peaks


class Book:
    """Be what a job may use within its transaction: the database, the time, and the trail to append to."""

    __slots__ = ("_at", "_minute", "_state", "changes", "db", "trail")

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self.db = db
        row = db.execute("SELECT id, seq, at, chain, peaks FROM trail").fetchone()
        self.trail: str = row[0]
        self._state = _State(row[1], row[2], row[3], Peaks.from_bytes(row[4]))
        self._at = max(stamp(datetime.fromtimestamp(now, UTC)), self._state.at)  # time never runs backwards here
        self._minute: int | None = None
        self.changes: list[object] = []  # what totals became, for whoever remembers them

    @property
    def at(self) -> str:
        """Return the time that this transaction's lines have."""
        return self._at

    @property
    def seq(self) -> int:
        """Return how many lines there are."""
        return self._state.seq

    @property
    def minute(self) -> int:
        """Return the same in whole minutes since 1970."""
        if self._minute is None:
            self._minute = int(datetime.fromisoformat(self._at).timestamp()) // 60
        return self._minute

    @property
    def a_day_ago(self) -> int:
        """Return the last minute that is wholly more than 24 hours ago."""
        return self.minute - DAY - 1

    def append(
        self,
        kind: str,
        fields: Mapping[str, Field],
        slot: str | None = None,
        key: tuple[str | None, int | None] = (None, None),
        share: int | None = None,
    ) -> int:
        """Append a line and return its number. `slot` of an occasion (`key`) can be filled only once."""
        was = self._state
        text = line(was.seq + 1, self._at, kind, fields)
        chain = link(was.chain, text)
        self._state = _State(was.seq + 1, self._at, chain, was.peaks.added(text))
        row = (was.seq + 1, kind, slot, *key, share, text, chain)
        self.db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return was.seq + 1

    def head(self) -> Head:
        """Return what stands for the trail as it is now."""
        state = self._state
        return Head(self.trail, state.seq, state.at, state.chain, state.peaks.root())

    def attempt(self, job: "Callable[[Book], T]") -> T:
        """Run a job; if it is refused, leave everything as it was before."""
        before, changes = self._state, len(self.changes)
        self.db.execute("SAVEPOINT job")
        try:
            done = job(self)
        except (Refused, ValueError, TypeError, LookupError, ArithmeticError):
            self.db.execute("ROLLBACK TO job")
            self.db.execute("RELEASE job")
            self._state = before
            del self.changes[changes:]
            raise
        self.db.execute("RELEASE job")
        return done

    def rehearse(self, job: "Callable[[Book], object]") -> None:
        """Run a job and leave everything as it was before. Raises: what the job raised."""
        before, changes = self._state, len(self.changes)
        self.db.execute("SAVEPOINT rehearsal")
        try:
            job(self)
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK TO rehearsal")
                self.db.execute("RELEASE rehearsal")
            self._state = before
            del self.changes[changes:]

    def save(self) -> None:
        """Write down where the trail ends now."""
        state = self._state
        row = (state.seq, state.at, state.chain, state.peaks.to_bytes())
        self.db.execute("UPDATE trail SET seq = ?, at = ?, chain = ?, peaks = ?", row)


@dataclass(slots=True)
class _Ticket(Generic[T]):
    """Hold one job, and what came of it."""

    job: Callable[[Book], T]
    done: bool = False
    result: T | None = None
    failed: Exception | None = None

    def run(self, book: Book) -> None:
        """Run the job, and keep what it returned or how it was refused."""
        try:
            self.result = book.attempt(self.job)
        except (Refused, ValueError, TypeError, LookupError, ArithmeticError) as no:
            self.failed = no


@dataclass(slots=True)
class Writer:
    """Run jobs, each wholly or not at all, durable when `run` returns.

    `connect` opens the file, at once and after each `rest`. `committed` is told from how many lines to how many, and
    what totals became. Raises: LedgerUnavailable.
    """

    file: Path
    connect: Callable[[], sqlite3.Connection]
    clock: Clock
    committed: Callable[[int, int, list[object]], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: "deque[_Ticket[Any]]" = field(default_factory=deque)
    _db: sqlite3.Connection | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._db = self.connect()

    def rest(self) -> None:
        """Close the file until the next job, after those that wait."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def run(self, job: Callable[[Book], T]) -> T:
        """Return what the job returned, once it is on disk. Raises: what the job raised; LedgerUnavailable."""
        ticket = _Ticket(job)
        self._waiting.append(ticket)
        with self._lock:  # whoever comes here finds its job done by the one before, or does all that wait
            while not ticket.done:
                self._lead()
        if ticket.failed is not None:
            raise ticket.failed
        return ticket.result  # type: ignore[return-value]  # it is T: the job returned it

    def _lead(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        try:
            self._commit(batch)
        except (sqlite3.Error, OSError) as broken:
            for ticket in batch:  # nothing of this transaction is on disk
                ticket.failed = LedgerUnavailable(f"{self.file.name}: {type(broken).__name__}")
        except BaseException:
            for ticket in batch:
                ticket.failed = LedgerUnavailable(f"{self.file.name}: the transaction it was in broke off")
            raise
        finally:
            for ticket in batch:
                ticket.done = True

    def _commit(self, batch: "list[_Ticket[Any]]") -> None:
        if self._db is None:
            self._db = self.connect()
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            book = Book(db, self.clock())
            was = book.seq
            for ticket in batch:
                ticket.run(book)
            if book.seq != was:
                book.save()
            db.execute("COMMIT")
            self.committed(was, book.seq, book.changes)
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
