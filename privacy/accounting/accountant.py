"""Add events up by Renyi differential privacy at orders fixed beforehand, in whole picunits that only round up.

Orders are fixed when an account is opened: that makes the sum a privacy filter, valid although later mechanisms are
chosen after looking at earlier answers (Feldman and Zrnic 2021, theorem 4.3). "Best order so far" is not. Additive
deltas have a reserve of their own, set aside beforehand (Whitehouse et al. 2023, theorem 1).
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache, reduce

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)

from privacy.accounting.curves import additive, divergence
from privacy.accounting.events import DpSgdDpEvent, ParallelDpEvent, from_json, to_json
from privacy.units import Relation

PICO = 10**12  # costs are integers of 1e-12 nats: exact, associative sums on every machine
ATTO = 10**18  # additive deltas are integers of 1e-18
ENDLESS = 2**53  # how many more fit where one costs nothing
Orders = tuple[float, ...]
NAME = "RDP at a fixed order"
_FLOAT_ERROR = 1e-12  # relative, and 1e-15 nats: more than a closed form loses in floating point
_STEPS, _MOST_NOISE = 10_000, 10_000  # noise is looked for in so many steps to 1, up to so much
_EXACT = Context(prec=60)  # far more digits than a float has: what it rounds is below any picunit


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold what events cost: a Renyi divergence at each of the account's orders, and an additive delta.

    Units:  nats in 1e-12, delta in 1e-18: whole numbers, rounded up once, so that sums are exact in any order.
    """

    nats: tuple[int, ...]
    delta: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both. Raises: ValueError if they are at different numbers of orders."""
        if len(self.nats) != len(other.nats):
            raise ValueError("costs at different orders do not add up")
        return Cost(tuple(map(operator.add, self.nats, other.nats)), self.delta + other.delta)

    def __mul__(self, count: int) -> "Cost":
        """Return the cost of `count` of these."""
        return Cost(tuple(a * count for a in self.nats), self.delta * count)


def ZERO(orders: Sequence[float]) -> Cost:  # noqa: N802  it reads as the constant that it is for given orders
    """Return the cost of nothing."""
    return Cost((0,) * len(orders))


@dataclass(frozen=True, slots=True)
class Filter:
    """Say whether what was charged fits a budget, at orders and a reserve of delta that were fixed beforehand.

    What is left of delta is shared equally by the orders: a union bound makes the best of them valid.
    Cites:   Canonne, Kamath and Steinke 2020, proposition 12.
    """

    orders: tuple[float, ...]
    delta: float
    reserved: float = 0.0
    _adds: tuple[int, ...] = field(init=False, repr=False, compare=False)  # each order's conversion, in 1e-12 nats
    _reserve: int = field(init=False, repr=False, compare=False)  # in 1e-18

    def __post_init__(self) -> None:
        if not (self.orders and all(math.isfinite(a) and a > 1 for a in self.orders)):
            raise ValueError("orders: expected some, finite and above 1")
        if not 0 <= self.reserved < self.delta < 1:
            raise ValueError("expected 0 <= reserved < delta < 1")
        object.__setattr__(self, "_adds", _conversions(self.orders, self.delta, self.reserved))
        object.__setattr__(self, "_reserve", _down(self.reserved, ATTO))

    def epsilon(self, total: Cost) -> float:
        """Return the epsilon that `total` amounts to at `delta`, rounded up; infinite if the reserve is overdrawn."""
        return self.after(total, Cost((0,) * len(total.nats)), 0.0)[1]

    def fits(self, total: Cost, epsilon: float) -> bool:
        """Return whether `total` is at most `epsilon` at `delta`: a few comparisons of whole numbers."""
        if total.delta > self._reserve:
            return False
        return self._least(total.nats) <= _limit(epsilon) or (epsilon >= 0 and not any(total.nats))

    def after(self, total: Cost, more: Cost, epsilon: float) -> tuple[bool, float]:
        """Return whether both together fit `epsilon`, and the epsilon that they amount to: in two microseconds."""
        if total.delta + more.delta > self._reserve:
            return False, math.inf
        if len(total.nats) != len(more.nats):
            raise ValueError("costs at different orders do not add up")
        nats = tuple(map(operator.add, total.nats, more.nats))
        least, spent = self._least(nats), any(nats)
        fits = least <= _limit(epsilon) or (epsilon >= 0 and not spent)
        return fits, math.nextafter(least / PICO, math.inf) if spent and least > 0 else 0.0

    def room(self, total: Cost, epsilon: float, event_cost: Cost) -> int:
        """Return how many more of an event that costs `event_cost` fit; ENDLESS if it costs nothing."""
        if not self.fits(total + event_cost, epsilon):
            return 0
        most_at = [_limit(epsilon) - adds for adds in self._adds]
        left = (
            (most - t) // each if each else ENDLESS
            for t, most, each in zip(total.nats, most_at, event_cost.nats, strict=True)
            if t <= most
        )
        of_delta = (self._reserve - total.delta) // event_cost.delta if event_cost.delta else ENDLESS
        return min(max(left, default=ENDLESS), of_delta, ENDLESS)

    def _least(self, nats: tuple[int, ...]) -> int:
        """Return what a total comes to at the order that suits it best, in 1e-12 nats."""
        if len(nats) != len(self._adds):
            raise ValueError("the total is at other orders than the filter's")
        least: int = min(map(operator.add, nats, self._adds))
        return least


def price(event: DpEvent, orders: Sequence[float], relation: Relation = Relation.ADD_OR_REMOVE) -> Cost:
    """Return what the event costs at every order, rounded up.

    Raises: ValueError if there is no finite divergence; Incomparable if the event means nothing under `relation`.
    """
    return _price(to_json(event), tuple(orders), relation)


@lru_cache(maxsize=4096)
def _price(event: str, orders: tuple[float, ...], relation: Relation) -> Cost:
    if not (orders and all(math.isfinite(a) and a > 1 for a in orders)):
        raise ValueError("orders: expected some, finite and above 1")
    try:
        return _add_up(from_json(event), orders, relation)
    except ArithmeticError:
        raise ValueError("the event's numbers are too large or too small to be computed with") from None


def _add_up(event: DpEvent, orders: tuple[float, ...], relation: Relation) -> Cost:
    """Add in whole numbers what an event is made of: together it costs what its parts do one by one."""
    match event:
        case SelfComposedDpEvent():
            return _add_up(event.event, orders, relation) * int(event.count)
        case DpSgdDpEvent():
            step = PoissonSampledDpEvent(event.rate, GaussianDpEvent(event.noise_multiplier))
            return _add_up(step, orders, relation) * event.steps
        case ComposedDpEvent():
            parts = [_add_up(e, orders, relation) for e in event.events]
            return reduce(operator.add, parts, ZERO(orders))
        case ParallelDpEvent():
            parts = [_add_up(e, orders, relation) for e in event.events]
            return Cost(tuple(map(max, zip(*(p.nats for p in parts), strict=True))), max(p.delta for p in parts))
    nats = [divergence(event, a, relation) for a in orders]
    if not all(math.isfinite(n) and n >= 0 for n in nats):
        raise ValueError("the event has no finite divergence at this account's orders")
    return Cost(tuple(_rounded_up(n, PICO) for n in nats), _rounded_up(additive(event), ATTO))


def _rounded_up(value: float, parts: int) -> int:
    """Return the whole number of parts above a value, and above what its computation may have lost."""
    lost = _FLOAT_ERROR * (value + 1e-3) if value else 0.0
    return math.ceil(Fraction(value) * parts + Fraction(lost) * parts)


def default_orders(epsilon: float, delta: float) -> tuple[float, ...]:
    """Return the one order at which the budget holds the most zero-concentrated privacy loss rho.

    Maximises (epsilon - conversion(order, delta)) / order: the best choice for Gaussian-like releases, made
    from the budget alone, hence before any data is touched.
    """
    candidates = [1 + k / 20 for k in range(2, 2000)]
    return (max(candidates, key=lambda a: (epsilon - _conversion(a, delta)) / a),)


def calibrate(
    event_of: Callable[[float], DpEvent],
    budget: float,
    delta: float,
    orders: Sequence[float],
    relation: Relation = Relation.ADD_OR_REMOVE,
) -> float:
    """Return the smallest noise multiplier (to 1e-4, rounded up) whose event costs at most `budget`.

    Raises: ValueError if no noise multiplier up to 10,000 does.
    """
    return calibrate_best(event_of, budget, delta, (tuple(orders),), relation)[0]


def calibrate_best(
    event_of: Callable[[float], DpEvent],
    budget: float,
    delta: float,
    choices: Iterable[Orders],
    relation: Relation = Relation.ADD_OR_REMOVE,
) -> tuple[float, Orders]:
    """Return the smallest noise multiplier as `calibrate` does at any of the choices, and the first that it is at.

    A choice that is not better than the best so far is seen by one look, at the next smaller noise.
    Raises: ValueError if no noise multiplier up to 10,000 does at any of them.
    """
    best: tuple[int, Orders] | None = None
    for orders in choices:
        judge = Filter(orders, delta)

        def fits(steps: int, orders: Orders = orders, judge: Filter = judge) -> bool:
            try:
                return judge.fits(price(event_of(steps / _STEPS), orders, relation), budget)
            except (ValueError, OverflowError):
                return False  # so little noise that the divergence is not finite

        if (found := _first(fits, best[0] - 1 if best else None)) is not None:
            best = found, orders
    if best is None:
        raise ValueError(f"no noise multiplier up to {_MOST_NOISE:,} meets the budget")
    return best[0] / _STEPS, best[1]


def _first(fits: Callable[[int], bool], most: int | None) -> int | None:
    """Return the least number above 0 that fits, if there is one up to `most`; all above it fit, too."""
    low, high = 0, 1 if most is None else most
    if most is not None and (most < 1 or not fits(most)):
        return None
    while most is None and not fits(high):
        low, high = high, high * 2
        if high > _MOST_NOISE * _STEPS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _conversion(order: float, delta: float) -> float:
    """Return what turning a Renyi divergence into (epsilon, delta) adds (Canonne et al. 2020, prop. 12)."""
    return math.log1p(-1 / order) - math.log(delta * order) / (order - 1)


@lru_cache(maxsize=256)
def _conversions(orders: tuple[float, ...], delta: float, reserved: float) -> tuple[int, ...]:
    """Return what each order's conversion adds to a total, in 1e-12 nats, rounded up."""
    c = _EXACT
    share = c.divide(c.subtract(Decimal(delta), Decimal(reserved)), Decimal(len(orders)))
    return tuple(_pico_conversion(Decimal(a), share) for a in orders)


def _pico_conversion(order: Decimal, delta: Decimal) -> int:
    c = _EXACT
    less = c.subtract(order, Decimal(1))
    adds = c.subtract(c.ln(c.divide(less, order)), c.divide(c.ln(c.multiply(delta, order)), less))
    return int(c.multiply(adds, Decimal(PICO)).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4096)
def _limit(epsilon: float) -> int:
    """Return a limit in 1e-12 nats, rounded down. Raises: ValueError."""
    if not math.isfinite(epsilon):
        raise ValueError("a limit on epsilon is finite")
    return _down(epsilon, PICO)


def _down(value: float, parts: int) -> int:
    return int(_EXACT.multiply(Decimal(value), Decimal(parts)).to_integral_value(ROUND_FLOOR))
