"""Say by which terms members sum: proposed by the coordinator, checked by each member against its own policy."""

import hashlib
from dataclasses import dataclass
from enum import Enum

from protocols.wire import Message, Wire

_LONGEST_LIFE_S = 7 * 24 * 3600
BITS = (16, 24, 32)


class Mode(Enum):
    """Name what happens when a member drops out in the middle of a sum.

    STRICT: that sum is dead. Nothing secret is ever disclosed, one message a member and sum.
    RESILIENT: enough of the others reveal what unmasks the sum of those who stayed, and nothing else.
    """

    STRICT = "strict"
    RESILIENT = "resilient"


@dataclass(frozen=True, slots=True)
class Terms(Message):
    """Fix the rules of all sums in a session.

    Units:   `smallest_crowd` members at least are in every sum that is shown; `colluding` of them at most are
             assumed to work with the coordinator; a vector is asked for at most `attempts` times; keys live
             `lifetime_s` seconds; words have `bits` bits.
    Cites:   Bonawitz et al. 2017, section 6.2: 2 * threshold > members + colluding, so that no two sets of holders,
             each large enough to reveal, can be told different things without an honest member in both.
    """

    mode: Mode
    smallest_crowd: int
    colluding: int
    bits: int = 32
    attempts: int = 1
    lifetime_s: int = 24 * 3600

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits: expected one of {', '.join(map(str, BITS))}")
        if self.smallest_crowd < 2:
            raise ValueError("smallest_crowd: expected at least 2")
        if not 0 <= self.colluding < self.smallest_crowd:
            raise ValueError("colluding: expected at least 0, and fewer than smallest_crowd")
        if not 1 <= self.attempts <= 1000:
            raise ValueError("attempts: expected 1 to 1000")
        if not 1 <= self.lifetime_s <= _LONGEST_LIFE_S:
            raise ValueError(f"lifetime_s: expected 1 to {_LONGEST_LIFE_S}")

    @property
    def honest(self) -> int:
        """Return how many members of any sum are honest at the least."""
        return self.smallest_crowd - self.colluding

    @property
    def digest(self) -> bytes:
        """Return 32 bytes that change with every term."""
        return hashlib.sha256(b"parley/v1/secure-sum/terms\0" + _WIRE.encode(self)).digest()

    def threshold(self, members: int) -> int:
        """Return how many of `members` must agree before anything is revealed."""
        return (members + self.colluding) // 2 + 1


def mode_for(members: int, colluding: int) -> Mode:
    """Return RESILIENT where a member can be missed at all, else STRICT: of three with one colluding none can."""
    return Mode.RESILIENT if (members + colluding) // 2 + 1 < members else Mode.STRICT


_WIRE = Wire(Terms)
