"""Say what the commands ask of a collaboration: how it is planned, ordered, read and put beside its yardsticks.

Side, Cost            the home that an experiment is tried on, and what the whole of it would charge there
MemberPlan, Plan      the forecast
Outcome               what a run came to, whatever its collaboration
Run                   the interface; the registry is `simulations/collaborations/__init__.py`
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from client.declared import Declared
from client.model import Base
from client.settings import Settings
from privacy.ledger import Account, Ledger
from privacy.policy import Policy
from privacy.units import Guarantee
from protocols.secure_sum.terms import Terms
from protocols.weights.recipe import Recipe
from protocols.wire import Message
from simulations.experiment import Experiment

Adapter = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Side:
    """Hold the files of the home that an experiment is tried on; `account` would pay."""

    settings: Settings
    policy: Policy
    ledger: Ledger
    account: Account


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold what a home would charge: `event` (None for a disclosure), `times` over the whole run."""

    event: DpEvent | None
    times: int


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """Hold what the run costs one member. `tight` is certified of the same plan, fixed as it is."""

    name: str
    records: int
    rate: float
    noise_multiplier: float | None
    guarantee: Guarantee | None
    tight: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the whole forecast. Bytes are per member and round, seconds per round, memory the whole process's peak.

    `bytes_opening`, down and up, are those by which one member agrees on keys with the others, once.
    """

    recipe: Recipe
    terms: Terms | None
    orders: tuple[float, ...]
    members: tuple[MemberPlan, ...]
    bytes_down: int
    bytes_up: int
    bytes_opening: tuple[int, int]
    step_seconds: float
    memory_bytes: int

    @property
    def round_seconds(self) -> float:
        """Return the time of one round's training at one member, on one core."""
        return self.step_seconds * self.recipe.steps


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a run came to: the adapter (length,), who is in each round's mean, and each round's seconds.

    `opening` are the seconds before the first round, in which the members agreed on keys; `notes` what else there is
    to tell of it, a line each.
    """

    adapter: Adapter
    answered: tuple[int, ...]
    seconds: tuple[float, ...]
    opening: float
    notes: tuple[str, ...] = ()


class Run(Protocol):
    """Be how one collaboration goes through check, plan, simulate, run and report. Nothing private is touched."""

    def complete(self, experiment: Experiment, declared: Mapping[str, Declared]) -> Experiment:
        """Return the experiment with all filled in that follows from what the members declare, if anything does."""

    def orders(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> tuple[float, ...]:
        """Return the Renyi orders that the members' budgets should have for this experiment; none without noise."""

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast it for members who declare their sizes. Raises: ConfigError."""

    def task(self, experiment: Experiment, base: Base) -> Message:
        """Return what its coordinator is ordered to do. Raises: ConfigError."""

    def trips(self, experiment: Experiment) -> int:
        """Return how many round trips it takes if nothing goes wrong; the last one closes the session."""

    def outcome(self, result: Message, seconds: Sequence[float]) -> Outcome:
        """Return what a result comes to; `seconds` are every trip's, the last one closing."""

    def cost(self, experiment: Experiment, side: Side) -> Cost:
        """Return what the home would charge. Raises: PeerError, Refused: why it would not come to that."""

    def misfits(self, experiment: Experiment, side: Side) -> Iterator[Exception]:
        """Yield why the experiment would not fit the home's data and budget, but for its noise and its cost."""

    def alone(self, experiment: Experiment, name: str, share: int) -> Experiment:
        """Return the yardstick: an `average` of a single member `name` that holds the data of `share` members."""

    def saw(self, experiment: Experiment) -> str:
        """Say in a sentence which values reached the coordinator."""
