"""Let the clipping norm follow a quantile of the gradients' norms, privately.

    b~ = 1/2 + (sum over units of (b - 1/2) + N(0, sigma_b^2)) / expected units,   b = 1 if its norm is within C
    C  <- C exp(-0.2 (b~ - target))

A step lets two things go: the noised sum, and the noised count. Measured by their noise, both together are one
Gaussian of multiplier z with  z^-2 = z_sum^-2 + (2 sigma_b)^-2.  So the sum gets a little more noise than z, and the
event of a step stays that of z. All norms but the first are post-processing of what was let go before.
Cites:  Andrew et al. 2021 (arXiv 1905.03871), algorithm 1 and theorem 1; 1/2 is taken off as in their section 2.
"""

import math
from dataclasses import dataclass

_RATE = 0.2
_SHARE = 1 / 20  # of the expected units: the deviation of the count that the paper recommends
_LEAST = 3.0  # times z: for small batches, so that the count costs the sum at most 1.5 per cent of noise


@dataclass(frozen=True, slots=True)
class Quantile:
    """Seek the clipping norm that `target` of the units' gradients are within.

    Units:   `noise_multiplier` is that of the whole step; `expected` the expected number of units in it.
    """

    target: float
    noise_multiplier: float
    expected: float

    @property
    def count_deviation(self) -> float:
        """Return sigma_b, the deviation of the count's noise."""
        return max(_SHARE * self.expected, _LEAST * self.noise_multiplier)

    @property
    def sum_multiplier(self) -> float:
        """Return the noise multiplier of the sum, above that of the whole step."""
        left = self.noise_multiplier**-2 - (2 * self.count_deviation) ** -2
        return (1 + 1e-12) / math.sqrt(left)  # rounded so that the two together never have less noise than they say

    def moved(self, norm: float, within: int, beyond: int, normal: float) -> float:
        """Return the next norm, after so many units were within it and beyond it; `normal` is standard noise."""
        votes = (within - beyond) / 2  # a unit moves it by 1/2
        fraction = 0.5 + (votes + self.count_deviation * normal) / self.expected
        return norm * math.exp(-_RATE * (fraction - self.target))
