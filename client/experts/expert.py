"""Say what an expert is: a model that tells how likely each next symbol is, at several positions at once.

    context  ──  told: how likely each of its symbols was, given those before
             ──  drafts: next, the distribution after the context and after each draft

Learns:  who is given a `Thought`: what the model knows, which is all that its training data has left in it. It stays
         at home; what leaves is made of it behind the gate.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.faults import PeerError

T = TypeVar("T")
Rows = NDArray[np.float64]
_ENTRIES_AT_ONCE = 2**24  # of rows while a long context is read: 128 MiB


@dataclass(frozen=True, slots=True)
class Thought:
    """Hold what an expert says of a context and its drafts.

    Shapes:  told (context,), drafted (drafts,), next (drafts + 1, symbols), all float64 and finite or -inf.
    Units:   natural logarithms of probabilities; the first of `told` is 0, and each row of `next` is normalised.
    """

    told: NDArray[np.float64] = field(repr=False)
    drafted: NDArray[np.float64] = field(repr=False)
    next: Rows = field(repr=False)


class Expert(Protocol):
    """Tell how likely every symbol is to be the next one."""

    @property
    def symbols(self) -> int:
        """Return how many symbols there are; they are numbered from 0."""

    def require_room(self, symbols: int) -> None:
        """Return if so many symbols, of context and drafts together, may be read at once. Raises: PeerError."""

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what this expert says of the context, and after it of each draft.

        A function of its arguments alone, but for rounding: what is remembered of earlier calls saves time.
        Raises:  PeerError for an empty context, a symbol out of range, or more than the model reads at once.
        """


class RememberingExpert(ABC):
    """Tell a context's symbols once, and go on from there: a subclass says what the rows are."""

    def __init__(self, symbols: int, conversations: int = 4) -> None:
        self.symbols = symbols
        self._remembered: Recent[NDArray[np.float64]] = Recent(conversations)

    @abstractmethod
    def rows(self, symbols: NDArray[np.int64], first: int) -> Rows:
        """Return the distributions after the first `first` symbols, after one more, and so on to after all.

        Shapes:  symbols (n,), first at least 1; the rows (n - first + 1, self.symbols), logarithms.
        Raises:  PeerError for more symbols than the model reads at once.
        """

    def require_room(self, symbols: int) -> None:
        """Return if so many symbols may be read at once, as far as their number tells. Raises: PeerError."""
        if symbols < 1:
            raise PeerError("an empty context: there is nothing to go on from")

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what this expert says of the context, and after it of each draft. Raises: PeerError."""
        if not len(context):
            raise PeerError("an empty context: there is nothing to go on from")
        whole, size = self._checked([*context, *drafts]), len(context)
        known, before = self._remembered.longest(whole[:size])
        told = np.zeros(size)
        told[:known] = 0.0 if before is None else before[:known]
        at, step = max(1, known), max(1, _ENTRIES_AT_ONCE // self.symbols)
        while whole.size + 1 - at > step and at < size:  # one forward would have more rows than fit into memory
            end = min(at + step, size)
            told[at:end] = _at(self.rows(whole[: end - 1], at), whole[at:end])
            at = end
        rows = self.rows(whole, at)
        told[at:] = _at(rows[: size - at], whole[at:size])
        following = rows[size - at :]
        drafted = _at(following[:-1], whole[size:])
        self._remembered.keep(whole, np.concatenate([told, drafted]))  # a draft that is accepted has been told
        return Thought(told, drafted, following)

    def _checked(self, symbols: Sequence[int]) -> NDArray[np.int64]:
        whole = np.asarray(symbols, dtype=np.int64)
        if whole.min() < 0 or whole.max() >= self.symbols:
            raise PeerError(f"a symbol that is none of the {self.symbols} there are")
        return whole


class Recent(Generic[T]):
    """Keep something for each of the last few conversations, found by the symbols it was made of.

    Of `most` at most, and beside the last one of no more than `symbols` symbols in all, if that is said.
    """

    def __init__(self, most: int, symbols: int | None = None) -> None:
        self._most, self._symbols = most, symbols
        self._kept: list[tuple[NDArray[np.int64], T]] = []

    def longest(self, symbols: NDArray[np.int64]) -> tuple[int, T | None]:
        """Return of the conversation that begins most like `symbols` how far it does, and what was kept."""
        found = max(self._kept, key=lambda kept: common(kept[0], symbols), default=None)
        return (0, None) if found is None else (common(found[0], symbols), found[1])

    def keep(self, symbols: NDArray[np.int64], value: T) -> None:
        """Keep `value`, instead of what was kept of the beginning of `symbols`; the oldest one is forgotten."""
        others = [kept for kept in self._kept if common(kept[0], symbols) < len(kept[0])]
        self._kept = [*others, (symbols, value)][-self._most :]
        while self._symbols is not None and len(self._kept) > 1 and self._held > self._symbols:
            del self._kept[0]

    @property
    def _held(self) -> int:
        """Return how many symbols all that is kept was made of."""
        return sum(kept[0].size for kept in self._kept)

    def drop(self, value: T) -> None:
        """Forget `value`."""
        self._kept = [kept for kept in self._kept if kept[1] is not value]


def common(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Return how many symbols two sequences begin with in common."""
    size = min(one.size, other.size)
    differ = np.flatnonzero(one[:size] != other[:size])
    return int(differ[0]) if differ.size else size


def normalised(rows: Rows) -> Rows:
    """Return logits as logarithms of probabilities, along the last axis."""
    shifted = rows - rows.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _at(rows: Rows, symbols: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(rows[np.arange(symbols.size), symbols])
