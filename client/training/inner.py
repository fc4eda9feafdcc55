"""Take many local steps of AdamW between two synchronisations; the moments stay at home from round to round.

Cites:  Loshchilov and Hutter 2019, algorithm 2 (decay apart from the gradient); Douillard et al. 2023.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.dp_training import Schedule, poisson
from client.quiet import LOG
from client.state import Arrays
from client.training.clipping import torch_threads
from privacy.randomness import Randomness

Vector = NDArray[np.float64]
Gradient = Callable[[Vector, NDArray[np.intp]], Vector]
_LARGEST = 1e30
DECAY, BETAS, FLOOR = 0.1, (0.9, 0.95), 1e-8


@dataclass(slots=True)
class Moments:
    """Hold how many steps were taken, and the running mean and square of their gradients. Private: never sent."""

    count: int = 0
    first: Vector | None = field(default=None, repr=False)
    second: Vector | None = field(default=None, repr=False)

    @classmethod
    def of(cls, arrays: Arrays) -> "Moments":
        """Return what `arrays` made; none were, and it begins."""
        if set(arrays) != {"count", "first", "second"}:
            return cls()
        return cls(int(arrays["count"][0]), arrays["first"].astype(np.float64), arrays["second"].astype(np.float64))

    @property
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return them as arrays, for a home to keep; of no step there are none."""
        if self.first is None or self.second is None:
            return {}
        return {"count": np.array([self.count]), "first": self.first, "second": self.second}

    def step(self, gradient: Vector, learning_rate: float, weights: Vector) -> Vector:
        """Return what AdamW adds to the `weights`, shape (length,)."""
        first = np.zeros_like(gradient) if self.first is None else self.first
        second = np.zeros_like(gradient) if self.second is None else self.second
        b1, b2 = BETAS
        self.count += 1
        self.first = b1 * first + (1 - b1) * gradient
        self.second = b2 * second + (1 - b2) * gradient**2
        mean, size = self.first / (1 - b1**self.count), np.sqrt(self.second / (1 - b2**self.count))
        return -learning_rate * (mean / (size + FLOOR) + DECAY * weights)


@dataclass(frozen=True, slots=True)
class UnsafeInner:
    """Train by AdamW from `start` (length,), without clipping and without noise: what leaves is bounded by a sum.

    `gradient` gives the mean over the chosen units; the pull to the start is added to it (Li et al. 2020, FedProx);
    `origin` (length,) are the weights that the vector is added to.
    `keep` gets the moments that the round ended with, once it has.
    Learns:  who gets the way by itself: whatever it tells about the records, which can be their text.
    """

    records: Records
    start: NDArray[np.float32]
    origin: NDArray[np.float32]
    schedule: Schedule
    gradient: Gradient
    moments: Moments
    keep: Callable[[Moments], None]

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:
        """Return the way from the start, shape (length,) float32; an empty batch or a broken one is no step."""
        moments = Moments(self.moments.count, self.moments.first, self.moments.second)
        point, schedule, broken = self.start.astype(np.float64), self.schedule, 0
        with torch_threads(schedule.threads):
            for _ in range(schedule.steps):
                chosen = poisson(self.records.units, schedule.rate, randomness)
                gradient = self.gradient(point, chosen)
                if schedule.proximal:
                    gradient = gradient + schedule.proximal * (point - self.start)
                if not np.isfinite(gradient).all():
                    broken += 1
                elif chosen.size:
                    point = point + moments.step(gradient, schedule.learning_rate, self.origin + point)
        if broken:
            LOG.warning("%d steps had a gradient that is no number, and were left out", broken)
        self.keep(moments)
        return np.nan_to_num(point - self.start, nan=0.0).clip(-_LARGEST, _LARGEST).astype(np.float32)
