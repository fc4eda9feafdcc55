"""Polls: which of some texts do the members' models hold right? Their votes are added up in secret.

    coordinator                                          member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Judge(poll, number, question, options, request) ─▶ its model, or one for each shard of its records, weighs the
                                                         options; what is not sure of any has no vote
      the votes for each option, over all members    ◀── Upload(masked votes, and a share of the noise if any)

Nobody sees one member's vote. Without noise that is all there is: the tally is hidden, and has no epsilon. With noise
it has one, where what votes are models trained on disjoint shards of the records: a record was in one shard, so it
moves one vote. With few voters the noise is all there is to see, and an epsilon is refused (`LEAST_VOTERS`).

Learns:  the coordinator: the tally, noised or not. Members: question and options, which are public or redacted.
Trusts:  that no more than terms.colluding members work with the coordinator, and for an epsilon that the others add
         their noise.
Cites:   Papernot et al. 2018 (votes of teachers on disjoint records); Kairouz, Liu and Steinke 2021 (a sum's noise).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, sized
from privacy.units import Unit
from protocols.faults import LocalError, PeerError
from protocols.plans import context, plan_of
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.rounds import Rounds
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import talk
from protocols.text.talk import Consult, Entry, Guest
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Reals = NDArray[np.float64]
MOST_OPTIONS = 256
LEAST_VOTERS = 50  # with fewer, an epsilon that means anything takes noise that drowns the tally
_MOST_VOTERS = 2**20
_MOST_POLLS = 1000


class Mark(Enum):
    """Name what a voter puts on its paper.

    BEST: one vote for the option that it holds right, if it is sure. RANKS: its order of the options, 1 for the
    best, 0 for the last, the others evenly between; those that it holds alike share what they have.
    """

    BEST = "best"
    RANKS = "ranks"


@dataclass(frozen=True, slots=True)
class Poll(Message):
    """State by which public terms models vote: the same for every member and every poll.

    Units:   at most `options` in each of `polls`; `voters` models at all members together; a vote is cast if its
             option is at least `lead` more probable than the next, from 0 to 1; `epsilon` over all polls at `delta`,
             or None for no noise (then a disclosure: the tally is hidden, and has no epsilon); `noise_multiplier` of
             a sum, in units of the norm of one paper.
    """

    mark: Mark
    options: int
    polls: int
    voters: int
    lead: float
    unit: Unit
    epsilon: float | None
    delta: float
    noise_multiplier: float | None

    def __post_init__(self) -> None:
        if not 2 <= self.options <= MOST_OPTIONS or not 1 <= self.polls <= _MOST_POLLS:
            raise ValueError(f"expected 2 to {MOST_OPTIONS} options, in 1 to {_MOST_POLLS} polls")
        if not 1 <= self.voters <= _MOST_VOTERS:
            raise ValueError(f"voters: expected 1 to {_MOST_VOTERS}")
        if not 0 <= self.lead <= 1 or not 0 < self.delta < 1:
            raise ValueError("lead: expected 0 to 1; delta: a number above 0 and below 1")
        if (self.epsilon is None) is not (self.noise_multiplier is None):
            raise ValueError("epsilon and noise_multiplier: expected both or neither")
        for number in (self.epsilon, self.noise_multiplier):
            if number is not None and not 0 < number < 1e6:
                raise ValueError("epsilon and noise_multiplier: expected positive numbers")
        if self.epsilon is not None and (self.mark is Mark.RANKS or self.voters < LEAST_VOTERS):
            raise ValueError(
                f"epsilon: expected none for ranks, or for fewer than {LEAST_VOTERS} voters: the tally is hidden, no"
                " epsilon"
            )

    @property
    def rounds(self) -> int:
        """Return how often the members vote."""
        return self.polls

    def parts(self, options: int) -> int:
        """Return how many parts a point has: a vote is whole, and of ranks two may share a step."""
        return 1 if self.mark is Mark.BEST else 2 * (options - 1)

    def spec(self, terms: Terms, members: int, options: int) -> FixedPoint:
        """Return how the votes for so many options become words where `members` add up.

        Raises:  ValueError if the words are too narrow.
        """
        size = {"length": options, "bits": terms.bits, "members": members}
        if self.noise_multiplier is None:
            code, parts = sized(coordinate=float(self.voters), **size), self.parts(options)
            if code.scale < parts:
                raise ValueError(f"{terms.bits} bits are too few to tell one of {self.voters} votes")
            return replace(code, scale=float(int(code.scale) // parts * parts))  # no vote is rounded
        return sized(
            coordinate=1.0,
            norm=1.0,
            noise_multiplier=self.noise_multiplier,
            honest=terms.honest,
            vectors=self.voters,
            **size,
        )

    @property
    def plan(self) -> str:
        """Return the poll as canonical JSON of at most 4 KiB, for whoever approves or audits it."""
        return plan_of(self)


@dataclass(frozen=True, slots=True)
class Judge(Message):
    """Ask which of the `options` answers the `question`, or holds of it, into the sum `request`.

    `number` counts all asks of the session, `poll_number` the polls; `slips` are what the member has yet to know.
    """

    poll: Poll
    number: int
    poll_number: int
    question: str = field(repr=False)
    options: tuple[str, ...] = field(repr=False)
    request: Request | None
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Tally(Message):
    """Hold what one poll came to: `votes` (options,), of `members`, 0 if the sum was lost."""

    votes: Reals
    members: int
    trips: int


@dataclass(frozen=True, slots=True)
class Polled(Message):
    """Be the result: every redacted text, the options that were voted on, and the tally of each poll.

    `answers` are the options by their votes, most first; empty where no poll came to anything.
    """

    entries: tuple[Entry, ...]
    answers: tuple[str, ...] = field(repr=False)
    points: Reals
    tallies: tuple[Tally, ...]


class Home(talk.Home, seat.Seat, Protocol):
    """What polls ask of a member's home, beside being consulted."""

    def judged(self, ask: Judge, request: Request, slips: Sequence[Slip]) -> "Released[Upload] | Disclosed[Upload]":
        """Have the home's models vote, and return the votes' sum masked for `request`, by the gate.

        Raises: PeerError for a poll or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Judging(Message):
    """Be a guest that also votes: no poll is answered twice, nor one beyond the poll's last."""

    guest: Guest
    poll: Poll | None
    next_poll: int

    def answer(self, ask: Message, home: Home) -> "tuple[Judging, Cleared[Any]]":
        """Vote or write, and answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if isinstance(ask, Consult):
            return Judging(self.guest.after(ask), self.poll, self.next_poll), home.replied(ask)
        if not isinstance(ask, Judge):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        if self.poll is not None and ask.poll != self.poll:
            raise PeerError("another poll than this session's")
        if ask.number < self.guest.next_number or not self.next_poll <= ask.poll_number < ask.poll.polls:
            raise PeerError("a poll out of order, or beyond the last")
        require_options(ask.poll, ask.question, ask.options)
        if ask.request is None:
            raise PeerError("votes are let go into a secure sum alone")
        after = Guest(self.guest.brief, ask.number + 1, self.guest.turns)
        return Judging(after, ask.poll, ask.poll_number + 1), home.judged(ask, ask.request, ask.slips)


def require_options(poll: Poll, question: str, options: Sequence[str]) -> None:
    """Return if these texts are options by this poll. Raises: PeerError, which quotes none of them."""
    if not 2 <= len(options) <= poll.options:
        raise PeerError(f"{len(options)} options, the poll says 2 to {poll.options}")
    if len(set(options)) < len(options) or not all(o.strip() for o in options):
        raise PeerError("an option that is empty, or there twice: its votes would be, too")
    if not question.strip() or max(map(len, (question, *options))) > talk.LONGEST:
        raise PeerError(f"an empty question, or a text of more than {talk.LONGEST} characters")


def require_poll(poll: Poll, mark: Mark | None, terms: Terms, members: Sequence[MemberId]) -> None:
    """Return if these members can vote on these terms, before any is asked. Raises: LocalError."""
    if mark is not None and poll.mark is not mark:
        raise LocalError(f"mark: this collaboration's polls are for {mark.value}")
    try:
        poll.spec(terms, len(members), poll.options)
    except ValueError as wrong:
        raise LocalError(f"poll: {wrong}") from None


def context_of(name: str, ask: Judge) -> bytes:
    """Return the digest (32 bytes) of all that a poll's votes are made from, but the private models."""
    public = Judge(ask.poll, ask.number, ask.poll_number, ask.question, ask.options, None, ())
    return context(name, _ASKS.encode(public))


@dataclass
class Booth:
    """Have the members' models vote, one poll after the other; `number` is that of the session's next ask."""

    poll: Poll
    rounds: Rounds
    tallies: list[Tally] = field(default_factory=list)

    def vote(self, number: int, question: str, options: tuple[str, ...]) -> Coordinator[Tally]:
        """Return the tally of one poll. One that is lost was charged, so it is not taken again.

        Raises: Abort below the quorum; LocalError for more polls, or other options, than the terms say.
        """
        of, poll, terms = len(self.tallies), self.poll, self.rounds.opened.terms
        try:
            require_options(poll, question, options)
        except PeerError as wrong:
            raise LocalError(str(wrong)) from None
        if of >= poll.polls:
            raise LocalError("more polls than the terms have noise for")
        public = Judge(poll, number, of, question, options, None, ())

        def spec_for(members: int) -> FixedPoint:
            return poll.spec(terms, members, len(options))

        def ask(request: Request, slips: tuple[Slip, ...]) -> Judge:
            return Judge(poll, number, of, question, options, request, slips)

        made = yield from self.rounds.sum(of, spec_for, context_of(self.rounds.purpose, public), ask)
        votes, parts = made.total, poll.parts(len(options))
        if poll.noise_multiplier is None:  # exact, but for what a float is rounded by: equals are equal
            votes = np.rint(votes * parts) / parts
        self.tallies.append(Tally(votes, made.count, made.trips))
        return self.tallies[-1]


def open_booth(name: str, members: Sequence[MemberId], poll: Poll, quorum: int, terms: Terms) -> Coordinator[Booth]:
    """Open a secure sum with the members, in which their models vote. Raises: Abort."""
    opened = yield from open_session(members, terms)
    return Booth(poll, Rounds(name, "poll", opened, quorum, len(members)))


def ranked(options: Sequence[str], votes: Reals) -> tuple[tuple[str, ...], Reals]:
    """Return the options and their votes, most first; of equals the first."""
    order = np.argsort(-votes, kind="stable")
    return tuple(options[i] for i in order), np.asarray(votes[order], np.float64)


def no_votes(options: int) -> Reals:
    """Return the votes of nobody."""
    return np.zeros(options)


BEGIN = Judging(talk.BEGIN, None, 0)
STATES = Wire(Judging)
KINDS = (*talk.KINDS, Judge, *messages.KINDS)  # what each collaboration here has beside its task and its result
_ASKS = Wire(Judge)
