"""A greedy soup: adapters that are there already, averaged as long as the members' private utility does not fall.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Score(trial, 0, nothing, all ingredients) ──────▶ scores them on its own validation records
      sorts them by their noised gains               ◀─── Upload(masked sums and a share of the noise)
      Score(trial, i, soup, soup with the next one) ──▶ the same, for one more ingredient at a time
      keeps it, if the noised gain is not below 0    ◀─── Upload(...)

M ingredients take M evaluations, whose noise is planned beforehand. Ingredients are public adapters of one layout
with one frozen A: the mean of their B's is the mean of what they do to the model.

Learns:  the coordinator: for each evaluation the noised sum of the members' scores. Members: the ingredients, and
         which of them were kept so far.
Trusts:  that no more than terms.colluding members work with the coordinator; for the result, everybody.
Cites:   Wortsman et al. 2022, recipe 1 (greedy soup), its held-out accuracy being the private utility.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights import utility
from protocols.weights.utility import Trial, Vector, convene
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Soup(Message):
    """Be the task: mix the `ingredients` (M, length), judged by `trial`, by at least `quorum` members each time."""

    trial: Trial
    quorum: int
    terms: Terms
    ingredients: Vector


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the `Found` soup. An evaluation that is lost adds nothing, and if it is the first the order is ours.

    Raises: Abort below the quorum, or if every evaluation was lost.
    """
    if not isinstance(task, Soup) or task.trial.evaluations < len(task.ingredients) > 0:
        raise LocalError("this collaboration runs a Soup, with an evaluation for each ingredient")
    panel = yield from convene(NAME, members, task.trial, task.quorum, task.terms, task.ingredients)
    each = np.eye(len(task.ingredients))
    alone = yield from panel.judge(each, np.zeros(len(each)))
    order = range(len(each)) if alone is None else np.argsort(-alone, kind="stable")
    first, *others = (int(i) for i in order)
    weights, kept = each[first], 1
    for other in others:
        richer = (kept * weights + each[other]) / (kept + 1)
        gains = yield from panel.judge(richer[None], weights)
        if gains is not None and gains[0] >= 0:
            weights, kept = richer, kept + 1
    return panel.found(weights)


NAME = "soup"
BEGIN = utility.BEGIN
STATES = utility.STATES
WIRE = Wire(Soup, *utility.KINDS)
