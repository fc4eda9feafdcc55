"""List the collaborations there are: one line each. What is not here cannot be asked of a member."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from privacy.units import Level
from protocols import stream
from protocols.faults import LocalError
from protocols.logits import contrast, distill, mixture, private_predict, product
from protocols.session import Coordinator, Member, MemberId
from protocols.text import (
    abstain,
    blackboard,
    blend,
    cards,
    critique,
    debate,
    evolve,
    feedback,
    keyphrases,
    panel,
    vote,
)
from protocols.weights import average, extrapolate, merge, pooled, pretrain, search, soup
from protocols.wire import Message, Wire


class Stage(Enum):
    """Name when in a model's life the members work together."""

    PRETRAINING = "pretraining"
    POST_TRAINING = "post-training"
    INFERENCE = "inference"


@dataclass(frozen=True, slots=True)
class Collaboration:
    """Hold all that a carrier, a mailbox and a run need to know of one protocol.

    `wire` knows its messages, tasks and results; `states` knows its members' states; `begin` is a member's
    first state; `coordinate(members, task)` is its coordinator.
    """

    name: str
    level: Level
    stage: Stage
    wire: Wire
    states: Wire
    begin: Member[Any]
    coordinate: Callable[[Sequence[MemberId], Message], Coordinator[Message]]

    def state(self, data: bytes) -> Member[Any]:
        """Return the member state that `data` is. Raises: LocalError: it was ours, and is not as we left it."""
        state = self.states.decode(data)
        if not hasattr(state, "answer"):
            raise LocalError("a stored state that answers nothing")
        return state


_TRAINED, _THOUGHT = Stage.POST_TRAINING, Stage.INFERENCE
_FILES: tuple[tuple[Any, Level, Stage], ...] = (
    (average, Level.WEIGHTS, _TRAINED),
    (merge, Level.WEIGHTS, _TRAINED),
    (pretrain, Level.WEIGHTS, Stage.PRETRAINING),
    (soup, Level.WEIGHTS, _TRAINED),
    (search, Level.WEIGHTS, _TRAINED),
    (extrapolate, Level.WEIGHTS, _TRAINED),
    (pooled, Level.WEIGHTS, _TRAINED),
    (mixture, Level.LOGITS, _THOUGHT),
    (product, Level.LOGITS, _THOUGHT),
    (contrast, Level.LOGITS, _THOUGHT),
    (private_predict, Level.LOGITS, _THOUGHT),
    (distill, Level.LOGITS, _TRAINED),
    (stream, Level.LOGITS, _THOUGHT),
    (evolve, Level.TEXT, _TRAINED),
    (keyphrases, Level.TEXT, _TRAINED),
    (critique, Level.TEXT, _TRAINED),
    (debate, Level.TEXT, _THOUGHT),
    (feedback, Level.TEXT, _THOUGHT),
    (cards, Level.TEXT, _THOUGHT),
    (vote, Level.TEXT, _THOUGHT),
    (blend, Level.TEXT, _THOUGHT),
    (blackboard, Level.TEXT, _THOUGHT),
    (abstain, Level.TEXT, _THOUGHT),
    (panel, Level.TEXT, _THOUGHT),
)
CATALOG: Mapping[str, Collaboration] = {
    f.NAME: Collaboration(f.NAME, level, stage, f.WIRE, f.STATES, f.BEGIN, f.coordinate) for f, level, stage in _FILES
}
