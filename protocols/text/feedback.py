"""Feedback: each member answers, some of the others say what is wrong with it, and it thinks again.

    coordinator                                          member
      Consult(ANSWER, question) ───────────────────────▶ its model answers
                                                     ◀── Reply(redacted answer)
      Consult(CRITICISE, question, another's answer) ──▶ its model says what is wrong with it
        ... `critics` times, each of another member  ◀── Reply(redacted feedback)
      Consult(REFINE, question, own answer, feedback) ─▶ its model mends its answer, or keeps it
                                                     ◀── Reply(redacted answer)

Who criticises whom goes round in a circle. Nobody is told whose answer it sees, or who criticised its own.

Learns:  the coordinator, and who asks: all of it, redacted. Members: the question, a few redacted answers, and the
         feedback on their own.
Trusts:  as `talk.py`: redacted text has no epsilon.
Cites:   Feng et al. 2025, MoCo (feedback).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.session import Coordinator, MemberId
from protocols.text import talk
from protocols.text.talk import Brief, Step, Table, Talked, distinct, require_question
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Feedback(Message):
    """Be the task: answer a redacted `question`, with so many `critics` of each answer."""

    brief: Brief
    quorum: int
    question: str = field(repr=False)
    critics: int


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Talked`, whose answers are the mended ones. Raises: Abort below the quorum."""
    if not isinstance(task, Feedback):
        raise LocalError("this collaboration runs Feedback")
    require_question(task.question, task.quorum, members)
    if not 1 <= task.critics <= min(task.brief.turns - 2, len(members) - 1):
        raise LocalError("critics: expected at least 1, fewer than members, and two turns of the brief beside")
    table = Table(task.brief, tuple(members), task.quorum)
    said = yield from table.ask(Step.ANSWER, task.question)
    writers = list(said)
    heard: dict[MemberId, list[str]] = {m: [] for m in writers}
    for step in range(1, min(task.critics, len(writers) - 1) + 1):
        whose = {critic: writers[(i + step) % len(writers)] for i, critic in enumerate(writers)}
        parts = {critic: (said[writer], ()) for critic, writer in whose.items()}
        found = yield from table.ask(Step.CRITICISE, task.question, parts)
        for critic, text in found.items():
            heard[whose[critic]].append(text)
    said |= yield from table.ask(Step.REFINE, task.question, {m: (said[m], heard[m]) for m in writers})
    return Talked(tuple(table.entries), distinct(said.values(), len(said)))


NAME = "feedback"
BEGIN = talk.BEGIN
STATES = talk.STATES
WIRE = Wire(Feedback, Talked, *talk.KINDS)
