"""Plan, order and read a merge of adapters that were trained apart: see `protocols/weights/merge.py` and `Run`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from client.artefacts import read_artefact
from client.declared import Declared
from client.home import House
from client.kept import Exercise, LoraSettings, PrivacySettings, StepSettings, train
from client.model import Base
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.secure_sum.messages import Request
from protocols.weights.merge import NAME, WIRE, Combine, Merge, Merged, MergePlan, Protection
from protocols.weights.recipe import Half
from protocols.wire import Message
from simulations.collaborations.average import AverageRun, outcome_of_rounds
from simulations.collaborations.figures import trips_of_sums, upload_of
from simulations.collaborations.run import Outcome, Plan
from simulations.experiment import Experiment


class MergeRun(AverageRun):
    """Be the `Run` of a merge: what it costs is the training of each adapter at home, charged once, then."""

    def complete(self, experiment: Experiment, declared: Mapping[str, Declared]) -> Experiment:  # noqa: ARG002
        """Return the experiment with one round: nothing is trained after the merge."""
        return replace(experiment, collaboration=replace(experiment.collaboration, rounds=1))

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast it: the training at home, and the letters of all its sums."""
        plan, merging = super().plan(experiment, base, declared), self.merging(experiment, base)
        terms, of = experiment.terms, len(declared)
        if terms is None:
            raise ConfigError("experiment", "collaboration.unsafe_plain_sum", "expected a secure sum for a merge")
        down = up = 0
        for step in range(merging.steps):
            spec = merging.spec(terms, of, step)
            request = Request(bytes(32), step, NAME, tuple(declared), spec, bytes(32), step, 0)
            known = np.zeros(merging.known(step), np.float32)
            down += len(WIRE.encode(Combine(merging, step, known, request, ())))
            up += len(WIRE.encode(upload_of(spec, terms, of)))
        return replace(plan, bytes_down=down, bytes_up=up)

    def task(self, experiment: Experiment, base: Base) -> Message:
        """Return the collaboration's task. Raises: ConfigError."""
        if experiment.terms is None:
            raise ConfigError("experiment", "collaboration.unsafe_plain_sum", "expected a secure sum for a merge")
        return Merge(self.merging(experiment, base), experiment.collaboration.quorum, experiment.terms)

    def merging(self, experiment: Experiment, base: Base) -> MergePlan:
        """Return the public plan. Raises: ConfigError."""
        recipe = self.recipe(experiment, base)
        if experiment.lora.half is not Half.B:
            raise ConfigError("experiment", "lora.half", "expected b: adapters are merged by their B's")
        table, names = experiment.merge, tuple(m.name for m in experiment.members)
        in_sum = recipe.noise_multiplier is not None
        alone = Protection.NONE if recipe.epsilon is None else Protection.TRAINING
        try:
            plan = MergePlan(
                base=recipe.base,
                adapter=table.adapter,
                method=table.method,
                layout=recipe.layout,
                length=recipe.length,
                protection=Protection.SUM if in_sum else alone,
                bound=recipe.clipping_norm if in_sum else table.bound,
                density=table.density,
                scale=table.scale,
                members=names,
                weights=tuple(m.weight for m in experiment.members),
                epsilon=recipe.epsilon if in_sum else None,
                delta=recipe.delta,
                noise_multiplier=recipe.noise_multiplier,
            )
        except ValueError as wrong:
            raise ConfigError("experiment", "merge", str(wrong)) from None
        least = experiment.terms.smallest_crowd if experiment.terms else 0
        for name in names if plan.protection is Protection.NONE else ():
            if plan.hidden_among(name, names) < least:
                said = f"no noise, and fewer than {least} members weigh a tenth of it or more: it would not be hidden"
                raise ConfigError("experiment", f"members.{name}.weight", said)
        return plan

    def prepare(self, experiment: Experiment, house: House, adapters: Path) -> None:
        """Train the home's adapter, as `parley member train` does. Raises: Refused."""
        privacy, step, lora = experiment.privacy, experiment.training, experiment.lora
        noised = privacy.unit is Unit.RECORD and privacy.epsilon is not None
        exercise = Exercise(
            experiment.seed,
            LoraSettings(lora.rank, lora.alpha, lora.targets),
            StepSettings(
                step.record_tokens,
                step.steps,
                step.batch_size,
                step.optimizer,
                step.learning_rate,
                step.clipping_norm,
            ),
            PrivacySettings(privacy.epsilon, privacy.delta) if noised and privacy.epsilon is not None else None,
        )
        train(house, experiment.merge.adapter, exercise, adapters)
        house.adapters = partial(read_artefact, adapters)

    def trips(self, experiment: Experiment) -> int:
        """Return how many round trips it takes if nothing goes wrong."""
        return trips_of_sums(experiment, 2 if experiment.merge.method.value == "ties" else 1)

    def outcome(self, result: Message, seconds: Sequence[float]) -> Outcome:
        """Return the outcome that a result is; each sum is a round."""
        assert isinstance(result, Merged)  # noqa: S101  what this collaboration returns
        return outcome_of_rounds(np.array(result.adapter), result.answered, result.trips, seconds)

    def alone(self, experiment: Experiment, name: str, share: int) -> Experiment:
        """Return one member's training of as many steps, without any merge."""
        alone = super().alone(experiment, name, share)
        return replace(alone, collaboration=replace(alone.collaboration, name="average", rounds=1))

    def saw(self, experiment: Experiment) -> str:
        """Say which sums it saw."""
        noised = "" if experiment.privacy.epsilon is not None else "UNNOISED "
        sums = {
            "ties": "the sum of the members' trimmed adapters, and then of what agrees with its signs, with counts",
            "dare": "the weighted sum of the members' thinned adapters",
        }.get(experiment.merge.method.value, "the weighted sum of the members' adapters")
        return f"{noised}{sums}: by secure sums, and no adapter by itself"
