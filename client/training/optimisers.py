"""Turn noised gradients into steps: post-processing, so that no privacy hangs on it."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Stepper(Protocol):
    """Remember one run of an optimiser."""

    def step(self, gradient: Vector) -> Vector:
        """Return what to add to the parameters, shape as the gradient's."""


@dataclass(slots=True)
class Sgd:
    """Go against the gradient; with momentum, against its running sum."""

    learning_rate: float
    momentum: float = 0.0
    _velocity: Vector | None = field(default=None, init=False)

    def step(self, gradient: Vector) -> Vector:
        """Return -learning_rate * velocity."""
        kept = 0.0 if self._velocity is None else self.momentum * self._velocity
        self._velocity = kept + gradient
        return -self.learning_rate * self._velocity


@dataclass(slots=True)
class Adam:
    """Scale each coordinate by its running size. Cites: Kingma and Ba 2015, algorithm 1."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    floor: float = 1e-8
    _count: int = field(default=0, init=False)
    _first: Vector | None = field(default=None, init=False)
    _second: Vector | None = field(default=None, init=False)

    def step(self, gradient: Vector) -> Vector:
        """Return -learning_rate * mean / (sqrt(mean square) + floor), both corrected for their start at zero."""
        first = np.zeros_like(gradient) if self._first is None else self._first
        second = np.zeros_like(gradient) if self._second is None else self._second
        b1, b2 = self.betas
        self._count += 1
        self._first = b1 * first + (1 - b1) * gradient
        self._second = b2 * second + (1 - b2) * gradient**2
        mean = self._first / (1 - b1**self._count)
        size = np.sqrt(self._second / (1 - b2**self._count))
        return -self.learning_rate * mean / (size + self.floor)


OPTIMISERS = ("sgd", "momentum", "adam")


def optimiser(name: str, learning_rate: float) -> Stepper:
    """Return a fresh optimiser by its name in a recipe, one of `OPTIMISERS`."""
    match name:
        case "sgd":
            return Sgd(learning_rate)
        case "momentum":
            return Sgd(learning_rate, momentum=0.9)
        case "adam":
            return Adam(learning_rate)
    raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")
