"""A search without gradients for the weights of a mix of adapters, by the members' private utility.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Score(trial, i, even mix, this generation's mixes) ─▶ scores them on its own validation records
      lets the better ones lead to the next generation  ◀─── Upload(masked sums and a share of the noise)
      ...
      Score(trial, last, even mix, where it came to) ─────▶ the same, for the answer and for each ingredient
      takes the mix with the highest noised gain        ◀─── Upload(...)

Every generation is one evaluation, whose noise is planned beforehand. What an ingredient adds is linear in its B, and
the A is the same in all of them, so a mix of B's is the mix of what they do to the model.

Learns:  the coordinator: for each evaluation the noised sum of the members' scores. Members: the mixes tried.
Trusts:  that no more than terms.colluding members work with the coordinator; for the result, everybody.
Cites:   Huang et al. 2023, LoraHub; Feng et al. 2024, Model Swarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights import utility
from protocols.weights.seekers import Evolution, Seeker, Swarm
from protocols.weights.utility import Trial, Vector, convene
from protocols.wire import Message, Wire


class Method(Enum):
    """Name how the weights are sought: by an evolution strategy, or by a swarm of particles."""

    EVOLUTION = "evolution"
    SWARM = "swarm"


@dataclass(frozen=True, slots=True)
class Search(Message):
    """Be the task: seek weights for the `ingredients` (M, length) by `method`, with dice from the public `seed`."""

    trial: Trial
    quorum: int
    terms: Terms
    ingredients: Vector
    method: Method
    seed: int


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the `Found` mix; a generation that is lost is tried no more.

    The last evaluation judges the search's answer, and as many ingredients by themselves as there is room for.
    Raises: Abort below the quorum, or if every evaluation was lost.
    """
    if not isinstance(task, Search) or task.trial.evaluations < 2 or task.trial.candidates < 2:
        raise LocalError("this collaboration runs a Search, of two candidates and two evaluations at least")
    panel = yield from convene(NAME, members, task.trial, task.quorum, task.terms, task.ingredients)
    count = len(task.ingredients)
    even, each = np.full(count, 1 / count), np.eye(count)
    seeker = seeker_for(task.method, count, task.trial.candidates, task.seed)
    for _ in range(task.trial.evaluations - 1):
        gains = yield from panel.judge(seeker.ask(), even)
        if gains is not None:
            seeker.tell(gains)
    last = np.vstack([seeker.answer, each])[: task.trial.candidates]
    gains = yield from panel.judge(last, even)
    if gains is None:
        return panel.found(seeker.answer)
    best = int(np.argmax(gains))
    return panel.found(last[best] if gains[best] > 0 else even)


def seeker_for(method: Method, ingredients: int, candidates: int, seed: int) -> Seeker:
    """Return what seeks weights for so many ingredients by so many candidates at a time."""
    kind = Evolution if method is Method.EVOLUTION else Swarm
    return kind(ingredients, candidates, seed)


NAME = "search"
BEGIN = utility.BEGIN
STATES = utility.STATES
WIRE = Wire(Search, *utility.KINDS)
