"""Debate: each member answers, hears what the others answered, and thinks again.

    coordinator                                          member
      Consult(ANSWER, question) ───────────────────────▶ its model answers
                                                     ◀── Reply(redacted answer)
      Consult(REFINE, question, own answer, the ───────▶ its model mends its answer, or keeps it
        others' last answers)                        ◀── Reply(redacted answer)
      ... `rounds` in all; then who asks makes one answer of the last ones, at home, with the question as it was

A member that misses a round goes on from what it last said. It hears redacted answers and no names.

Learns:  the coordinator, and who asks: every redacted answer. Members: the question, and what others answered.
Trusts:  as `talk.py`: redacted text has no epsilon.
Cites:   Du et al. 2023 (multiagent debate); Feng et al. 2025, MoCo (multiagent refine).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.session import Coordinator, MemberId
from protocols.text import talk
from protocols.text.talk import Brief, Step, Table, Talked, distinct, others, require_question
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Debate(Message):
    """Be the task: debate a redacted `question` for `rounds` rounds, the first answers included."""

    brief: Brief
    quorum: int
    question: str = field(repr=False)
    rounds: int


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Talked`, whose answers are the last ones. Raises: Abort below the quorum."""
    if not isinstance(task, Debate):
        raise LocalError("this collaboration runs Debate")
    require_question(task.question, task.quorum, members)
    if not 1 <= task.rounds <= task.brief.turns:
        raise LocalError(f"rounds: expected 1 to {task.brief.turns}, the turns of the brief")
    table = Table(task.brief, tuple(members), task.quorum)
    said = yield from debated(table, task.question, task.rounds)
    return Talked(tuple(table.entries), distinct(said.values(), len(said)))


def debated(table: Table, question: str, rounds: int) -> Coordinator[dict[MemberId, str]]:
    """Return what each member said last, after so many rounds. Raises: Abort below the table's quorum."""
    said = yield from table.ask(Step.ANSWER, question)
    for _ in range(1, rounds):
        said |= yield from table.ask(Step.REFINE, question, {m: (said[m], others(said, m)) for m in said})
    return said


NAME = "debate"
BEGIN = talk.BEGIN
STATES = talk.STATES
WIRE = Wire(Debate, Talked, *talk.KINDS)
