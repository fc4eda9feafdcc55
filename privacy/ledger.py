"""Record what left and what it adds up to; refuse to pass a budget. On disk before anything is let go.

One SQLite file at the data's owner. Lines are only ever added; they are the audit trail too. An account is
(data set, unit), under one relation: the data, not the run, owns the budget, so two consortia that use the same data
draw on the same account.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dp_accounting import DpEvent

from privacy.accounting.events import from_json, to_json
from privacy.books import approvals, derived, fingerprint, joining, matching, prepaid, releases
from privacy.books.accounts import Account, Whose, cost_at, find, fresh, listed
from privacy.books.approvals import Approval
from privacy.books.book import Book, Clock, Writer
from privacy.books.deciding import Decider
from privacy.books.releases import Receipt, Release
from privacy.books.schema import connect
from privacy.books.statement import Caps, Decision, Share, Statement, answers_derived, statement
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import LedgerUnavailable, Refused, RolledBack
from privacy.trail import Field, Head, SignedHead
from privacy.units import Level

__all__ = ["Account", "Decision", "Entry", "Ledger", "Receipt", "Share", "Statement"]

T = TypeVar("T")
_NOTED = frozenset({"policy", "roster", "started"})
_CHUNK = 1000  # lines read at once
_REMEMBERED = 4096  # events that were priced
_LINES = "SELECT seq, line FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
_RELEASES = "SELECT seq, line FROM entries WHERE seq > ? AND kind IN ('charged', 'disclosed') ORDER BY seq LIMIT ?"


@dataclass(frozen=True, slots=True)
class Entry:
    """Show one release of the ledger; it holds no value and no text."""

    seq: int
    at: str
    session: str
    number: int
    collaboration: str
    level: Level
    partner: str
    event: str | None


class Ledger:
    """Keep accounts and lines in one SQLite file (write-ahead log, full sync), safe for many threads and processes.

    Only a simulation may do without `durable`: where a crash of the machine ends everything, nothing has left.
    Raises:  LedgerUnavailable from every method, if the file cannot be read or written.
    """

    def __init__(self, file: Path, *, durable: bool = True, clock: Clock = time.time) -> None:
        self._file, self._durable, self._closed = file, durable, False
        self._writer = Writer(file, self._connect, clock, self._committed)
        self._reader: sqlite3.Connection | None = self._connect(reading=True)
        self._reading = threading.Lock()
        self._priced_before: set[tuple[Account, str]] = set()
        self._decider = Decider(self._reader, clock)

    def rest(self) -> None:
        """Close the file until it is next used: who has many ledgers holds few open. All charges are on disk."""
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
        self._writer.rest()

    def close(self) -> None:
        """Close the file for good; what was charged is on disk already."""
        self._closed = True
        self.rest()

    def _connect(self, *, reading: bool = False) -> sqlite3.Connection:
        if self._closed:
            raise LedgerUnavailable(f"{self._file.name}: closed")
        return connect(self._file, durable=self._durable, reading=reading)

    def _awake(self) -> sqlite3.Connection:
        """Return the reading connection, opened anew after a rest. The caller holds its lock."""
        if self._reader is None:
            self._reader = self._connect(reading=True)
            self._decider.reopened(self._reader)
        return self._reader

    def charge(self, account: Account, event: DpEvent, occasion: Occasion, limits: Limits = NO_LIMITS) -> Receipt:
        """Write the charge durably and return its receipt; the noise may be drawn only then.

        The same occasion with the same event is the same release: it returns the receipt it had, and nothing is
        charged twice. The same occasion with another event is refused, and any on which an answer has left.
        Raises: Refused, BudgetExceeded and others of its kind; then nothing was charged.
        """
        return self._enter(self._priced(account, event, occasion, limits))

    def disclose(
        self, account: Account, occasion: Occasion, limits: Limits = NO_LIMITS, kind: str = "value"
    ) -> Receipt:
        """Write down a release that has no epsilon. Raises: Refused."""
        return self._enter(Release(account, occasion, limits, kind, "disclosed", None))

    def say(self, account: Account, occasion: Occasion, kind: str = "keys") -> Receipt:
        """Write down a message that holds nothing of the data. Raises: Refused."""
        return self._enter(Release(account, occasion, NO_LIMITS, kind, "said", None))

    def tie(self, occasion: Occasion, artefact: str) -> int:
        """Write down, by its digest, what was drawn on an occasion that was charged. Raises: Refused."""
        return self._writer.run(lambda book: derived.tie(book, occasion, artefact))

    def paid_for(self, artefact: str) -> DpEvent:
        """Return the event that was charged for what has this digest. Raises: Refused if none was."""
        with self._read() as db:
            return from_json(derived.paid_for(db, artefact)["event"])

    def was_charged(self, artefact: str) -> bool:
        """Say whether what has this digest was charged when it was drawn. Raises: LedgerUnavailable."""
        try:
            self.paid_for(artefact)
        except LedgerUnavailable:
            raise
        except Refused:
            return False
        return True

    def derive(self, account: Account, occasion: Occasion, artefact: str, limits: Limits = NO_LIMITS) -> Receipt:
        """Write down that something made of what was charged before leaves; nothing is charged. Raises: Refused."""
        of = derived.Derived(account, occasion, limits, artefact)
        return _unless_refused(self._writer.run(lambda book: derived.derive(book, of)))

    def prepaid(self, session: str, first: int) -> DpEvent:
        """Return the event of one of the answers that were charged on (session, first). Raises: Refused."""
        with self._read() as db:
            return from_json(json.dumps(prepaid.paid_for(db, session, first)[1]["of"]))

    def go_on(self, account: Account, occasion: Occasion, first: int, limits: Limits = NO_LIMITS) -> Receipt:
        """Write down that another answer leaves, which the charge on number `first` of its session paid for.

        Raises: Refused, also where all that it paid for have left.
        """
        of = prepaid.Continued(account, occasion, limits, first)
        return _unless_refused(self._writer.run(lambda book: prepaid.go_on(book, of)))

    def require_room(self, account: Account, event: DpEvent, occasion: Occasion, limits: Limits = NO_LIMITS) -> None:
        """Return if `event` would fit into the account now; nothing is charged or reserved.

        For asking about a whole run on its first occasion, so that a run that cannot be finished is refused before
        it has cost anything. An occasion that was charged already has begun: there is nothing to ask.
        Raises: Refused.
        """
        self._rehearse(self._priced(account, event, occasion, limits))

    def require_disclosable(
        self, account: Account, occasion: Occasion, limits: Limits = NO_LIMITS, kind: str = "value"
    ) -> None:
        """Return if a release without epsilon could be written down now, before any work for it; nothing is counted.

        Raises: Refused.
        """
        self._rehearse(Release(account, occasion, limits, kind, "disclosed", None))

    def decide(
        self, account: Account, event: DpEvent, limits: Limits, partner: str, level: Level, collaboration: str
    ) -> Decision:
        """Answer what is spent and whether `event` would fit, in microseconds, however long the trail is.

        It reserves nothing: only a charge does. Raises: Refused, if the account was opened with something else.
        """
        with self._reading:
            try:
                self._awake()
                return self._decider.decide(account, event, limits, (partner, level.value, collaboration))
            except (sqlite3.Error, OSError) as broken:
                raise LedgerUnavailable(f"{self._file.name}: {type(broken).__name__}") from None

    def refuse(self, occasion: Occasion, why: str) -> None:
        """Write down a refusal, by its class; beyond 60 an hour they are counted and not listed."""
        self._writer.run(lambda book: releases.refuse(book, occasion, why))

    def emit(
        self, occasion: Occasion, asked: bytes, answer: bytes, size: int, sign: Callable[[bytes], bytes], key: str
    ) -> SignedHead:
        """Write down that an answer leaves, by digests, durably and signed; only then may it leave.

        The same answer again is the same emission. Raises: Refused for another answer on the same occasion, where
        nothing was charged, disclosed or said, or above `bytes_per_day`.
        """
        return self._writer.run(lambda book: releases.emit(book, occasion, asked, answer, size, sign, key))

    def emitted(self, session: str, number: int) -> bytes | None:
        """Return the digest of the answer that left on this occasion."""
        with self._read() as db:
            found = releases.filled(db, session, number).get("emitted")
        return None if found is None else bytes.fromhex(found.fields["answer"])

    def last_emitted(self, session: str) -> int | None:
        """Return the number of the last answer that left in this session."""
        with self._read() as db:
            query = "SELECT max(number) FROM entries WHERE session = ? AND slot = 'emitted'"
            found: int | None = db.execute(query, (session,)).fetchone()[0]
        return found

    def receipt(self, session: str, number: int, answer: bytes, signature: bytes, partner: str) -> None:
        """Keep, once, a counterpart's signed word that it has the answer. Raises: Refused if it did not leave."""
        self._writer.run(lambda book: releases.keep_receipt(book, session, number, answer, signature, partner))

    def note(self, kind: str, fields: Mapping[str, Field]) -> int:
        """Write down that a policy or a roster was read, or that a daemon started; return the line's number."""
        if kind not in _NOTED:
            raise ValueError("a note is about a policy, a roster or a start")
        return self._writer.run(lambda book: book.append(kind, fields))

    def head(self) -> Head:
        """Return what stands for the whole trail."""
        with self._read() as db:
            return Book(db, 0.0).head()

    def require_head(self, head: Head) -> None:
        """Return if `head` is of this trail, as it was. Raises: RolledBack."""
        with self._read() as db:
            row = db.execute("SELECT id, seq FROM trail").fetchone()
            last = db.execute("SELECT hash FROM entries WHERE seq = ?", (head.seq,)).fetchone()
        if row[0] != head.trail:
            raise RolledBack("another ledger than the one that was seen")
        if row[1] < head.seq:
            raise RolledBack(f"the ledger has {row[1]} lines, and was seen with {head.seq}")
        if head.chain != (last[0] if last else bytes(32)):
            raise RolledBack(f"the ledger's first {head.seq} lines are others than were seen")

    def heads(self) -> tuple[SignedHead, ...]:
        """Return every head that was signed, oldest first."""
        with self._read() as db:
            return releases.signed_heads(db, db.execute("SELECT id FROM trail").fetchone()[0])

    def lines(self, after: int = 0) -> Iterator[str]:
        """Yield the trail's lines after number `after`, verbatim."""
        for _, text in self._rows(after, _LINES):
            yield text

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield every release after number `after`, in the order in which they were charged or disclosed."""
        for _, text in self._rows(after, _RELEASES):
            f = json.loads(text)
            of = (f["session"], f["number"], f["collaboration"], Level(f["level"]), f["partner"], f.get("event"))
            yield Entry(f["seq"], f["at"], *of)

    def statement(self, account: Account, caps: Caps | None = None) -> Statement:
        """Return what the account has spent, by the filter's own sum, and whose share is what, under `caps`."""
        with self._read() as db:
            return statement(db, account, caps)

    def derived(self, account: Account) -> dict[Whose, int]:
        """Return how many answers were derived from earlier charges, by whose share they count with."""
        with self._read() as db:
            return answers_derived(db, account)

    def events(self, account: Account) -> dict[str, int]:
        """Return every event charged to the account, as canonical JSON, and how often; in order of appearance."""
        with self._read() as db:
            held = find(db, account.dataset, account.budget)
            return joining.events_of(db, held.id) if held else {}

    def accounts(self) -> tuple[Account, ...]:
        """Return every account that was opened, with the budget it was opened with."""
        with self._read() as db:
            return listed(db)

    def contradiction(self) -> str:
        """Return in words what the ledger decides by and its own lines do not bear out; "" if it was not changed.

        It reads every line. Raises: LedgerUnavailable.
        """
        try:
            with self._read() as db:
                return "; ".join(matching.contradictions(db))
        except LedgerUnavailable:
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError, Refused) as wrong:
            return f"what is there, no ledger writes ({type(wrong).__name__})"

    def require_totals(self) -> None:
        """Return if budgets, sums and approvals are those of its lines. Raises: LedgerUnavailable if changed."""
        if wrong := self.contradiction():
            raise LedgerUnavailable(f"{self._file.name}: {wrong}")

    def recognise(self, name: str, documents: Iterable[str]) -> tuple[str, ...]:
        """Return the data set that holds these documents, and all others that share one: the account, and `also`.

        Whatever name they come under. Of a document a keyed fingerprint of 16 bytes is kept, and nothing else.
        """
        with _failing(self._file):
            db = self._connect()
            try:
                return fingerprint.recognise(db, name, documents)
            finally:
                db.close()

    def approvals(self, state: str | None = None) -> tuple[Approval, ...]:
        """Return what was asked for: all of it, or what is pending, approved or withdrawn."""
        with self._read() as db:
            return approvals.approvals(db, state)

    def pending(self) -> tuple[Approval, ...]:
        """Return what waits for the operator."""
        return self.approvals("pending")

    def approve(self, number: int) -> Approval:
        """Let the first session that asks for just this have it. Raises: Refused if there is no such number."""
        return self._writer.run(lambda book: approvals.settle(book, number, "approved"))

    def withdraw(self, number: int) -> Approval:
        """Take an approval back, also from a session that runs. Raises: Refused if there is no such number."""
        return self._writer.run(lambda book: approvals.settle(book, number, "withdrawn"))

    def account(self, name: str, budget: Budget) -> Account:
        """Return on whose budgets data of this name draws, as far as it has been recognised; reads alone."""
        with self._read() as db:
            own, *others = fingerprint.known(db, name)
        return Account(own, budget, tuple(others))

    def _rehearse(self, release: Release) -> None:
        refusal = self._writer.run(lambda book: releases.rehearse(book, release))
        if refusal is not None:
            raise refusal

    def _enter(self, release: Release) -> Receipt:
        return _unless_refused(self._writer.run(lambda book: releases.enter(book, release)))

    def _priced(self, account: Account, event: DpEvent, occasion: Occasion, limits: Limits) -> Release:
        """Price the event before the file is held: an integral may take long, and is remembered."""
        text = to_json(event)
        if (account, text) not in self._priced_before:
            with self._read() as db:
                held = find(db, account.dataset, account.budget)
            cost_at(text, held or fresh(account.dataset, account.budget))
            if len(self._priced_before) >= _REMEMBERED:
                self._priced_before.clear()
            self._priced_before.add((account, text))
        return Release(account, occasion, limits, "value", "charged", text)

    def _rows(self, after: int, query: str) -> Iterator[tuple[int, str]]:
        while True:
            with self._read() as db:
                rows = db.execute(query, (after, _CHUNK)).fetchall()
            yield from rows
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def _committed(self, was: int, now: int, changes: list[object]) -> None:
        """Tell the decider what totals became, so that it need not read them."""
        with self._reading, suppress(sqlite3.Error):
            self._decider.learn(was, now, changes)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Lend the reading connection: all that is read within is of one moment."""
        with self._reading, _failing(self._file):
            db = self._awake()
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")


@contextmanager
def _failing(file: Path) -> Iterator[None]:
    """Make a database that fails a refusal, which names the file and the class of error alone."""
    try:
        yield
    except (sqlite3.Error, OSError) as broken:
        raise LedgerUnavailable(f"{file.name}: {type(broken).__name__}") from None


def _unless_refused(done: Receipt | Refused) -> Receipt:
    """Return the receipt; what waits for the operator was written down, and is raised only now."""
    if isinstance(done, Refused):
        raise done
    return done
