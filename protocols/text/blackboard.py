"""Blackboard: the members write on one board what is still missing, then conclude, and vote on the conclusion.

    coordinator                                          member
      Consult(PROPOSE, question, the board) ───────────▶ its model adds an entry, or has nothing to add
        ... until nobody adds anything new, or the   ◀── Reply(redacted entry, or nothing)
            board is full
      Consult(ANSWER, question, the board) ────────────▶ its model concludes
                                                     ◀── Reply(redacted conclusion)
      (a secure sum is opened)
      Judge(poll, question, conclusions) ──────────────▶ its model votes
      the conclusion with most votes                 ◀── Upload(masked vote)

The board holds redacted entries, as they came; none is changed or taken away, and none has a name on it.

Learns:  the coordinator, and who asks: the board, the conclusions, the tally. Members: the board and the conclusions.
Trusts:  as `talk.py` and `poll.py`.
Cites:   Feng et al. 2025, MoCo (blackboard).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import poll as polls
from protocols.text.poll import Mark, Poll, Polled, require_poll
from protocols.text.talk import Brief, Step, Table, distinct, require_question
from protocols.text.vote import elected
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Blackboard(Message):
    """Be the task: work on a redacted `question` for at most `rounds` rounds, then conclude by a `poll`.

    The board holds as many entries as the brief lets a member hear.
    """

    brief: Brief
    quorum: int
    terms: Terms
    question: str = field(repr=False)
    rounds: int
    poll: Poll


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Polled`: the conclusions by their votes. Raises: Abort below the quorum."""
    if not isinstance(task, Blackboard):
        raise LocalError("this collaboration runs Blackboard")
    require_question(task.question, task.quorum, members)
    require_poll(task.poll, Mark.BEST, task.terms, members)
    if not 1 <= task.rounds < task.brief.turns or not task.brief.heard:
        raise LocalError("rounds: expected at least 1, and fewer than the turns of the brief, which has a board")
    table = Table(task.brief, tuple(members), task.quorum)
    board: tuple[str, ...] = ()
    for _ in range(task.rounds):
        parts = dict.fromkeys(table.members, ("", board))
        said = yield from table.ask(Step.PROPOSE, task.question, parts)
        before, board = board, _written(board, tuple(said.values()), task.brief.heard)
        if len(board) == len(before) or len(board) == task.brief.heard:
            break
    said = yield from table.ask(Step.ANSWER, task.question, dict.fromkeys(table.members, ("", board)))
    conclusions = distinct(said.values(), task.poll.options)
    return (yield from elected(NAME, table, task.terms, task.question, conclusions, task.poll, None))


def _written(board: tuple[str, ...], said: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return the board with what is new on it, as far as there is room."""
    known = {" ".join(entry.casefold().split()) for entry in board}
    fresh = [text for text in distinct(said, len(said)) if " ".join(text.casefold().split()) not in known]
    return (*board, *fresh)[:most]


NAME = "blackboard"
BEGIN = polls.BEGIN
STATES = polls.STATES
WIRE = Wire(Blackboard, Polled, *polls.KINDS)
