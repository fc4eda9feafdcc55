"""Run an experiment inside this process, on the members of a village: the same code as on real nodes."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.declared import declare
from client.model import Base
from protocols.catalog import CATALOG
from protocols.session import Carrier, MemberId, drive
from protocols.weights.average import Average, Averaged, Recipe
from simulations.experiment import Experiment
from simulations.plan import best_orders, recipe_for
from simulations.village import Texts, Village, raise_village

Adapter = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a run came to: the adapter (length,), who answered in each round, and each round's seconds."""

    adapter: Adapter
    answered: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass
class Stopwatch:
    """Be a carrier that times another one."""

    carrier: Carrier
    seconds: list[float]

    def __call__(self, letters: "dict[MemberId, bytes]") -> "dict[MemberId, bytes]":
        """Carry, and note how long it took."""
        began = time.perf_counter()
        try:
            return dict(self.carrier(letters))
        finally:
            self.seconds.append(time.perf_counter() - began)


def task_for(experiment: Experiment, recipe: Recipe) -> Average:
    """Return the collaboration's task: train from an adapter of zeros."""
    return Average(recipe, experiment.collaboration.quorum, np.zeros(recipe.length, np.float32))


def run_in_process(experiment: Experiment, village: Village, base: Base, road: Carrier | None = None) -> Outcome:
    """Run the experiment's collaboration to its end. Raises: Abort below the quorum."""
    entry = CATALOG[experiment.collaboration.name]
    session = secrets.token_hex(16)
    seconds: list[float] = []
    outbox = village.outbox(session, entry.name, Stopwatch(road or _memory(village), seconds))  # type: ignore[arg-type]
    result = drive(
        entry.coordinate(village.members, task_for(experiment, recipe_for(experiment, base))), outbox, entry.wire
    )
    assert isinstance(result, Averaged)  # noqa: S101  what this collaboration returns
    return Outcome(np.array(result.adapter), result.answered, tuple(seconds))


def simulate(experiment: Experiment, texts: "dict[str, Texts]", base: Base, folder: Path) -> tuple[Outcome, Village]:
    """Raise a village on `texts` and run the experiment in it; the caller closes the village."""
    recipe = recipe_for(experiment, base)
    declared = {name: declare(t, base.tokenizer) for name, t in texts.items()}
    village = raise_village(experiment, texts, base, folder, best_orders(recipe, declared))
    try:
        return run_in_process(experiment, village, base), village
    except BaseException:
        village.close()
        raise


def _memory(village: Village) -> Carrier:
    from protocols.carriers.memory import MemoryRoad

    return MemoryRoad(village.ends)
