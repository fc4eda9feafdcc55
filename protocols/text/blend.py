"""Blend: each member answers, all rank the answers in secret, and who asks makes one of the best.

    coordinator                                          member
      Consult(ANSWER, question) ───────────────────────▶ its model answers
                                                     ◀── Reply(redacted answer)
      (a secure sum is opened)
      Judge(ranks, question, answers) ─────────────────▶ its model puts the answers in order
      the best `fuse`, by the sum of their ranks     ◀── Upload(masked points)

Nobody knows how one member ranks; the sum has no epsilon. The best answers are made one by the asker's own model.

Learns:  the coordinator, and who asks: the redacted answers, and the points of each. Members: the answers.
Trusts:  as `talk.py` and `poll.py`.
Cites:   Jiang, Ren and Lin 2023 (LLM-Blender: rank, then fuse).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import poll as polls
from protocols.text.poll import Mark, Poll, Polled, open_booth, ranked, require_poll
from protocols.text.talk import Brief, Step, Table, distinct, require_question
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Blend(Message):
    """Be the task: answer a redacted `question`, and keep the best `fuse` answers by a `poll` of ranks."""

    brief: Brief
    quorum: int
    terms: Terms
    question: str = field(repr=False)
    fuse: int
    poll: Poll


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Polled`, whose answers are those to be fused. Raises: Abort below the quorum."""
    if not isinstance(task, Blend) or task.fuse < 1:
        raise LocalError("this collaboration runs Blend, which fuses one answer at least")
    require_question(task.question, task.quorum, members)
    require_poll(task.poll, Mark.RANKS, task.terms, members)
    table = Table(task.brief, tuple(members), task.quorum)
    said = yield from table.ask(Step.ANSWER, task.question)
    answers = distinct(said.values(), task.poll.options)
    if len(answers) < 2:
        return Polled(tuple(table.entries), answers, polls.no_votes(len(answers)), ())
    booth = yield from open_booth(NAME, table.members, task.poll, task.quorum, task.terms)
    tally = yield from booth.vote(table.number, task.question, answers)
    best, points = ranked(answers, tally.votes)
    kept = slice(task.fuse if tally.members else len(best))  # a sum that was lost ranks nothing
    return Polled(tuple(table.entries), best[kept], points[kept], (tally,))


NAME = "blend"
BEGIN = polls.BEGIN
STATES = polls.STATES
WIRE = Wire(Blend, Polled, *polls.KINDS)
