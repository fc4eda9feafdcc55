"""Knowledge cards: each member writes down what it knows of a question, and whoever asks answers it at home.

    coordinator                                          member
      Consult(INFORM, question) ───────────────────────▶ its model writes a paragraph of what it knows
      the cards, for the asker's own model           ◀── Reply(redacted card)

One way and one round: no member hears of another's card. Cards that were made beforehand, such as the synthetic texts
of `evolve`, which have an epsilon of their own, go in beside them and cost nothing more.

Learns:  the coordinator, and who asks: the redacted cards. Members: the question, redacted by the asker.
Trusts:  as `talk.py`: redacted text has no epsilon.
Cites:   Feng et al. 2024 (Knowledge Card).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import LocalError
from protocols.session import Coordinator, MemberId
from protocols.text import talk
from protocols.text.talk import Brief, Step, Table, Talked, distinct, require_question
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Cards(Message):
    """Be the task: ask for cards on a redacted `question`; `made` are cards that there are already."""

    brief: Brief
    quorum: int
    question: str = field(repr=False)
    made: tuple[str, ...] = field(repr=False)


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Talked`, whose answers are the cards. Raises: Abort below the quorum."""
    if not isinstance(task, Cards):
        raise LocalError("this collaboration runs Cards")
    require_question(task.question, task.quorum, members)
    table = Table(task.brief, tuple(members), task.quorum)
    written = yield from table.ask(Step.INFORM, task.question)
    cards = (*task.made, *written.values())
    return Talked(tuple(table.entries), distinct(cards, len(cards)))


NAME = "cards"
BEGIN = talk.BEGIN
STATES = talk.STATES
WIRE = Wire(Cards, Talked, *talk.KINDS)
