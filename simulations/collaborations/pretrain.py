"""Plan, order and read a pretraining with few synchronisations: see `protocols/weights/pretrain.py` and `Run`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from client.declared import Declared
from client.model import Base
from client.training.whole import Whole
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.weights.pretrain import EVERYTHING, OUTER, Pretrain
from protocols.weights.recipe import Half, Recipe
from protocols.weights.server_rules import FEDAVG
from protocols.wire import Message
from simulations.collaborations.average import AverageRun, noise_of_sums, plan_of, unheld
from simulations.collaborations.run import Plan, Side
from simulations.experiment import Experiment
from simulations.shape import is_whole

_UNHELD = {
    "share": "expected 1: AdamW's moments are of all entries, and all are sent",
    "target_quantile": "expected none: no gradient is clipped, so there is no norm to seek",
}


class PretrainRun(AverageRun):
    """Be the `Run` of a pretraining: an average whose members train by AdamW, and keep its moments."""

    def recipe(self, experiment: Experiment, base: Base) -> Recipe:
        """Return the recipe, of an adapter or of all parameters. Raises: ConfigError."""
        privacy = experiment.privacy
        if privacy.unit is not Unit.MEMBER and privacy.epsilon is not None:
            raise ConfigError(
                "experiment", "privacy.unit", "expected member: many steps protect no record and no group"
            )
        for wrong in _unheld(experiment):
            raise wrong
        if not is_whole(experiment):
            return super().recipe(_inner(experiment), base)
        whole = Whole(base)
        try:
            noise = noise_of_sums(experiment, whole.size) if experiment.noise_in_the_sum else None
            recipe = _inner(experiment).recipe(base.digest, whole.digest, whole.size, noise)
            recipe = replace(recipe, targets=EVERYTHING, rank=1)
            if experiment.terms is not None:
                recipe.spec(experiment.terms, len(experiment.members), recipe.widest)
        except ValueError as wrong:
            raise ConfigError("experiment", "privacy.epsilon or secure_sum.bits", str(wrong)) from None
        return recipe

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast it; a step of all parameters is not timed, and a step of the adapter stands for it."""
        recipe = self.recipe(experiment, base)
        timed = super().recipe(_inner(experiment), base) if is_whole(experiment) else recipe
        return plan_of(experiment, base, declared, recipe, timed)

    def task(self, experiment: Experiment, base: Base) -> Message:
        """Return the collaboration's task: train from zeros, the public start."""
        recipe = self.recipe(experiment, base)
        rule = OUTER if experiment.server == FEDAVG else experiment.server
        return Pretrain(
            recipe, experiment.collaboration.quorum, np.zeros(recipe.length, np.float32), experiment.terms, rule
        )

    def misfits(self, experiment: Experiment, side: Side) -> Iterator[Exception]:
        """Yield why the recipe does not fit the home's data and budget."""
        if experiment.privacy.unit is not Unit.MEMBER and experiment.privacy.epsilon is not None:
            yield PeerError("many steps without clipping protect no record: whole members, or nobody")
        yield from (PeerError(f"{wrong.key}: {wrong.expected}") for wrong in _unheld(experiment))
        yield from super().misfits(experiment, side)

    def saw(self, experiment: Experiment) -> str:
        """Say that it saw the sum of the ways, or each one by itself."""
        return super().saw(experiment).replace("delta", "way")


def _unheld(experiment: Experiment) -> Iterator[ConfigError]:
    """Yield an error for each key that every home would refuse, before anybody is asked."""
    if experiment.lora.half is not Half.B:
        yield ConfigError("experiment", "lora.half", "expected b: AdamW's moments are of all that is trained")
    yield from unheld(experiment, _UNHELD)


def _inner(experiment: Experiment) -> Experiment:
    """Return the experiment whose recipe says AdamW: here there is no other inner optimiser."""
    return replace(experiment, training=replace(experiment.training, optimizer="adamw"))
