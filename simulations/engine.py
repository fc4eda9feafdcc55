"""Run an experiment inside this process, on the members of a village: the same code as on real nodes."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from client.declared import Declared, declare
from client.home import House
from client.model import Base
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.session import Carrier, MemberId, drive
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.experiment import Experiment
from simulations.village import Texts, Village, raise_village


@runtime_checkable
class Prepares(Protocol):
    """Be a run whose homes need something before its first letter, which new ones do not have."""

    def prepare(self, experiment: Experiment, house: House, adapters: Path) -> None:
        """Put it there; `adapters` is the home's folder of them. Raises: Refused."""


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


def complete(experiment: Experiment, texts: Mapping[str, Texts], base: Base) -> Experiment:
    """Return the experiment with all filled in that follows from the sizes of the members' training documents."""
    return run_of(experiment).complete(experiment, declared_of(texts, base))


def declared_of(texts: Mapping[str, Texts], base: Base) -> dict[str, Declared]:
    """Return what each member declares of its training documents."""
    return {name: declare(t, base.tokenizer) for name, t in texts.items()}


def run_in_process(experiment: Experiment, village: Village, base: Base) -> Outcome:
    """Run the experiment's collaboration, complete as it is, to its end. Raises: Abort below the quorum."""
    entry = CATALOG[experiment.collaboration.name]
    seconds: list[float] = []
    road = Stopwatch(MemoryRoad(village.ends), seconds)
    outbox = village.outbox(secrets.token_hex(16), entry.name, road, experiment.purpose)
    task = run_of(experiment).task(experiment, base)
    result = drive(entry.coordinate(village.members, task), outbox, entry.wire)
    outbox.close()
    return run_of(experiment).outcome(result, seconds)


def settle(experiment: Experiment, texts: Mapping[str, Texts], base: Base, folder: Path) -> Village:
    """Raise a village on `texts` for an experiment that is complete; its policies have the plan's Renyi orders."""
    orders = run_of(experiment).orders(experiment, base, declared_of(texts, base))
    village, run = raise_village(experiment, texts, base, folder, orders), run_of(experiment)
    if isinstance(run, Prepares):
        try:
            for member, villager in village.villagers.items():
                with villager.turns.of(villager.house.ledger):
                    run.prepare(experiment, villager.house, folder / member / "adapters")
        except BaseException:
            village.close()
            raise
    return village


def simulate(experiment: Experiment, texts: Mapping[str, Texts], base: Base, folder: Path) -> tuple[Outcome, Village]:
    """Raise a village on `texts` and run the experiment in it; the caller closes the village."""
    experiment = complete(experiment, texts, base)
    village = settle(experiment, texts, base, folder)
    try:
        return run_in_process(experiment, village, base), village
    except BaseException:
        village.close()
        raise
