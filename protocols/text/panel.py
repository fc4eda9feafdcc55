"""Panel: each member answers as its own community would, and how many stand behind each answer is counted in secret.

    coordinator                                          member
      Consult(SPEAK, question) ────────────────────────▶ its model answers for its community
                                                     ◀── Reply(redacted answer)
      (a secure sum is opened)
      Judge(poll, question, answers) or Count(...) ────▶ its models, or its records, support an answer each
      every answer with its support                  ◀── Upload(masked votes)

No answer is dropped for being rare: what comes of it is all of them, each with how many stand behind it. Which
community gave which answer is the coordinator's to know, and is told to no member; who supports what, nobody knows.

Learns:  the coordinator, and who asks: the redacted answers, and the support for each. Members: the answers.
Trusts:  as `talk.py`, `poll.py` and `ballot.py`.
Cites:   Feng et al. 2024 (Modular Pluralism).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import vote
from protocols.text.ballot import Ballot
from protocols.text.poll import Poll, Polled
from protocols.text.talk import Brief, Step, Table, distinct, require_question
from protocols.text.vote import elected, require_way
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Panel(Message):
    """Be the task: have the communities answer a redacted `question`; one of `poll` and `ballot` counts support."""

    brief: Brief
    quorum: int
    terms: Terms
    question: str = field(repr=False)
    poll: Poll | None
    ballot: Ballot | None


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Polled`: every answer with its support. Raises: Abort below the quorum."""
    if not isinstance(task, Panel):
        raise LocalError("this collaboration runs Panel")
    require_question(task.question, task.quorum, members)
    if require_way(task.poll, task.ballot, task.terms, members, task.brief) < len(members):
        raise LocalError("options: expected as many as members: no answer is dropped for being rare")
    table = Table(task.brief, tuple(members), task.quorum)
    said = yield from table.ask(Step.SPEAK, task.question)
    answers = distinct(said.values(), len(said))
    return (yield from elected(NAME, table, task.terms, task.question, answers, task.poll, task.ballot))


NAME = "panel"
BEGIN = vote.BEGIN
STATES = vote.STATES
WIRE = Wire(Panel, Polled, *vote.KINDS)
