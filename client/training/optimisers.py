"""Turn noised gradients into steps: post-processing, so that no privacy hangs on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]


class Stepper(Protocol):
    """Remember one run of an optimiser."""

    def step(self, gradient: Vector, point: Vector | None = None) -> Vector:
        """Return what to add to the parameters, shape as the gradient's; `point` is where they are."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all that is remembered, by name."""

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` returned. Raises: ValueError for what it cannot have returned."""


@dataclass(slots=True)
class Sgd:
    """Go against the gradient; with momentum, against its running sum."""

    learning_rate: float
    momentum: float = 0.0
    _velocity: Vector | None = field(default=None, init=False)

    def step(self, gradient: Vector, point: Vector | None = None) -> Vector:  # noqa: ARG002
        """Return -learning_rate * velocity."""
        kept = 0.0 if self._velocity is None else self.momentum * self._velocity
        self._velocity = kept + gradient
        return -self.learning_rate * self._velocity

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the velocity, if there is one."""
        return {} if self._velocity is None or not self.momentum else {"velocity": self._velocity}

    def restore(self, arrays: Arrays) -> None:
        """Go on with this velocity. Raises: ValueError."""
        self._velocity = _vectors(arrays, "velocity")[0] if arrays and self.momentum else None


@dataclass(slots=True)
class Adam:
    """Scale each coordinate by its running size; with `decay`, draw the parameters to zero beside that.

    Cites: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2 (AdamW).
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    floor: float = 1e-8
    decay: float = 0.0
    _count: int = field(default=0, init=False)
    _first: Vector | None = field(default=None, init=False)
    _second: Vector | None = field(default=None, init=False)

    def step(self, gradient: Vector, point: Vector | None = None) -> Vector:
        """Return -learning_rate * (mean / (sqrt(mean square) + floor) + decay * point).

        Mean and mean square are corrected for their start at zero.
        """
        first = np.zeros_like(gradient) if self._first is None else self._first
        second = np.zeros_like(gradient) if self._second is None else self._second
        b1, b2 = self.betas
        self._count += 1
        self._first = b1 * first + (1 - b1) * gradient
        self._second = b2 * second + (1 - b2) * gradient**2
        mean = self._first / (1 - b1**self._count)
        size = np.sqrt(self._second / (1 - b2**self._count))
        change = -self.learning_rate * mean / (size + self.floor)
        if not self.decay:
            return change
        if point is None:
            raise ValueError("point: expected, since it decays")
        return change - self.learning_rate * self.decay * point

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the count and both means, if a step was made."""
        if self._first is None or self._second is None:
            return {}
        return {"count": np.array([self._count], dtype=np.int64), "first": self._first, "second": self._second}

    def restore(self, arrays: Arrays) -> None:
        """Go on from this count and these means. Raises: ValueError."""
        self._count, self._first, self._second = 0, None, None
        if not arrays:
            return
        count, first, second = _vectors(arrays, "count", "first", "second")
        if count.shape != (1,) or count[0] < 1 or first.shape != second.shape or (second < 0).any():
            raise ValueError("the state of an optimiser is damaged")
        self._count, self._first, self._second = int(count[0]), first, second


OPTIMISERS = ("sgd", "momentum", "adam", "adamw")


def optimiser(name: str, learning_rate: float, before: Arrays | None = None) -> Stepper:
    """Return an optimiser by its name in a recipe, one of `OPTIMISERS`; fresh, or as it was `before`.

    Raises: ValueError for an unknown name, or for a state that is not of such a one.
    """
    made: Stepper
    match name:
        case "sgd":
            made = Sgd(learning_rate)
        case "momentum":
            made = Sgd(learning_rate, momentum=0.9)
        case "adam":
            made = Adam(learning_rate)
        case "adamw":
            made = Adam(learning_rate, decay=0.01)
        case _:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")
    if before:
        made.restore(before)
    return made


def _vectors(arrays: Arrays, *names: str) -> list[Vector]:
    if set(arrays) != set(names):
        raise ValueError("the state of another optimiser")
    found = [np.array(arrays[name], dtype=np.float64) for name in names]
    if any(vector.ndim != 1 or not np.isfinite(vector).all() for vector in found):
        raise ValueError("the state of an optimiser is damaged")
    return found
