"""Find the tokens that begin with given bytes: the sorted list of all tokens is the trie, a node a range of it.

    node            the tokens [first, last) of the sorted list that begin with the same `depth` bytes
    its children    parts of that range, by the next byte
    its own tokens  the ones at its front that end there

The mass of a node under a next-token distribution is then a difference of two partial sums.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.experts.byte_table import ByteTable

_MOST_KNOWN = 20_000  # nodes whose children are remembered: 20 MB


@dataclass(frozen=True, slots=True)
class Node:
    """Name the tokens that begin with the same `depth` bytes, or, where that was asked for, go on after them."""

    first: int
    last: int
    depth: int


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a next-token distribution as partial sums along the sorted tokens, and the mass of the end of text.

    Shapes:  sums (tokens + 1,); `sums[-1] + end` is 1.
    """

    sums: NDArray[np.float64] = field(repr=False)
    end: float

    def mass(self, node: Node) -> float:
        """Return how likely the next token is one of the node's."""
        return float(self.sums[node.last] - self.sums[node.first])


class Trie:
    """Hold the tokens of a table in the order of their bytes."""

    def __init__(self, table: ByteTable) -> None:
        named = [number for number, spelled in enumerate(table.tokens) if spelled]
        ordered = sorted(named, key=lambda number: table.tokens[number])
        self.table = table
        self.numbers = np.array(ordered, dtype=np.int64)
        self.places = {number: place for place, number in enumerate(ordered)}
        self.root = Node(0, len(ordered), 0)
        self._flat = np.frombuffer(b"".join(table.tokens[number] for number in ordered), dtype=np.uint8)
        self._lengths = np.array([len(table.tokens[number]) for number in ordered], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._bounds: dict[Node, NDArray[np.int64]] = {}
        self._end = np.array(table.end, dtype=np.int64)

    def row(self, logs: NDArray[np.float64]) -> Row:
        """Return a distribution over the vocabulary as one over the tokens that stand for bytes, or end a text."""
        told = np.exp(logs)
        sums = np.concatenate([[0.0], np.cumsum(told[self.numbers])])
        end = float(told[self._end].sum())
        return Row(sums / (sums[-1] + end), end / float(sums[-1] + end))

    def own(self, node: Node) -> range:
        """Return the places of the tokens that end at the node: none at the root, since none is empty."""
        end = node.first  # what ends here sorts before what goes on
        while end < node.last and self._lengths[end] == node.depth:
            end += 1
        return range(node.first, end)

    def longer(self, node: Node) -> Node:
        """Return the node without the tokens that end at it."""
        return Node(self.own(node).stop, node.last, node.depth)

    def bounds(self, node: Node) -> NDArray[np.int64]:
        """Return where the tokens of each next byte begin, shape (257,): those of byte b end where b + 1 begins."""
        if node not in self._bounds:
            if len(self._bounds) >= _MOST_KNOWN:
                self._bounds.clear()
            first = self.longer(node).first
            nexts = self._flat[self._starts[first : node.last] + node.depth]
            self._bounds[node] = first + np.searchsorted(nexts, np.arange(257))
        return self._bounds[node]

    def child(self, node: Node, byte: int) -> Node | None:
        """Return the node one byte further, or None where no token goes on so."""
        bounds = self.bounds(node)
        first, last = int(bounds[byte]), int(bounds[byte + 1])
        return Node(first, last, node.depth + 1) if first < last else None

    def spelled(self, node: Node) -> bytes:
        """Return the bytes that the node's tokens begin with."""
        return self.table.tokens[self.numbers[node.first]][: node.depth] if node.depth else b""

    def walk(self, spelled: bytes) -> "Walked":
        """Return the node of these bytes, if there is one; and the longest token that they begin with."""
        node, place, length = self.root, None, 0
        for byte in spelled:
            child = self.child(node, byte)
            if child is None:
                return Walked(None, place, length)
            node = child
            if self.own(node):
                place, length = node.first, node.depth
        return Walked(node, place, length)


@dataclass(frozen=True, slots=True)
class Walked:
    """Say how far some bytes lead: to a node, if all of them do; and past the token at `place`, of `length` bytes."""

    node: Node | None
    place: int | None
    length: int
