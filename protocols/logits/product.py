"""Multiply private models' clipped likelihood ratios over the public model: small pushes in one direction add up.

    coordinator                                         member
      Think(question, context, drafts, support, ...) ──▶ d = clip(log p - log p0, -C, C), in grains, of each of its
                                                         experts, p0 by its own copy of the public model; masked
      ◀───────────────────────────────────────────────── Upload: see block.py
      q ~ (p0 exp(strength / N sum d))^(1 / temperature)

What p is, is the member's own choice: a model of its own, a tuned one, or the public one moved by the difference
between a tuned and an untuned one (proxy tuning, experts and anti-experts). Outside a support the ratio counts as 1.

Learns:  the coordinator: at each position the sum of the clipped ratios. Without noise this has no epsilon. Never raw
         logits, whose sums span the models' output spaces; of ratios that neither clip nor grain changes much, the
         same could be found. Members: the context.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator. For records: the
         members' own training with differential privacy, which pays for all that is made of it; else nothing.
Cites:   Hinton 2002 (products of experts); Liu et al. 2021 (DExperts); Liu et al. 2024 (proxy tuning).
"""

from collections.abc import Sequence

from protocols.logits.asking import Read, Reading, read
from protocols.logits.block import BEGIN, KINDS, STATES
from protocols.logits.question import Question, Sends
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire


def fits(question: Question) -> bool:
    """Say whether a question is one of this collaboration."""
    exact = question.noise_multiplier is None and not question.central
    return question.sends is Sends.RATIOS and exact and question.plausible == 0


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Have given texts read, and return the sums of their positions as `Read`. Raises: Abort."""
    return (yield from read(NAME, members, task))


NAME = "product"
WIRE = Wire(Reading, Read, *KINDS)
__all__ = ["BEGIN", "NAME", "STATES", "WIRE", "coordinate", "fits"]
