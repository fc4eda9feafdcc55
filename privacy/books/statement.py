"""State what an account has spent, to whom, and how many more releases it allows."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace

from privacy.accounting.accountant import NAME, Cost
from privacy.books.accounts import Account, Held, Whose, cost_at, find, fresh, total_of
from privacy.units import NOISE_OF_OTHERS, Guarantee, Level, assumed

_SHARES = (
    "SELECT partner, level, collaboration, nats, extra, charges, disclosures, bytes, epsilon, last_event FROM shares"
    " WHERE account = ? ORDER BY partner, level, collaboration"
)
_DERIVED = (
    "SELECT s.partner, s.level, s.collaboration, count(*) FROM entries e JOIN shares s ON s.id = e.share"
    " WHERE e.kind IN ('derived', 'continued') AND e.slot = 'answer' AND s.account = ? GROUP BY s.id"
)
_WITH_OTHERS = (  # events that count the honest members say so, and no other does: see the index in `schema.py`
    "SELECT 1 FROM shares s CROSS JOIN entries e INDEXED BY charged_with_others ON e.share = s.id"
    " WHERE (s.account = ?1 OR s.account IN (SELECT other FROM joined WHERE account = ?1))"
    " AND e.kind = 'charged' AND instr(e.line, '\\\"honest\\\"') > 0 LIMIT 1"  # in a text of JSON, in one
)
Caps = Mapping[Whose, float | None]
"""Bound each share's epsilon; None does not."""


@dataclass(frozen=True, slots=True)
class Share:
    """State what one partner got at one level by one collaboration.

    Units:  epsilon at the account's delta, of this share alone: shares do not add up to the account's epsilon.
            `more` says how many of the share's last event still fit into both, None where nothing was charged.
    """

    partner: str
    level: Level
    collaboration: str
    epsilon: float
    limit: float | None
    charges: int
    disclosures: int
    bytes: int
    last_event: str | None
    more: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    """State what one account has spent, what it may spend, and what has no epsilon at all."""

    dataset: str
    spent: Guarantee
    limit: float
    charges: int
    disclosures: int
    shares: tuple[Share, ...] = ()


def answers_derived(db: sqlite3.Connection, account: Account) -> dict[Whose, int]:
    """Return how many answers each share got that were made of, or paid for with, what was charged earlier.

    It reads every line.
    """
    held = find(db, account.dataset, account.budget)
    rows = db.execute(_DERIVED, (held.id,)).fetchall() if held else []
    return {(partner, level, collaboration): count for partner, level, collaboration, count in rows}


@dataclass(frozen=True, slots=True)
class Decision:
    """Answer what is spent, and whether one more release would fit into account, share and limits."""

    fits: bool
    epsilon_now: float
    epsilon_after: float
    limit: float


def statement(db: sqlite3.Connection, account: Account, caps: Caps | None = None) -> Statement:
    """Return the account's statement, by the filter's own sum.

    `caps` say what bounds each share now; whoever is not in them may get nothing. Without them it is what bounded it
    at its last release. What was spent rests on other members, too, where any charge does.
    """
    held = find(db, account.dataset, account.budget) or fresh(account.dataset, account.budget)
    spent = guarantee(account, held, held.total)
    if NOISE_OF_OTHERS not in spent.assumptions and db.execute(_WITH_OTHERS, (held.id,)).fetchone():
        spent = replace(spent, assumptions=(*spent.assumptions, NOISE_OF_OTHERS))
    shares = tuple(_share(held, caps, *row) for row in db.execute(_SHARES, (held.id,)).fetchall())
    return Statement(account.dataset, spent, held.epsilon, held.charges, held.disclosures, shares)


def _share(
    held: Held,
    caps: Caps | None,
    partner: str,
    level: str,
    collaboration: str,
    nats: str,
    extra: int,
    charges: int,
    disclosures: int,
    size: int,
    limit: float | None,
    event: str | None,
) -> Share:
    if caps is not None:
        limit = caps.get((partner, level, collaboration), 0.0)
    total, more = total_of(nats, extra), None
    if event is not None:
        cost = cost_at(event, held)
        more = held.judge.room(held.total, held.epsilon, cost)
        if limit is not None:
            more = min(more, held.judge.room(total, limit, cost) if limit > 0 else 0)
    spent = held.judge.epsilon(total)
    return Share(partner, Level(level), collaboration, spent, limit, charges, disclosures, size, event, more)


def guarantee(account: Account, held: Held, cost: Cost) -> Guarantee:
    """Return what `cost` promises by this account's own sum, and what that rests on."""
    budget, orders = account.budget, ", ".join(f"{a:g}" for a in held.judge.orders)
    return Guarantee(
        epsilon=held.judge.epsilon(cost),
        delta=held.judge.delta,
        unit=budget.unit,
        relation=budget.relation,
        accountant=f"{NAME} ({orders})",
        assumptions=assumed(budget.unit, budget.record_tokens),
        not_covered=("who takes part and when", "what the operator tells outside this software"),
    )
