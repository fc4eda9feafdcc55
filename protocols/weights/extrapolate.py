"""Extrapolation: go further the way from one adapter to a better one, as far as the members' private utility rises.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Score(trial, 0, strong,                  ───────▶ scores them on its own validation records
            strong + alpha (strong - weak), ...)
      takes the alpha with the highest gain,    ◀─────── Upload(masked sums and a share of the noise)
      or 0 if all are below 0

All alphas are one evaluation, whose noise is planned beforehand. The ingredients are the weak adapter (zeros for
the base model itself) and the strong one.

Learns:  the coordinator: the noised sum of the members' scores for each alpha. Members: the candidates.
Trusts:  that no more than terms.colluding members work with the coordinator; for the result, everybody.
Cites:   Zheng et al. 2024, ExPO, equation 1; there alpha is sought on a public validation set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.faults import Abort, LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights import utility
from protocols.weights.utility import Trial, Vector, convene
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Extrapolate(Message):
    """Be the task: choose among `alphas` for the `ingredients` (2, length): the weak adapter, then the strong one."""

    trial: Trial
    quorum: int
    terms: Terms
    ingredients: Vector
    alphas: tuple[float, ...]


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the `Found` extrapolation. Raises: Abort below the quorum, or if the evaluation was lost."""
    if not isinstance(task, Extrapolate) or len(task.ingredients) != 2 or not task.alphas:
        raise LocalError("this collaboration runs an Extrapolate of two ingredients, by one alpha at least")
    panel = yield from convene(NAME, members, task.trial, task.quorum, task.terms, task.ingredients)
    mixes = np.array([(-alpha, 1 + alpha) for alpha in task.alphas])
    strong = np.array([0.0, 1.0])
    gains = yield from panel.judge(mixes, strong)
    if gains is None:
        raise Abort(f"the one evaluation had not all that it needs of {len(members)} members")
    best = int(np.argmax(gains))
    return panel.found(mixes[best] if gains[best] > 0 else strong)


NAME = "extrapolate"
BEGIN = utility.BEGIN
STATES = utility.STATES
WIRE = Wire(Extrapolate, *utility.KINDS)
