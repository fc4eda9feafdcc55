"""Give each event's Renyi divergence at any order above 1, never below the true one, from public parameters alone."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, MixtureOfGaussiansDpEvent, RandomizedResponseDpEvent

from privacy.accounting import divergences as of
from privacy.accounting.events import (
    AboveThresholdDpEvent,
    ApproximateDpEvent,
    DiscreteGaussianDpEvent,
    DistributedGaussianSumDpEvent,
    DpSgdDpEvent,
    ExponentialMechanismDpEvent,
    HistogramDpEvent,
    ParallelDpEvent,
    PermuteAndFlipDpEvent,
    PMixedDpEvent,
    PureDpEvent,
    RenyiDpEvent,
    ReportNoisyMaxDpEvent,
    SampledSumDpEvent,
    SkellamDpEvent,
)
from privacy.refusal import Incomparable
from privacy.units import Relation


def divergence(event: DpEvent, order: float, relation: Relation) -> float:
    """Return a bound on the Renyi divergence in nats, both ways between neighbours; infinite if there is none.

    Raises: Incomparable if the event means nothing under `relation`. ValueError for an unknown event.
    """
    curve = _CURVES.get(type(event))
    if curve is None:
        raise ValueError(f"no account adds a {type(event).__name__}")
    return float(curve(event, order, relation))


def additive(event: DpEvent) -> float:
    """Return the delta that the event adds beside its divergence; sampling does not lessen it here."""
    match event:
        case ApproximateDpEvent():
            return event.delta
        case SelfComposedDpEvent():
            return float(event.count) * additive(event.event)
        case PoissonSampledDpEvent():
            return additive(event.event)
        case ComposedDpEvent():
            return sum(additive(e) for e in event.events)
        case ParallelDpEvent():
            return max(additive(e) for e in event.events)
    return 0.0


def unamplified(event: DpEvent) -> Iterator[float]:
    """Yield the rho of every innermost mechanism as if nothing was sampled: infinite for one that has none."""
    for part in _innermost(event):
        rho = _RHO.get(type(part))
        loss = float(rho(part)) if rho is not None else math.inf
        yield loss if loss >= 0 else math.inf  # a parameter that is no number promises nothing


def _gaussian(event: Any) -> float:
    """Return the rho of an event whose noise is Gaussian, discrete or not, and of a whole vector at once."""
    match event:
        case GaussianDpEvent():
            return 1 / (2 * float(event.noise_multiplier)) / float(event.noise_multiplier)
        case DiscreteGaussianDpEvent():  # Canonne, Kamath and Steinke 2020, theorem 4
            return (event.sensitivity / event.deviation) ** 2 / 2
        case HistogramDpEvent():
            squared = event.contributions if event.distinct else event.contributions**2
            return squared / event.deviation / event.deviation / 2
        case DistributedGaussianSumDpEvent() | SampledSumDpEvent():  # of the latter, as if nothing was sampled
            return of.distributed_rho(event.bound, event.deviation, event.honest, event.length)
    raise ValueError("an event of another kind")


def is_bounded_range(event: DpEvent) -> bool:
    """Return whether a mechanism is bounded-range, and so epsilon**2 / 8 zCDP. Cites: Cesar and Rogers 2021."""
    return isinstance(event, ExponentialMechanismDpEvent) or (
        isinstance(event, ReportNoisyMaxDpEvent) and event.noise == "gumbel"  # the same law
    )


def _by_rho(event: Any, order: float, _relation: Relation) -> float:
    return order * _gaussian(event)


def _by_epsilon(event: Any, order: float, _relation: Relation) -> float:
    bound = of.pure(event.epsilon, order)
    return min(bound, order * event.epsilon**2 / 8) if is_bounded_range(event) else bound


def _repeated(event: Any, order: float, relation: Relation) -> float:
    return float(event.count) * divergence(event.event, order, relation)


def _all(event: Any, order: float, relation: Relation) -> float:
    return math.fsum(divergence(e, order, relation) for e in event.events)


def _parallel(event: Any, order: float, relation: Relation) -> float:
    return max(divergence(e, order, relation) for e in event.events)


def _zeroed(curve: Callable[[Any, float], float]) -> "Curve":
    """Return a curve that exists only where everybody takes part, and a neighbour is zeroed."""

    def of_relation(event: Any, order: float, relation: Relation) -> float:
        if relation is not Relation.ZERO_OUT:
            raise Incomparable(f"a {type(event).__name__} is defined for zero-out alone")
        return curve(event, order)

    return of_relation


def _poisson(event: Any, order: float, relation: Relation) -> float:
    rate, inner = event.sampling_probability, event.event
    for part in _innermost(inner):
        if isinstance(part, _WHO_TAKES_PART):
            raise Incomparable(f"who takes part in a {type(part).__name__} is not sampled")
    rho = as_gaussian(inner)
    if rho is not None:
        return of.sampled_gaussian(rate, 1 / math.sqrt(2 * rho), order)
    return of.poisson(rate, lambda a: divergence(inner, a, relation), order)


def _innermost(event: DpEvent) -> Iterator[DpEvent]:
    match event:
        case SelfComposedDpEvent() | PoissonSampledDpEvent():
            yield from _innermost(event.event)
        case ComposedDpEvent() | ParallelDpEvent():
            for each in event.events:
                yield from _innermost(each)
        case _:
            yield event


def _sampled_sum(event: Any, order: float, _relation: Relation) -> float:
    """Return Zhu and Wang's general bound: the formula of the sampled Gaussian is not proven for integer noise."""
    rho = _gaussian(event)
    return of.poisson(event.rate, lambda a: a * rho, order)


def as_gaussian(event: Any) -> float | None:
    """Return the rho of what is, on the same sample, as good as one Gaussian; None if it is not."""
    match event:
        case GaussianDpEvent() | HistogramDpEvent(discrete=False):
            return _gaussian(event)
        case SelfComposedDpEvent():
            one = as_gaussian(event.event)
            return None if one is None else event.count * one
        case ComposedDpEvent():
            all_of = [as_gaussian(e) for e in event.events]
            return None if None in all_of else sum(r for r in all_of if r is not None)
    return None


_WHO_TAKES_PART = RandomizedResponseDpEvent | PMixedDpEvent | DistributedGaussianSumDpEvent | SampledSumDpEvent
Curve = Callable[[Any, float, Relation], float]
_CURVES: Mapping[object, Curve] = {
    GaussianDpEvent: _by_rho,
    DiscreteGaussianDpEvent: _by_rho,
    HistogramDpEvent: _by_rho,
    DistributedGaussianSumDpEvent: _zeroed(lambda e, a: a * _gaussian(e)),
    SampledSumDpEvent: _sampled_sum,
    SkellamDpEvent: lambda e, a, _: of.skellam(e.variance, e.l1, e.l2, a),
    LaplaceDpEvent: lambda e, a, _: of.laplace(1 / e.noise_multiplier, a),
    DiscreteLaplaceDpEvent: lambda e, a, _: of.discrete_laplace(e.noise_parameter, e.sensitivity, a),
    RandomizedResponseDpEvent: _zeroed(lambda e, a: of.randomised_response(e.noise_parameter, e.num_buckets, a)),
    ExponentialMechanismDpEvent: _by_epsilon,
    ReportNoisyMaxDpEvent: _by_epsilon,
    PermuteAndFlipDpEvent: _by_epsilon,
    AboveThresholdDpEvent: _by_epsilon,
    PureDpEvent: _by_epsilon,
    ApproximateDpEvent: _by_epsilon,
    ZCDpEvent: lambda e, a, _: e.xi + e.rho * a,
    RenyiDpEvent: lambda e, a, _: e.epsilon if a <= e.alpha else math.inf,
    PMixedDpEvent: lambda e, a, relation: of.pmixed(e.members, e.alpha, e.beta, a, relation),
    DpSgdDpEvent: lambda e, a, _: e.steps * of.sampled_gaussian(e.rate, e.noise_multiplier, a),
    MixtureOfGaussiansDpEvent: lambda e, a, _: of.mixture(e.standard_deviation, e.sensitivities, e.sampling_probs, a),
    PoissonSampledDpEvent: _poisson,
    SelfComposedDpEvent: _repeated,
    ComposedDpEvent: _all,
    ParallelDpEvent: _parallel,
}
_RHO: Mapping[object, Callable[[Any], float]] = {
    GaussianDpEvent: _gaussian,
    DiscreteGaussianDpEvent: _gaussian,
    HistogramDpEvent: _gaussian,
    DistributedGaussianSumDpEvent: _gaussian,
    SampledSumDpEvent: _gaussian,
    DpSgdDpEvent: lambda e: 1 / (2 * e.noise_multiplier) / e.noise_multiplier,
    MixtureOfGaussiansDpEvent: lambda e: (max(e.sensitivities) / e.standard_deviation) ** 2 / 2,
    LaplaceDpEvent: lambda e: 1 / (2 * e.noise_multiplier) / e.noise_multiplier,
    DiscreteLaplaceDpEvent: lambda e: (e.noise_parameter * e.sensitivity) ** 2 / 2,
    ExponentialMechanismDpEvent: lambda e: e.epsilon**2 / 8,
    ReportNoisyMaxDpEvent: lambda e: e.epsilon**2 / (8 if is_bounded_range(e) else 2),
    PermuteAndFlipDpEvent: lambda e: e.epsilon**2 / 2,
    AboveThresholdDpEvent: lambda e: e.epsilon**2 / 2,
    PureDpEvent: lambda e: e.epsilon**2 / 2,
    ZCDpEvent: lambda e: e.rho if e.xi == 0 else math.inf,
}
