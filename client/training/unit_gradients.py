"""Give one gradient for each privacy unit at one point of the adapter; of a whole member, the mean of its sample."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.training.clipping import Clipper, torch_threads
from privacy.randomness import Randomness

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gradients:
    """Be the units whose gradients at `point` (size,) a step is made of: see `Clipper.one_by_one`.

    Shapes:  `where` (entries,) bool: which entries this home computes, None for all; the others are zero.

    Trusts:  the model keeps the rows of a batch apart, which `Clipper.check_isolation` tests.
    """

    clipper: Clipper
    point: Vector
    records: Records
    threads: int = 1
    where: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return self.records.units

    def vectors(self, chosen: NDArray[np.intp], randomness: Randomness) -> Iterator[NDArray[np.float32]]:
        """Yield each chosen unit's gradient, (entries,) float32, clipped as the clipper does.

        One that is not finite is zero: the operator's log says how many, and nobody else hears of it.
        """
        with torch_threads(self.threads):
            for some in self.clipper.one_by_one(self.point, self.records, chosen, randomness):
                yield from some if self.where is None else map(self._placed, some)

    def _placed(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.where is not None  # noqa: S101  its caller has looked
        whole = np.zeros(self.where.size, np.float32)
        whole[self.where] = gradient
        return whole


@dataclass(frozen=True, slots=True)
class MeanGradient:
    """Draw a whole member's gradient: the mean over a Poisson sample of its units. Unprotected: no unit is clipped.

    Learns:  who gets it: whatever a gradient tells about the records, unless it is clipped as a whole and noised.
    """

    units: Gradients
    rate: float
    expected: float
    entries: int

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:
        """Return shape (entries,) float32, always finite: the sum over the sample, divided by its expected size."""
        chosen = np.flatnonzero(randomness.uniform(len(self.units)) < self.rate)
        total = np.zeros(self.entries)
        for gradient in self.units.vectors(chosen, randomness):
            total += gradient
        return (total / self.expected).clip(-1e30, 1e30).astype(np.float32)
