"""Train with few synchronisations: many local steps of AdamW, and one outer step of Nesterov's momentum a round.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Contribute(recipe, round, point, request) ───────▶ checks recipe and request against its own model and policy,
                                                         takes `steps` steps of AdamW from the point, with the
                                                         moments that its last round left at home, and masks its way
      point += Nesterov(sum of the ways / their number) ◀ Upload(masked way)

The conversation is that of `average.py`; what differs is how a member trains. The vector is all parameters of a small
model, as what is added to those of the public start, or an adapter of a high rank. No record is protected by itself:
whole members are, by noise that only the sum has in full; or it is a disclosure, by name.

Learns:  the coordinator: the sum of the ways of each round, after the members' gates, and who answered. Members: the
         point so far. A member's moments stay at home.
Trusts:  that only the sum is seen, and privacy of whole members: no more than terms.colluding members work with the
         coordinator. For the result: everybody.
Cites:   Douillard et al. 2023, DiLoCo, algorithm 1 (inner AdamW, whose state is kept; outer Nesterov, 0.7 and 0.9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.faults import LocalError
from protocols.secure_sum import messages
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights.average import BEGIN as IDLE
from protocols.weights.average import Average, Averaged, Contribute, Contributed, Idle, Vector, averaged
from protocols.weights.recipe import Recipe
from protocols.weights.server_rules import Server, ServerRule
from protocols.wire import Message, Wire

OUTER = ServerRule(Server.NESTEROV, learning_rate=0.7, momentum=0.9)
EVERYTHING = ("*",)  # the targets of a recipe that trains all parameters


@dataclass(frozen=True, slots=True)
class Pretrain(Message):
    """Be the task: train by `recipe` from `point` (length,), each round with at least `quorum` members.

    `terms` are those of the secure sum; None asks for an unsafe plain sum. `rule` is the outer optimiser.
    """

    recipe: Recipe
    quorum: int
    point: Vector
    terms: Terms | None
    rule: ServerRule = OUTER


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Train for `task.recipe.rounds` rounds and return the point they came to, as `Averaged`.

    Raises: Abort if fewer than the quorum answered in a round, or if every round was lost.
    """
    if not isinstance(task, Pretrain):
        raise LocalError("this collaboration runs a Pretrain")
    return (yield from averaged(NAME, members, Average(task.recipe, task.quorum, task.point, task.terms, task.rule)))


NAME = "pretrain"
BEGIN = IDLE
STATES = Wire(Idle)
WIRE = Wire(Contribute, Contributed, Pretrain, Averaged, *messages.KINDS)
