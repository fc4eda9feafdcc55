"""Vote: the members' models, or their records, choose one of several answers, and only the tally is seen.

    coordinator                                          member
      where there are no options yet:
      Consult(ANSWER, question) ───────────────────────▶ its model answers; the answers are the options
                                                     ◀── Reply(redacted answer)
      (a secure sum is opened)
      Judge(poll, question, options) ──────────────────▶ its model, or one for each shard, votes for an option
        or Count(ballot, options)                        or each of its records does
      the tally, noised or not                       ◀── Upload(masked votes)

With a ballot, each record votes for the option that it is nearest to, or holds, and the noise is for the records;
with a poll of at least `LEAST_VOTERS` models on shards, likewise. Otherwise the tally is hidden and has no epsilon.

Learns:  the coordinator, and who asks: the tally, and the redacted answers if there were no options. Members:
         question and options.
Trusts:  as `poll.py` and `ballot.py`.
Cites:   Papernot et al. 2018 (the noisy maximum of votes); Feng et al. 2025, MoCo (majority vote).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from protocols.faults import LocalError, PeerError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import ballot as count
from protocols.text import poll as polls
from protocols.text.ballot import LONGEST_CHOICE, Ballot, Count, Voting, open_urn, require_choices
from protocols.text.poll import (
    Judging,
    Poll,
    Polled,
    Tally,
    no_votes,
    open_booth,
    ranked,
    require_options,
    require_poll,
)
from protocols.text.talk import Brief, Step, Table, distinct, require_question
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared


@dataclass(frozen=True, slots=True)
class Vote(Message):
    """Be the task: choose an answer to a redacted `question`; without `options` the members are asked for some.

    Exactly one of `poll` (models vote) and `ballot` (records vote) says how.
    """

    brief: Brief
    quorum: int
    terms: Terms
    question: str = field(repr=False)
    options: tuple[str, ...] = field(repr=False)
    poll: Poll | None
    ballot: Ballot | None


class Home(polls.Home, count.Home, Protocol):
    """What a vote asks of a member's home: words, its models' votes, and its records'."""


@dataclass(frozen=True, slots=True)
class Electing(Message):
    """Be a guest whose models vote, and whose records do."""

    judging: Judging
    voting: Voting

    def answer(self, ask: Message, home: Home) -> "tuple[Electing, Cleared[Any]]":
        """Vote or write, and answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, Count):
            voting, counted = self.voting.answer(ask, home)
            return Electing(self.judging, voting), counted
        judging, cleared = self.judging.answer(ask, home)
        return Electing(judging, self.voting), cleared


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Polled`. Raises: Abort below the quorum, or if nobody has an answer."""
    if not isinstance(task, Vote):
        raise LocalError("this collaboration runs Vote")
    require_question(task.question, task.quorum, members)
    most = require_way(task.poll, task.ballot, task.terms, members, None if task.options else task.brief)
    table = Table(task.brief, tuple(members), task.quorum)
    options = task.options
    if options:
        _require_given(task)
    else:
        said = yield from table.ask(Step.ANSWER, task.question)
        options = distinct(said.values(), most)
    return (yield from elected(NAME, table, task.terms, task.question, options, task.poll, task.ballot))


def elected(
    name: str,
    table: Table,
    terms: Terms,
    question: str,
    options: tuple[str, ...],
    poll: Poll | None,
    ballot: Ballot | None,
) -> Coordinator[Polled]:
    """Return what the members' models, or their records, make of the options: one that nobody contests stands.

    Raises: Abort below the quorum.
    """
    if len(options) < 2:
        return Polled(tuple(table.entries), options, no_votes(len(options)), ())
    if ballot is not None:
        urn = yield from open_urn(name, table.members, ballot, table.quorum, terms)
        counted = yield from urn.count(options)
        tally = Tally(counted.votes, counted.members, counted.trips)
    else:
        assert poll is not None  # noqa: S101  looked at above
        booth = yield from open_booth(name, table.members, poll, table.quorum, terms)
        tally = yield from booth.vote(table.number, question, options)
    answers, points = ranked(options, tally.votes) if tally.members else ((), no_votes(0))
    return Polled(tuple(table.entries), answers, points, (tally,))


def require_way(
    poll: Poll | None, ballot: Ballot | None, terms: Terms, members: Sequence[MemberId], brief: Brief | None
) -> int:
    """Return how many options there may be, if it can be voted so, before any member is asked.

    `brief` says how long the answers may be that become the options, if they do. Raises: LocalError.
    """
    if (poll is None) is (ballot is None):
        raise LocalError("poll and ballot: expected one of the two")
    if poll is not None:
        require_poll(poll, None, terms, members)
        return poll.options
    assert ballot is not None  # noqa: S101  looked at above
    if ballot.looks != 1:
        raise LocalError("looks: expected one of each option")
    if brief is not None and brief.longest > LONGEST_CHOICE:
        raise LocalError(f"longest: expected at most {LONGEST_CHOICE} characters where records vote for answers")
    try:
        ballot.spec(terms, len(members), ballot.choices)
    except ValueError as wrong:
        raise LocalError(f"ballot: {wrong}") from None
    return ballot.choices


def _require_given(task: Vote) -> None:
    """Refuse options that no member would vote on. Raises: LocalError."""
    try:
        if task.poll is not None:
            require_options(task.poll, task.question, task.options)
        elif task.ballot is not None:
            require_choices(task.ballot, task.options)
    except PeerError as wrong:
        raise LocalError(str(wrong)) from None


NAME = "vote"
BEGIN = Electing(polls.BEGIN, count.BEGIN)
STATES = Wire(Electing)
KINDS = (*polls.KINDS, Count)
WIRE = Wire(Vote, Polled, *KINDS)
