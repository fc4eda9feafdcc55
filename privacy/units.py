"""Say what a guarantee protects: levels, units, neighbouring relations, and how an epsilon is printed."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
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
            f"epsilon {rounded_up(self.epsilon)} at delta {self.delta:g}, per {self.unit.value}, "
            f"{self.relation.value}, by {self.accountant}"
        )


def rounded_up(epsilon: float, digits: int = 2) -> str:
    """Return an upper bound as it is printed: never below itself."""
    return _rounded(epsilon, digits, ROUND_CEILING)


def rounded_down(epsilon: float, digits: int = 2) -> str:
    """Return what is left as it is printed: never above itself."""
    return _rounded(epsilon, digits, ROUND_FLOOR)


def _rounded(number: float, digits: int, how: str) -> str:
    if not math.isfinite(number):
        return str(number)
    return str(Decimal(repr(float(number))).quantize(Decimal(1).scaleb(-digits), how))


def assumed(unit: Unit, record_tokens: int) -> tuple[str, ...]:
    """Return what the ledger's epsilon for this unit rests on."""
    if unit is Unit.GROUP:
        return _ASSUMED_OF_GROUPS
    of_a_record = f"a record is {record_tokens} tokens of one document"
    return _ASSUMED_OF_MEMBERS if unit is Unit.MEMBER else (of_a_record, *_ASSUMED_OF_RECORDS)


NOISE_OF_OTHERS = (
    "in each sum as many honest members as the policy counts on (smallest_crowd less colluding) add their noise,"
    " and tell nobody what it was"
)
"""What an epsilon rests on where only the members' sum has the noise in full."""
_ASSUMED_OF_RECORDS = (
    "the declared number of records is public",
    "records are sampled independently (Poisson)",
    "no record is held by two members",
)
_ASSUMED_OF_GROUPS = (
    "a group is all rows that have one name in the group column",
    "the declared number of groups is public",
    "groups are sampled independently (Poisson)",
    "no group is held by two members",
)
_ASSUMED_OF_MEMBERS = (
    "this member's vector is there, or all zeros with its noise",
    NOISE_OF_OTHERS,
)
