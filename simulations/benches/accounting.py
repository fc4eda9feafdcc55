"""Measure the accountant: its certificates beside a fine PLD, its filter beside both, and against an adversary."""

import math
from collections.abc import Callable, Sequence

from dp_accounting import DpEvent, LaplaceDpEvent, SelfComposedDpEvent
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, RandomizedResponseDpEvent
from dp_accounting.pld import privacy_loss_distribution as pld

from privacy.accounting.accountant import ZERO, Filter, default_orders, price
from privacy.accounting.certificate import certify
from privacy.accounting.events import (
    ApproximateDpEvent,
    DiscreteGaussianDpEvent,
    DpSgdDpEvent,
    ExponentialMechanismDpEvent,
    PureDpEvent,
)
from privacy.units import Relation
from simulations.benches.crosschecks import CHECKS
from simulations.benches.rows import Row, at_least, at_most, in_turns

PLANS = ((0.01, 0.8, 2000, 1e-5), (0.1, 4.0, 100, 1e-5), (0.005, 0.6, 300, 1e-6))  # rate, noise, steps, delta
EPSILON, DELTA = 1.0, 1e-3  # what the adversary may spend
Pairs = list[tuple[float, float]]  # each outcome's probability on one data set, and on its neighbour
Allows = Callable[[Sequence[DpEvent]], bool]


def bench_accounting() -> list[Row]:
    """Return every row of the accountant."""
    return [*certificates(), *adaptive(), adversary(), cross_checked()]


def certificates() -> list[Row]:
    """Compare certificates of runs of DP-SGD with PLDs of 1e-5, and time them."""
    ratios, times = [], []
    for rate, noise, steps, delta in PLANS:
        plan = [DpSgdDpEvent(rate, noise, steps)]
        ratios.append(certify(plan, delta).epsilon / _fine(rate, noise, steps, delta))
        times += in_turns(3, lambda plan=plan, delta=delta: certify(plan, delta))  # type: ignore[misc]
    far = min(ratios) if min(ratios) < 1 else max(ratios)
    row = Row("plan_certificate_vs_pld", far, "x", "PLD at 1e-5", goal="from 1 to 1.005 x", met=1 <= far <= 1.005)
    return [row, at_most("plan_certificate_s", max(times) / 1e3, 1.0, "s")]


def _fine(rate: float, noise: float, steps: int, delta: float) -> float:
    one = pld.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=1e-5)
    return float(one.self_compose(steps).get_epsilon_for_delta(delta))


def adaptive() -> list[Row]:
    """Compare what the filter says of a sequence, at the one order that suits it best, with its certificate."""
    rate, noise, steps, delta = PLANS[0]
    longest = _ratio([DpSgdDpEvent(rate, noise, steps)], delta)
    return [
        at_most("adaptive_vs_pld_dpsgd", longest, 1.13, "x"),
        Row("adaptive_vs_pld_mixed", _ratio(mixed(), 1e-5), "x", goal="for comparison"),
    ]


def mixed() -> list[DpEvent]:
    """Return releases of six kinds, most of them DP-SGD's."""
    return [
        DpSgdDpEvent(0.01, 1.0, 500),
        *(
            SelfComposedDpEvent(event, count)
            for event, count in (
                (LaplaceDpEvent(10.0), 20),
                (DiscreteLaplaceDpEvent(0.1, 1), 20),
                (ExponentialMechanismDpEvent(0.1), 20),
                (DiscreteGaussianDpEvent(20.0, 1.0), 10),
                (RandomizedResponseDpEvent(0.9, 2), 5),
            )
        ),
    ]


def _ratio(events: Sequence[DpEvent], delta: float) -> float:
    least = math.inf
    for order in (1 + k / 20 for k in range(20, 400)):
        judge = Filter((order,), delta)
        total = ZERO(judge.orders)
        for event in events:
            total += price(event, judge.orders, Relation.ZERO_OUT)
        least = min(least, judge.epsilon(total))
    return least / certify(events, delta, Relation.ZERO_OUT).epsilon


def cross_checked() -> Row:
    """Count the kinds of event whose curve is nowhere below what numbers say."""
    return at_least("events_cross_checked", sum(check() for check in CHECKS.values()), 18, "")


def adversary() -> Row:
    """Let an adversary choose by what was answered, against our filter."""
    return at_most("adaptive_adversary_delta_ratio", adaptive_delta_ratio(filter_allows), 1.0, "x")


def adaptive_delta_ratio(allows: Allows) -> float:
    """Return how much of the delta budget an adversary of two steps gets, enumerated exactly: at most 1 is sound.

    It flips a coin first; what it does then depends on the coin, and is the most that is allowed.
    """
    most = 0.0
    for k in range(1, 20):
        first = PureDpEvent(k / 20)
        if allows([first]):
            ways = [outcomes(way) for way in _continuations(first, allows)]
            most = max(most, sum(max(_part(p, q, way) for way in ways) for p, q in outcomes([first])))
    return most / DELTA


def _part(p: float, q: float, way: Pairs) -> float:
    """Return what an outcome and all that follows it add to delta at EPSILON."""
    return sum(max(0.0, p * a - math.exp(EPSILON) * q * b) for a, b in way)


def _continuations(first: DpEvent, allows: Allows) -> list[list[DpEvent]]:
    """Return what may follow: the most leak, the largest epsilon, and each after the other."""
    found: list[list[DpEvent]] = [[]]
    for kinds in ((_leak,), (PureDpEvent,), (_leak, PureDpEvent), (PureDpEvent, _leak)):
        way: list[DpEvent] = []
        for kind in kinds:
            way += _largest(kind, [first, *way], allows)
        found.append(way)
    return found


def _leak(delta: float) -> DpEvent:
    return ApproximateDpEvent(0.0, delta)


def _largest(kind: Callable[[float], DpEvent], before: list[DpEvent], allows: Allows) -> list[DpEvent]:
    low, high = 0.0, 0.999
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if allows([*before, kind(middle)]) else (low, middle)
    return [kind(low)] if low > 0 else []


def outcomes(events: Sequence[DpEvent]) -> Pairs:
    """Return every outcome of coins and leaks, one after the other, with its two probabilities."""
    pairs = [(1.0, 1.0)]
    for event in events:
        pairs = [(p * a, q * b) for p, q in pairs for a, b in _one(event)]
    return pairs


def _one(event: DpEvent) -> Pairs:
    if isinstance(event, ApproximateDpEvent):  # with probability delta it tells which data set it is
        return [(event.delta, 0.0), (0.0, event.delta), (1 - event.delta, 1 - event.delta)]
    odd = 1 / (1 + math.exp(event.epsilon))
    return [(1 - odd, odd), (odd, 1 - odd)]


def filter_allows(events: Sequence[DpEvent]) -> bool:
    """Return whether our filter lets the last of these through, half of delta being kept for leaks."""
    judge = Filter(default_orders(EPSILON, DELTA), DELTA, DELTA / 2)
    total = ZERO(judge.orders)
    for event in events:
        total += price(event, judge.orders)
    return judge.fits(total, EPSILON)


def natural_pld_allows(events: Sequence[DpEvent]) -> bool:
    """Return whether all of these, composed as if they had been fixed, stay within the budget: no filter at all."""
    return _part(1.0, 1.0, outcomes(events)) <= DELTA
