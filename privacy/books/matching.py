"""Hold what the ledger decides by against its own lines: budgets, whose a line is, sums, bytes and approvals.

The lines are linked and signed, the tables beside them are not: where a table says what no line bears out, somebody
has changed the file. What no line speaks of cannot be found here; docs/audit.md lists it.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from privacy.accounting.accountant import ZERO, Cost
from privacy.books.accounts import Account, cost_at, find, listed, total_of

_OPENED = "SELECT line FROM entries WHERE kind = 'opened'"
_ACCOUNTS = (
    "SELECT dataset, unit, relation, epsilon, delta, reserved, orders, record_tokens, most_disclosures FROM accounts"
)
_NAMES = (
    "account",
    "unit",
    "relation",
    "epsilon",
    "delta",
    "reserved",
    "orders",
    "record_tokens",
    "disclosures",
)
_NUMBERS = ("epsilon", "delta", "reserved")  # texts in a line, which has no fractions
_MISPLACED = """
SELECT 1 FROM entries e LEFT JOIN shares s ON s.id = e.share LEFT JOIN accounts a ON a.id = s.account
WHERE e.kind IS NOT json_extract(e.line, '$.kind')
OR e.kind IN ('charged', 'disclosed', 'derived', 'continued', 'said', 'emitted',
  'receipt') AND (
  e.session IS NOT json_extract(e.line, '$.session') OR e.number IS NOT json_extract(e.line, '$.number')
  OR e.slot IS NOT CASE WHEN e.kind IN ('emitted', 'receipt') THEN e.kind
    WHEN e.kind = 'derived' AND EXISTS (SELECT 1 FROM entries c WHERE c.seq = json_extract(e.line, '$.of')
      AND c.session = e.session AND c.number = e.number) THEN 'artefact'
    WHEN json_extract(e.line, '$.what') IN ('count', 'metric', 'timing', 'capability')
    THEN json_extract(e.line, '$.what') ELSE 'answer' END)
OR e.kind IN ('charged', 'disclosed', 'derived', 'continued', 'said', 'emitted') AND (
  a.dataset IS NOT json_extract(e.line, '$.account')
  OR a.unit IS NOT coalesce(json_extract(e.line, '$.unit'), a.unit)
  OR s.partner IS NOT json_extract(e.line, '$.partner') OR s.level IS NOT json_extract(e.line, '$.level')
  OR s.collaboration IS NOT json_extract(e.line, '$.collaboration'))
LIMIT 1
"""
_ALL = (
    "SELECT s.partner, s.level, s.collaboration, json_extract(e.line, '$.event'), count(*)"
    " FROM charged_to c JOIN entries e ON e.seq = c.seq JOIN shares s ON s.id = e.share WHERE c.account = ?"
    " GROUP BY 1, 2, 3, 4"
)
_SIZES = (
    "SELECT s.partner, s.level, s.collaboration, sum(json_extract(e.line, '$.size')) FROM entries e"
    " JOIN shares s ON s.id = e.share WHERE e.kind = 'emitted' AND s.account = ? GROUP BY 1, 2, 3"
)
_KEPT = (
    "SELECT partner, level, collaboration, nats, extra, charges, disclosures, bytes, last_event FROM shares"
    " WHERE account = ?"
)
_SHARED = "SELECT 1 FROM entries WHERE kind IN ('charged', 'disclosed') AND json_extract(line, '$.also') IS NOT NULL"
_RELEASES = "SELECT seq, line FROM entries WHERE kind IN ('charged', 'disclosed') ORDER BY seq"
_DECIDED = "SELECT line FROM entries WHERE kind IN ('approved', 'withdrawn') ORDER BY seq"
_ASKED = "SELECT id, state, partner, collaboration, level, purpose, plan, summed, cost FROM approvals"
_PENDING = "pending"


def contradictions(db: sqlite3.Connection) -> Iterator[str]:
    """Yield in words what the tables say and the lines do not, the worst first; nothing in a ledger left alone.

    Raises: ValueError, TypeError, LookupError or sqlite3.Error where what is there is not even of the right form.
    """
    if db.execute(_MISPLACED).fetchone():
        yield "a line stands in another place than its own words say"
        return  # all else goes by those places
    if not _as_opened(db):
        yield "an account is not what it was opened as"
        return
    if any(not adds_up(db, account) for account in listed(db)):
        yield "a total is not the sum of its lines"
    if not _shared_by_all(db):
        yield "an account does not count a release that concerned it too"
    if not _decided(db):
        yield "an approval is not what the operator decided"


def adds_up(db: sqlite3.Connection, account: Account) -> bool:
    """Return whether sums, counts and bytes of the account, and of each share of it, are those of its lines."""
    held = find(db, account.dataset, account.budget)
    if held is None:
        return False
    nothing = _Sum(ZERO(held.judge.orders))
    whole, shares = nothing, dict[tuple[object, ...], _Sum]()
    for partner, level, collaboration, event, count in db.execute(_ALL, (held.id,)):
        one = _Sum(nothing.total, 0, count)
        if event is not None:
            one = _Sum(cost_at(event, held) * count, count, 0, frozenset({event}))
        whose = (partner, level, collaboration)
        whole, shares[whose] = whole + one, shares.get(whose, nothing) + one
    sent = {tuple(row[:3]): row[3] for row in db.execute(_SIZES, (held.id,))}
    kept = {tuple(row[:3]): row[3:] for row in db.execute(_KEPT, (held.id,))}
    return (
        (whole.total, whole.charges, whole.disclosures) == (held.total, held.charges, held.disclosures)
        and shares.keys() | sent.keys() <= kept.keys()
        and all(shares.get(whose, nothing).is_kept(row, sent.get(whose, 0)) for whose, row in kept.items())
    )


@dataclass(frozen=True, slots=True)
class _Sum:
    """Hold what releases come to, and by which events."""

    total: Cost
    charges: int = 0
    disclosures: int = 0
    events: frozenset[str] = field(default_factory=frozenset)

    def __add__(self, other: "_Sum") -> "_Sum":
        """Return what both come to."""
        counts = self.charges + other.charges, self.disclosures + other.disclosures
        return _Sum(self.total + other.total, *counts, self.events | other.events)

    def is_kept(self, row: tuple[Any, ...], sent: int) -> bool:
        """Return whether a share's row says just this; `sent` are the bytes that left."""
        nats, extra, charges, disclosures, size, last = row
        sums = (total_of(nats, extra), charges, disclosures) == (self.total, self.charges, self.disclosures)
        return sums and size == sent and (last in self.events if self.events else last is None)


def _as_opened(db: sqlite3.Connection) -> bool:
    """Return whether the accounts are those of the lines by which they were opened, with the same budgets."""
    opened = [_numbered(json.loads(line)) for (line,) in db.execute(_OPENED)]
    kept = [_numbered(dict(zip(_NAMES, row, strict=True))) for row in db.execute(_ACCOUNTS)]
    return sorted(opened, key=repr) == sorted(kept, key=repr)


def _numbered(fields: dict[str, object]) -> tuple[object, ...]:
    found = {name: fields[name] for name in _NAMES}
    return tuple(float(str(value)) if name in _NUMBERS else value for name, value in found.items())


def _shared_by_all(db: sqlite3.Connection) -> bool:
    """Return whether each release counts in every account that its line names, and all before it once they are one.

    The first such line of two accounts is where each took over what the other had been charged with.
    """
    if not db.execute(f"{_SHARED} LIMIT 1").fetchone():
        return True
    ids = {(name, unit): n for n, name, unit in db.execute("SELECT id, dataset, unit FROM accounts")}
    owed: dict[int, set[int]] = {n: set() for n in ids.values()}
    joined: set[tuple[int, int]] = set()
    for seq, line in db.execute(_RELEASES):
        fields = json.loads(line)
        names = [fields["account"], *json.loads(fields.get("also") or "[]")]
        own, *others = (ids[name, fields["unit"]] for name in names)
        before = frozenset(owed[own])
        for other in others:
            if (own, other) not in joined:
                owed[own] |= owed[other]
                owed[other] |= before
                joined |= {(own, other), (other, own)}
        for account in (own, *others):
            owed[account].add(seq)
    kept: dict[int, set[int]] = {n: set() for n in ids.values()}
    for account, seq in db.execute("SELECT account, seq FROM charged_to"):
        kept[account].add(seq)
    return all(owed[n] <= kept[n] for n in owed)


def _decided(db: sqlite3.Connection) -> bool:
    """Return whether the state of all that was asked for is the operator's last word on just that."""
    last = {}
    for (line,) in db.execute(_DECIDED):
        fields = json.loads(line)
        last[fields["approval"]] = fields
    for number, state, *asked in db.execute(_ASKED):
        said = last.pop(number, None)
        if (state == _PENDING) is not (said is None):
            return False
        if said is not None and not _is_of(said, state, *asked):
            return False
    return not last  # a word on what is not there any more


def _is_of(
    said: dict[str, object],
    state: str,
    partner: str,
    collaboration: str,
    level: str,
    purpose: str,
    plan: str,
    summed: int | None,
    cost: str | None,
) -> bool:
    now: dict[str, object] = {
        "kind": state,
        "partner": partner,
        "collaboration": collaboration,
        "level": level,
        "cost": cost,
    }
    now |= {"purpose": purpose or None, "plan": hashlib.sha256(plan.encode()).hexdigest()}
    now["summed"] = None if summed is None else bool(summed)
    return all(said.get(name) == value for name, value in now.items())
