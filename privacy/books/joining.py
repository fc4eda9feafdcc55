"""Make one account answer for what another was charged, once they are known to hold some of the same documents.

A document in both has been in the releases of both. So each account takes over the releases of the other that it does
not count yet; from then on both are charged together.
"""

import sqlite3

from privacy.accounting.accountant import ZERO
from privacy.books.accounts import Held, add_to_account, add_to_share, cost_at, share_of
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
