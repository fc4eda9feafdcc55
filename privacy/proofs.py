"""Prove with one signed head that a line is in a trail, or that one head's trail goes on from another's.

A proof is a few hashes. It shows one line and nothing of the others but how many there are.
Cites: RFC 9162, sections 2.1.3 (inclusion) and 2.1.4 (consistency).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from privacy.trail import Head, grow, leaf, node, parse, root


@dataclass(frozen=True, slots=True)
class Proof:
    """Hold the hashes that lead from line `seq` to the root over `size` lines."""

    seq: int
    size: int
    path: tuple[bytes, ...]

    def holds(self, line: str, head: Head) -> bool:
        """Return whether `line` is line `seq` of the trail that `head` stands for (RFC 9162, section 2.1.3.2)."""
        try:
            found = parse(line)
        except ValueError:
            return False
        if found["seq"] != self.seq or head.seq != self.size or not 1 <= self.seq <= self.size:
            return False
        return self._root(leaf(line)) == head.root

    def _root(self, top: bytes) -> bytes | None:
        at, last = self.seq - 1, self.size - 1
        for other in self.path:
            if last == 0:
                return None
            if at & 1 or at == last:
                top = node(other, top)
                while not at & 1 and at:
                    at, last = at >> 1, last >> 1
            else:
                top = node(top, other)
            at, last = at >> 1, last >> 1
        return top if last == 0 else None


@dataclass(frozen=True, slots=True)
class Growth:
    """Hold the hashes that show that the first `old` of `new` lines are the lines of an earlier head."""

    old: int
    new: int
    path: tuple[bytes, ...]

    def holds(self, old: Head, new: Head) -> bool:
        """Return whether the trail of `new` begins with that of `old` (RFC 9162, section 2.1.4.2)."""
        if old.trail != new.trail or (old.seq, new.seq) != (self.old, self.new):
            return False
        if self.old == self.new:
            return not self.path and (old.root, old.chain) == (new.root, new.chain)
        if self.old == 0:
            return not self.path and old.root == root(())
        return self._roots(old.root) == (old.root, new.root)

    def _roots(self, whole: bytes) -> tuple[bytes, bytes] | None:
        """Return the two roots that the path leads to; `whole` starts it where the old lines are one full tree."""
        path = self.path if self.old & (self.old - 1) else (whole, *self.path)
        if not path:
            return None
        at, last = self.old - 1, self.new - 1
        while at & 1:
            at, last = at >> 1, last >> 1
        first = second = path[0]
        for other in path[1:]:
            if last == 0:
                return None
            if at & 1 or at == last:
                first, second = node(other, first), node(other, second)
                while not at & 1 and at:
                    at, last = at >> 1, last >> 1
            else:
                second = node(second, other)
            at, last = at >> 1, last >> 1
        return (first, second) if last == 0 else None


def inclusion(leaves: Sequence[bytes], index: int) -> Proof:
    """Return the proof for the leaf at `index`, counted from 0 (RFC 9162, section 2.1.3.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError("no such line")
    path: list[bytes] = []
    low, high, at = 0, len(leaves), index
    while high - low > 1:
        middle = low + _half(high - low)
        if at < middle:
            path.append(_root(leaves[middle:high]))
            high = middle
        else:
            path.append(_root(leaves[low:middle]))
            low = middle
    return Proof(index + 1, len(leaves), tuple(reversed(path)))


def growth(leaves: Sequence[bytes], old: int) -> Growth:
    """Return the proof that these leaves go on from their first `old` (RFC 9162, section 2.1.4.1)."""
    if not 0 <= old <= len(leaves):
        raise ValueError("no such head")
    path = _subproof(leaves, old, whole=True) if 0 < old < len(leaves) else ()
    return Growth(old, len(leaves), path)


def _subproof(leaves: Sequence[bytes], old: int, *, whole: bool) -> tuple[bytes, ...]:
    if old == len(leaves):
        return () if whole else (_root(leaves),)
    half = _half(len(leaves))
    if old <= half:
        return (*_subproof(leaves[:half], old, whole=whole), _root(leaves[half:]))
    return (*_subproof(leaves[half:], old - half, whole=False), _root(leaves[:half]))


def _half(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(leaves: Sequence[bytes]) -> bytes:
    peaks: list[bytes] = []
    for i, one in enumerate(leaves):
        grow(peaks, i, one)
    return root(peaks)
