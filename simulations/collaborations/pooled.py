"""Plan, order and read DP-SGD steps on the union of all records: see `protocols/weights/pooled.py` and `Run`.

An experiment's rounds times its steps are the steps: each is one letter. `batch_size` is that of the whole union.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from dp_accounting import DpEvent, SelfComposedDpEvent

from client.declared import Declared
from client.homes.local import units_of
from client.model import Base, load_base
from client.training.noise import PROMISED, require_promise
from client.visit import UNITS
from privacy.accounting.accountant import NAME, Filter, default_orders, price
from privacy.accounting.certificate import certify
from privacy.config import ConfigError
from privacy.distributed import least_noise_multiplier, sum_event
from privacy.sampled_sum import least_sampled_noise, sampled_sum_event
from privacy.units import Guarantee, Relation, Unit
from protocols.faults import PeerError
from protocols.secure_sum.terms import Terms
from protocols.weights.pooled import WIRE, Pool, Pooled, Step, rate_of, require_sampled, spec_of
from protocols.weights.recipe import Recipe
from protocols.wire import Message
from simulations.collaborations.average import (
    assumed_by,
    in_the_sum,
    misfits_of_the_data,
    misfits_of_the_unit,
    outcome_of_rounds,
)
from simulations.collaborations.figures import (
    memory_bytes,
    most_rows,
    opening_bytes,
    step_seconds,
    trips_of_sums,
    upload_of,
)
from simulations.collaborations.run import Cost, MemberPlan, Outcome, Plan, Side
from simulations.experiment import Experiment, MemberTable, SecureSumTable
from simulations.shape import layout_for


class PooledRun:
    """Be the `Run` of pooled steps."""

    def complete(self, experiment: Experiment, declared: Mapping[str, Declared]) -> Experiment:
        """Return the experiment with the population that the members' declared sizes add up to, if it names none."""
        if experiment.pooled.population:
            return experiment
        asked = experiment.example
        population = sum(units_of(asked, d) for d in declared.values())
        return replace(experiment, pooled=replace(experiment.pooled, population=population))

    def recipe(self, experiment: Experiment, base: Base) -> Recipe:
        """Return the experiment's recipe for this base model. Raises: ConfigError, naming what is wrong."""
        layout = layout_for(experiment, base)
        b_entries = layout.b_entries if layout.half_a else 0
        try:
            asked = experiment.recipe(base.digest, layout.digest, layout.size, _any(experiment), b_entries)
            recipe = _sampled(experiment, asked)
            if recipe.epsilon is not None:
                recipe = replace(recipe, noise_multiplier=_noise(experiment, recipe)[0])
            spec_of(recipe, _terms(experiment), len(experiment.members), 0)
        except ValueError as wrong:
            raise ConfigError("experiment", "training, privacy, pooled or secure_sum.bits", str(wrong)) from None
        return recipe

    def orders(
        self,
        experiment: Experiment,
        base: Base,
        declared: Mapping[str, Declared],  # noqa: ARG002  all members have one rate
    ) -> tuple[float, ...]:
        """Return the Renyi order at which the run needs the least noise; it must be fixed before the first step."""
        if experiment.privacy.epsilon is None:
            return ()
        return _noise(experiment, self.recipe(experiment, base))[1]

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast the experiment for members who declare their sizes."""
        recipe, terms, of = self.recipe(experiment, base), _terms(experiment), len(declared)
        orders = self.orders(experiment, base, declared)
        down = len(WIRE.encode(Step(recipe, 0, np.zeros(recipe.length, np.float32), None, ())))
        up = len(WIRE.encode(upload_of(spec_of(recipe, terms, of, 0), terms, of)))
        sizes = {name: units_of(recipe, d) for name, d in declared.items()}
        members = tuple(_member_plan(name, records, recipe, orders, terms, of) for name, records in sizes.items())
        most = math.ceil(rate_of(recipe) * max(sizes.values()))  # the largest member's share of a batch
        seconds = step_seconds(replace(recipe, batch_size=most, population=0), base, most_rows(recipe, declared))
        return Plan(recipe, terms, orders, members, down, up, opening_bytes(terms, of), seconds, memory_bytes())

    def task(self, experiment: Experiment, base: Base) -> Pool:
        """Return the collaboration's task: train from an adapter of zeros."""
        recipe = self.recipe(experiment, base)
        start = np.zeros(recipe.length, np.float32)
        return Pool(recipe, experiment.collaboration.quorum, start, _terms(experiment))

    def trips(self, experiment: Experiment) -> int:
        """Return how many round trips the experiment takes if nothing goes wrong."""
        return trips_of_sums(experiment, _steps(experiment))

    def outcome(self, result: Message, seconds: Sequence[float]) -> Outcome:
        """Return the outcome that a result is: every step a round."""
        assert isinstance(result, Pooled)  # noqa: S101  what this collaboration returns
        return outcome_of_rounds(np.array(result.point), result.answered, result.trips, seconds)

    def cost(self, experiment: Experiment, side: Side) -> Cost:
        """Return what every step would cost a home. Raises: PeerError."""
        if experiment.privacy.epsilon is None:
            return Cost(None, _steps(experiment))
        try:
            recipe = self.recipe(experiment, load_base(side.settings.model.name))
        except ConfigError as wrong:
            raise PeerError(f"{wrong.key}: {wrong.expected}") from None
        event = _event(recipe, _terms(experiment), len(experiment.members))
        require_promise(recipe, event)
        return Cost(event, recipe.rounds)

    def misfits(self, experiment: Experiment, side: Side) -> Iterator[Exception]:
        """Yield why the recipe does not fit the home's data and budget."""
        try:
            recipe = _sampled(experiment, experiment.example)
        except ValueError as wrong:
            yield PeerError(str(wrong))
            return
        if recipe.population < units_of(recipe, side.settings.data.declared):
            yield PeerError("a population smaller than this home's own data")
        yield from misfits_of_the_data(recipe, side.settings.data)
        yield from misfits_of_the_unit(recipe, side.policy.budget)

    def alone(self, experiment: Experiment, name: str, share: int) -> Experiment:
        """Return DP-SGD by one member with the data of `share` members: as many steps, in one round, of its batch."""
        e, steps = experiment, _steps(experiment)
        batch = max(1, round(e.training.batch_size * share / len(e.members)))
        privacy = e.privacy
        if privacy.unit is Unit.MEMBER:  # to protect a whole member from itself would say nothing
            privacy = replace(privacy, epsilon=None, unsafe_without_noise=privacy.epsilon is not None)
        return replace(
            e,
            members=(MemberTable(name),),
            training=replace(e.training, batch_size=batch, steps=steps),
            collaboration=replace(e.collaboration, name="average", rounds=1, quorum=1, unsafe_plain_sum=True),
            secure_sum=SecureSumTable(),
            privacy=privacy,
        )

    def saw(self, experiment: Experiment) -> str:
        """Say that it saw the sums of the gradients."""
        terms = _terms(experiment)
        noised = "noised " if experiment.privacy.epsilon is not None else "UNNOISED "
        return (
            f"in every step the {noised}sum of the members' clipped gradients on a random sample, and no part of it"
            f" by itself (secure sum, {terms.mode.value}; at least {terms.smallest_crowd} members in each,"
            f" at most {terms.colluding} of them colluding with it)"
        )


def _steps(experiment: Experiment) -> int:
    return experiment.collaboration.rounds * experiment.training.steps


def _any(experiment: Experiment) -> float | None:
    """Return a noise multiplier for a recipe whose own is not known yet."""
    return 1.0 if experiment.noise_in_the_sum else None


def _sampled(experiment: Experiment, recipe: Recipe) -> Recipe:
    """Return the recipe with one step a round, sampled from the whole population. Raises: ValueError."""
    if not experiment.pooled.population:
        raise ValueError("pooled.population: expected the declared records of all members together (parley plan)")
    sampled = replace(recipe, rounds=_steps(experiment), steps=1, population=experiment.pooled.population)
    require_sampled(sampled)
    return sampled


def _terms(experiment: Experiment) -> Terms:
    if experiment.terms is None:
        raise ConfigError(
            "experiment", "collaboration.unsafe_plain_sum", "expected false: only the sum has the noise"
        )
    return experiment.terms


def _noise(experiment: Experiment, recipe: Recipe) -> tuple[float, tuple[float, ...]]:
    """Return the least noise by which all steps keep the promise, and the orders it is added up at."""
    assert recipe.epsilon is not None  # noqa: S101  callers have looked
    honest, length = _terms(experiment).honest, recipe.entries(0)
    if recipe.unit is Unit.MEMBER:
        orders = default_orders(recipe.epsilon, recipe.delta)
        return _least_of_sums(recipe.rounds, recipe.epsilon, recipe.delta, orders, honest, length), orders
    z, order = _least_sampled(rate_of(recipe), recipe.rounds, recipe.epsilon, recipe.delta, honest, length)
    return z, (order,)


@lru_cache(maxsize=64)
def _least_of_sums(
    sums: int, epsilon: float, delta: float, orders: tuple[float, ...], honest: int, length: int
) -> float:
    return least_noise_multiplier(
        sums=sums, epsilon=epsilon, delta=delta, orders=orders, honest=honest, length=length
    )


@lru_cache(maxsize=64)
def _least_sampled(
    rate: float, steps: int, epsilon: float, delta: float, honest: int, length: int
) -> tuple[float, float]:
    return least_sampled_noise(
        rate=rate, steps=steps, epsilon=epsilon, delta=delta, orders=PROMISED, honest=honest, length=length
    )


def _event(recipe: Recipe, terms: Terms, members: int) -> DpEvent:
    code = spec_of(recipe, terms, members, 0)
    if recipe.unit is Unit.MEMBER:
        return sum_event(code, terms.honest)
    return sampled_sum_event(code, rate_of(recipe), terms.honest)


def _member_plan(
    name: str, records: int, recipe: Recipe, orders: tuple[float, ...], terms: Terms, members: int
) -> MemberPlan:
    """Plan for one member; all have one rate and one noise, and spend the same."""
    rate = rate_of(recipe)
    if recipe.epsilon is None:
        return MemberPlan(name, records, rate, None, None, None)
    if recipe.unit is Unit.MEMBER:
        return replace(in_the_sum(name, records, recipe, orders, terms, members), rate=rate)
    event = SelfComposedDpEvent(_event(recipe, terms, members), recipe.rounds)
    guarantee = Guarantee(
        Filter(orders, recipe.delta).epsilon(price(event, orders)),
        recipe.delta,
        recipe.unit,
        Relation.ADD_OR_REMOVE,
        f"{NAME} ({orders[0]:g})",
        (
            assumed_by(recipe)[0],
            f"{UNITS[recipe.unit]} are sampled independently (Poisson)",
            f"{terms.honest} members at least add their noise and collude with nobody",
        ),
        ("this member's noise alone: only the sum has it all",),
    )
    return MemberPlan(name, records, rate, recipe.noise_multiplier, guarantee, certify([event], recipe.delta).epsilon)
