"""Ask members for one secure sum after another, and go on without those who stay away.

    rounds = Rounds(NAME, "round", opened, quorum, len(members))
    made   = yield from rounds.sum(number, spec, context, ask)

A sum that cannot be finished is lost: it was charged, so it is not asked for again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, sized
from privacy.units import Unit
from protocols.faults import Abort
from protocols.secure_sum.coordinate import DeadSum, Opened, finish, usable
from protocols.secure_sum.messages import Request, Slip
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import Answers, Coordinator, MemberId
from protocols.wire import Message


class Summed(Protocol):
    """Be the public terms of sums to which each of the members' units adds a vector."""

    @property
    def unit(self) -> Unit:
        """Return what is protected."""

    @property
    def population(self) -> int:
        """Return about how many units there are at all members together."""

    @property
    def noise_multiplier(self) -> float | None:
        """Return the noise of a sum in units of a vector's norm, or None for none."""


def spec_of_units(
    of: Summed, terms: Terms, members: int, length: int, *, coordinate: float, norm: float
) -> FixedPoint:
    """Return how a sum of units' vectors (length,) becomes words, each of at most `norm`, and `coordinate` at each.

    With noise it encodes what one unit adds, and a member adds up its units' integers (for the unit "member" it adds
    one vector); without noise it encodes a member's sum.
    Raises:  ValueError if the words are too narrow.
    """
    whole = of.unit is Unit.MEMBER
    if of.noise_multiplier is None:
        most = coordinate if whole else coordinate * of.population
        return sized(length=length, bits=terms.bits, members=members, coordinate=most)
    return sized(
        length=length,
        bits=terms.bits,
        members=members,
        coordinate=coordinate,
        norm=norm,
        noise_multiplier=of.noise_multiplier,
        honest=terms.honest,
        vectors=0 if whole else of.population,
    )


@dataclass(frozen=True, slots=True)
class Sum:
    """Hold what a round came to: the sum of `count` members' values (entries,), after so many trips.

    `answers` are those of the members in the sum, as they came. A round that is lost has zeros, of nobody.
    """

    total: NDArray[np.float64]
    count: int
    trips: int
    answers: Answers = field(default_factory=dict)


class Attendance:
    """Remember who was silent, so that in STRICT mode one who stays away does not spoil every round.

    A member that was silent in n asked rounds running is not asked in the next 2**n - 1 rounds.
    """

    def __init__(self, members: Sequence[str], mode: Mode) -> None:
        self._members, self._mode = tuple(members), mode
        self._missed = dict.fromkeys(members, 0)
        self._back = dict.fromkeys(members, 0)

    def asked(self, round_: int) -> tuple[str, ...]:
        """Return whom to ask in this round."""
        if self._mode is Mode.RESILIENT:
            return self._members
        return tuple(m for m in self._members if self._back[m] <= round_)

    def note(self, round_: int, asked: Sequence[str], there: Collection[str]) -> None:
        """Note who of those asked has uploaded what can be added up."""
        for member in asked:
            self._missed[member] = 0 if member in there else self._missed[member] + 1
            self._back[member] = round_ + 2 ** min(self._missed[member], 20)


@dataclass(slots=True)
class Rounds:
    """Sum once a round over the members of an open session, of `invited` who were asked to join.

    `purpose` is the collaboration, `word` what it calls a round; `quorum` members must take part in each.
    """

    purpose: str
    word: str
    opened: Opened
    quorum: int
    invited: int
    _attendance: Attendance = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._attendance = Attendance(self.opened.members, self.opened.terms.mode)

    def sum(
        self,
        number: int,
        spec_for: Callable[[int], FixedPoint],
        context: bytes,
        ask: Callable[[Request, tuple[Slip, ...]], Message],
        upload_in: Callable[[Message], Message] = lambda answer: answer,
    ) -> Coordinator[Sum]:
        """Return the sum of round `number`; `spec_for` sizes the words for so many members.

        `upload_in` returns the upload that an answer holds; another message in its place counts as silence.

        Raises: Abort if fewer than the quorum, or the smallest crowd, are asked or answer.
        """
        asked = self._attendance.asked(number)
        require_quorum(len(asked), self.invited, self._least, f"{self.word} {number + 1}")
        spec = spec_for(len(asked))
        request = self.opened.request(self.purpose, spec, context, number, asked)
        said = yield {MemberId(m): ask(request, self.opened.slips(m)) for m in asked}
        answers = {m: upload_in(answer) for m, answer in said.items()}
        there = usable(self.opened, request, answers)
        self._attendance.note(number, asked, there)
        require_quorum(len(there), self.invited, self._least, f"{self.word} {number + 1}")
        try:
            summed = yield from finish(self.opened, request, answers)
        except DeadSum as dead:
            return Sum(np.zeros(spec.length), 0, 1 + dead.trips)
        count = len(summed.members)
        added = {MemberId(m): said[MemberId(m)] for m in summed.members}
        return Sum(spec.decode(summed.words, count), count, 1 + summed.trips, added)

    def require_any(self, counts: Sequence[int]) -> None:
        """Return if at least one round came to something, of rounds with so many members each. Raises: Abort."""
        if not any(counts):
            raise Abort(f"not one of {len(counts)} {self.word}s had all that it needs of {self.invited} members")

    @property
    def _least(self) -> int:
        return max(self.quorum, self.opened.terms.smallest_crowd)


def require_quorum(there: int, of: int, least: int, where: str) -> None:
    """Return if enough members are there. Raises: Abort."""
    if there < least:
        raise Abort(f"{where}: {there} of {of} members answered, need {least}")
