"""Say what the private models together find likelier than the public one does: contrastive decoding over a sum.

    coordinator                                         member
      Think(question, context, drafts, support, ...) ──▶ d = clip(log p - log p0, -C, C), in grains, of each of its
                                                         experts, p0 by its own copy of the public model; masked
      ◀───────────────────────────────────────────────── Upload: see block.py
      e ~ p0 exp(sum d / N), the experts' geometric mean
      q ~ p0 exp(strength / N sum d) where e >= plausible max e, and 0 elsewhere

A strength above 1 goes beyond the experts, away from the public model; it may go far only where the experts
themselves find a symbol plausible. What is plausible is found in the sum, so that no member's own set is seen.

Learns:  the coordinator: at each position the sum of the clipped ratios. Without noise this has no epsilon. Members:
         the context.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator. For records: the
         members' own training with differential privacy, which pays for all that is made of it; else nothing.
Cites:   Li et al. 2023 (contrastive decoding, equations 2 and 3; the amateur is the public model).
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
    beyond = question.strength > 1 and question.plausible > 0
    return question.sends is Sends.RATIOS and exact and beyond


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Have given texts read, and return the sums of their positions as `Read`. Raises: Abort."""
    return (yield from read(NAME, members, task))


NAME = "contrast"
WIRE = Wire(Reading, Read, *KINDS)
__all__ = ["BEGIN", "NAME", "STATES", "WIRE", "coordinate", "fits"]
