"""Write down the later answers of a charge that paid for several: each names the line that was charged, and is free.

charged    (session, first)    a repeated event: so many answers, of which this is the first
continued  a later occasion    `of` that line: the next of them leaves                  (`go_on`)
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from privacy.books.accounts import Account
from privacy.books.book import Book
from privacy.books.derived import Free
from privacy.books.releases import Filled, Receipt, common, filled, of_account
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.refusal import NotApproved, Refused

_ANSWER, _CHARGED = "answer", "charged"
_SO_FAR = "SELECT count(*) FROM entries WHERE session = ? AND kind = 'continued' AND json_extract(line, '$.of') = ?"
_AS_PAID = ("collaboration", "level", "partner", "purpose", "plan", "summed", "account", "unit", "relation", "also")


@dataclass(frozen=True, slots=True)
class Continued:
    """Describe what is about to leave: an answer that the charge on number `first` of its session paid for."""

    account: Account
    occasion: Occasion
    limits: Limits
    first: int


def paid_for(db: sqlite3.Connection, session: str, first: int) -> tuple[Filled, dict[str, Any]]:
    """Return the line that was charged on (session, first), and its repeated event. Raises: Refused."""
    paid = filled(db, session, first).get(_ANSWER)
    event = json.loads(paid.fields.get("event") or "{}") if paid is not None else {}
    if paid is None or paid.fields["kind"] != _CHARGED or event.get("kind") != "repeat":
        raise Refused("nothing was charged there that pays for several answers")
    return paid, event


def go_on(book: Book, continued: Continued) -> Receipt | NotApproved:
    """Write down that the next answer leaves, and return its receipt; for the same again the same.

    Raises: Refused for another partner, account, unit, purpose or plan than was charged, or where all are used up;
            and then nothing was written.
    """
    occasion = continued.occasion
    paid, event = paid_for(book.db, occasion.session, continued.first)
    fields = common(occasion) | of_account(continued.account) | {"of": paid.seq}
    if any(paid.fields.get(name) != fields.get(name) for name in _AS_PAID):
        raise Refused("another partner, account, unit, purpose or plan than was charged")
    free = Free(continued.account, occasion, continued.limits, "continued", fields, str(paid.fields["event"]))
    if (known := free.known(book)) is not None:
        return known
    used = book.db.execute(_SO_FAR, (occasion.session, paid.seq)).fetchone()[0]
    if used + 1 >= int(event["count"]):
        raise Refused(f"the charge paid for {event['count']} answers, and they have left")
    return free.enter(book, "nothing: it was charged with the first")
