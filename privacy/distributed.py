"""Let a member's vector go into a secure sum, with its share of the noise: only the noised sum exists outside.

Every member adds a discrete Gaussian of deviation sigma to integers of L2 norm at most B. Whoever colludes with the
coordinator may have added none, or tell what it added: `honest` members, this one among them, carry the guarantee.
"""

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

import numpy as np
from dp_accounting import ComposedDpEvent, DpEvent, SelfComposedDpEvent, ZCDpEvent
from numpy.typing import NDArray

from privacy.accounting.accountant import PICO, calibrate
from privacy.accounting.divergences import distributed_rho
from privacy.accounting.events import DistributedGaussianSumDpEvent
from privacy.discrete_gaussian import DiscreteGaussian, NoisePool
from privacy.fixed_point import LEAST_DEVIATION, FixedPoint, Integers
from privacy.randomness import Randomness
from privacy.units import Relation


def rho(*, bound: float, deviation: float, honest: int, length: int) -> float:
    """Return the zero-concentrated privacy loss of one sum of integer vectors, an org's vector being there or zero.

    The samplers cut their noise off at 16 deviations: in total variation that is less than length * honest * 2**-183.

    Units:   bound and deviation in steps; the loss is that of 1/2 (bound / (sqrt(honest) deviation))**2 and, for
             noise narrower than we allow, more.
    Trusts:  `honest` members add their noise and tell nobody what it was.
    Cites:   Kairouz, Liu and Steinke 2021, proposition 14.
    """
    return distributed_rho(bound, deviation, honest, length)


def sum_event(code: FixedPoint, honest: int) -> DpEvent:
    """Return what one sum of vectors in this encoding costs, at `honest` members' noise. Raises: ValueError."""
    rho(bound=code.bound, deviation=code.deviation, honest=honest, length=code.length)  # raises what is out of bounds
    return DistributedGaussianSumDpEvent(code.bound, code.deviation, honest, code.length)


@dataclass(frozen=True, slots=True, eq=False)
class NoiseShare:
    """Hold a vector that is clipped and encoded, and add this member's noise when it is drawn.

    What cannot be encoded is refused here, before the gate has charged anything. The event is proven for
    vectors at Renyi orders only: no loss distribution is known of it.

    Learns:  the coordinator, from the sum over the members: what its noise leaves; from a share alone, too much.
    Trusts:  `honest` members, this one included, add their noise and collude with nobody.
    Raises:  NotEncodable. ValueError if the encoding has no noise, or too little.
    """

    vector: InitVar[NDArray[np.floating]]
    code: FixedPoint
    honest: int
    pool: NoisePool | None = None
    encoded: Integers = field(init=False, repr=False)

    def __post_init__(self, vector: NDArray[np.floating]) -> None:
        if not self.code.deviation >= LEAST_DEVIATION:
            raise ValueError(f"expected noise of deviation {LEAST_DEVIATION} or more")
        if not 1 <= self.honest <= self.code.members:
            raise ValueError("honest: expected from 1 to the number of members")
        if self.pool is not None and self.pool.law.sigma != self.code.deviation:
            raise ValueError("the pool holds noise of another deviation")
        integers = self.code.encode(vector)
        integers.setflags(write=False)
        object.__setattr__(self, "encoded", integers)

    @property
    def event(self) -> DpEvent:
        """Return what one sum costs: the loss at `honest` members' noise."""
        return sum_event(self.code, self.honest)

    def draw(self, randomness: Randomness) -> Integers:
        """Return shape (length,) int32, modulo 2**32: the integers plus this member's noise."""
        if self.pool is None:
            noise = DiscreteGaussian(self.code.deviation).draw(self.code.length, randomness)
        else:
            noise = self.pool.take(self.code.length)
        noise += self.encoded
        return noise.astype(np.int32, copy=False)


def least_noise_multiplier(
    *, sums: int, epsilon: float, delta: float, orders: Sequence[float], honest: int, length: int
) -> float:
    """Return the least noise multiplier (to 1e-4, rounded up) at which `sums` sums cost at most epsilon at delta.

    An account that is charged them one by one holds them all: each charge's rounding up is counted.

    Units:   in units of the L2 bound of one sum; `honest` members' noise together has it.
    Raises:  ValueError if no noise multiplier up to 10,000 does.
    """
    if sums < 1:
        raise ValueError("sums: expected at least 1")

    def event_of(noise_multiplier: float) -> DpEvent:
        bound = LEAST_DEVIATION * math.sqrt(honest) / noise_multiplier  # the narrowest noise costs the most
        one = DistributedGaussianSumDpEvent(bound, LEAST_DEVIATION, honest, length)
        slack = ZCDpEvent(sums / PICO)  # a wider deviation's loss may differ by what a float is rounded by
        return ComposedDpEvent([SelfComposedDpEvent(one, sums), slack])

    return calibrate(event_of, epsilon, delta, orders, Relation.ZERO_OUT)
