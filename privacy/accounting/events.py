"""Name what a release did, in a closed vocabulary, and write it as canonical JSON: the same bytes on every machine.

dp-accounting's events where it has them, ours where it has none; what each costs is in `curves.py`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

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

from privacy.accounting import fields

MOST = 10**12  # of anything that is counted
NOISES = fields.NOISES
DEEPEST = 16
LONGEST = 2**16  # characters
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


class _Checked:
    """Refuse bad parameters when an event of ours is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, _, check in _BY_CLASS[type(self)].fields:
            object.__setattr__(self, name, check(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class DiscreteGaussianDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be integers of some L2 sensitivity plus discrete Gaussian noise of a deviation, in every coordinate."""

    deviation: float
    sensitivity: float


@dataclass(frozen=True, slots=True)
class DistributedGaussianSumDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be a sum of integer vectors, at least `honest` members of which add discrete Gaussian noise of a deviation."""

    bound: float
    deviation: float
    honest: int
    length: int


@dataclass(frozen=True, slots=True)
class SampledSumDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be a sum of integer vectors, one for each unit in a Poisson sample at `rate`, with the noise of members.

    A unit's vector has an L2 norm of at most `bound`; at least `honest` members add discrete Gaussian noise of a
    deviation to each of the `length` coordinates. Who those members are is not sampled.
    """

    rate: float
    bound: float
    deviation: float
    honest: int
    length: int


@dataclass(frozen=True, slots=True)
class SkellamDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be integers of some L1 and L2 sensitivity plus Skellam noise of a variance, in every coordinate."""

    variance: float
    l1: float
    l2: float


@dataclass(frozen=True, slots=True)
class ExponentialMechanismDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be one choice with probability proportional to exp(epsilon score / (2 sensitivity))."""

    epsilon: float


@dataclass(frozen=True, slots=True)
class ReportNoisyMaxDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be the name of the highest score after noise: of scale 2 sensitivity / epsilon, one of NOISES."""

    epsilon: float
    noise: str


@dataclass(frozen=True, slots=True)
class PermuteAndFlipDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be one choice by permute-and-flip, at this epsilon."""

    epsilon: float


@dataclass(frozen=True, slots=True)
class AboveThresholdDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be a whole run of the sparse vector technique up to and with its first crossing, at this epsilon."""

    epsilon: float


@dataclass(frozen=True, slots=True)
class PureDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be anything that is epsilon-differentially private."""

    epsilon: float


@dataclass(frozen=True, slots=True)
class ApproximateDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be anything that is (epsilon, delta)-differentially private."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class RenyiDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be anything whose Renyi divergence at order `alpha`, and so at each below, is at most `epsilon`."""

    alpha: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class PMixedDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be one query of PMixED: the mean of `members` distributions, each mixed with the public one.

    Each keeps both divergences of order `alpha`, to and from the public one, at most alpha beta. `members` is the
    fewest that any query mixes, this one among them.
    Cites:   Flemings, Razaviyayn and Annavaram 2024.
    """

    members: int
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class HistogramDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be counts with Gaussian noise of a deviation (discrete or not), a unit having at most so many contributions.

    Unless they are `distinct` (at most one a bin), all of them may fall into one bin.
    """

    deviation: float
    contributions: int
    distinct: bool = False
    discrete: bool = True


@dataclass(frozen=True, slots=True)
class DpSgdDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be a run of DP-SGD: steps of the Gaussian mechanism, each on its own Poisson sample."""

    rate: float
    noise_multiplier: float
    steps: int


@dataclass(frozen=True, slots=True)
class ParallelDpEvent(_Checked, DpEvent):  # type: ignore[misc]
    """Be several events of which no unit is in more than one: `declared_by` answers for that.

    Trusts:  `declared_by` that the parts are disjoint.
    """

    events: tuple[DpEvent, ...]
    declared_by: str


def sampled_group(rate: float, group: int, noise_multiplier: float) -> DpEvent:
    """Return what a Poisson-sampled Gaussian costs a group of so many records, each of sensitivity 1.

    Cites:   Ganesh 2024 (arXiv 2310.15526), theorem 3.1.
    """
    rate, group = fields.rate(rate), fields.within(1, 4096)(group)
    weights = [math.comb(group, k) * rate**k * (1 - rate) ** (group - k) for k in range(group + 1)]
    kept = [(float(k), w) for k, w in enumerate(weights) if w > 0]
    lost = max(0.0, 1 - math.fsum(w for _, w in kept))  # what was too small for a float goes to the largest
    kept[-1] = (kept[-1][0], kept[-1][1] + lost)
    return MixtureOfGaussiansDpEvent(fields.positive(noise_multiplier), [k for k, _ in kept], [w for _, w in kept])


def to_json(event: DpEvent) -> str:
    """Return the canonical JSON of `event`; a ValueError names an event class that no account can add."""
    text = _CANONICAL.encode(_tree(event, DEEPEST))
    if len(text) > LONGEST:
        raise ValueError("an event is written in at most 65,536 characters")
    return text


def from_json(text: str) -> DpEvent:
    """Return the event that `to_json` wrote. Raises: ValueError, whatever else it is given."""
    if len(text) > LONGEST:
        raise ValueError("an event is written in at most 65,536 characters")
    try:
        return _event(json.loads(text, object_pairs_hook=_once), DEEPEST)
    except RecursionError:
        raise ValueError("an event is nested too deeply") from None


def require_known(event: DpEvent) -> None:
    """Return if the event, and all that it is made of, can be written. Raises: ValueError."""
    _tree(event, DEEPEST)


def _tree(event: DpEvent, depth: int) -> dict[str, Any]:
    shape = _BY_CLASS.get(type(event))
    if shape is None:
        raise ValueError(f"no account adds a {type(event).__name__}")
    if not depth:
        raise ValueError("an event is nested too deeply")
    values = {key: _written(check(getattr(event, name)), depth - 1) for name, key, check in shape.fields}
    _require_pairs(values)
    return {"kind": shape.kind, **values}


def _written(value: Any, depth: int) -> Any:
    if isinstance(value, list | tuple):
        return [_written(v, depth) for v in value]
    return _tree(value, depth) if isinstance(value, DpEvent) else value


def _event(tree: Any, depth: int) -> DpEvent:
    if not depth:
        raise ValueError("an event is nested too deeply")
    shape = _BY_KIND.get(str(tree["kind"])) if isinstance(tree, dict) and "kind" in tree else None
    if shape is None:
        raise ValueError("unknown kind of event")
    if tree.keys() != {"kind", *(key for _, key, _ in shape.fields)}:
        raise ValueError(f"{shape.kind}: missing or unknown keys of an event")
    values = {name: check(_read(tree[key], depth - 1)) for name, key, check in shape.fields}
    _require_pairs(values)
    return shape.of(**values)


def _require_pairs(values: dict[str, Any]) -> None:
    """Refuse a mixture that has not one probability for each of its sensitivities, or nothing in it."""
    sensitivities = values.get("sensitivities", [1.0])
    if len(sensitivities) != len(values.get("sampling_probs", [1.0])) or not any(sensitivities):
        raise ValueError("an event's mixture needs as many probabilities as sensitivities, one of them positive")


def _read(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return [_read(v, depth) for v in value]
    return _event(value, depth) if isinstance(value, dict) else value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an event says a key twice")
    return dict(pairs)


class _Shape(NamedTuple):
    """Say how one kind is written: each field's name, its key, and what checks it."""

    kind: str
    of: Callable[..., DpEvent]
    fields: tuple[tuple[str, str, Callable[[Any], Any]], ...]


def _plain(**checks: Callable[[Any], Any]) -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    return tuple((name, name, check) for name, check in checks.items())


_COUNT = fields.within(1, MOST)
_EPSILON = _plain(epsilon=fields.positive)
_SHAPES = (
    _Shape("gaussian", GaussianDpEvent, _plain(noise_multiplier=fields.positive)),
    _Shape(
        "discrete-gaussian", DiscreteGaussianDpEvent, _plain(deviation=fields.positive, sensitivity=fields.positive)
    ),
    _Shape(
        "distributed-gaussian-sum",
        DistributedGaussianSumDpEvent,
        _plain(bound=fields.positive, deviation=fields.positive, honest=fields.within(1, 10**6), length=_COUNT),
    ),
    _Shape(
        "sampled-sum",
        SampledSumDpEvent,
        _plain(
            rate=fields.rate,
            bound=fields.positive,
            deviation=fields.positive,
            honest=fields.within(1, 10**6),
            length=_COUNT,
        ),
    ),
    _Shape("skellam", SkellamDpEvent, _plain(variance=fields.positive, l1=fields.positive, l2=fields.positive)),
    _Shape("laplace", LaplaceDpEvent, _plain(noise_multiplier=fields.positive)),
    _Shape("discrete-laplace", DiscreteLaplaceDpEvent, _plain(noise_parameter=fields.positive, sensitivity=_COUNT)),
    _Shape(
        "randomised-response",
        RandomizedResponseDpEvent,
        _plain(noise_parameter=fields.rate, num_buckets=fields.within(2, MOST)),
    ),
    _Shape("exponential", ExponentialMechanismDpEvent, _EPSILON),
    _Shape("noisy-max", ReportNoisyMaxDpEvent, _plain(epsilon=fields.positive, noise=fields.noise)),
    _Shape("permute-and-flip", PermuteAndFlipDpEvent, _EPSILON),
    _Shape("above-threshold", AboveThresholdDpEvent, _EPSILON),
    _Shape("pure", PureDpEvent, _EPSILON),
    _Shape("approximate", ApproximateDpEvent, _plain(epsilon=fields.not_negative, delta=fields.below_one)),
    _Shape("zcdp", ZCDpEvent, _plain(rho=fields.positive, xi=fields.not_negative)),
    _Shape("rdp", RenyiDpEvent, _plain(alpha=fields.order, epsilon=fields.not_negative)),
    _Shape(
        "pmixed", PMixedDpEvent, _plain(members=fields.within(2, 10**9), alpha=fields.order, beta=fields.positive)
    ),
    _Shape(
        "histogram",
        HistogramDpEvent,
        _plain(deviation=fields.positive, contributions=_COUNT, distinct=fields.flag, discrete=fields.flag),
    ),
    _Shape("dp-sgd", DpSgdDpEvent, _plain(rate=fields.rate, noise_multiplier=fields.positive, steps=_COUNT)),
    _Shape(
        "gaussian-mixture",
        MixtureOfGaussiansDpEvent,
        _plain(
            standard_deviation=fields.positive,
            sensitivities=fields.some(fields.not_negative),
            sampling_probs=fields.probabilities,
        ),
    ),
    _Shape(
        "poisson",
        PoissonSampledDpEvent,
        (("sampling_probability", "rate", fields.rate), ("event", "of", fields.an_event)),
    ),
    _Shape("repeat", SelfComposedDpEvent, (("count", "count", _COUNT), ("event", "of", fields.an_event))),
    _Shape("all", ComposedDpEvent, (("events", "of", fields.some(fields.an_event)),)),
    _Shape(
        "parallel", ParallelDpEvent, (("events", "of", fields.parts), ("declared_by", "declared_by", fields.name))
    ),
)
_BY_KIND = {shape.kind: shape for shape in _SHAPES}
_BY_CLASS: dict[object, _Shape] = {shape.of: shape for shape in _SHAPES}
KINDS = tuple(_BY_KIND)
