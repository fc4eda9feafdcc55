"""Mix private models, each by a weight of its own: how well it has predicted the shared context so far.

    coordinator                                         member
      Think(question, context, drafts, ...) ───────────▶ w = exp(clip(s, -B, B)), where for each symbol x so far
                                                         s <- decay s + log p(x) - log p0(x), drafts counted as if
                                                         they stood; (w p, w) at each position, masked by its gate
      ◀───────────────────────────────────────────────── Upload: see block.py
      q = (p0 + sum w p) / (1 + sum w)

A weight needs the member's own model and what is public, and no other member's. Of a top-K support q spreads the rest
as p0 does. Bounded weights bound what one member can say: it is heard exp(2 B) times another at the most.

Learns:  the coordinator: at each position sum w p and sum w over all experts. Without noise this has no epsilon;
         where one expert's weight is far above the others', the sum is nearly its own. Members: the context.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator. For records: the
         members' own training with differential privacy, which pays for all that is made of it; else nothing.
Cites:   Herbster and Warmuth 1998 (tracking the best expert by weights that forget).
"""

from collections.abc import Sequence

from protocols.logits.asking import Read, Reading, read
from protocols.logits.block import BEGIN, KINDS, STATES
from protocols.logits.question import Question, Sends
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire


def fits(question: Question) -> bool:
    """Say whether a question is one of this collaboration."""
    return question.sends is Sends.WEIGHTED


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Have given texts read, and return the sums of their positions as `Read`. Raises: Abort."""
    return (yield from read(NAME, members, task))


NAME = "mixture"
WIRE = Wire(Reading, Read, *KINDS)
__all__ = ["BEGIN", "NAME", "STATES", "WIRE", "coordinate", "fits"]
