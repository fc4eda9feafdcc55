"""Record what left and what it adds up to; refuse to pass a budget. On disk before anything is let go.

One SQLite file at the data's owner. Entries are only ever added. An account is (data set, unit), under one relation:
the data, not the run, owns the budget, so two consortia that use the same data draw on the same account.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dp_accounting import DpEvent

from privacy import accountant
from privacy.events import to_json
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded, LedgerUnavailable, Refused
from privacy.units import Guarantee, Level, Relation, Unit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
  id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, unit TEXT NOT NULL, relation TEXT NOT NULL,
  epsilon REAL NOT NULL, delta REAL NOT NULL, orders TEXT NOT NULL, record_tokens INTEGER NOT NULL,
  totals TEXT NOT NULL,
  UNIQUE (dataset, unit, relation));
CREATE TABLE IF NOT EXISTS entries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES accounts (id),
  session TEXT NOT NULL, number INTEGER NOT NULL, collaboration TEXT NOT NULL, level TEXT NOT NULL,
  partner TEXT NOT NULL, event TEXT, at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
  UNIQUE (session, number));
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS entries_last BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Name whose budget a release draws on, and what that budget is when the account is opened."""

    dataset: str
    budget: Budget


@dataclass(frozen=True, slots=True)
class Receipt:
    """Prove that an entry is on disk. `event` is canonical JSON, or None for a disclosure (no epsilon)."""

    seq: int
    session: str
    number: int
    event: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """Show one line of the ledger; it holds no value and no text."""

    seq: int
    at: str
    session: str
    number: int
    collaboration: str
    level: Level
    partner: str
    event: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """State what one account has spent, what it may spend, and what has no epsilon at all."""

    dataset: str
    spent: Guarantee
    limit: float
    charges: int
    disclosures: int


class Ledger:
    """Keep accounts and entries in one SQLite file (write-ahead log, full sync), safe for many processes.

    Only a simulation may do without `durable`: where a crash of the machine ends everything, nothing has left.
    """

    def __init__(self, file: Path, *, durable: bool = True) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
            self._db.executescript(_SCHEMA)
            file.chmod(0o600)
        except (sqlite3.Error, OSError) as broken:
            raise LedgerUnavailable(f"{file.name}: {type(broken).__name__}") from None

    def close(self) -> None:
        """Close the file; what was charged is on disk already."""
        self._db.close()

    def charge(self, account: Account, event: DpEvent, occasion: Occasion) -> Receipt:
        """Write the charge durably and return its receipt; the noise may be drawn only then.

        The same occasion with the same event is the same release: it returns the receipt it had, and nothing is
        charged twice. The same occasion with another event is refused.
        Raises: BudgetExceeded, Refused, LedgerUnavailable; then nothing was charged.
        """
        return self._enter(account, occasion, to_json(event), event)

    def require_room(self, account: Account, event: DpEvent, occasion: Occasion) -> None:
        """Return if `event` would fit into the account now; nothing is charged or reserved.

        For asking about a whole run on its first occasion, so that a run that cannot be finished is refused before
        it has cost anything. An occasion that was charged already has begun: there is nothing to ask.
        Raises: BudgetExceeded, Refused, LedgerUnavailable.
        """
        with self._transaction() as db:
            if _entry(db, occasion) is not None:
                return
            row = _find(db, account) or _fresh(account.budget)
            _totals(row, accountant.cost(event, row.orders), account.budget.epsilon)

    def disclose(self, account: Account, occasion: Occasion) -> Receipt:
        """Write down a release that has no epsilon. Raises: Refused, LedgerUnavailable."""
        return self._enter(account, occasion, None, None)

    def statement(self, account: Account) -> Statement:
        """Return what the account has spent, by the filter's own sum."""
        with self._transaction() as db:
            row = _find(db, account) or _fresh(account.budget)
            counts = db.execute(
                "SELECT count(event), count(*) - count(event) FROM entries WHERE account = ?", (row.id,)
            ).fetchone()
        spent = accountant.epsilon(row.totals, row.orders, row.delta)
        limit = min(row.epsilon, account.budget.epsilon)
        return Statement(account.dataset, _guarantee(account, row, spent), limit, counts[0], counts[1])

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in the order in which it was written."""
        with self._lock:
            rows = self._db.execute(
                "SELECT seq, at, session, number, collaboration, level, partner, event FROM entries ORDER BY seq"
            ).fetchall()
        for seq, at, session, number, collaboration, level, partner, event in rows:
            yield Entry(seq, at, session, number, collaboration, Level(level), partner, event)

    def accounts(self) -> tuple[Account, ...]:
        """Return every account that was opened, with the budget it was opened with."""
        with self._lock:
            rows = self._db.execute(
                "SELECT dataset, epsilon, delta, unit, relation, orders, record_tokens FROM accounts"
            ).fetchall()
        return tuple(
            Account(d, Budget(e, delta, Unit(u), Relation(r), tuple(json.loads(o)), t))
            for d, e, delta, u, r, o, t in rows
        )

    def _enter(self, account: Account, occasion: Occasion, event: str | None, charged: DpEvent | None) -> Receipt:
        with self._transaction() as db:
            known = _entry(db, occasion)
            if known is not None:
                if (known.event, known.dataset, known.partner) != (event, account.dataset, occasion.partner):
                    raise Refused("this letter was charged for something else already")
                return Receipt(known.seq, *occasion.key, event)
            row = _find(db, account) or _open(db, account)
            if charged is not None:
                _add(db, row, accountant.cost(charged, row.orders), account.budget.epsilon)
            seq = db.execute(
                "INSERT INTO entries (account, session, number, collaboration, level, partner, event)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    row.id,
                    *occasion.key,
                    occasion.collaboration,
                    occasion.level.value,
                    occasion.partner,
                    event,
                ),
            ).lastrowid
        return Receipt(int(seq or 0), *occasion.key, event)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit on success, roll back on anything else; a database that fails is a refusal."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as broken:
                raise LedgerUnavailable(f"{self._file.name}: {type(broken).__name__}") from None


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    epsilon: float
    delta: float
    orders: tuple[float, ...]
    totals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    seq: int
    event: str | None
    dataset: str
    partner: str


def _entry(db: sqlite3.Connection, occasion: Occasion) -> _Known | None:
    """Return the entry that this occasion has."""
    found = db.execute(
        "SELECT e.seq, e.event, a.dataset, e.partner FROM entries e JOIN accounts a ON a.id = e.account"
        " WHERE e.session = ? AND e.number = ?",
        occasion.key,
    ).fetchone()
    return None if found is None else _Known(*found)


def _find(db: sqlite3.Connection, account: Account) -> _Row | None:
    budget = account.budget
    row = db.execute(
        "SELECT id, epsilon, delta, orders, totals, record_tokens, relation FROM accounts"
        " WHERE dataset = ? AND unit = ? ORDER BY relation = ?",
        (account.dataset, budget.unit.value, budget.relation.value),
    ).fetchone()  # one of another relation comes first
    if row is None:
        return None
    if budget.relation.value != row[6]:  # else the same unit of the same data would have a second budget
        raise Refused(f"the account is open under {row[6]}; that is fixed for its life")
    found = _Row(row[0], row[1], row[2], tuple(json.loads(row[3])), tuple(json.loads(row[4])))
    if budget.delta != found.delta or (budget.orders and budget.orders != found.orders):
        raise Refused("the account is open with another delta or other orders; they are fixed for its life")
    if budget.record_tokens != row[5]:
        raise Refused(f"the account is open with records of {row[5]} tokens; that is fixed for its life")
    return found


def _fresh(budget: Budget) -> _Row:
    """Return the account that `budget` would open."""
    orders = budget.orders or accountant.default_orders(budget.epsilon, budget.delta)
    return _Row(0, budget.epsilon, budget.delta, orders, (0,) * len(orders))


def _open(db: sqlite3.Connection, account: Account) -> _Row:
    budget, row = account.budget, _fresh(account.budget)
    made = db.execute(
        "INSERT INTO accounts (dataset, unit, relation, epsilon, delta, orders, record_tokens, totals)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            account.dataset,
            budget.unit.value,
            budget.relation.value,
            budget.epsilon,
            budget.delta,
            json.dumps(row.orders),
            budget.record_tokens,
            json.dumps(row.totals),
        ),
    )
    return replace(row, id=int(made.lastrowid or 0))


def _add(db: sqlite3.Connection, row: _Row, cost: Sequence[int], allowed: float) -> None:
    """Add `cost` to the totals, or refuse."""
    db.execute("UPDATE accounts SET totals = ? WHERE id = ?", (json.dumps(_totals(row, cost, allowed)), row.id))


def _totals(row: _Row, cost: Sequence[int], allowed: float) -> tuple[int, ...]:
    """Return the totals with `cost`, or refuse. An operator may lower a budget at any time, and never raise it."""
    totals = tuple(t + c for t, c in zip(row.totals, cost, strict=True))
    limit = min(row.epsilon, allowed)
    would = accountant.epsilon(totals, row.orders, row.delta)
    if not would <= limit:  # a NaN is refused too
        raise BudgetExceeded(f"the release would bring epsilon to {would:.3f}, the budget is {limit:g}")
    return totals


def _guarantee(account: Account, row: _Row, spent: float) -> Guarantee:
    return Guarantee(
        epsilon=spent,
        delta=row.delta,
        unit=account.budget.unit,
        relation=account.budget.relation,
        accountant=f"{accountant.NAME} ({', '.join(f'{a:g}' for a in row.orders)})",
        assumptions=_ASSUMED.get(account.budget.unit, ())
        or (f"a record is {account.budget.record_tokens} tokens of one document", *_OF_RECORDS),
        not_covered=("who takes part and when", "what the operator tells outside this software"),
    )


_OF_RECORDS = (
    "the declared number of records is public",
    "records are sampled independently (Poisson)",
    "no record is held by two members",
)
_ASSUMED = {
    Unit.MEMBER: (
        "this member's vector is there, or all zeros with its noise",
        "in each sum as many honest members as the policy counts on (smallest_crowd less colluding) add their noise,"
        " and tell nobody what it was",
    )
}
