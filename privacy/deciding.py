"""Decide in microseconds whether one more release would fit: what accounts and shares come to is remembered.

It is remembered until any connection, of this process or another, commits anything to the file: SQLite's data_version
tells. Nothing here looks at an entry, so the trail's length does not matter.
"""

import sqlite3
from dataclasses import dataclass, field

from dp_accounting import DpEvent

from privacy.accountant import Cost
from privacy.accounts import Account, Held, HeldShare, Whose, cost_at, find, fresh, in_a_day, share_of
from privacy.book import DAY, Clock
from privacy.events import to_json
from privacy.limits import Limits
from privacy.statement import Decision
from privacy.units import Relation

_MOST = 4096  # accounts with shares, and priced events, that are remembered


@dataclass(frozen=True, slots=True)
class _Seen:
    """Hold one account with the share that is asked about."""

    held: Held
    share: HeldShare
    now: float


@dataclass(slots=True)
class Decider:
    """Remember what the file holds, for as long as it holds that. The caller lends each call the connection alone."""

    db: sqlite3.Connection
    clock: Clock
    _version: int = -1
    _seen: dict[tuple[Account, Whose], tuple[_Seen, ...]] = field(default_factory=dict)
    _costs: dict[tuple[DpEvent, tuple[float, ...], Relation], Cost] = field(default_factory=dict)

    def decide(self, account: Account, event: DpEvent, limits: Limits, whose: Whose) -> Decision:
        """Answer for the account and all it is charged with. Raises: Refused, ValueError."""
        version = self.db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._seen) > _MOST:
            self._seen.clear()
            self._version = version
        seen = self._seen.get((account, whose))
        if seen is None:
            seen = self._seen[account, whose] = self._look(account, whose)
        own, cost = seen[0], self._cost(event, seen[0].held)
        after = own.held.judge.epsilon(own.held.total + cost)
        fits = all(self._fits(s, event, limits) for s in seen)
        return Decision(fits, own.now, after, own.held.epsilon)

    def _look(self, account: Account, whose: Whose) -> tuple[_Seen, ...]:
        seen = []
        for name in dict.fromkeys((account.dataset, *account.also)):
            held = find(self.db, name, account.budget) or fresh(name, account.budget)
            seen.append(_Seen(held, share_of(self.db, held, whose), held.judge.epsilon(held.total)))
        return tuple(seen)

    def _fits(self, seen: _Seen, event: DpEvent, limits: Limits) -> bool:
        held, cost = seen.held, self._cost(event, seen.held)
        if not held.judge.fits(held.total + cost, held.epsilon):
            return False
        if limits.epsilon is not None and not held.judge.fits(seen.share.total + cost, limits.epsilon):
            return False
        return self._in_time(seen.share, limits)

    def _in_time(self, share: HeldShare, limits: Limits) -> bool:
        if limits.releases_per_day is None and limits.bytes_per_day is None:
            return True
        releases, size = in_a_day(self.db, share, int(self.clock()) // 60 - DAY - 1)
        return (limits.releases_per_day is None or releases < limits.releases_per_day) and (
            limits.bytes_per_day is None or size < limits.bytes_per_day
        )

    def _cost(self, event: DpEvent, held: Held) -> Cost:
        key = (event, held.judge.orders, held.relation)
        try:
            cost = self._costs.get(key)
        except TypeError:  # an event that holds a list
            return cost_at(to_json(event), held)
        if cost is None:
            if len(self._costs) > _MOST:
                self._costs.clear()
            cost = self._costs[key] = cost_at(to_json(event), held)
        return cost
