"""Make a collaboration wait until the operator has approved it: who asks, for what purpose, on which terms."""

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from privacy.books.book import Book
from privacy.occasion import Occasion
from privacy.refusal import NotApproved, Refused
from privacy.units import Level

_SELECT = (
    "SELECT id, at, state, partner, collaboration, level, purpose, plan, session, crowd, summed, cost FROM approvals"
)
MOST_WAITING = 20  # of one partner: it may not fill the operator's list, nor the disk
LONGEST_PLAN = 4096


@dataclass(frozen=True, slots=True)
class Approval:
    """Show what a partner asked leave for. It serves one session, the first that uses it: `session`, or None.

    `state` is pending, approved or withdrawn; `plan` holds the public terms of the work as JSON, and is the
    partner's own text: to be shown escaped, and never obeyed. `cost`, `crowd` and `summed` are this home's own: what
    it would cost by the account's count when it was asked for, of how many members, and whether within a secure sum;
    None where an older ledger did not say.
    """

    id: int
    at: str
    state: str
    partner: str
    collaboration: str
    level: Level
    purpose: str
    plan: str
    session: str | None
    crowd: int | None = None
    summed: bool | None = None
    cost: str | None = None

    @property
    def digest(self) -> str:
        """Return the digest of the plan, as the trail has it."""
        return plan_digest(self.plan)


def plan_digest(plan: str) -> str:
    """Return what the trail holds of the terms: their SHA-256 in hex."""
    return hashlib.sha256(plan.encode()).hexdigest()


def awaited(book: Book, occasion: Occasion, cost: Callable[[], str]) -> NotApproved | None:
    """Return None if the operator has approved this; otherwise see to it that it is listed, and return the refusal.

    What is approved is these terms, for this purpose, in a secure sum or by itself. The refusal is returned and not
    raised, so that the transaction stands and the list has it. Raises: Refused.
    """
    if len(occasion.plan.encode()) > LONGEST_PLAN:
        raise Refused(f"terms of more than {LONGEST_PLAN} bytes")
    known = [a for a in _of(book.db, occasion) if a.session in (None, occasion.session)]
    usable = sorted((a for a in known if a.state == "approved"), key=lambda a: a.session is None)
    if usable:
        book.db.execute("UPDATE approvals SET session = ? WHERE id = ?", (occasion.session, usable[0].id))
        return None
    if not any(a.state == "pending" for a in known):
        _list(book, occasion, cost())
    return NotApproved("the operator has to approve this collaboration first")


def approvals(db: sqlite3.Connection, state: str | None = None) -> tuple[Approval, ...]:
    """Return all that were asked for, or those in one state."""
    found = map(_approval, db.execute(f"{_SELECT} ORDER BY id"))
    return tuple(a for a in found if state in (None, a.state))


def settle(book: Book, number: int, state: str) -> Approval:
    """Approve or withdraw one, with a line in the trail. Raises: Refused if there is none of this number."""
    row = book.db.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise Refused(f"nothing of number {number} was asked for")
    asked = _approval(row)
    if asked.state != state:
        book.db.execute("UPDATE approvals SET state = ? WHERE id = ?", (state, number))
        fields = {"partner": asked.partner, "collaboration": asked.collaboration, "level": asked.level.value}
        said = {"purpose": asked.purpose or None, "plan": asked.digest, "approval": number, "session": asked.session}
        book.append(state, fields | said | {"crowd": asked.crowd, "summed": asked.summed, "cost": asked.cost})
    return replace(asked, state=state)


def _of(db: sqlite3.Connection, occasion: Occasion) -> tuple[Approval, ...]:
    rows = db.execute(
        f"{_SELECT} WHERE partner = ? AND collaboration = ? AND level = ? AND purpose = ? AND plan = ?"
        " AND summed = ? ORDER BY id",
        _bound(occasion),
    )
    return tuple(map(_approval, rows))


def _list(book: Book, occasion: Occasion, cost: str) -> None:
    waiting = book.db.execute(
        "SELECT count(*) FROM approvals WHERE partner = ? AND state = 'pending'", (occasion.partner,)
    ).fetchone()[0]
    if waiting < MOST_WAITING:
        book.db.execute(
            "INSERT INTO approvals (at, state, partner, collaboration, level, purpose, plan, summed, crowd, cost)"
            " VALUES (?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?)",
            (book.at, *_bound(occasion), occasion.crowd, cost),
        )


def _bound(occasion: Occasion) -> tuple[str | bool, ...]:
    """Return what an approval is for, and for nothing else."""
    whose = (occasion.partner, occasion.collaboration, occasion.level.value)
    return (*whose, occasion.purpose, occasion.plan, occasion.summed)


def _approval(row: tuple[Any, ...]) -> Approval:
    number, at, state, partner, collaboration, level, purpose, plan, session, crowd, summed, cost = row
    asked = (number, at, state, partner, collaboration, Level(level), purpose, plan, session)
    return Approval(*asked, crowd, None if summed is None else bool(summed), cost)
