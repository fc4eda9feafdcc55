"""Describe what is done to data before it is let go: the event that is charged, and the draw that follows."""

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent
from numpy.typing import NDArray

from privacy.randomness import Randomness

T_co = TypeVar("T_co", covariant=True)


class Mechanism(Protocol[T_co]):
    """Join what is charged and what is drawn, so that neither goes without the other.

    The gate reads `event`, charges it, and only then calls `draw`: no noise meets data before its charge.
    """

    @property
    def event(self) -> DpEvent:
        """Return what an accountant must know; it depends on public parameters alone."""

    def draw(self, randomness: Randomness) -> T_co:
        """Return the noised value; called once, after the charge."""


class Unprotected(Protocol[T_co]):
    """Compute a value that leaves with no noise: a disclosure, never an epsilon."""

    def draw(self, randomness: Randomness) -> T_co:
        """Return the value; randomness serves sampling, not protection."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """Hold a finite vector whose L2 norm is at most `norm`; only `clip` makes one.

    Shapes:  vector (length,) float64, not writable.
    """

    vector: NDArray[np.float64] = field(repr=False)
    norm: float


def clip(vector: NDArray[np.floating], norm: float) -> Bounded:
    """Scale `vector` down to the L2 ball of radius `norm`; a vector that is not finite becomes zero.

    Zero, since min(1, norm / nan) is 1 in Python: without this a NaN would pass unclipped.
    """
    if not (norm > 0 and np.isfinite(norm)):
        raise ValueError("the clipping norm must be positive and finite")
    values = np.array(vector, dtype=np.float64)  # a copy: the caller's array stays the caller's
    with np.errstate(over="ignore", invalid="ignore"):  # an overflowing norm is handled as one that is not finite
        length = float(np.linalg.norm(values))
    if not np.isfinite(length):
        values = np.zeros_like(values)
    elif length > norm:
        values *= norm / length
        length = float(np.linalg.norm(values))
        if length > norm:  # rounding may leave one unit in the last place
            values *= (norm / length) * (1 - 2.0**-50)
    values.setflags(write=False)
    return Bounded(values, norm)


@dataclass(frozen=True, slots=True)
class GaussianMechanism:
    """Add N(0, (noise_multiplier * norm)**2) to every coordinate of a bounded vector.

    Units:   noise_multiplier in units of the clipping norm.
    Cites:   Dwork and Roth 2014, theorem A.1; charged as GaussianDpEvent.
    """

    bounded: Bounded
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not self.noise_multiplier > 0:
            raise ValueError("the noise multiplier must be positive")

    @property
    def event(self) -> DpEvent:
        """Return the Gaussian event of this noise multiplier."""
        return GaussianDpEvent(self.noise_multiplier)

    def draw(self, randomness: Randomness) -> NDArray[np.float64]:
        """Return shape (length,) float64: the vector plus its noise."""
        noise = randomness.normal(self.bounded.vector.size)
        return self.bounded.vector + self.noise_multiplier * self.bounded.norm * noise
