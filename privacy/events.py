"""Write a DpEvent as canonical JSON and read it back: a closed set, the same bytes on every machine."""

import json
import math
from typing import Any

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)


def to_json(event: DpEvent) -> str:
    """Return the canonical JSON of `event`; a ValueError names an event class that no account can add."""
    return json.dumps(_tree(event), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> DpEvent:
    """Return the event that `to_json` wrote."""
    return _event(json.loads(text))


def _tree(event: DpEvent) -> dict[str, Any]:
    match event:
        case GaussianDpEvent():
            return {"kind": "gaussian", "noise_multiplier": _positive(event.noise_multiplier)}
        case ZCDpEvent():
            return {"kind": "zcdp", "rho": _positive(event.rho), "xi": float(event.xi)}
        case PoissonSampledDpEvent():
            rate = _positive(event.sampling_probability)
            if rate > 1:
                raise ValueError("a sampling probability is at most 1")
            return {"kind": "poisson", "rate": rate, "of": _tree(event.event)}
        case SelfComposedDpEvent():
            return {"kind": "repeat", "count": int(event.count), "of": _tree(event.event)}
        case ComposedDpEvent():
            return {"kind": "all", "of": [_tree(e) for e in event.events]}
    raise ValueError(f"no account adds a {type(event).__name__}")


def _positive(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError("an event's parameter must be positive and finite")
    return float(value)


def _event(tree: dict[str, Any]) -> DpEvent:
    match tree["kind"]:
        case "gaussian":
            return GaussianDpEvent(tree["noise_multiplier"])
        case "zcdp":
            return ZCDpEvent(tree["rho"], tree["xi"])
        case "poisson":
            return PoissonSampledDpEvent(tree["rate"], _event(tree["of"]))
        case "repeat":
            return SelfComposedDpEvent(_event(tree["of"]), tree["count"])
        case "all":
            return ComposedDpEvent([_event(t) for t in tree["of"]])
    raise ValueError("unknown kind of event")
