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
from privacy.limits import NO_LIMITS, Limits
from privacy.units import Relation

_MOST = 4096  # accounts, shares, and priced events, of each, that are remembered


@dataclass(slots=True)
class _Prices:
    """Remember what events cost at some orders, under one relation.

    By the very event first: it is kept, so nothing else can have its identity, and hashing one takes microseconds.
    """

    same: dict[int, tuple[DpEvent, Cost]] = field(default_factory=dict)
    equal: dict[DpEvent, Cost] = field(default_factory=dict)

    def of(self, event: DpEvent, held: Held) -> Cost:
        """Return what the event costs in this account. Raises: ValueError, Incomparable."""
        known = self.same.get(id(event))
        return known[1] if known is not None else self._looked_up(event, held)

    def _looked_up(self, event: DpEvent, held: Held) -> Cost:
        try:
            cost = self.equal.get(event)
        except TypeError:  # an event that holds a list: it can change
            return cost_at(to_json(event), held)
        if cost is None:
            cost = cost_at(to_json(event), held)
            if len(self.equal) >= _MOST:
                self.equal.clear()
            self.equal[event] = cost
        if len(self.same) >= _MOST:
            self.same.clear()
        self.same[id(event)] = (event, cost)
        return cost


@dataclass(slots=True)
class _Seen:
    """Hold one account, its epsilon, the shares of it that were asked about, and what events cost in it."""

    held: Held
    now: float
    prices: _Prices
    shares: dict[Whose, HeldShare] = field(default_factory=dict)


@dataclass(slots=True)
class Decider:
    """Remember what the file holds, for as long as it holds that. The caller lends each call the connection alone."""

    db: sqlite3.Connection
    clock: Clock
    _seq: int = -1
    _version: int = -1
    _count: int = 0
    _same: dict[int, tuple[Account, list[_Seen]]] = field(default_factory=dict)
    _equal: dict[Account, list[_Seen]] = field(default_factory=dict)
    _by_id: dict[int, list[_Seen]] = field(default_factory=dict)
    _prices: dict[tuple[tuple[float, ...], Relation], _Prices] = field(default_factory=dict)

    def decide(self, account: Account, event: DpEvent, limits: Limits, whose: Whose) -> Decision:
        """Answer for the account and all it is charged with. Raises: Refused, ValueError."""
        if not (self._is_current() and self._count <= _MOST):
            self._forget(self._lines())
        known = self._same.get(id(account))  # the account is kept: nothing else can have its identity
        seen = known[1] if known is not None and whose in known[1][0].shares else self._look(account, whose)
        first = seen[0]
        held = first.held
        fits, after = held.judge.after(held.total, first.prices.of(event, held), held.epsilon)
        if fits and (len(seen) > 1 or limits is not NO_LIMITS):
            fits = all(self._fits(one, event, limits, whose) for one in seen)
        return Decision(fits, first.now, after, held.epsilon)

    def reopened(self, db: sqlite3.Connection) -> None:
        """Use another connection to the file: what is remembered holds if the file has as many lines as it had."""
        self.db, self._version = db, -1

    def learn(self, was: int, now: int, changes: Sequence[object]) -> None:
        """Take over what a transaction changed, if nobody wrote between it and what is remembered here."""
        if self._seq != was:
            return  # the next decision reads it all
        self._seq = now
        for change in changes:
            match change:
                case (int(account), None, Held() as held) if account in self._by_id:
                    for seen in self._by_id[account]:
                        seen.held = replace(held, epsilon=seen.held.epsilon)
                        seen.now = held.judge.epsilon(held.total)
                case (int(account), tuple(whose), HeldShare() as share) if account in self._by_id:
                    for seen in self._by_id[account]:
                        if whose in seen.shares:
                            seen.shares[whose] = share
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
        self._same.clear()
        self._equal.clear()
        self._by_id.clear()
        self._seq, self._count = seq, 0

    def _look(self, account: Account, whose: Whose) -> list[_Seen]:
        """Return the account and those charged with it, with this share of each, all of one moment."""
        self.db.execute("BEGIN")
        try:
            if self._lines() != self._seq:
                self._forget(-1)  # another wrote between: good for this decision, and not to be remembered as of then
            seen = self._equal.get(account) or self._read(account)
            for one in seen:
                if whose not in one.shares:
                    one.shares[whose] = share_of(self.db, one.held, whose)
                    self._count += 1
        finally:
            self.db.execute("COMMIT")
        if len(self._same) >= _MOST:
            self._same.clear()
        self._same[id(account)] = (account, seen)
        return seen

    def _read(self, account: Account) -> list[_Seen]:
        seen = []
        for name in dict.fromkeys((account.dataset, *account.also)):
            held = find(self.db, name, account.budget) or fresh(name, account.budget)
            if len(self._prices) >= _MOST:
                self._prices.clear()
            prices = self._prices.setdefault((held.judge.orders, held.relation), _Prices())
            seen.append(_Seen(held, held.judge.epsilon(held.total), prices))
        for one in seen:  # only when none was refused
            self._by_id.setdefault(one.held.id, []).append(one)
        self._equal[account] = seen
        return seen

    def _fits(self, seen: _Seen, event: DpEvent, limits: Limits, whose: Whose) -> bool:
        held, share = seen.held, seen.shares[whose]
        cost = seen.prices.of(event, held)
        if not held.judge.fits(held.total + cost, held.epsilon):
            return False
        if limits.epsilon is not None and not held.judge.fits(share.total + cost, limits.epsilon):
            return False
        if limits.releases_per_day is None and limits.bytes_per_day is None:
            return True
        releases, size = in_a_day(self.db, share, int(self.clock()) // 60 - DAY - 1)
        return (limits.releases_per_day is None or releases < limits.releases_per_day) and (
            limits.bytes_per_day is None or size < limits.bytes_per_day
        )
