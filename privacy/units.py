"""Say what a guarantee protects: levels, units, neighbouring relations, and how an epsilon is printed."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """Name what crosses the wall in a collaboration."""

    API = "api"
    TEXT = "text"
    LOGITS = "logits"
    WEIGHTS = "weights"


class Kind(Enum):
    """Name what sort of thing leaves. All but keys say something about the data, or about how it is worked on."""

    VALUE = "value"
    TEXT = "text"
    KEYS = "keys"
    COUNT = "count"
    METRIC = "metric"
    TIMING = "timing"
    CAPABILITY = "capability"


class Unit(Enum):
    """Name what one neighbouring data set has more or less of."""

    RECORD = "record"
    GROUP = "group"
    MEMBER = "member"


class Relation(Enum):
    """Name when two data sets are neighbours.

    Replace-one is missing on purpose: the RDP accountant in use under-reports it
    (google/differential-privacy issue 378), so an account under it cannot be opened.
    """

    ADD_OR_REMOVE = "add-or-remove"
    ZERO_OUT = "zero-out"


@dataclass(frozen=True, slots=True)
class Guarantee:
    """State one (epsilon, delta) with everything a reader needs in order to weigh it.

    Units:  epsilon in nats at this `delta`; `accountant` names the theorem that adds the releases up.
    """

    epsilon: float
    delta: float
    unit: Unit
    relation: Relation
    accountant: str
    assumptions: tuple[str, ...]
    not_covered: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line that never shows an epsilon without its delta, unit, relation and accountant."""
        return (
            f"epsilon {self.epsilon:.2f} at delta {self.delta:g}, per {self.unit.value}, "
            f"{self.relation.value}, by {self.accountant}"
        )
