"""Walk over the rows of sampled privacy units in micro-batches; a unit may have more rows than a batch has room for.

A unit is a record, or all rows of a group. Its gradient is the sum of its rows' gradients over the number of its
examples (an example is a row; where one answer is preferred to another, two), and that is what is clipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Records
from privacy.randomness import Randomness

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold some rows, unit after unit.

    Shapes:  rows (rows,); ends (units,), where each unit's rows end; examples (units,), how many each has in all.

    If it is `begun`, the first unit had rows in the batch before; if it is `open`, the last goes on in the next one.
    """

    rows: Indices
    ends: Indices
    examples: Indices
    begun: bool
    open: bool

    @property
    def single(self) -> bool:
        """Tell whether each row is a whole unit."""
        return (
            not self.begun and not self.open and self.ends.size == self.rows.size and bool((self.examples == 1).all())
        )


def batches(
    records: Records, units: Indices, micro_batch: int, most_rows: int | None, randomness: Randomness | None
) -> Iterator[Batch]:
    """Yield all rows of `units` in batches of at most `micro_batch` rows, and never less than a whole example.

    Units run from the shortest to the longest, so that little is padded. Of a unit with more than `most_rows` rows
    so many are taken, by the gate's randomness: what is left out depends on no other unit.
    """
    width = records.rows_per_example
    examples, owners = _examples(records, units)
    if most_rows is not None:
        kept = _at_most(owners, max(1, most_rows // width), randomness)
        examples, owners = examples[kept], owners[kept]
    rows = examples[:, None] * width + np.arange(width)  # (examples, rows of each)
    lengths = records.lengths[rows].max(axis=1)
    names, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    longest = np.zeros(names.size, dtype=lengths.dtype)
    np.maximum.at(longest, place, lengths)
    order = np.lexsort((lengths, place, longest[place]))
    rows, place = rows[order], place[order]
    size = max(1, micro_batch // width)
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        here = place[start:stop]
        last = np.append(np.flatnonzero(np.diff(here)), here.size - 1)
        begun = start > 0 and place[start - 1] == here[0]
        going_on = stop < len(rows) and place[stop] == here[-1]
        yield Batch(rows[start:stop].ravel(), (last + 1) * width, counts[here[last]], bool(begun), bool(going_on))


def by_unit(
    gradients: Sequence[torch.Tensor], batch: Batch, before: Sequence[torch.Tensor] | None
) -> tuple[list[torch.Tensor], list[torch.Tensor] | None]:
    """Return the gradients of the units that end in this batch, and what the last one has so far if it goes on.

    Shapes:  each part (rows, entries) becomes (units, entries); `before` is what the batch before left, (entries,).
    """
    if batch.single:
        return list(gradients), None
    done, rest = [], []
    for index, part in enumerate(gradients):
        sums, start = [], 0
        for end, examples in zip(batch.ends.tolist(), batch.examples.tolist(), strict=True):
            sums.append(part[start:end].sum(dim=0) / examples)
            start = end
        if batch.begun and before is not None:
            sums[0] = sums[0] + before[index]
        if batch.open:
            rest.append(sums.pop())
        done.append(torch.stack(sums) if sums else part[:0])
    return done, rest if batch.open else None


def _examples(records: Records, units: Indices) -> tuple[Indices, Indices]:
    """Return the examples of these units, and whose each is."""
    width = records.rows_per_example
    if records.owner is None:
        if width > 1:
            raise ValueError("records: expected an owner for each row, where an example has several")
        return units, units
    first = records.rows_of(units)[::width]
    return first // width, records.owner[first].astype(np.intp)


def _at_most(owners: Indices, most: int, randomness: Randomness | None) -> Indices:
    """Return which examples are kept, ascending: of each owner at most so many, each as likely as its others."""
    if owners.size == 0 or int(np.unique(owners, return_counts=True)[1].max()) <= most:
        return np.arange(owners.size)
    if randomness is None:
        raise ValueError("randomness: expected, to choose among a unit's rows")
    order = np.lexsort((randomness.uniform(owners.size), owners))
    ordered = owners[order]
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    rank = np.arange(owners.size) - np.repeat(firsts, np.diff(np.append(firsts, owners.size)))
    return np.sort(order[rank < most])
