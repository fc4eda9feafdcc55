"""Write down what was made of an earlier release: it costs nothing, and names the line that was charged for it.

charged  (session, number)   an event; then a value was drawn, and kept at home
derived  the same occasion   `of` that line: the value is known by this digest            (`tie`)
derived  a later occasion    `of` that line: something made of the value leaves for this  (`derive`)
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from privacy.accounting.accountant import ZERO
from privacy.books.accounts import Account, add_to_share, found_or_opened, require_rate, share_of, whose
from privacy.books.approvals import awaited
from privacy.books.book import Book
from privacy.books.releases import Receipt, common, filled
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.refusal import NotApproved, RateExceeded, Refused
from privacy.trail import Field, stamp

_ARTEFACT, _ANSWER, _EMITTED = "artefact", "answer", "emitted"
_TIED = (
    "SELECT e.line, c.line FROM entries e JOIN entries c ON c.seq = json_extract(e.line, '$.of')"
    " WHERE e.slot = 'artefact' AND json_extract(e.line, '$.artefact') = ? AND c.kind = 'charged'"
    " ORDER BY e.seq LIMIT 1"
)
_THAT_MANY_AGO = (  # lines are in the order of their time
    "SELECT json_extract(line, '$.at') FROM entries WHERE kind IN ('derived', 'continued') AND slot = 'answer'"
    " AND share = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
)


@dataclass(frozen=True, slots=True)
class Derived:
    """Describe what is about to leave: made of the artefact with this digest, and of nothing else."""

    account: Account
    occasion: Occasion
    limits: Limits
    artefact: str


def tie(book: Book, occasion: Occasion, artefact: str) -> int:
    """Write down what was drawn on an occasion that was charged, once; return the line's number.

    Raises: Refused where nothing was charged, where it has left, or where another value was drawn.
    """
    slots = filled(book.db, *occasion.key)
    paid, known = slots.get(_ANSWER), slots.get(_ARTEFACT)
    if paid is None or paid.fields["kind"] != "charged" or _EMITTED in slots:
        raise Refused("nothing was charged on this occasion, or it has left")
    if known is not None:
        if known.fields["artefact"] != artefact:
            raise Refused("another value was drawn on this occasion")
        return known.seq
    fields = common(occasion) | {"account": paid.fields["account"], "artefact": artefact, "of": paid.seq}
    return book.append("derived", fields, _ARTEFACT, occasion.key, paid.share)


def paid_for(db: sqlite3.Connection, artefact: str) -> dict[str, Any]:
    """Return the line that was charged for this artefact. Raises: Refused."""
    row = db.execute(_TIED, (artefact,)).fetchone()
    if row is None:
        raise Refused("nothing was charged for this: it is not what was drawn here, or it was changed")
    charged: dict[str, Any] = json.loads(row[1])
    return charged


def derive(book: Book, derived: Derived) -> Receipt | NotApproved:
    """Write down that something made of the artefact leaves, and return its receipt; for the same again the same.

    A partner whose share of epsilon is bounded gets nothing: it was charged to the home itself, and no share.
    Raises: Refused, and then nothing was written.
    """
    occasion = derived.occasion
    charged, budget = paid_for(book.db, derived.artefact), derived.account.budget
    seq, event = int(charged["seq"]), str(charged["event"])
    if (charged["unit"], charged["relation"]) != (budget.unit.value, budget.relation.value):
        raise Refused(f"it was charged per {charged['unit']}, and the budget is per {budget.unit.value} now")
    fields = common(occasion) | {"account": derived.account.dataset, "artefact": derived.artefact, "of": seq}
    free = Free(derived.account, occasion, derived.limits, "derived", fields, event)
    if (known := free.known(book)) is not None:
        return known
    if derived.limits.epsilon is not None:
        raise Refused("this partner has a share of epsilon, and what is derived was charged to no share")
    return free.enter(book, "nothing: it was charged when it was made")


@dataclass(frozen=True, slots=True)
class Free:
    """Describe an answer that costs nothing, since a line before it was charged with `event`.

    `kind` and `fields` are those of its own line.
    """

    account: Account
    occasion: Occasion
    limits: Limits
    kind: str
    fields: Mapping[str, Field]
    event: str

    def known(self, book: Book) -> Receipt | None:
        """Return the receipt that this answer has already, or None. Raises: Refused where there is another."""
        slots = filled(book.db, *self.occasion.key)
        if _EMITTED in slots:
            raise Refused("an answer has left on this occasion: another would be a second look at the data")
        if _ANSWER not in slots:
            return None
        before = slots[_ANSWER]
        if any(before.fields.get(name) != value for name, value in self.fields.items() if value is not None):
            raise Refused("this letter was charged for something else already")
        return Receipt(before.seq, *self.occasion.key, self.event)

    def enter(self, book: Book, cost: str) -> Receipt | NotApproved:
        """Write the line and return its receipt; who approves it is told its `cost`. Raises: RateExceeded."""
        if self.limits.approval:
            refusal = awaited(book, self.occasion, lambda: cost)
            if refusal is not None:
                return refusal
        seq = book.append(self.kind, self.fields, _ANSWER, self.occasion.key, self._share(book))
        return Receipt(seq, *self.occasion.key, self.event)

    def _share(self, book: Book) -> int:
        """Return the share whose bytes and days this counts with. Raises: RateExceeded."""
        held, limits = found_or_opened(book, self.account.dataset, self.account.budget), self.limits
        share = share_of(book.db, held, whose(self.occasion))
        require_rate(book, share, limits)
        if limits.releases_per_day is not None:
            _require_rare(book.db, book.at, share.id, limits.releases_per_day)
        share = replace(share, epsilon=limits.epsilon, bytes_per_day=limits.bytes_per_day)
        return add_to_share(book, held, share, whose(self.occasion), ZERO(held.judge.orders), 0, 0, None)


def _require_rare(db: sqlite3.Connection, now: str, share: int, most: int) -> None:
    since = stamp(datetime.fromisoformat(now).astimezone(UTC) - timedelta(days=1))
    ago = db.execute(_THAT_MANY_AGO, (share, most - 1)).fetchone()
    if most < 1 or (ago is not None and ago[0] > since):
        raise RateExceeded(f"{most} releases within a day or more, and the policy allows {most}")
