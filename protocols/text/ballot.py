"""Secret counts: how many of the members' records speak for each of some public choices, summed and noised.

    coordinator                                          member
      Count(ballot, number, choices, request) ─────────▶ checks the ballot against its own policy and budget; each of
                                                         its units votes for the choices that fit it, by the gate
      a noised count for each choice                 ◀── Upload(masked counts and a share of the noise)

One unit's votes are a vector of norm at most `ballot.norm`, encoded as integers unit by unit, so that the bound holds
in whole numbers. The choices are public texts: nothing private is in them, and nothing of a record leaves but the
votes. `evolve.py` and `keyphrases.py` say which choices; here stands what they have in common.

Learns:  the coordinator: the noised count of each choice. Members: the choices.
Trusts:  that no more than terms.colluding members work with the coordinator: the noise is theirs together.
Cites:   Kairouz, Liu and Steinke 2021 (the noise of the sum); Xie et al. 2024, Aug-PE (votes for candidates).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from privacy.units import Unit
from protocols.faults import LocalError, PeerError
from protocols.plans import context, plan_of
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.rounds import Rounds, spec_of_units
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Reals = NDArray[np.float64]
MOST_CHOICES = 2**16
MOST_COUNTS = 1000
LONGEST_CHOICE = 2**14  # characters
_MOST_UNITS = 2**24


class Votes(Enum):
    """Name what a unit votes for.

    NEAREST: the one choice whose text is nearest to its own, by a public embedding. HELD: the choices, as phrases,
    that its text holds; of more than it has votes for, which is decided by its own text alone.
    """

    NEAREST = "nearest"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Ballot(Message):
    """State by which public terms records are counted: the same for every member and every count.

    Units:   at most `choices` in each of `counts`; one unit has `votes`; `looks` texts make one choice, and are
             averaged; about `population` units at all members together, for which words are sized; records of
             `record_tokens` tokens; `epsilon` over all counts at `delta`, or None for no noise (then a disclosure);
             `noise_multiplier` of a sum, in units of the norm.
    """

    by: Votes
    choices: int
    counts: int
    votes: int
    looks: int
    population: int
    record_tokens: int
    unit: Unit
    epsilon: float | None
    delta: float
    noise_multiplier: float | None

    def __post_init__(self) -> None:
        if not 1 <= self.choices <= MOST_CHOICES or not 1 <= self.counts <= MOST_COUNTS:
            raise ValueError(f"expected 1 to {MOST_CHOICES} choices, in 1 to {MOST_COUNTS} counts")
        if not 1 <= self.votes <= self.choices or (self.by is Votes.NEAREST and self.votes != 1):
            raise ValueError("votes: expected 1 for the nearest choice, else at most one a choice")
        if not 1 <= self.looks <= 64 or (self.by is Votes.HELD and self.looks != 1):
            raise ValueError("looks: expected 1 to 64 texts a choice, and 1 for phrases")
        if not 1 <= self.population <= _MOST_UNITS or self.record_tokens < 2:
            raise ValueError(f"population: expected 1 to {_MOST_UNITS}; record_tokens: at least 2")
        if not 0 < self.delta < 1:
            raise ValueError("delta: expected a number above 0 and below 1")
        if (self.epsilon is None) is not (self.noise_multiplier is None):
            raise ValueError("epsilon and noise_multiplier: expected both or neither")
        for number in (self.epsilon, self.noise_multiplier):
            if number is not None and not 0 < number < 1e6:
                raise ValueError("epsilon and noise_multiplier: expected positive numbers")

    @property
    def rounds(self) -> int:
        """Return how often the members are asked: once for each count."""
        return self.counts

    @property
    def norm(self) -> float:
        """Return what the L2 norm of a unit's votes never exceeds: a group's, or a member's, are scaled to it."""
        return math.sqrt(self.votes)

    def spec(self, terms: Terms, members: int, choices: int) -> FixedPoint:
        """Return how the counts of so many choices become words where `members` add up.

        Raises:  ValueError if the words are too narrow.
        """
        one = 1.0 if self.unit is Unit.RECORD else self.norm
        return spec_of_units(self, terms, members, choices, coordinate=one, norm=self.norm)

    @property
    def plan(self) -> str:
        """Return the ballot as canonical JSON of at most 4 KiB, for whoever approves or audits it."""
        return plan_of(self)


@dataclass(frozen=True, slots=True)
class Count(Message):
    """Ask for the votes for `choices`, whose texts are looks of one choice after another, into the sum `request`.

    `number` counts the counts from 0; `slips` are what the member has yet to know of its peers.
    """

    ballot: Ballot
    number: int
    choices: tuple[str, ...]
    request: Request | None
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Counted(Message):
    """Hold what one count came to: noised `votes`, one for each choice; `members` are in it, 0 if it was lost."""

    votes: Reals
    members: int
    trips: int


class Home(seat.Seat, Protocol):
    """What a secret count asks of a member's home."""

    def counted(
        self, ballot: Ballot, number: int, choices: tuple[str, ...], request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Let every unit vote, and return the votes' sum masked for `request`, by the gate.

        Raises: PeerError for a ballot or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Voting(Message):
    """Wait for a count not before `next_number`. None is answered twice, nor one beyond the ballot's last."""

    next_number: int

    def answer(self, ask: Message, home: Home) -> "tuple[Voting, Cleared[Any]]":
        """Vote, and answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Count):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        ballot = ask.ballot
        if not self.next_number <= ask.number < ballot.counts:
            raise PeerError("a count out of order, or beyond the last")
        require_choices(ballot, ask.choices)
        if ask.request is None:
            raise PeerError("votes are let go into a secure sum alone")
        return Voting(ask.number + 1), home.counted(ballot, ask.number, ask.choices, ask.request, ask.slips)


def require_choices(ballot: Ballot, choices: Sequence[str]) -> None:
    """Return if these texts are choices by this ballot. Raises: PeerError, which quotes none of them."""
    whole, rest = divmod(len(choices), ballot.looks)
    if rest or not 1 <= whole <= ballot.choices:
        raise PeerError(f"{len(choices)} texts, the ballot says {ballot.looks} for each of 1 to {ballot.choices}")
    if max(map(len, choices)) > LONGEST_CHOICE:
        raise PeerError(f"a choice of more than {LONGEST_CHOICE} characters")
    if ballot.by is Votes.HELD and len(set(choices)) < len(choices):
        raise PeerError("a phrase that is there twice: its votes would be, too")


def context_of(name: str, ballot: Ballot, number: int, choices: tuple[str, ...]) -> bytes:
    """Return the digest (32 bytes) of all that a count's votes are made from, but the private records."""
    return context(name, _ASKS.encode(Count(ballot, number, choices, None, ())))


@dataclass
class Urn:
    """Have the members vote, one count after the other."""

    ballot: Ballot
    rounds: Rounds
    counted: list[Counted] = field(default_factory=list)

    def count(self, choices: tuple[str, ...]) -> Coordinator[Counted]:
        """Return the noised votes for the choices. A count that is lost was charged, so it is not asked for again.

        Raises: Abort below the quorum; LocalError for more counts, or other choices, than the ballot has noise for.
        """
        number, ballot, terms = len(self.counted), self.ballot, self.rounds.opened.terms
        try:
            require_choices(ballot, choices)
        except PeerError as wrong:
            raise LocalError(str(wrong)) from None
        if number >= ballot.counts:
            raise LocalError("more counts than the ballot has noise for")

        def spec_for(members: int) -> FixedPoint:
            return ballot.spec(terms, members, len(choices) // ballot.looks)

        def ask(request: Request, slips: tuple[Slip, ...]) -> Count:
            return Count(ballot, number, choices, request, slips)

        made = yield from self.rounds.sum(
            number, spec_for, context_of(self.rounds.purpose, ballot, number, choices), ask
        )
        self.counted.append(Counted(made.total, made.count, made.trips))
        return self.counted[-1]

    def require_any(self) -> None:
        """Return if at least one count came to something. Raises: Abort."""
        self.rounds.require_any([c.members for c in self.counted])


def open_urn(name: str, members: Sequence[MemberId], ballot: Ballot, quorum: int, terms: Terms) -> Coordinator[Urn]:
    """Open a secure sum with the members, in which they vote. Raises: Abort."""
    opened = yield from open_session(members, terms)
    return Urn(ballot, Rounds(name, "count", opened, quorum, len(members)))


BEGIN = Voting(0)
STATES = Wire(Voting)
KINDS = (Count, Counted, *messages.KINDS)  # what each collaboration here has beside its task
_ASKS = Wire(Count)
