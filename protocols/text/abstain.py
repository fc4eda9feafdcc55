"""Abstain: before an answer is given, the members say whether it should be.

    coordinator                                          member
      COOPERATE:
      Consult(CRITICISE, question, draft) ─────────────▶ its model says what is wrong with the draft
                                                     ◀── Reply(redacted feedback)
      (a secure sum is opened)
      Judge(poll, question and draft, verdicts) ───────▶ its model votes: right, or wrong; unsure, it has no vote
      the tally of verdicts                          ◀── Upload(masked vote)

      COMPETE:
      Consult(CHALLENGE, question, draft) ─────────────▶ its model argues against the draft
      the challenges                                 ◀── Reply(redacted challenge)

Having cooperated, an answer stands that more hold right than wrong. Challenges are for the asker's own model, at
home: if they change its mind, it abstains.

Learns:  the coordinator, and who asks: the redacted texts, and how many hold the draft right and wrong. Members: the
         question and the draft.
Trusts:  as `talk.py` and `poll.py`.
Cites:   Feng et al. 2024 (AbstainQA: cooperate, compete).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import poll as polls
from protocols.text.poll import Mark, Poll, Polled, open_booth, ranked, require_poll
from protocols.text.talk import LONGEST, Brief, Step, Table, distinct, require_question
from protocols.wire import Message, Wire

VERDICTS = ("right", "wrong")


class Way(Enum):
    """Name how the members help: by verdicts and feedback, or by challenges."""

    COOPERATE = "cooperate"
    COMPETE = "compete"


@dataclass(frozen=True, slots=True)
class Abstain(Message):
    """Be the task: judge a redacted `draft` of an answer to a redacted `question`."""

    brief: Brief
    quorum: int
    terms: Terms
    question: str = field(repr=False)
    draft: str = field(repr=False)
    way: Way
    poll: Poll


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Polled`: the verdicts by their votes, or the challenges. Raises: Abort below the quorum."""
    if not isinstance(task, Abstain):
        raise LocalError("this collaboration runs Abstain")
    require_question(task.question, task.quorum, members)
    require_poll(task.poll, Mark.BEST, task.terms, members)
    if not task.draft.strip() or len(task.draft) > task.brief.longest:
        raise LocalError(f"draft: expected 1 to {task.brief.longest} characters that are not blank")
    if len(stated(task.question, task.draft)) > LONGEST:
        raise LocalError(f"question and draft: expected at most {LONGEST} characters together")
    table = Table(task.brief, tuple(members), task.quorum)
    parts = dict.fromkeys(table.members, (task.draft, ()))
    if task.way is Way.COMPETE:
        said = yield from table.ask(Step.CHALLENGE, task.question, parts)
        challenges = distinct(said.values(), len(said))
        return Polled(tuple(table.entries), challenges, polls.no_votes(len(challenges)), ())
    yield from table.ask(Step.CRITICISE, task.question, parts)
    booth = yield from open_booth(NAME, table.members, task.poll, task.quorum, task.terms)
    tally = yield from booth.vote(table.number, stated(task.question, task.draft), VERDICTS)
    answers, points = ranked(VERDICTS, tally.votes) if tally.members else ((), polls.no_votes(0))
    return Polled(tuple(table.entries), answers, points, (tally,))


def stated(question: str, draft: str) -> str:
    """Return the question whether a draft is right, as members are asked it."""
    return f"Is this answer right? {question} - {draft}"


NAME = "abstain"
BEGIN = polls.BEGIN
STATES = polls.STATES
WIRE = Wire(Abstain, Polled, *polls.KINDS)
