"""Pack the positions of many texts into few blocks: one text behind the other, none of them in a block twice.

    text 1  ├── block 1 ──┤├── block 2 ─
    text 2                 ──┤
    text 3                    ├── block 2 ──┤├── block 3 ──

Texts that begin alike ask for the same positions, and members refuse a block that has one of them twice. What a sum
says of such a position it says once, for both: it is a function of what stands before, of what is told of that and of
the support. Where only the symbols are the same, the later text goes into the next block.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.logits.block import MOST_STRANDS, Reals, Support, Symbols


@dataclass(frozen=True, slots=True)
class Stretch:
    """Name the positions of a text's symbols from `first` to before `last`; it begins at `start` of all symbols.

    `row` is where the first one's sum belongs.
    """

    text: int
    start: int
    first: int
    last: int
    row: int


@dataclass(slots=True)
class Packed:
    """Hold the stretches of each block, and (row, row) for each position that has the sum of an earlier one.

    A text that is in several blocks is in consecutive ones: last of the first, and first of the others.
    """

    blocks: list[list[Stretch]] = field(default_factory=lambda: [[]])
    copies: list[tuple[int, int]] = field(default_factory=list)


def pack(tokens: Symbols, told: Reals, support: Support, lengths: Sequence[int], given: int, block: int) -> Packed:
    """Return in which block each position is read, `block` of them in one. Shapes as in `asking.Reading`."""
    packed, held, start, row = Packed(), dict[bytes, tuple[bytes, int]](), 0, 0
    for text, length in enumerate(lengths):
        whole, first = slice(start, start + length), given
        keys = _keys(tokens[whole], told[whole], support[whole] if support.size else support, given)
        for at, (where, what) in enumerate(keys, given):
            same = held.get(where)
            begun = at > first
            if same is not None and same[0] == what and not begun:
                packed.copies.append((row + at - given, same[1]))
                first = at + 1
                continue
            if same is not None or len(held) == block or (not begun and len(packed.blocks[-1]) == MOST_STRANDS):
                if begun:
                    packed.blocks[-1].append(Stretch(text, start, first, at, row + first - given))
                packed.blocks.append([])
                held, first = {}, at
            held[where] = what, row + at - given
        if first < length:
            packed.blocks[-1].append(Stretch(text, start, first, length, row + first - given))
        start, row = start + length, row + length - given
    return packed


def _keys(tokens: Symbols, told: Reals, support: NDArray[np.uint32], given: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield for each position a digest of what stands before it, and one of all that its sum is made from."""
    symbols = np.ascontiguousarray(tokens, dtype="<i4")
    numbers, rows = np.ascontiguousarray(told, dtype="<f4"), np.ascontiguousarray(support, dtype="<u4")
    before, made = hashlib.sha256(symbols[:given].tobytes()), hashlib.sha256(numbers[:given].tobytes())
    for at in range(given, symbols.size):
        if rows.size:
            made.update(rows[at].tobytes())
        where = before.digest()
        yield where, where + made.digest()
        before.update(symbols[at : at + 1].tobytes())
        made.update(numbers[at : at + 1].tobytes())
