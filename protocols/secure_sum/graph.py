"""Choose who masks with whom when there are too many members for everybody to mask with everybody.

Members stand in a circle, in an order that nobody chose, and mask with the nearest on both sides (a Harary graph).
The degree is the least for which, but with negligible probability: colluding neighbours find out no member's masks;
the masks of those who stay still join them all, so that only their whole sum appears; and enough neighbours stay.

Cites:   Bell, Bonawitz, Gascón, Lepoint, Raykova 2020 (SecAgg+): the events whose probability is bounded.
"""

import hashlib
import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError, PeerError

COMPLETE_UP_TO = 128  # members: so many all mask with each other
_ORDER = b"parley/v1/secure-sum/order\0"
T = TypeVar("T", bound=Hashable)
Name = TypeVar("Name", bound=str)
Tail = NDArray[np.float64]


def order(members: Sequence[Name], sid: bytes, number: int) -> tuple[Name, ...]:
    """Return the members in the order that the session's digest, the sum's number and the members themselves fix.

    Every order is equally likely, and the order in which the members are given does not matter. All of them are
    hashed: who leaves one out, so as to move others together, gets an order that has nothing to do with this one.

    Trusts:  SHA-256 as a random function. Whoever may try many numbers or sets of members gets to choose among as
             many orders: take `parameters` with a `security` that is larger by that many bits.
    Raises:  PeerError for a member twice, or a number out of range.
    """
    places = sorted(members)
    if len(set(places)) != len(places):
        raise PeerError("a member comes twice")
    if not 0 <= number < 2**63:
        raise PeerError("the number of a sum is out of range")
    names = b"".join(_sized(name.encode()) for name in places)
    words = _words(hashlib.sha256(_ORDER + _sized(sid) + number.to_bytes(8, "big") + names).digest())
    for last in range(len(places) - 1, 0, -1):  # the shuffle of Fisher and Yates
        other = _below(last + 1, words)
        places[last], places[other] = places[other], places[last]
    return tuple(places)


def neighbours(order: Sequence[T], degree: int) -> Mapping[T, tuple[T, ...]]:
    """Return for each member the `degree` others that are nearest in the circle, half of them on either side.

    Raises:  LocalError for a degree that is odd, unless all are neighbours of all, or that is out of range.
    """
    members = len(order)
    if len(set(order)) != members:
        raise LocalError("a member comes twice")
    if degree == members - 1:
        return {m: (*order[:i], *order[i + 1 :]) for i, m in enumerate(order)}
    if not 2 <= degree < members or degree % 2:
        raise LocalError(f"a circle of {members} has no neighbourhoods of {degree}")
    steps = [*range(-(degree // 2), 0), *range(1, degree // 2 + 1)]
    return {m: tuple(order[(i + step) % members] for step in steps) for i, m in enumerate(order)}


class Graph(NamedTuple):
    """Say how many neighbours each member has, and how many of them must stay to take its masks away.

    The bounds count neighbours alone: if a member holds a share of its own secrets too, it takes one share more.
    """

    degree: int
    threshold: int


@lru_cache(maxsize=256)
def parameters(
    members: int,
    corrupt: float,
    dropout: float,
    malicious: bool = True,
    *,
    security: int = 40,
    correctness: int = 20,
    whole: bool = False,
) -> Graph:
    """Return the least degree, and for it the least threshold, that is safe among so many members.

    With `security` and `correctness` as they are, and without `whole`, this is the published table.

    Units:   `corrupt` and `dropout` are shares of the members, 0 <= share < 1, rounded up to whole members.
    Learns:  a coordinator that follows the protocol, with the corrupt members: the sum over all who stayed. One that
             is `malicious`, and may say of anybody that it dropped out: the same if `whole`, else perhaps the sums
             over parts of at least degree - threshold + 2 honest members. All but with probability 2**-security.
    Trusts:  that the order of the members has nothing to do with who is corrupt or drops out: against a coordinator
             that can try 2**b orders, add b to the security. That holders agree on who stayed (for parts and whole).
             A sum cannot be finished with probability 2**-correctness.
    Raises:  ValueError if no degree is safe.
    """
    case = _Case(members, _count(corrupt, members), _count(dropout, members), malicious, whole, security, correctness)
    if case.threshold(members - 1) is None:  # whom all others do not protect, fewer do not either
        raise ValueError(
            f"{members} members cannot stand {case.corrupt} corrupt ones and {case.dropped} that drop out"
        )
    found = ((k, case.threshold(k)) for k in (*range(2, members - 1, 2), members - 1))
    return next(Graph(degree, threshold) for degree, threshold in found if threshold is not None)


@dataclass(frozen=True, slots=True)
class _Case:
    """Bound what can go wrong, by the sum over all members, or pairs of them, that it can go wrong for.

    Half of the security is for members that are unmasked, half for a graph that falls apart.
    """

    members: int
    corrupt: int
    dropped: int
    malicious: bool
    whole: bool
    security: int
    correctness: int

    def threshold(self, degree: int) -> int | None:
        """Return the least threshold at which this degree is safe, if there is one."""
        if not self._joined(degree):
            return None
        corrupt = self._least(self.members, _tail(self.members - 1, self.corrupt, degree))
        # No member has so many corrupt neighbours. They give a malicious coordinator shares of both of its secrets,
        # and honest ones a share of either: one stays hidden if 2 * threshold > degree + corrupt neighbours.
        threshold = (degree + corrupt + 1) // 2 if self.malicious else corrupt
        if self.malicious and self.whole and degree < self.members - 1:
            threshold = max(threshold, degree // 2 + self._least_beside(degree))
        leaving = _tail(self.members - 1, self.dropped, degree)[max(0, degree - threshold + 1)]
        return threshold if threshold <= degree and self.members * leaving <= 2.0**-self.correctness else None

    def _joined(self, degree: int) -> bool:
        """Say that those who are honest and stay are connected: they fall apart where two gaps of degree / 2 open."""
        gone = self.corrupt + self.dropped
        if degree == self.members - 1 or degree > gone:
            return True
        both = math.prod((gone - i) / (self.members - i) for i in range(degree))
        return self.members**2 / 2 * both <= 2.0 ** -(self.security + 1)

    def _least_beside(self, degree: int) -> int:
        """Return how many corrupt members do not stand both right and left of any part of the circle.

        A part's last member has no honest neighbour that stays to its right, or the part would go on. With fewer than
        threshold - degree / 2 corrupt ones there, it has no `threshold` neighbours to be unmasked by. So it is to the
        left of the part's first member. The two stretches do not overlap; corrupt members in one are missing in the
        other, so the product of the probabilities is a bound. Two parts have two such pairs of ends, of members**2.
        """
        beside = _tail(self.members - 2, self.corrupt, degree // 2)
        return self._least(self.members**2 / 2, beside**2)

    def _least(self, chances: float, tail: Tail) -> int:
        """Return the least number whose probability to be reached, at any of `chances`, is negligible."""
        return int(np.argmax(chances * tail <= 2.0 ** -(self.security + 1)))


def _count(part: float, members: int) -> int:
    if not 0 <= part < 1:
        raise ValueError("a share of the members is from 0 to 1")
    return math.ceil(part * members - 1e-9)  # 0.1 * 30 is 3, whatever a float makes of it


@lru_cache(maxsize=4)
def _log_factorials(up_to: int) -> NDArray[np.float64]:
    return np.array([math.lgamma(n + 1) for n in range(up_to + 1)])


def _tail(population: int, marked: int, sample: int) -> Tail:
    """Return shape (sample + 2,): the probability that at least so many of a random sample are marked."""
    log = _log_factorials(population)

    least, most = max(0, sample + marked - population), min(sample, marked)
    seen = np.arange(least, most + 1)
    each = np.zeros(sample + 2)
    chosen = log[marked] - log[seen] - log[marked - seen]
    others = log[population - marked] - log[sample - seen] - log[population - marked - sample + seen]
    every = log[population] - log[sample] - log[population - sample]
    each[least : most + 1] = np.exp(chosen + others - every)
    tail: Tail = np.cumsum(each[::-1])[::-1]
    return tail


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _words(key: bytes) -> Iterator[int]:
    """Yield uniform words of 64 bits: SHA-256 of the key and a counter, four words each."""
    for counter in itertools.count():
        block = hashlib.sha256(key + counter.to_bytes(8, "big")).digest()
        for start in range(0, 32, 8):
            yield int.from_bytes(block[start : start + 8], "big")


def _below(bound: int, words: Iterator[int]) -> int:
    """Return a uniform number below `bound`: words from the last, incomplete run of it are passed over."""
    whole = 2**64 - 2**64 % bound
    return next(word for word in words if word < whole) % bound
