"""Run an experiment inside this process, on the members of a village: the same code as on real nodes."""

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.declared import declare
from client.model import Base
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.session import Carrier, MemberId, drive
from protocols.weights.average import Average, Averaged
from protocols.weights.recipe import Recipe
from protocols.wire import Message
from simulations.experiment import Experiment
from simulations.plan import best_orders, recipe_for
from simulations.village import Texts, Village, raise_village

Adapter = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a run came to: the adapter (length,), who is in each round's mean, and each round's seconds.

    `opening` are the seconds before the first round, in which the members agreed on keys.
    """

    adapter: Adapter
    answered: tuple[int, ...]
    seconds: tuple[float, ...]
    opening: float


@dataclass
class Stopwatch:
    """Be a carrier that times another one."""

    carrier: Carrier
    seconds: list[float]

    def __call__(self, letters: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Carry, and note how long it took."""
        began = time.perf_counter()
        try:
            return dict(self.carrier(letters))
        finally:
            self.seconds.append(time.perf_counter() - began)


def task_for(experiment: Experiment, recipe: Recipe) -> Average:
    """Return the collaboration's task: train from an adapter of zeros."""
    return Average(recipe, experiment.collaboration.quorum, np.zeros(recipe.length, np.float32), experiment.terms)


def outcome_of(result: Message, seconds: Sequence[float]) -> Outcome:
    """Return the outcome that a collaboration's result is; `seconds` are every trip's, the last one closing."""
    assert isinstance(result, Averaged)  # noqa: S101  what this collaboration returns
    ends = np.cumsum((len(seconds) - 1 - sum(result.trips), *result.trips))
    opening, *rounds = (math.fsum(part) for part in np.split(np.asarray(seconds), ends)[:-1])
    return Outcome(np.array(result.adapter), result.answered, tuple(rounds), opening)


def run_in_process(experiment: Experiment, village: Village, base: Base) -> Outcome:
    """Run the experiment's collaboration to its end. Raises: Abort below the quorum."""
    entry = CATALOG[experiment.collaboration.name]
    seconds: list[float] = []
    road = Stopwatch(MemoryRoad(village.ends), seconds)
    outbox = village.outbox(secrets.token_hex(16), entry.name, road, experiment.purpose)
    task = task_for(experiment, recipe_for(experiment, base))
    result = drive(entry.coordinate(village.members, task), outbox, entry.wire)
    outbox.close()
    return outcome_of(result, seconds)


def settle(experiment: Experiment, texts: Mapping[str, Texts], base: Base, folder: Path) -> Village:
    """Raise a village on `texts` whose policies have the plan's Renyi orders."""
    declared = {name: declare(t, base.tokenizer) for name, t in texts.items()}
    return raise_village(experiment, texts, base, folder, best_orders(recipe_for(experiment, base), declared))


def simulate(experiment: Experiment, texts: Mapping[str, Texts], base: Base, folder: Path) -> tuple[Outcome, Village]:
    """Raise a village on `texts` and run the experiment in it; the caller closes the village."""
    village = settle(experiment, texts, base, folder)
    try:
        return run_in_process(experiment, village, base), village
    except BaseException:
        village.close()
        raise
