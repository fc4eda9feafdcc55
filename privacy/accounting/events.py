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

MOST = 10**12  # of anything that is counted
DEEPEST = 16
LONGEST = 2**16  # characters
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
NOISES = ("gumbel", "exponential", "laplace")


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
    rate, group = _rate(rate), _within(1, 4096)(group)
    weights = [math.comb(group, k) * rate**k * (1 - rate) ** (group - k) for k in range(group + 1)]
    kept = [(float(k), w) for k, w in enumerate(weights) if w > 0]
    lost = max(0.0, 1 - math.fsum(w for _, w in kept))  # what was too small for a float goes to the largest
    kept[-1] = (kept[-1][0], kept[-1][1] + lost)
    return MixtureOfGaussiansDpEvent(_positive(noise_multiplier), [k for k, _ in kept], [w for _, w in kept])


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


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError("an event's parameter must be a number")
    if not abs(value) <= 1e300:  # not finite, or so large that nothing can be computed with it
        raise ValueError("an event's parameter must be finite")
    return float(value)


def _positive(value: Any) -> float:
    if not _number(value) > 0:
        raise ValueError("an event's parameter must be positive and finite")
    return float(value)


def _not_negative(value: Any) -> float:
    if not _number(value) >= 0:
        raise ValueError("an event's parameter must not be negative")
    return abs(float(value))  # no negative zero


def _rate(value: Any) -> float:
    if not _positive(value) <= 1:
        raise ValueError("a sampling probability is at most 1")
    return float(value)


def _below_one(value: Any) -> float:
    if not _positive(value) < 1:
        raise ValueError("an event's probability must be below 1")
    return float(value)


def _order(value: Any) -> float:
    if not _number(value) > 1:
        raise ValueError("an event's order must be above 1")
    return float(value)


def _within(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"an event's count must be a whole number from {least} to {most}")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("an event's flag must be true or false")
    return value


def _noise(value: Any) -> str:
    if value not in NOISES:
        raise ValueError("an event's noise must be one of: " + ", ".join(NOISES))
    return str(value)


def _name(value: Any) -> str:
    if not (isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable()):
        raise ValueError("an event's declarer must be named, in at most 64 printable characters")
    return value


def _an_event(value: Any) -> DpEvent:
    if not isinstance(value, DpEvent):
        raise ValueError("expected an event within an event")
    return value


def _some(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def each(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError("an event's list must hold something")
        return [check(v) for v in value]

    return each


def _probabilities(value: Any) -> list[float]:
    found: list[float] = _some(_rate)(value)
    if abs(math.fsum(found) - 1) > 1e-9:
        raise ValueError("an event's probabilities must add up to 1")
    return found


def _parts(value: Any) -> tuple[DpEvent, ...]:
    return tuple(_some(_an_event)(value))


class _Shape(NamedTuple):
    """Say how one kind is written: each field's name, its key, and what checks it."""

    kind: str
    of: Callable[..., DpEvent]
    fields: tuple[tuple[str, str, Callable[[Any], Any]], ...]


def _plain(**checks: Callable[[Any], Any]) -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    return tuple((name, name, check) for name, check in checks.items())


_COUNT = _within(1, MOST)
_EPSILON = _plain(epsilon=_positive)
_SHAPES = (
    _Shape("gaussian", GaussianDpEvent, _plain(noise_multiplier=_positive)),
    _Shape("discrete-gaussian", DiscreteGaussianDpEvent, _plain(deviation=_positive, sensitivity=_positive)),
    _Shape(
        "distributed-gaussian-sum",
        DistributedGaussianSumDpEvent,
        _plain(bound=_positive, deviation=_positive, honest=_within(1, 10**6), length=_COUNT),
    ),
    _Shape("skellam", SkellamDpEvent, _plain(variance=_positive, l1=_positive, l2=_positive)),
    _Shape("laplace", LaplaceDpEvent, _plain(noise_multiplier=_positive)),
    _Shape("discrete-laplace", DiscreteLaplaceDpEvent, _plain(noise_parameter=_positive, sensitivity=_COUNT)),
    _Shape(
        "randomised-response",
        RandomizedResponseDpEvent,
        _plain(noise_parameter=_rate, num_buckets=_within(2, MOST)),
    ),
    _Shape("exponential", ExponentialMechanismDpEvent, _EPSILON),
    _Shape("noisy-max", ReportNoisyMaxDpEvent, _plain(epsilon=_positive, noise=_noise)),
    _Shape("permute-and-flip", PermuteAndFlipDpEvent, _EPSILON),
    _Shape("above-threshold", AboveThresholdDpEvent, _EPSILON),
    _Shape("pure", PureDpEvent, _EPSILON),
    _Shape("approximate", ApproximateDpEvent, _plain(epsilon=_not_negative, delta=_below_one)),
    _Shape("zcdp", ZCDpEvent, _plain(rho=_positive, xi=_not_negative)),
    _Shape("rdp", RenyiDpEvent, _plain(alpha=_order, epsilon=_not_negative)),
    _Shape("pmixed", PMixedDpEvent, _plain(members=_within(2, 10**9), alpha=_order, beta=_positive)),
    _Shape(
        "histogram",
        HistogramDpEvent,
        _plain(deviation=_positive, contributions=_COUNT, distinct=_flag, discrete=_flag),
    ),
    _Shape("dp-sgd", DpSgdDpEvent, _plain(rate=_rate, noise_multiplier=_positive, steps=_COUNT)),
    _Shape(
        "gaussian-mixture",
        MixtureOfGaussiansDpEvent,
        _plain(standard_deviation=_positive, sensitivities=_some(_not_negative), sampling_probs=_probabilities),
    ),
    _Shape("poisson", PoissonSampledDpEvent, (("sampling_probability", "rate", _rate), ("event", "of", _an_event))),
    _Shape("repeat", SelfComposedDpEvent, (("count", "count", _COUNT), ("event", "of", _an_event))),
    _Shape("all", ComposedDpEvent, (("events", "of", _some(_an_event)),)),
    _Shape("parallel", ParallelDpEvent, (("events", "of", _parts), ("declared_by", "declared_by", _name))),
)
_BY_KIND = {shape.kind: shape for shape in _SHAPES}
_BY_CLASS: dict[object, _Shape] = {shape.of: shape for shape in _SHAPES}
KINDS = tuple(_BY_KIND)
