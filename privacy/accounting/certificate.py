"""Certify a plan whose every event was fixed before any answer was seen: tighter than the ledger's filter, and none.

Privacy loss distributions are composed, rounded pessimistically. What has none that is known is added up by its
Renyi curve instead, and enters as a distribution that dominates whatever has that curve.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, MixtureOfGaussiansDpEvent, RandomizedResponseDpEvent
from dp_accounting.pld import common, pld_pmf
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.privacy_accountant import NeighboringRelation
from numpy.typing import NDArray

from privacy.accounting.curves import additive, as_gaussian, divergence, is_bounded_range
from privacy.accounting.events import (
    AboveThresholdDpEvent,
    ApproximateDpEvent,
    DpSgdDpEvent,
    ExponentialMechanismDpEvent,
    PermuteAndFlipDpEvent,
    PureDpEvent,
    ReportNoisyMaxDpEvent,
    from_json,
    to_json,
)
from privacy.units import Relation

ASSUMPTION = "only if every event was fixed before any answer was seen"
_ORDERS = (
    *(1 + k / 20 for k in range(1, 20)),
    *(2 + k / 5 for k in range(30)),
    *(float(a) for a in range(8, 33)),
    *(float(a) for a in range(36, 129, 4)),
    256.0,
    512.0,
)
_COARSEST, _FINEST = 2e-3, 2e-5  # nats between two values of a loss
_MOST_VALUES = 2**20
_LOST = 1e-12
_Plan = Mapping[str, int]
Losses = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Hold an epsilon at the delta that was asked for, how it was added up, and what it rests on."""

    epsilon: float
    accountant: str
    assumption: str = ASSUMPTION


def certify(
    events: Mapping[str, int] | Sequence[DpEvent], delta: float, relation: Relation = Relation.ADD_OR_REMOVE
) -> Certificate:
    """Return the least epsilon at `delta` that we can prove of events: canonical JSON and how often, or one by one.

    Raises: Incomparable if an event means nothing under `relation`. ValueError if no finite epsilon is known of one.
    """
    if not 0 < delta < 1:
        raise ValueError("expected 0 < delta < 1")
    plan = _flat(events)
    found = [Certificate(_by_renyi(plan, delta, relation), "RDP at the best order")]
    ways = {False, any(is_bounded_range(from_json(text)) for text in plan)}
    for bounded_range_by_curve in sorted(ways):
        found.append(_by_loss(plan, delta, relation, bounded_range_by_curve, found[0].epsilon))
    best = min(found, key=lambda c: c.epsilon)
    if not math.isfinite(best.epsilon):
        raise ValueError("no finite epsilon is known of these events at this delta")
    return best


def _flat(events: Mapping[str, int] | Sequence[DpEvent]) -> dict[str, int]:
    """Return how often each event happens that is made of no others, all runs unrolled."""
    plan: Counter[str] = Counter()
    given = events.items() if isinstance(events, Mapping) else [(to_json(e), 1) for e in events]
    for text, times in given:
        for event, count in _unrolled(from_json(text)):
            plan[to_json(event)] += times * count
    return {text: count for text, count in plan.items() if count}


def _unrolled(event: Any) -> Iterator[tuple[DpEvent, int]]:
    match event:
        case SelfComposedDpEvent():
            yield from ((each, count * event.count) for each, count in _unrolled(event.event))
        case ComposedDpEvent():
            for part in event.events:
                yield from _unrolled(part)
        case DpSgdDpEvent():
            step = PoissonSampledDpEvent(event.rate, GaussianDpEvent(event.noise_multiplier))
            yield from ((each, event.steps) for each, _ in _unrolled(step))
        case PoissonSampledDpEvent() if event.sampling_probability == 1:
            yield from _unrolled(event.event)
        case _:
            yield event, 1


def _by_renyi(plan: _Plan, delta: float, relation: Relation) -> float:
    """Return the least epsilon over the orders: all hold at once, for a plan that is fixed."""
    left = delta - sum(count * additive(from_json(text)) for text, count in plan.items())
    if left <= 0 or not plan:
        return math.inf if plan else 0.0
    totals = _totals(plan, relation)
    bounds = (r + math.log1p(-1 / a) - math.log(left * a) / (a - 1) for a, r in zip(_ORDERS, totals, strict=True))
    return max(0.0, min(bounds)) * (1 + 1e-9)


def _totals(plan: _Plan, relation: Relation) -> list[float]:
    events = [(from_json(text), count) for text, count in plan.items()]
    return [sum(count * divergence(e, a, relation) for e, count in events) for a in _ORDERS]


def _by_loss(plan: _Plan, delta: float, relation: Relation, by_curve: bool, most: float) -> Certificate:
    """Return what the composed distributions say; `by_curve` adds bounded-range mechanisms by their zCDP."""
    step = _step(plan, relation, most)
    gaussian, curves, distributions = 0.0, {}, []
    for text, count in plan.items():
        event = from_json(text)
        rho = as_gaussian(event)
        if rho is not None:
            gaussian += count * rho
        elif by_curve and is_bounded_range(event):
            curves[text] = count
        elif (one := _distribution(event, step)) is not None:
            divergence(event, 2.0, relation)  # raises what is undefined under the relation
            distributions.append(one.self_compose(count) if count > 1 else one)
        else:
            curves[text] = count
    if gaussian:
        distributions.append(pld.from_gaussian_mechanism(1 / math.sqrt(2 * gaussian), **_every(step)))
    left = delta - sum(count * additive(from_json(text)) for text, count in curves.items())
    if curves:
        distributions.append(_dominating(_totals(curves, relation), step))
    if left <= 0 or not distributions:
        return Certificate(math.inf if plan else 0.0, "nothing")
    total = distributions[0]
    for more in distributions[1:]:
        total = total.compose(more)
    name = f"PLD, rounded up to {step:.0e} nats" + (
        ", with RDP curves where no distribution is known" if curves else ""
    )
    return Certificate(_epsilon(total, left), name)


def _every(step: float) -> dict[str, float]:
    return {"value_discretization_interval": step}


def _distribution(event: Any, step: float) -> pld.PrivacyLossDistribution | None:
    """Return a pessimistic loss distribution of one event, None if none is known.

    Randomised response is replace-one there, as in our own curve; it is repeated by us, since dp-accounting 0.6 takes
    ten of them for one.
    """
    if isinstance(event, PoissonSampledDpEvent):
        return _sampled(event.event, event.sampling_probability, step)
    make = _MAKERS.get(type(event))
    return None if make is None else make(event, step)


def _sampled(event: Any, rate: float, step: float) -> pld.PrivacyLossDistribution | None:
    rho = as_gaussian(event)
    if rho is not None:
        return pld.from_gaussian_mechanism(1 / math.sqrt(2 * rho), sampling_prob=rate, **_every(step))
    if isinstance(event, LaplaceDpEvent):
        return pld.from_laplace_mechanism(event.noise_multiplier, sampling_prob=rate, **_every(step))
    return None


def _response(event: Any, step: float) -> pld.PrivacyLossDistribution | None:
    if event.noise_parameter == 1:
        return pld.identity(step)
    relation = NeighboringRelation.REPLACE_ONE
    return pld.from_randomized_response(
        event.noise_parameter, event.num_buckets, neighboring_relation=relation, **_every(step)
    )


def _coin(event: Any, step: float) -> pld.PrivacyLossDistribution:
    up = math.ceil(event.epsilon / step) * step
    return pld.from_privacy_parameters(common.DifferentialPrivacyParameters(up, additive(event)), step)


_MAKERS: Mapping[object, Callable[[Any, float], pld.PrivacyLossDistribution | None]] = {
    LaplaceDpEvent: lambda e, step: pld.from_laplace_mechanism(e.noise_multiplier, **_every(step)),
    DiscreteLaplaceDpEvent: lambda e, step: pld.from_discrete_laplace_mechanism(
        e.noise_parameter, e.sensitivity, use_connect_dots=True, **_every(step)
    ),
    MixtureOfGaussiansDpEvent: lambda e, step: pld.from_mixture_gaussian_mechanism(
        e.standard_deviation, e.sensitivities, e.sampling_probs, **_every(step)
    ),
    RandomizedResponseDpEvent: _response,
    PureDpEvent: _coin,
    ApproximateDpEvent: _coin,
    ExponentialMechanismDpEvent: _coin,
    ReportNoisyMaxDpEvent: _coin,
    PermuteAndFlipDpEvent: _coin,
    AboveThresholdDpEvent: _coin,
}


def _step(plan: _Plan, relation: Relation, most: float) -> float:
    """Return how fine losses are told apart: rounding widens each event a little, together by under 1 %."""
    weights = [(count, divergence(from_json(text), 1.5, relation)) for text, count in plan.items()]
    times = sum(count for count, _ in weights)
    spread = sum(count * d for count, d in weights)
    finest = max(_FINEST, 3 * most / _MOST_VALUES) if math.isfinite(most) else _FINEST
    return max(finest, min(_COARSEST, math.sqrt(spread / (100 * times)) if times else _COARSEST))


def _dominating(totals: Sequence[float], step: float) -> pld.PrivacyLossDistribution:
    """Return a distribution that dominates whatever has these Renyi divergences at _ORDERS, both ways.

    Each order bounds delta at every epsilon, and so does the smallest of the bounds. The true delta is convex in
    exp(epsilon): the convex minorant bounds it too, and is some distribution's own delta.
    """
    far = max(2, math.ceil(_farthest(totals) / step))
    epsilons: Losses = np.arange(far + 1, dtype=np.float64) * step
    above = np.min([_log_delta(a, r, epsilons) for a, r in zip(_ORDERS, totals, strict=True)], axis=0)
    above = np.exp(np.minimum(above, 0.0))
    below = -np.expm1(-epsilons) + np.exp(-epsilons) * above  # at -epsilon, from the bound on the other way round
    deltas = np.concatenate([below[:0:-1], above])
    kept = _minorant(np.exp(np.arange(-far, far + 1) * step), deltas)
    rounded = np.arange(-far, far + 1)[kept]
    return pld.PrivacyLossDistribution(
        pld_pmf.create_pmf_pessimistic_connect_dots(step, rounded, np.minimum.accumulate(deltas[kept]))
    )


def _log_delta(order: float, divergence_at: float, epsilons: Losses) -> Losses:
    if not math.isfinite(divergence_at):
        return np.zeros_like(epsilons)
    bound: Losses = (order - 1) * (divergence_at - epsilons + math.log1p(-1 / order)) - math.log(order)
    return bound


def _farthest(totals: Sequence[float]) -> float:
    """Return an epsilon at which some order bounds delta by 1e-16, at most 300."""
    bounds = [r + (math.log(1e16) - math.log(a)) / (a - 1) for a, r in zip(_ORDERS, totals, strict=True)]
    return min(300.0, max(0.0, min(bounds)))


def _minorant(x: Losses, y: Losses) -> list[int]:
    """Return which points the largest convex function below all of them goes through, the first being (0, 1)."""
    kept: list[int] = []
    for i in range(len(x)):
        while kept:
            last = kept[-1]
            before, height = (x[kept[-2]], y[kept[-2]]) if len(kept) > 1 else (0.0, 1.0)
            if (y[last] - height) * (x[i] - x[last]) < (y[i] - y[last]) * (x[last] - before):
                break
            kept.pop()
        kept.append(i)
    return kept


def _epsilon(total: pld.PrivacyLossDistribution, delta: float) -> float:
    """Return the least epsilon at `delta`, less what convolutions in floating point may have lost of it."""
    left = delta - _LOST
    return float(total.get_epsilon_for_delta(left)) * (1 + 1e-9) if left > _LOST else math.inf
