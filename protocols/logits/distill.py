"""Have private models label public texts together: their weighted mean, for a student to learn from.

    coordinator                                         member
      Think(question, a public text so far, what comes ─▶ (w p, w) at each position, over a public support: as in
            next of it as drafts, support, ...)           mixture.py; masked by its gate
      ◀────────────────────────────────────────────────── Upload: see block.py
      soft labels: (p0 + sum w p) / (1 + sum w) on the support, and what is left, for each symbol of each text

The student is trained outside of any protocol, on public texts and labels that are a sum's. It then also drafts.

Learns:  the coordinator, and whoever gets the labels or the student: what the mixture says of public texts. Without
         noise this has no epsilon. Members: the texts.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator. For records: the
         members' own training with differential privacy, which pays for any number of labels; else nothing.
Cites:   Hinton, Vinyals and Dean 2015; Papernot et al. 2017 (a student of public data).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.logits.asking import Reading, read
from protocols.logits.block import BEGIN, KINDS, STATES, Reals
from protocols.logits.question import Question, Sends
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Distill(Message):
    """Be the task: label `reading`'s texts. `public` (n, K) is log p0 over each position's support, in nats."""

    reading: Reading
    public: Reals


@dataclass(frozen=True, slots=True)
class Labels(Message):
    """Be the result: `labels` (positions, K + 1), probabilities over the support and of all else, which add up to 1.

    Text after text, one row for each symbol but the first `given` ones. `answered` members are in each block's sum.
    """

    labels: Reals
    answered: tuple[int, ...]


def fits(question: Question) -> bool:
    """Say whether a question is one of this collaboration."""
    return question.sends is Sends.WEIGHTED


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the `Labels` of the task's texts. Raises: Abort, LocalError."""
    if not isinstance(task, Distill) or not fits(task.reading.question):
        raise LocalError("this collaboration labels public texts by a weighted mean")
    reading = task.reading
    if task.public.shape != (reading.tokens.size, reading.question.named):
        raise LocalError("expected the public model's word on each position's support")
    made = yield from read(NAME, members, reading)
    inside = np.exp(task.public[_asked(reading)].astype(np.float64)) + np.maximum(made.sums[:, :-1], 0)
    inside /= 1 + np.maximum(made.sums[:, -1:], 0)
    whole = np.concatenate([inside, np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)], axis=1)
    return Labels((whole / whole.sum(axis=1, keepdims=True)).astype(np.float32), made.answered)


def _asked(reading: Reading) -> NDArray[np.bool_]:
    """Return which of the texts' symbols (n,) have a position."""
    return np.concatenate([np.arange(length) >= reading.given for length in reading.lengths])


NAME = "distill"
WIRE = Wire(Distill, Labels, *KINDS)
__all__ = ["BEGIN", "NAME", "STATES", "WIRE", "coordinate", "fits"]
