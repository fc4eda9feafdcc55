"""Let a member's part of a sampled step go: each unit's vector as integers within the norm, added up and noised.

    sample every unit with probability q  ─▶  clip and encode each one's vector by itself  ─▶  add the integers
                                          ─▶  add this member's share of discrete Gaussian noise

Over all members that is one step of DP-SGD on the union of their data. The norm of one unit's integers is checked in
whole numbers, so that neither the clipping's rounding nor the number of units in a sample enters the guarantee.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from dp_accounting import ComposedDpEvent, DpEvent, SelfComposedDpEvent, ZCDpEvent
from numpy.typing import NDArray

from privacy.accounting.accountant import PICO, calibrate_best
from privacy.accounting.divergences import distributed_rho
from privacy.accounting.events import DistributedGaussianSumDpEvent, SampledSumDpEvent
from privacy.discrete_gaussian import DiscreteGaussian
from privacy.fixed_point import LEAST_DEVIATION, FixedPoint
from privacy.randomness import Randomness
from privacy.units import Unit


class Units(Protocol):
    """Be what is sampled: so many units, each with a vector."""

    def __len__(self) -> int:
        """Return how many units there are."""

    def vectors(self, chosen: NDArray[np.intp], randomness: Randomness) -> Iterator[NDArray[np.floating[Any]]]:
        """Yield one vector (length,) for each of the chosen units, in any order; one that is not finite counts as 0.

        It must depend on nothing of any other unit's. `randomness` may choose what of a unit is looked at.
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
        vectors = self.units.vectors(chosen, randomness)
        return noised_sum((self._clipped(v) for v in vectors if np.isfinite(v).all()), self.code, randomness)

    def _clipped(self, vector: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the vector scaled into the norm as well as floats can; the code sees to the rest."""
        assert self.code.norm is not None  # noqa: S101  looked at above
        largest = float(np.abs(vector).max(initial=0.0))
        if largest == 0.0:
            return vector
        norm = largest * float(np.linalg.norm(np.asarray(vector, np.float64) / largest))  # no square overflows
        return vector if norm <= self.code.norm else np.asarray(vector, np.float64) * (self.code.norm / norm)


def noised_sum(
    vectors: Iterable[NDArray[np.floating[Any]]], code: FixedPoint, randomness: Randomness
) -> NDArray[np.int32]:
    """Return shape (length,) int32, modulo 2**32: each vector as integers by itself, added up, with a share of noise.

    There is none where the code has none.
    """
    total = np.zeros(code.length, dtype=np.int64)
    for vector in vectors:
        total += code.encode(vector)
    if code.deviation:
        total += DiscreteGaussian(code.deviation).draw(code.length, randomness)
    return total.astype(np.uint64).astype(np.uint32).view(np.int32)


def least_sampled_noise(
    *, rate: float, steps: int, epsilon: float, delta: float, orders: Sequence[float], honest: int, length: int
) -> tuple[float, float]:
    """Return the least noise multiplier (to 1e-4, rounded up) for `steps` sampled sums, and the order it is least at.

    Units:   in units of the L2 bound of one unit; `honest` members' noise together has it.
    Raises:  ValueError if no noise multiplier up to 10,000 does, at any of the orders.
    """

    def event_of(noise_multiplier: float) -> DpEvent:
        bound = LEAST_DEVIATION * math.sqrt(honest) / noise_multiplier  # the narrowest noise costs the most
        one = SampledSumDpEvent(rate, bound, LEAST_DEVIATION, honest, length)
        slack = ZCDpEvent(steps / PICO)  # a wider deviation's loss may differ by what a float is rounded by
        return ComposedDpEvent([SelfComposedDpEvent(one, steps), slack])

    noise, (order,) = calibrate_best(event_of, epsilon, delta, ((order,) for order in orders))
    return noise, order


def sampled_sum_event(code: FixedPoint, rate: float, honest: int) -> DpEvent:
    """Return what one sampled sum in this encoding costs, at `honest` members' noise. Raises: ValueError."""
    distributed_rho(code.bound, code.deviation, honest, code.length)  # raises what is out of bounds
    return SampledSumDpEvent(rate, code.bound, code.deviation, honest, code.length)


def sum_of_shards(unit: Unit, shards: int, apart: float, code: FixedPoint, honest: int) -> DpEvent:
    """Return what one sum costs to which a member adds what each of its `shards` models says, at `honest`'s noise.

    A record, or a group, is in one shard: with it and without it that shard's model says two things, which are
    `apart` bounds of the code from each other at the most. A whole member is all its shards, or none.
    """
    if unit is Unit.MEMBER:
        return DistributedGaussianSumDpEvent(shards * code.bound, code.deviation, honest, code.length)
    return SampledSumDpEvent(1.0, apart * code.bound, code.deviation, honest, code.length)
