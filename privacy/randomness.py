"""Draw words, uniform and normal numbers from the operating system's generator, or, unsafely, from a seed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Words = NDArray[np.uint64]

_FEW = 512  # words; from here on a fresh cipher costs less than the kernel's bytes
_ZEROS = bytes(2**18)  # what the cipher turns into its key stream, a piece that stays in the cache


class Randomness(Protocol):
    """Give independent numbers that nobody outside can predict."""

    def words(self, size: int) -> Words:
        """Return shape (size,) uint64, uniform on all 2**64 values."""

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64, uniform on the multiples of 2**-53 in [0, 1)."""

    def normal(self, size: int) -> Vector:
        """Return shape (size,) float64, standard normal."""


@dataclass(frozen=True, slots=True)
class SystemRandomness:
    """Draw from the operating system (`os.urandom`), anew for every call.

    Many words are the key stream of AES-256-CTR under a key drawn for that call and dropped with it: nothing is
    kept between calls, so that two processes after a fork share nothing.

    Trusts:  the kernel's generator, and AES-256. The normals are float64 (Box-Muller): the attack of Mironov 2012 on
             the low bits of floating-point noise is not covered; exact discrete noise is.
    """

    entropy: Callable[[int], bytes] = os.urandom

    def words(self, size: int) -> Words:
        """Return shape (size,) uint64: the kernel's own bytes when they are few, else a key stream."""
        if size <= _FEW:
            return np.frombuffer(self.entropy(8 * size), dtype="<u8").astype(np.uint64, copy=False)
        stream = np.empty(8 * size, dtype=np.uint8)
        cipher = Cipher(algorithms.AES(self.entropy(32)), modes.CTR(bytes(16))).encryptor()
        zeros = memoryview(_ZEROS)
        for start in range(0, stream.size, len(zeros)):
            piece = stream[start : start + len(zeros)].data
            cipher.update_into(zeros[: len(piece)], piece)
        return stream.view("<u8").astype(np.uint64, copy=False)

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64 in [0, 1)."""
        return (self.words(size) >> np.uint64(11)).astype(np.float64) * 2.0**-53

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

    def words(self, size: int) -> Words:
        """Return shape (size,) uint64."""
        return self._generator.integers(2**64, size=size, dtype=np.uint64)

    def uniform(self, size: int) -> Vector:
        """Return shape (size,) float64 in [0, 1)."""
        return self._generator.random(size)

    def normal(self, size: int) -> Vector:
        """Return shape (size,) float64, standard normal."""
        return self._generator.standard_normal(size)
