"""Predict with private models that were trained without noise, and charge each symbol that is let go.

    coordinator                                         member
      Think(question, context, drafts, support, ...) ──▶ what each of its experts says, one for each disjoint shard of
                                                         its records; charged by its gate, then masked
      ◀───────────────────────────────────────────────── Upload: see block.py

    how                 a member adds               what protects                            charged
    exponential         clipped ratios (RATIOS)     sampling y ~ p0 exp(strength/N sum d)     2 a^2 zCDP a symbol
    PMixED              mixed distributions         sampling y ~ their mean                  PMixedDpEvent a symbol
    Gaussian            clipped ratios, noised      noise that only the sum has in full      one sum's event a block
    votes (Hot PATE)    one vote, noised            noise that only the sum has in full      one sum's event a block

The first two are `central`: the coordinator sees exact sums and is trusted to show one sample of each position and
nothing else. With sup-norm shifts of at most 2 a = 2 clip strength / (N temperature) the sample is 4 a-bounded-range,
hence 2 a^2 zCDP (for a whole member of S shards, against none of them: (S a)^2 / 2), whatever others add: see
`sampling.folded`. Only the width of the range counts, so it may lean: what private models know is in the few symbols
that they find much likelier than the public one does. Of PMixED the public distribution stands for each of the N that
is missing. A whole session, of at most `most` symbols, is charged with its first block. Drafts are matched, never
accepted by chance: see sampling.py. In the last two the noise holds against the coordinator too, and all that is made
of the sum is free.

Learns:  the coordinator: sums; exact ones where it is trusted. Everybody else: the symbols, at the stated epsilon.
Trusts:  where `central`: the coordinator, for the sampling, its randomness and its silence. Where noise is shared:
         that the honest members add theirs. Of PMixED: all members, to mix. That each home's shards are disjoint.
Cites:   McSherry and Talwar 2007; Cesar and Rogers 2021 (bounded range); Amin et al. 2024; Flemings, Razaviyayn and
         Annavaram 2024 (PMixED); Papernot et al. 2017 (PATE); Cohen et al. 2023 (Hot PATE).
"""

from collections.abc import Sequence

from protocols.logits.asking import Read, Reading, read
from protocols.logits.block import BEGIN, KINDS, STATES
from protocols.logits.question import Question
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire


def fits(question: Question) -> bool:
    """Say whether a question is one of this collaboration."""
    return (question.central or question.noise_multiplier is not None) and question.plausible == 0


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Have given texts read, and return the sums of their positions as `Read`. Raises: Abort.

    For measuring on public texts: where `central`, the result is the exact sums, which no charge covers for others.
    """
    return (yield from read(NAME, members, task))


NAME = "private_predict"
WIRE = Wire(Reading, Read, *KINDS)
__all__ = ["BEGIN", "NAME", "STATES", "WIRE", "coordinate", "fits"]
