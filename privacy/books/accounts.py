"""Hold what each account and each partner's share of it has spent, and say whether more would fit.

An account is (data set, unit), under one relation. A share is what one partner got of it at one level by one
collaboration. Both are kept as sums of whole numbers, so that a decision looks at no entry.
"""

import json
import sqlite3
from dataclasses import dataclass, replace
from functools import lru_cache

from privacy.accounting.accountant import ZERO, Cost, Filter, default_orders, price
from privacy.accounting.events import from_json
from privacy.books.book import Book
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded, LedgerUnavailable, RateExceeded, Refused
from privacy.trail import Field
from privacy.units import Relation, Unit

_ACCOUNT = (
    "SELECT id, epsilon, delta, reserved, orders, nats, extra, charges, disclosures, record_tokens, relation"
    " FROM accounts WHERE dataset = ? AND unit = ? ORDER BY relation = ?"
)
_SHARE = (
    "SELECT id, nats, extra, charges, disclosures, bytes, minute, epsilon, bytes_per_day FROM shares"
    " WHERE account = ? AND partner = ? AND level = ? AND collaboration = ?"
)
_BYTES = (
    "SELECT account, partner, level, collaboration, nats, extra, charges, disclosures, bytes, minute, epsilon,"
    " bytes_per_day FROM shares WHERE id = ?"
)
_SINCE = "SELECT releases, bytes FROM minutes WHERE share = ? AND minute <= ? ORDER BY minute DESC LIMIT 1"
Whose = tuple[str, str, str]
"""Partner, level and collaboration of a share."""


@dataclass(frozen=True, slots=True)
class Account:
    """Name whose budget a release draws on, and what that budget is when the account is opened.

    `also` names other data sets that hold some of the same documents: each of them is charged, and all must fit.
    """

    dataset: str
    budget: Budget
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Hold one account as it stands; id 0 is one that is not open yet."""

    id: int
    dataset: str
    epsilon: float
    relation: Relation
    judge: Filter
    total: Cost
    charges: int = 0
    disclosures: int = 0


@dataclass(frozen=True, slots=True)
class HeldShare:
    """Hold one share as it stands; id 0 is one that has got nothing yet. `minute` is when it last got something."""

    id: int
    total: Cost
    charges: int = 0
    disclosures: int = 0
    bytes: int = 0
    minute: int = 0
    epsilon: float | None = None
    bytes_per_day: int | None = None


def whose(occasion: Occasion) -> Whose:
    """Return whose share of an account a release on this occasion is."""
    return occasion.partner, occasion.level.value, occasion.collaboration


def find(db: sqlite3.Connection, dataset: str, budget: Budget) -> Held | None:
    """Return the open account. Raises: Refused if it was opened with what `budget` changes, epsilon apart."""
    row = db.execute(_ACCOUNT, (dataset, budget.unit.value, budget.relation.value)).fetchone()
    if row is None:
        return None  # one of another relation would come first
    if budget.relation.value != row[10]:  # else the same unit of the same data would have a second budget
        raise Refused(f"the account is open under {row[10]}; that is fixed for its life")
    orders = _numbers(row[4])
    if budget.delta != row[2] or (budget.orders and budget.orders != orders):
        raise Refused("the account is open with another delta or other orders; they are fixed for its life")
    if budget.approximate_delta != row[3]:
        raise Refused("the account is open with another approximate_delta; it is fixed for its life")
    if budget.record_tokens != row[9]:
        raise Refused(f"the account is open with records of {row[9]} tokens; that is fixed for its life")
    judge = _filter(orders, row[2], row[3])
    limit, relation = min(row[1], budget.epsilon), budget.relation
    return Held(row[0], dataset, limit, relation, judge, total_of(row[5], row[6]), row[7], row[8])


def fresh(dataset: str, budget: Budget) -> Held:
    """Return the account that `budget` would open."""
    orders = budget.orders or default_orders(budget.epsilon, budget.delta)
    judge = _filter(orders, budget.delta, budget.approximate_delta)
    return Held(0, dataset, budget.epsilon, budget.relation, judge, ZERO(orders))


def found_or_opened(book: Book, dataset: str, budget: Budget) -> Held:
    """Return the account; open it, with a line in the trail, if nothing was charged to it before."""
    held = find(book.db, dataset, budget)
    if held is not None:
        return held
    held = fresh(dataset, budget)
    row = (dataset, budget.unit.value, budget.relation.value, budget.epsilon, budget.delta, held.judge.reserved)
    rest = (json.dumps(held.judge.orders), budget.record_tokens, budget.disclosures, _nats(held.total))
    made = book.db.execute(
        "INSERT INTO accounts (dataset, unit, relation, epsilon, delta, reserved, orders, record_tokens,"
        " most_disclosures, nats, extra) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (*row, *rest),
    )
    book.append("opened", _opened(held, budget))
    held = replace(held, id=int(made.lastrowid or 0))
    book.changes.append((held.id, None, held))
    return held


def cost_at(event: str, held: Held) -> Cost:
    """Return what an event, as canonical JSON, costs in this account. Raises: ValueError, Incomparable."""
    return _cost(event, held.judge.orders, held.relation)


def share_of(db: sqlite3.Connection, held: Held, whose: Whose) -> HeldShare:
    """Return what `whose` share of the account is."""
    row = db.execute(_SHARE, (held.id, *whose)).fetchone() if held.id else None
    if row is None:
        return HeldShare(0, ZERO(held.judge.orders))
    return HeldShare(row[0], total_of(row[1], row[2]), *row[3:])


def require_epsilon(held: Held, share: HeldShare, cost: Cost, limits: Limits) -> None:
    """Return if `cost` fits into the account and into the share. Raises: BudgetExceeded."""
    total = held.total + cost
    if not held.judge.fits(total, held.epsilon):
        would = held.judge.epsilon(total)
        raise BudgetExceeded(f"the release would bring epsilon to {would:.3f}, the budget is {held.epsilon:g}")
    if limits.epsilon is None:
        return
    total = share.total + cost
    if not held.judge.fits(total, limits.epsilon):
        would = held.judge.epsilon(total)
        raise BudgetExceeded(f"this partner's share would come to epsilon {would:.3f}, of {limits.epsilon:g}")


def require_count(held: Held, share: HeldShare, budget: Budget, limits: Limits) -> None:
    """Return if one more disclosure is allowed. Raises: RateExceeded."""
    if held.disclosures >= budget.disclosures:
        raise RateExceeded(f"{held.disclosures} disclosures so far, the budget allows {budget.disclosures}")
    if limits.disclosures is not None and share.disclosures >= limits.disclosures:
        raise RateExceeded(f"{share.disclosures} disclosures to this partner so far, of {limits.disclosures}")


def require_rate(book: Book, share: HeldShare, limits: Limits) -> None:
    """Return if the last 24 hours leave room for one more release. Raises: RateExceeded."""
    if limits.releases_per_day is None and limits.bytes_per_day is None:
        return
    releases, size = in_a_day(book.db, share, book.a_day_ago)
    if limits.releases_per_day is not None and releases >= limits.releases_per_day:
        raise RateExceeded(f"{releases} releases within a day, the policy allows {limits.releases_per_day}")
    if limits.bytes_per_day is not None and size >= limits.bytes_per_day:
        raise RateExceeded(f"{size} bytes within a day, the policy allows {limits.bytes_per_day}")


def in_a_day(db: sqlite3.Connection, share: HeldShare, a_day_ago: int) -> tuple[int, int]:
    """Return how many releases and bytes left in the last 24 hours: up to a minute's too many, never too few."""
    if share.minute <= a_day_ago:
        return 0, 0
    before = db.execute(_SINCE, (share.id, a_day_ago)).fetchone() or (0, 0)
    return share.charges + share.disclosures - before[0], share.bytes - before[1]


def add(
    book: Book, held: Held, share: HeldShare, occasion_of: Whose, cost: Cost, limits: Limits, event: str | None
) -> int:
    """Add one release to the account and the share; return the share's id. `event` is None for a disclosure."""
    charges, disclosures = (0, 1) if event is None else (1, 0)
    add_to_account(book, held, cost, charges, disclosures)
    if (limits.epsilon, limits.bytes_per_day) != (share.epsilon, share.bytes_per_day):
        share = replace(share, epsilon=limits.epsilon, bytes_per_day=limits.bytes_per_day)
    return add_to_share(book, held, share, occasion_of, cost, charges, disclosures, event)


def add_to_account(book: Book, held: Held, cost: Cost, charges: int, disclosures: int) -> Held:
    """Add to the account, and return it as it is then."""
    counts = (held.charges + charges, held.disclosures + disclosures)
    after = Held(held.id, held.dataset, held.epsilon, held.relation, held.judge, held.total + cost, *counts)
    book.db.execute(
        "UPDATE accounts SET nats = ?, extra = ?, charges = ?, disclosures = ? WHERE id = ?",
        (_nats(after.total), after.total.delta, *counts, held.id),
    )
    book.changes.append((held.id, None, after))
    return after


def add_to_share(
    book: Book,
    held: Held,
    share: HeldShare,
    occasion_of: Whose,
    cost: Cost,
    charges: int,
    disclosures: int,
    event: str | None,
) -> int:
    """Add to the share, and return its id; `event` is the last that was charged, if one was."""
    total, counts = share.total + cost, (share.charges + charges, share.disclosures + disclosures)
    row = (_nats(total), total.delta, *counts, book.minute, share.epsilon, share.bytes_per_day, event)
    number = share.id
    if number:
        _close_minute(book, share)
        book.db.execute(
            "UPDATE shares SET nats = ?, extra = ?, charges = ?, disclosures = ?, minute = ?, epsilon = ?,"
            " bytes_per_day = ?, last_event = coalesce(?, last_event) WHERE id = ?",
            (*row, number),
        )
    else:
        made = book.db.execute(
            "INSERT INTO shares (account, partner, level, collaboration, nats, extra, charges, disclosures, minute,"
            " epsilon, bytes_per_day, last_event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (held.id, *occasion_of, *row),
        )
        number = int(made.lastrowid or 0)
    after = HeldShare(number, total, *counts, share.bytes, book.minute, share.epsilon, share.bytes_per_day)
    book.changes.append((held.id, occasion_of, after))
    return number


def add_bytes(book: Book, share: int, size: int) -> None:
    """Count what left. Raises: RateExceeded if that is more than the limit under which it was charged."""
    account, *whose_, nats, extra, charges, disclosures, sent, minute, epsilon, most = book.db.execute(
        _BYTES, (share,)
    ).fetchone()
    held = HeldShare(share, total_of(nats, extra), charges, disclosures, sent, minute, epsilon, most)
    if held.bytes_per_day is not None:
        _, today = in_a_day(book.db, held, book.a_day_ago)
        if today + size > held.bytes_per_day:
            raise RateExceeded(f"{today + size} bytes within a day, the policy allows {held.bytes_per_day}")
    _close_minute(book, held)
    after = replace(held, bytes=held.bytes + size, minute=book.minute)
    book.db.execute("UPDATE shares SET bytes = ?, minute = ? WHERE id = ?", (after.bytes, after.minute, share))
    book.changes.append((account, tuple(whose_), after))


def _close_minute(book: Book, share: HeldShare) -> None:
    """Write down how much had left by the end of the share's last minute, once that is over."""
    if share.minute < book.minute:
        row = (share.id, share.minute, share.charges + share.disclosures, share.bytes)
        book.db.execute("INSERT INTO minutes VALUES (?, ?, ?, ?)", row)


def listed(db: sqlite3.Connection) -> tuple[Account, ...]:
    """Return every open account, with the budget it was opened with. Raises: LedgerUnavailable."""
    rows = db.execute(
        "SELECT dataset, epsilon, delta, unit, relation, orders, record_tokens, reserved, most_disclosures"
        " FROM accounts ORDER BY id"
    )
    try:
        return tuple(
            Account(d, Budget(e, delta, Unit(u), Relation(r), _numbers(o), tokens, reserved, most))
            for d, e, delta, u, r, o, tokens, reserved, most in rows
        )
    except (ValueError, TypeError):
        raise LedgerUnavailable("an account was changed to what is none") from None


def _opened(held: Held, budget: Budget) -> dict[str, Field]:
    """Return what the line of an account's opening says; numbers that are no integers are texts."""
    return {
        "account": held.dataset,
        "unit": budget.unit.value,
        "relation": budget.relation.value,
        "epsilon": repr(budget.epsilon),
        "delta": repr(budget.delta),
        "reserved": repr(budget.approximate_delta),
        "orders": json.dumps(held.judge.orders),
        "record_tokens": budget.record_tokens,
        "disclosures": budget.disclosures,
    }


@lru_cache(maxsize=4096)
def _cost(event: str, orders: tuple[float, ...], relation: Relation) -> Cost:
    return price(from_json(event), orders, relation)


@lru_cache(maxsize=256)
def _filter(orders: tuple[float, ...], delta: float, reserved: float) -> Filter:
    return Filter(orders, delta, reserved)


@lru_cache(maxsize=256)
def _numbers(text: str) -> tuple[float, ...]:
    return tuple(json.loads(text))


def total_of(nats: str, extra: int) -> Cost:
    """Return a total as it is kept. Raises: LedgerUnavailable for what no total looks like."""
    try:
        return Cost(tuple(map(int, nats.split(","))), extra)
    except ValueError:
        raise LedgerUnavailable("a total was changed to what is none") from None


def _nats(total: Cost) -> str:
    return ",".join(map(str, total.nats))
