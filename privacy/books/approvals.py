"""Make a collaboration wait until the operator has approved it: who asks, for what purpose, on which terms."""

import hashlib
import sqlite3
from dataclasses import dataclass

from privacy.books.book import Book
from privacy.occasion import Occasion
from privacy.refusal import NotApproved, Refused
from privacy.units import Level

MOST_WAITING = 20  # of one partner: it may not fill the operator's list, nor the disk
LONGEST_PLAN = 4096


@dataclass(frozen=True, slots=True)
class Approval:
    """Show what a partner asked leave for. It serves one session, the first that uses it: `session`, or None.

    `state` is pending, approved or withdrawn; `plan` holds the public terms of the work as JSON, and is the
    partner's own text: to be shown escaped, and never obeyed.
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

    @property
    def digest(self) -> str:
        """Return the digest of the plan, as the trail has it."""
        return plan_digest(self.plan)


def plan_digest(plan: str) -> str:
    """Return what the trail holds of the terms: their SHA-256 in hex."""
    return hashlib.sha256(plan.encode()).hexdigest()


def awaited(book: Book, occasion: Occasion) -> NotApproved | None:
    """Return None if the operator has approved this; otherwise see to it that it is listed, and return the refusal.

    It is returned and not raised, so that the transaction stands and the list has it. Raises: Refused.
    """
    if len(occasion.plan.encode()) > LONGEST_PLAN:
        raise Refused(f"terms of more than {LONGEST_PLAN} bytes")
    known = [a for a in _of(book.db, occasion) if a.session in (None, occasion.session)]
    usable = sorted((a for a in known if a.state == "approved"), key=lambda a: a.session is None)
    if usable:
        book.db.execute("UPDATE approvals SET session = ? WHERE id = ?", (occasion.session, usable[0].id))
        return None
    if not any(a.state == "pending" for a in known):
        _list(book, occasion)
    return NotApproved("the operator has to approve this collaboration first")


def approvals(db: sqlite3.Connection, state: str | None = None) -> tuple[Approval, ...]:
    """Return all that were asked for, or those in one state."""
    found = map(_approval, db.execute("SELECT * FROM approvals ORDER BY id"))
    return tuple(a for a in found if state in (None, a.state))


def settle(book: Book, number: int, state: str) -> Approval:
    """Approve or withdraw one, with a line in the trail. Raises: Refused if there is none of this number."""
    row = book.db.execute("SELECT * FROM approvals WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise Refused(f"nothing of number {number} was asked for")
    asked = _approval(row)
    if asked.state != state:
        book.db.execute("UPDATE approvals SET state = ? WHERE id = ?", (state, number))
        fields = {"partner": asked.partner, "collaboration": asked.collaboration, "level": asked.level.value}
        said = {"purpose": asked.purpose or None, "plan": asked.digest, "approval": number, "session": asked.session}
        book.append(state, fields | said)
    return _approval((*row[:2], state, *row[3:]))


def _of(db: sqlite3.Connection, occasion: Occasion) -> tuple[Approval, ...]:
    rows = db.execute(
        "SELECT * FROM approvals WHERE partner = ? AND collaboration = ? AND level = ?"
        " AND purpose = ? AND plan = ? ORDER BY id",
        (occasion.partner, occasion.collaboration, occasion.level.value, occasion.purpose, occasion.plan),
    )
    return tuple(map(_approval, rows))


def _list(book: Book, occasion: Occasion) -> None:
    waiting = book.db.execute(
        "SELECT count(*) FROM approvals WHERE partner = ? AND state = 'pending'", (occasion.partner,)
    ).fetchone()[0]
    if waiting < MOST_WAITING:
        book.db.execute(
            "INSERT INTO approvals (at, state, partner, collaboration, level, purpose, plan)"
            " VALUES (?, 'pending', ?, ?, ?, ?, ?)",
            (
                book.at,
                occasion.partner,
                occasion.collaboration,
                occasion.level.value,
                occasion.purpose,
                occasion.plan,
            ),
        )


def _approval(row: tuple[int, str, str, str, str, str, str, str, str | None]) -> Approval:
    number, at, state, partner, collaboration, level, purpose, plan, session = row
    return Approval(number, at, state, partner, collaboration, Level(level), purpose, plan, session)
