"""Compute what merging adds up: trimmed, elected and dropped values, and sketches of products with different A's.

    TIES    trim: the largest entries are kept | elect: the sign of their sum | the mean of those that agree with it
    DARE    each entry is dropped with probability 1 - density, and what is left is divided by density
    sketch  Y = sum of B_i A_i Omega, Q = orth(Y), Z = sum of Q^T B_i A_i:  Q Z is the sum of the B_i A_i, exactly, if
            Omega has as many columns as that sum has rank

Cites:  Yadav et al. 2023 (TIES), algorithm 1; Yu et al. 2024 (DARE), equation 3; Halko, Martinsson and Tropp 2011,
        section 4.1 (why the range of Y is that of the sum).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Pair = tuple[Matrix, Matrix]


def trimmed(vector: Vector, density: float) -> Vector:
    """Return the vector with all but its largest entries zero: a share `density` of them stays, one at least."""
    kept = max(1, math.ceil(density * vector.size))
    largest = np.argpartition(-np.abs(vector), kept - 1)[:kept]
    out = np.zeros_like(vector)
    out[largest] = vector[largest]
    return out


def agreeing(vector: Vector, signs: Vector) -> Vector:
    """Return the entries that have the elected sign, and then one for each of them: shape (2 length,)."""
    there = (np.sign(vector) == signs) & (signs != 0)
    return np.concatenate([np.where(there, vector, 0.0), there.astype(np.float64)])


def mean_of_agreeing(total: Vector) -> Vector:
    """Return the mean of the entries that agreed, from the sum of what `agreeing` returned: shape (length,)."""
    values, counts = np.split(total, 2)
    counts = np.rint(counts)
    return np.where(counts > 0, values / np.maximum(counts, 1), 0.0)


def dropped(vector: Vector, uniform: Vector, density: float) -> Vector:
    """Return the vector with entries dropped where `uniform` is not below `density`, the rest made up for it."""
    return np.where(uniform < density, vector / density, 0.0)


@dataclass(frozen=True, slots=True)
class Sketch:
    """Compute sketches of the products of each slot: `outputs` and `inputs` are the slots' widths.

    Shapes:  for each slot B (outputs, rank), A (rank, inputs), Omega (inputs, width), Q (outputs, width), zero where
             a slot has fewer than `width` outputs, and Z (width, inputs).
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    width: int
    seed: int

    @property
    def lengths(self) -> tuple[int, int]:
        """Return how many entries all Y's have, and all Z's."""
        return self.width * sum(self.outputs), self.width * sum(self.inputs)

    def ranges(self, products: Sequence[Sequence[Pair]]) -> Vector:
        """Return B A Omega of each slot, flat; a slot's matrix is the sum of its products (B, A)."""
        made = [
            sum((b @ (a @ self._omega(slot)) for b, a in pairs), np.zeros((self.outputs[slot], self.width)))
            for slot, pairs in enumerate(products)
        ]
        return np.concatenate([m.ravel() for m in made])

    def bases(self, ranges: Vector) -> Vector:
        """Return an orthonormal basis of each slot's range, flat."""
        made = []
        for y in self._split(ranges, self.outputs):
            q = np.linalg.qr(y)[0]
            made.append(np.pad(q, ((0, 0), (0, self.width - q.shape[1]))))
        return np.concatenate([m.ravel() for m in made])

    def projected(self, products: Sequence[Sequence[Pair]], bases: Vector) -> Vector:
        """Return Q^T B A of each slot, flat."""
        made = [
            sum(((q.T @ b) @ a for b, a in pairs), np.zeros((self.width, self.inputs[slot])))
            for slot, (q, pairs) in enumerate(zip(self._split(bases, self.outputs), products, strict=True))
        ]
        return np.concatenate([m.ravel() for m in made])

    def _split(self, flat: Vector, widths: tuple[int, ...]) -> list[Matrix]:
        parts = np.split(flat, np.cumsum([w * self.width for w in widths])[:-1])
        return [part.reshape(w, self.width) for part, w in zip(parts, widths, strict=True)]

    def _omega(self, slot: int) -> Matrix:
        """Return the slot's public test matrix: uniform, and the same at everybody's."""
        count = self.inputs[slot] * self.width
        label = f"parley/v1/sketch/{self.seed}/{slot}/{self.inputs[slot]}"
        words = np.frombuffer(hashlib.shake_256(label.encode()).digest(4 * count), dtype="<u4")
        centred = (words.astype(np.float64) + 0.5) * 2.0**-31 - 1.0
        return (centred * math.sqrt(3.0 / self.inputs[slot])).reshape(self.inputs[slot], self.width)
