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


CATALOG: Mapping[str, Collaboration] = {
    c.name: c
    for c in (
        Collaboration(
            "average",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            average.WIRE,
            average.STATES,
            average.BEGIN,
            average.coordinate,
        ),
        Collaboration(
            "merge",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            merge.WIRE,
            merge.STATES,
            merge.BEGIN,
            merge.coordinate,
        ),
        Collaboration(
            "pretrain",
            Level.WEIGHTS,
            Stage.PRETRAINING,
            pretrain.WIRE,
            pretrain.STATES,
            pretrain.BEGIN,
            pretrain.coordinate,
        ),
        Collaboration(
            "soup",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            soup.WIRE,
            soup.STATES,
            soup.BEGIN,
            soup.coordinate,
        ),
        Collaboration(
            "search",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            search.WIRE,
            search.STATES,
            search.BEGIN,
            search.coordinate,
        ),
        Collaboration(
            "extrapolate",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            extrapolate.WIRE,
            extrapolate.STATES,
            extrapolate.BEGIN,
            extrapolate.coordinate,
        ),
        Collaboration(
            "pooled",
            Level.WEIGHTS,
            Stage.POST_TRAINING,
            pooled.WIRE,
            pooled.STATES,
            pooled.BEGIN,
            pooled.coordinate,
        ),
        Collaboration(
            stream.NAME,
            Level.LOGITS,
            Stage.INFERENCE,
            stream.WIRE,
            stream.STATES,
            stream.BEGIN,
            stream.coordinate,
        ),
        Collaboration(
            "mixture",
            Level.LOGITS,
            Stage.INFERENCE,
            mixture.WIRE,
            mixture.STATES,
            mixture.BEGIN,
            mixture.coordinate,
        ),
        Collaboration(
            "product",
            Level.LOGITS,
            Stage.INFERENCE,
            product.WIRE,
            product.STATES,
            product.BEGIN,
            product.coordinate,
        ),
        Collaboration(
            "contrast",
            Level.LOGITS,
            Stage.INFERENCE,
            contrast.WIRE,
            contrast.STATES,
            contrast.BEGIN,
            contrast.coordinate,
        ),
        Collaboration(
            "private_predict",
            Level.LOGITS,
            Stage.INFERENCE,
            private_predict.WIRE,
            private_predict.STATES,
            private_predict.BEGIN,
            private_predict.coordinate,
        ),
        Collaboration(
            "distill",
            Level.LOGITS,
            Stage.POST_TRAINING,
            distill.WIRE,
            distill.STATES,
            distill.BEGIN,
            distill.coordinate,
        ),
    )
}
