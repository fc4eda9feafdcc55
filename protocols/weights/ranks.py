"""Say which columns a member of a smaller rank trains in a round, and average each over those who trained it.

    an adapter of rank 8            column   0 1 2 3 4 5 6 7
    a member of rank 3, turn 0               . . . . . x x x     from a column that its name and the seed give
                        turn 1               x x x . . . . .     then three further, around the end

Column k is the k-th of every B and, where A is trained, the k-th row of every A. All members share one A, and each
holds the whole adapter: it trains its columns at the very point that the others train theirs. So a mean over a column
is exact, whoever takes part. Over time each member trains every column equally often.

What is trained follows from public numbers alone. To divide by all members what some of them trained would shorten
its step: the coordinator counts, by the ranks that members state with their answers.

Cites:  Diao et al. 2021, HeteroFL (a parameter's mean over those who hold it); Alam et al. 2022, FedRolex (parts that
        roll on from round to round; there all members of a rank train the same part).
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.session import MemberId
from protocols.weights.recipe import Chosen, Half, Recipe

Vector = NDArray[np.float64]


def columns(recipe: Recipe, member: MemberId, rank: int, round_: int) -> NDArray[np.bool_]:
    """Return which columns, shape (recipe.rank,), a member of `rank` trains in a round.

    By turns (`Half.ALTERNATE`) a B and the A after it have the same ones.
    """
    label = f"parley/v1/columns/{recipe.adapter_seed}/{member}".encode()
    first = int.from_bytes(hashlib.shake_256(label).digest(8), "little")
    turn = round_ // 2 if recipe.half is Half.ALTERNATE else round_
    begin = (first + turn * rank) % recipe.rank
    found = np.zeros(recipe.rank, bool)
    found[(begin + np.arange(min(rank, recipe.rank))) % recipe.rank] = True
    return found


def column_of(rank: int, b_entries: int, inputs: Sequence[int]) -> NDArray[np.intp]:
    """Return the column of each entry of the vector: of B's (outputs, rank), then of A's (rank, inputs), by rows."""
    rows = [np.repeat(np.arange(rank), width) for width in inputs]
    return np.concatenate([np.arange(b_entries) % rank, *rows])


def mean(
    total: Vector, recipe: Recipe, round_: int, ranks: Mapping[MemberId, int | None], inputs: Sequence[int]
) -> tuple[Vector, Chosen]:
    """Return the mean of a round's deltas, and which entries of the vector it has: those that somebody trained.

    `ranks` are those of the members in the sum `total` (recipe.entries(round_),), None for all columns; `inputs` the
    widths of the A's, if they are trained.
    Raises: LocalError if these are not the recipe's.
    """
    chosen = recipe.chosen(round_)
    if all(rank is None for rank in ranks.values()):
        return total / len(ranks), chosen
    of = column_of(recipe.rank, recipe.b_entries or recipe.length, inputs)
    if of.size != recipe.length:
        raise LocalError("the widths of the A's are not those of the recipe's vector")
    by = np.zeros(recipe.rank, np.intp)
    for member, rank in ranks.items():
        by += 1 if rank is None else columns(recipe, member, rank, round_)
    entries = np.arange(recipe.length)[chosen]
    counts = by[of[entries]]
    return total[counts > 0] / counts[counts > 0], entries[counts > 0]
