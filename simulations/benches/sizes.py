"""Say how large everything is that the secure sum's rows measure, and make inputs of these sizes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, sized
from privacy.randomness import SystemRandomness

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Hold the sizes. By default those that the rows are named after; a test takes small ones."""

    short: int = 1_000_000
    long: int = 10_000_000
    vocabulary: int = 128_256
    masks: int = 50
    clients: int = 10
    members: int = 100
    some: int = 50
    few: int = 20
    repeats: int = 5
    batches: int = 20
    batch: int = 20
    samples: int = 10_000_000
    peer_samples: int = 100_000
    sums: int = 20_000


def plain_spec(length: int, members: int, bits: int = 32) -> FixedPoint:
    """Return how members write values in [-1, 1] when they add no noise."""
    return sized(length=length, bits=bits, members=members, coordinate=1.0)


def vector(length: int) -> Vector:
    """Return a member's values, (length,) float32 in [-1, 1]."""
    return np.random.default_rng(1).uniform(-1, 1, length).astype(np.float32)


def probabilities(length: int) -> Vector:
    """Return a next-token distribution, (length,) float32."""
    scores = np.exp(np.random.default_rng(1).normal(0, 3, length))
    shares: Vector = (scores / scores.sum()).astype(np.float32)
    return shares


def mask_keys(count: int) -> list[tuple[int, bytes]]:
    """Return signs and fresh keys of so many masks."""
    return [((-1) ** i, SystemRandomness().words(4).tobytes()) for i in range(count)]
