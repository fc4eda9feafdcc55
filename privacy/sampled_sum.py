"""Let a member's part of a sampled step go: each unit's vector as integers within the norm, added up and noised.

    sample every unit with probability q  ─▶  clip and encode each one's vector by itself  ─▶  add the integers
                                          ─▶  add this member's share of discrete Gaussian noise

Over all members that is one step of DP-SGD on the union of their data. The norm of one unit's integers is checked in
whole numbers, so that neither the clipping's rounding nor the number of units in a sample enters the guarantee.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from privacy.accounting.divergences import distributed_rho
from privacy.accounting.events import SampledSumDpEvent
from privacy.discrete_gaussian import DiscreteGaussian
from privacy.fixed_point import LEAST_DEVIATION, FixedPoint
from privacy.randomness import Randomness

_RARE = 61 * math.log(2)  # a sample is larger than its words are sized for with probability below 2**-61


class Units(Protocol):
    """Be what is sampled: so many units, each with a vector."""

    def __len__(self) -> int:
        """Return how many units there are."""

    def vectors(self, chosen: NDArray[np.intp]) -> Iterator[NDArray[np.floating[Any]]]:
        """Yield one vector (length,) for each of the chosen units, in any order; one that is not finite counts as 0.

        It must depend on nothing of any other unit's.
        """


@dataclass(frozen=True, slots=True)
class SampledShare:
    """Hold a member's units, and sample, clip, add up and noise them when it is drawn.

    What it costs follows from public numbers, so it is charged before a unit is looked at. With no noise in the
    encoding there is no event, hence no epsilon.

    Units:   one unit, added or removed; `rate` is the public probability with which each is in the sample.
    Learns:  the coordinator, from the sum over the members: what its noise leaves. The sample's size stays at home.
    Trusts:  `honest` members, this one included, add their noise and collude with nobody.
    Cites:   Abadi et al. 2016, algorithm 1; Kairouz, Liu and Steinke 2021; Zhu and Wang 2019, theorem 5.
    Raises:  ValueError for noise that is too narrow, or for a rate that is none.
    """

    units: Units
    code: FixedPoint
    rate: float
    honest: int

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError("rate: expected a probability above 0")
        if self.code.norm is None:
            raise ValueError("expected an encoding with a clipping norm: it bounds a unit")
        if not 1 <= self.honest <= self.code.members:
            raise ValueError("honest: expected from 1 to the number of members")
        if self.code.deviation and not self.code.deviation >= LEAST_DEVIATION:
            raise ValueError(f"expected noise of deviation {LEAST_DEVIATION} or more")

    @property
    def event(self) -> DpEvent:
        """Return what one step costs: the loss at `honest` members' noise. Raises: ValueError without noise."""
        return sampled_sum_event(self.code, self.rate, self.honest)

    def draw(self, randomness: Randomness) -> NDArray[np.int32]:
        """Return shape (length,) int32, modulo 2**32: the sampled units' integers plus this member's noise."""
        chosen = np.flatnonzero(randomness.uniform(len(self.units)) < self.rate)
        total = np.zeros(self.code.length, dtype=np.int64)
        for vector in self.units.vectors(chosen):
            if np.isfinite(vector).all():
                total += self.code.encode(self._clipped(vector))
        if self.code.deviation:
            total += DiscreteGaussian(self.code.deviation).draw(self.code.length, randomness)
        return total.astype(np.uint64).astype(np.uint32).view(np.int32)

    def _clipped(self, vector: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the vector scaled into the norm as well as floats can; the code sees to the rest."""
        assert self.code.norm is not None  # noqa: S101  looked at above
        largest = float(np.abs(vector).max(initial=0.0))
        if largest == 0.0:
            return vector
        norm = largest * float(np.linalg.norm(np.asarray(vector, np.float64) / largest))  # no square overflows
        return vector if norm <= self.code.norm else np.asarray(vector, np.float64) * (self.code.norm / norm)


def sampled_sum_event(code: FixedPoint, rate: float, honest: int) -> DpEvent:
    """Return what one sampled sum in this encoding costs, at `honest` members' noise. Raises: ValueError."""
    distributed_rho(code.bound, code.deviation, honest, code.length)  # raises what is out of bounds
    return SampledSumDpEvent(rate, code.bound, code.deviation, honest, code.length)


def largest_sample(expected: float, units: int) -> int:
    """Return a size that a Poisson sample of `units` exceeds with probability below 2**-61.

    What is beyond would wrap the sum's words: that costs a step's use, and no privacy.
    Cites:   Chernoff's bound, exp(-m h(x / m - 1)) with h(u) = (1 + u) log(1 + u) - u, for the mean m.
    """
    if not 0 < expected <= units:
        raise ValueError("expected: between 0 and the number of units")

    def rare(size: int) -> bool:
        over = size / expected
        return expected * (over * math.log(over) - over + 1) > _RARE

    low, high = math.ceil(expected), 2 * math.ceil(expected) + 1
    while not rare(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rare(middle) else (middle, high)
    return min(high, units)
