"""Draw uniform and normal numbers from the operating system's generator, or, unsafely, from a seed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Randomness(Protocol):
    """Give independent numbers that nobody outside can predict."""

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64, uniform on the multiples of 2**-53 in [0, 1)."""

    def normal(self, size: int) -> Vector:
        """Return shape (size,) float64, standard normal."""


@dataclass(frozen=True, slots=True)
class SystemRandomness:
    """Draw from the operating system (`os.urandom`), anew for every call.

    Trusts:  the kernel's generator. The normals are float64 (Box-Muller): the attack of Mironov 2012 on
             the low bits of floating-point noise is not covered; exact discrete noise is.
    """

    entropy: Callable[[int], bytes] = os.urandom

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64 in [0, 1)."""
        words = np.frombuffer(self.entropy(8 * size), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, size: int) -> Vector:
        """Return shape (size,) float64, standard normal, by the transform of Box and Muller."""
        pairs = (size + 1) // 2
        u = self.uniform(2 * pairs)
        radius = np.sqrt(-2.0 * np.log1p(-u[:pairs]))  # 1 - u is in (0, 1]: the logarithm is finite
        angle = 2.0 * np.pi * u[pairs:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]


class UnsafeSeededRandomness:
    """Repeat the same numbers for the same seed: for comparing engines, and for nothing private.

    A release whose noise came from here has no guarantee, since who knows the seed subtracts the noise.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(seed))  # unsafe by name: see the class

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64 in [0, 1)."""
        return self._generator.random(size)

    def normal(self, size: int) -> Vector:
        """Return shape (size,) float64, standard normal."""
        return self._generator.standard_normal(size)
