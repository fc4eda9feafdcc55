"""Decide in microseconds whether one more release would fit: what accounts and shares come to is remembered.

It is remembered as of a number of lines. This process's own transactions say what they changed; if the trail has
another number of lines, another process has written, and all is read again. Nothing here looks at a line, so the
trail's length does not matter.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dp_accounting import DpEvent

from privacy.accounting.accountant import Cost
from privacy.accounting.events import to_json
from privacy.books.accounts import Account, Held, HeldShare, Whose, cost_at, find, fresh, in_a_day, share_of
from privacy.books.book import DAY, Clock
from privacy.books.statement import Decision
from privacy.limits import Limits
from privacy.units import Relation

_MOST = 4096  # accounts with shares, and priced events, that are remembered


@dataclass(slots=True)
class _Seen:
    """Hold one account with the share that is asked about, and the account's epsilon once it was asked for."""

    held: Held
    share: HeldShare
    now: float | None = None


_Key = tuple[Account, Whose]


@dataclass(slots=True)
class Decider:
    """Remember what the file holds, for as long as it holds that. The caller lends each call the connection alone."""

    db: sqlite3.Connection
    clock: Clock
    _seq: int = -1
    _version: int = -1
    _seen: dict[_Key, list[_Seen]] = field(default_factory=dict)
    _by_account: dict[int, list[tuple[Whose, _Seen]]] = field(default_factory=dict)
    _costs: dict[tuple[DpEvent, tuple[float, ...], Relation], Cost] = field(default_factory=dict)

    def decide(self, account: Account, event: DpEvent, limits: Limits, whose: Whose) -> Decision:
        """Answer for the account and all it is charged with. Raises: Refused, ValueError."""
        if not self._is_current() or len(self._seen) > _MOST:
            self._forget(self._lines())
        seen = self._seen.get((account, whose)) or self._look(account, whose)
        own, others = seen[0].held, seen[1:]
        if seen[0].now is None:
            seen[0].now = own.judge.epsilon(own.total)
        cost = self._cost(event, own)
        after = own.total + cost
        fits = own.judge.fits(after, own.epsilon) and self._share_fits(seen[0], cost, limits)
        fits = fits and all(self._fits(other, event, limits) for other in others)
        return Decision(fits, seen[0].now, own.judge.epsilon(after), own.epsilon)

    def learn(self, was: int, now: int, changes: Sequence[object]) -> None:
        """Take over what a transaction changed, if nobody wrote between it and what is remembered here."""
        if self._seq != was:
            return  # the next decision reads it all
        self._seq = now
        for change in changes:
            match change:
                case (int(account), None, Held() as held) if account in self._by_account:
                    for _, seen in self._by_account[account]:
                        seen.held, seen.now = replace(held, epsilon=seen.held.epsilon), None
                case (int(account), of, HeldShare() as share) if account in self._by_account:
                    for whose, seen in self._by_account[account]:
                        if whose == of:
                            seen.share = share
                case (_, None, Held(charges=0, disclosures=0)):
                    self._forget(now)  # opened just now: perhaps one that was remembered as not open
        self._is_current()  # looked up here, where a disk has been waited for, and not when it is asked

    def _is_current(self) -> bool:
        """Return whether the file has as many lines as are remembered."""
        version = self.db.execute("PRAGMA data_version").fetchone()[0]  # before the lines: else one could slip by
        if version == self._version:
            return True
        if self._lines() != self._seq:
            return False
        self._version = version
        return True

    def _lines(self) -> int:
        return int(self.db.execute("SELECT seq FROM trail").fetchone()[0])

    def _forget(self, seq: int) -> None:
        self._seen.clear()
        self._by_account.clear()
        self._seq = seq

    def _look(self, account: Account, whose: Whose) -> list[_Seen]:
        seen = []
        self.db.execute("BEGIN")
        try:
            if self._lines() != self._seq:
                self._forget(-1)  # another wrote between: good for this decision, and not to be remembered as of then
            for name in dict.fromkeys((account.dataset, *account.also)):
                held = find(self.db, name, account.budget) or fresh(name, account.budget)
                seen.append(_Seen(held, share_of(self.db, held, whose)))
                self._by_account.setdefault(held.id, []).append((whose, seen[-1]))
        finally:
            self.db.execute("COMMIT")
        self._seen[account, whose] = seen
        return seen

    def _fits(self, seen: _Seen, event: DpEvent, limits: Limits) -> bool:
        held, cost = seen.held, self._cost(event, seen.held)
        return held.judge.fits(held.total + cost, held.epsilon) and self._share_fits(seen, cost, limits)

    def _share_fits(self, seen: _Seen, cost: Cost, limits: Limits) -> bool:
        if limits.epsilon is not None and not seen.held.judge.fits(seen.share.total + cost, limits.epsilon):
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
