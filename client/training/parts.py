"""Say which pieces of the flat vector a round trains: a half of a module, or some of its entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from client.adapter import Layout

Chosen = slice | NDArray[np.intp]


class Side(Enum):
    """Name one matrix of a LoRA pair."""

    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Part:
    """Name one matrix of one slot of which entries are trained; `kept` says which, or None for all of them."""

    name: str
    side: Side
    kept: torch.Tensor | None = None


def parts_of(layout: Layout, chosen: Chosen | None = None) -> tuple[Part, ...]:
    """Return the parts of the vector that `chosen` touches, in the vector's order; None is the whole vector.

    Raises: ValueError unless `chosen` is a slice of step one, or indices that rise, within the vector, and not empty.
    """
    first, last, indices = _bounds(layout, chosen)
    found, start = [], 0
    for name, side, entries in _all(layout):
        stop = start + entries
        if indices is not None:
            inside = indices[np.searchsorted(indices, start) : np.searchsorted(indices, stop)] - start
        else:
            inside = np.arange(max(first, start), min(last, stop)) - start if first < stop and start < last else _NONE
        if inside.size:
            kept = None if inside.size == entries else torch.from_numpy(inside.astype(np.int64))
            found.append(Part(name, side, kept))
        start = stop
    return tuple(found)


def entries_of(layout: Layout, chosen: Chosen | None = None) -> int:
    """Return how many entries of the vector are chosen. Raises: ValueError, as `parts_of` does."""
    first, last, indices = _bounds(layout, chosen)
    return last - first if indices is None else int(indices.size)


_NONE = np.zeros(0, dtype=np.intp)


def _bounds(layout: Layout, chosen: Chosen | None) -> tuple[int, int, NDArray[np.intp] | None]:
    if chosen is None:
        return 0, layout.size, None
    if isinstance(chosen, slice):
        first, last, step = chosen.indices(layout.size)
        if step != 1 or first >= last or (chosen.stop or 0) > layout.size:
            raise ValueError("chosen: expected a slice of step one within the vector, and not empty")
        return first, last, None
    if not chosen.size or chosen[0] < 0 or chosen[-1] >= layout.size or not (np.diff(chosen) > 0).all():
        raise ValueError("chosen: expected indices that rise, within the vector, and not empty")
    return 0, layout.size, chosen


def _all(layout: Layout) -> Sequence[tuple[str, Side, int]]:
    halves = [(slot.name, Side.B, slot.outputs * layout.rank) for slot in layout.slots]
    if layout.half_a:
        halves += [(slot.name, Side.A, slot.inputs * layout.rank) for slot in layout.slots]
    return halves
