"""State what an account has spent, to whom, and how many more releases it allows."""

import sqlite3
from dataclasses import dataclass

from privacy.accounting.accountant import NAME
from privacy.books.accounts import Account, Held, cost_at, find, fresh, total_of
from privacy.units import Guarantee, Level, Unit

_SHARES = (
    "SELECT partner, level, collaboration, nats, extra, charges, disclosures, bytes, epsilon, last_event FROM shares"
    " WHERE account = ? ORDER BY partner, level, collaboration"
)


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


@dataclass(frozen=True, slots=True)
class Decision:
    """Answer what is spent, and whether one more release would fit into account, share and limits."""

    fits: bool
    epsilon_now: float
    epsilon_after: float
    limit: float


def statement(db: sqlite3.Connection, account: Account) -> Statement:
    """Return the account's statement, by the filter's own sum."""
    held = find(db, account.dataset, account.budget) or fresh(account.dataset, account.budget)
    spent = _guarantee(account, held)
    shares = tuple(_share(held, *row) for row in db.execute(_SHARES, (held.id,)).fetchall())
    return Statement(account.dataset, spent, held.epsilon, held.charges, held.disclosures, shares)


def _share(
    held: Held,
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
    total = total_of(nats, extra)
    more = None
    if event is not None:
        cost = cost_at(event, held)
        more = held.judge.room(held.total, held.epsilon, cost)
        more = more if limit is None else min(more, held.judge.room(total, limit, cost))
    spent = held.judge.epsilon(total)
    return Share(partner, Level(level), collaboration, spent, limit, charges, disclosures, size, event, more)


def _guarantee(account: Account, held: Held) -> Guarantee:
    budget, orders = account.budget, ", ".join(f"{a:g}" for a in held.judge.orders)
    return Guarantee(
        epsilon=held.judge.epsilon(held.total),
        delta=held.judge.delta,
        unit=budget.unit,
        relation=budget.relation,
        accountant=f"{NAME} ({orders})",
        assumptions=_ASSUMED.get(budget.unit, ())
        or (f"a record is {budget.record_tokens} tokens of one document", *_OF_RECORDS),
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
