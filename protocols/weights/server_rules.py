"""Turn the mean of the members' deltas into a step of the coordinator's: post-processing; no privacy hangs on it.

    FEDAVG    x += lr * d                                            McMahan et al. 2017, with lr = 1
    FEDAVGM   v = b1 v + d;                  x += lr * v             Hsu et al. 2019
    NESTEROV  the same v;                    x += lr * (b1 v + d)    one step ahead, as in DiLoCo
    FEDADAM   m = b1 m + (1 - b1) d;  v = b2 v + (1 - b2) d^2;            x += lr * m / (sqrt(v) + tau)
    FEDYOGI   the same m;             v = v - (1 - b2) d^2 sign(v - d^2); x += lr * m / (sqrt(v) + tau)

The last two are algorithm 2 of Reddi et al.: m starts at 0 and v at tau^2 (the paper asks for no less); neither is
corrected for its start, as Adam's are, and Flower's FedAdam is by now; tau, the adaptivity, stands beside the root
and not under it, and is large beside Adam's floor; every member's delta counts alike, whatever its data. The defaults
of b1, b2 and tau are those that the paper's experiments keep to; it tunes the learning rate, so that has none.
Ours alone: at an entry that a round did not choose (`share`, `half`) m and v stay as they are.

Cites:  Douillard et al. 2023 (DiLoCo); Reddi et al. 2021, Adaptive federated optimization, algorithm 2.
"""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from protocols.weights.recipe import Chosen
from protocols.wire import Message

Vector = NDArray[np.float64]


class Server(Enum):
    """Name what the coordinator does with the mean of the deltas."""

    FEDAVG = "fedavg"
    FEDAVGM = "fedavgm"
    NESTEROV = "nesterov"
    FEDADAM = "fedadam"
    FEDYOGI = "fedyogi"


@dataclass(frozen=True, slots=True)
class ServerRule(Message):
    """State the coordinator's rule; `momentum` is beta 1 of the adaptive ones, `second` beta 2, `tau` their floor."""

    name: Server = Server.FEDAVG
    learning_rate: float = 1.0
    momentum: float = 0.9
    second: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        if not (0 < self.learning_rate < math.inf and 0 < self.tau < math.inf):
            raise ValueError("learning_rate, tau: expected positive numbers")
        if not (0 <= self.momentum < 1 and 0 <= self.second < 1):
            raise ValueError("momentum, second: expected numbers of at least 0 and below 1")


FEDAVG = ServerRule()


@dataclass(slots=True)
class Stepping:
    """Remember one run of a rule on a vector of `length` entries. An entry that no round chose stays as it was."""

    rule: ServerRule
    length: int
    _first: Vector = field(init=False, repr=False)
    _second: Vector = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._first = np.zeros(self.length)
        self._second = np.full(self.length, self.rule.tau**2)

    def step(self, mean: Vector, chosen: Chosen) -> Vector:
        """Return what to add at the chosen entries, shape as the mean's."""
        rule = self.rule
        if rule.name is Server.FEDAVG:
            return rule.learning_rate * mean
        first = self._first[chosen]
        if rule.name in (Server.FEDAVGM, Server.NESTEROV):
            first = rule.momentum * first + mean
            self._first[chosen] = first
            return rule.learning_rate * (first if rule.name is Server.FEDAVGM else rule.momentum * first + mean)
        first = rule.momentum * first + (1 - rule.momentum) * mean
        self._first[chosen] = first
        second = self._adapted(self._second[chosen], mean**2)
        self._second[chosen] = second
        return rule.learning_rate * first / (np.sqrt(second) + rule.tau)

    def _adapted(self, second: Vector, square: Vector) -> Vector:
        """Return the running size; Yogi's moves by what is new alone, so that one large step is soon forgotten."""
        new = 1 - self.rule.second
        if self.rule.name is Server.FEDADAM:
            return self.rule.second * second + new * square
        return second - new * square * np.sign(second - square)
