"""Make one account answer for what another was charged, once they are known to hold some of the same documents.

A document in both has been in the releases of both. So each account takes over the releases of the other that it does
not count yet; from then on both are charged together.
"""

import sqlite3
from dataclasses import dataclass

from privacy.accounting.accountant import ZERO, Cost
from privacy.books.accounts import Account, Held, add_to_account, add_to_share, cost_at, find, share_of, total_of
from privacy.books.book import Book

_TAKEN_OVER = (
    "INSERT INTO belongs SELECT :held, seq FROM (SELECT seq FROM charged_to WHERE account = :other"
    " EXCEPT SELECT seq FROM charged_to WHERE account = :held)"
)
_GROUPED = (
    "SELECT s.partner, s.level, s.collaboration, json_extract(e.line, '$.event'), count(*)"
    " FROM entries e JOIN shares s ON s.id = e.share WHERE e.seq IN (SELECT seq FROM charged_to WHERE"
    " account = :other EXCEPT SELECT seq FROM charged_to WHERE account = :held) GROUP BY 1, 2, 3, 4"
)
_ALL = (
    "SELECT s.partner, s.level, s.collaboration, json_extract(e.line, '$.event'), count(*)"
    " FROM charged_to c JOIN entries e ON e.seq = c.seq JOIN shares s ON s.id = e.share WHERE c.account = ?"
    " GROUP BY 1, 2, 3, 4"
)
_KEPT = "SELECT partner, level, collaboration, nats, extra, charges, disclosures FROM shares WHERE account = ?"
_EVENTS = (
    "SELECT json_extract(line, '$.event') AS event, count(*) FROM entries WHERE kind = 'charged'"
    " AND seq IN (SELECT seq FROM charged_to WHERE account = ?) GROUP BY event ORDER BY min(seq)"
)


def joined(book: Book, accounts: list[Held]) -> list[Held]:
    """Return the accounts, the first joined with each of the others, as they are then."""
    own, *others = accounts
    for i, other in enumerate(others):
        if book.db.execute("SELECT 1 FROM joined WHERE account = ? AND other = ?", (own.id, other.id)).fetchone():
            continue
        own = _absorb(book, own, other)
        others[i] = _absorb(book, other, own)
        book.db.executemany("INSERT INTO joined VALUES (?, ?)", ((own.id, other.id), (other.id, own.id)))
    return [own, *others]


def events_of(db: sqlite3.Connection, account: int) -> dict[str, int]:
    """Return every event that the account was charged, as canonical JSON, and how often."""
    return dict(db.execute(_EVENTS, (account,)).fetchall())


def adds_up(db: sqlite3.Connection, account: Account) -> bool:
    """Return whether the sums and counts of the account, and of each share of it, are those of its lines."""
    held = find(db, account.dataset, account.budget)
    if held is None:
        return False
    whole, shares = _Sum(ZERO(held.judge.orders)), dict[tuple[object, ...], _Sum]()
    for partner, level, collaboration, event, count in db.execute(_ALL, (held.id,)):
        one = _Sum(ZERO(held.judge.orders), 0, count)
        if event is not None:
            one = _Sum(cost_at(event, held) * count, count, 0)
        whose = (partner, level, collaboration)
        whole, shares[whose] = whole + one, shares.get(whose, _Sum(ZERO(held.judge.orders))) + one
    kept = {tuple(row[:3]): _Sum(total_of(*row[3:5]), *row[5:]) for row in db.execute(_KEPT, (held.id,))}
    return whole == _Sum(held.total, held.charges, held.disclosures) and kept == {
        whose: shares.get(whose, _Sum(ZERO(held.judge.orders))) for whose in kept.keys() | shares.keys()
    }


@dataclass(frozen=True, slots=True)
class _Sum:
    """Hold what releases come to."""

    total: Cost
    charges: int = 0
    disclosures: int = 0

    def __add__(self, other: "_Sum") -> "_Sum":
        """Return what both come to."""
        return _Sum(self.total + other.total, self.charges + other.charges, self.disclosures + other.disclosures)


def _absorb(book: Book, held: Held, other: Held) -> Held:
    pair = {"other": other.id, "held": held.id}
    groups = book.db.execute(_GROUPED, pair).fetchall()
    book.db.execute(_TAKEN_OVER, pair)
    for partner, level, collaboration, event, count in groups:
        cost = ZERO(held.judge.orders) if event is None else cost_at(event, held) * count
        charges, disclosures = (0, count) if event is None else (count, 0)
        held = add_to_account(book, held, cost, charges, disclosures)
        whose = (partner, level, collaboration)
        share = share_of(book.db, held, whose)
        add_to_share(book, held, share, whose, cost, charges, disclosures, event)
    return held
