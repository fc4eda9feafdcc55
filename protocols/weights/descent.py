"""Step against the mean gradient of everybody's records: post-processing at the coordinator; no privacy hangs on it.

    sgd       x -= lr * g
    momentum  v = 0.9 v + g;                                   x -= lr * v
    adam      m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  x -= lr * m^ / (sqrt(v^) + floor)

Both of Adam's means are corrected for their start at zero, each entry by how often it was chosen.
Cites:   Kingma and Ba 2015, algorithm 1.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.weights.recipe import Chosen

Vector = NDArray[np.float64]
RULES = ("sgd", "momentum", "adam")
_MOMENTUM, _B1, _B2, _FLOOR = 0.9, 0.9, 0.999, 1e-8


@dataclass(slots=True)
class Descent:
    """Remember one run of a rule on a vector of `length` entries; an entry that no step chose stays as it was."""

    rule: str
    learning_rate: float
    length: int
    _first: Vector = field(init=False, repr=False)
    _second: Vector = field(init=False, repr=False)
    _times: Vector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"optimizer: expected one of {', '.join(RULES)}")
        self._first, self._second, self._times = (np.zeros(self.length) for _ in range(3))

    def step(self, gradient: Vector, chosen: Chosen) -> Vector:
        """Return what to add at the chosen entries, shape as the gradient's."""
        if self.rule == "sgd":
            return -self.learning_rate * gradient
        if self.rule == "momentum":
            self._first[chosen] = _MOMENTUM * self._first[chosen] + gradient
            return -self.learning_rate * self._first[chosen]
        self._times[chosen] += 1
        self._first[chosen] = _B1 * self._first[chosen] + (1 - _B1) * gradient
        self._second[chosen] = _B2 * self._second[chosen] + (1 - _B2) * gradient**2
        mean = self._first[chosen] / (1 - _B1 ** self._times[chosen])
        size = np.sqrt(self._second[chosen] / (1 - _B2 ** self._times[chosen]))
        return -self.learning_rate * mean / (size + _FLOOR)
