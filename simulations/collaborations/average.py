"""Plan, order and read federated averaging: see `protocols/weights/average.py` and `Run`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from client.declared import Declared
from client.documents import CONTENT
from client.homes.local import MOST_STEPS, units_of
from client.model import Base, load_base
from client.settings import DataSettings
from client.training.noise import noise_multiplier, opened, require_promise
from client.visit import UNITS, tokens_apart
from privacy.accounting.accountant import NAME, Filter, calibrate, calibrate_best, default_orders, price
from privacy.accounting.certificate import certify
from privacy.config import ConfigError
from privacy.distributed import least_noise_multiplier, sum_event
from privacy.policy import Budget
from privacy.refusal import LevelForbidden
from privacy.units import Guarantee, Relation, Unit, assumed
from protocols.faults import PeerError
from protocols.secure_sum.terms import Terms
from protocols.weights.average import WIRE, Average, Averaged, Contribute, Contributed
from protocols.weights.recipe import Recipe
from protocols.wire import Message
from simulations.collaborations.figures import (
    memory_bytes,
    most_rows,
    opening_bytes,
    step_seconds,
    trips_of_sums,
    upload_of,
)
from simulations.collaborations.run import Cost, MemberPlan, Outcome, Plan, Side
from simulations.experiment import Experiment, MemberTable, TrainingTable
from simulations.shape import layout_for, record_of

ORDERS = tuple(round(1.5 + k / 4, 2) for k in range(60)) + tuple(float(a) for a in range(17, 65))


class AverageRun:
    """Be the `Run` of federated averaging; others that send deltas by a `Recipe` may build on it."""

    def complete(self, experiment: Experiment, declared: Mapping[str, Declared]) -> Experiment:  # noqa: ARG002
        """Return the experiment as it is."""
        return experiment

    def recipe(self, experiment: Experiment, base: Base) -> Recipe:
        """Return the experiment's recipe for this base model. Raises: ConfigError, naming a target it has not."""
        layout = layout_for(experiment, base)
        try:
            noise = noise_of_sums(experiment, layout.size) if experiment.noise_in_the_sum else None
            b_entries = layout.b_entries if layout.half_a else 0
            recipe = experiment.recipe(base.digest, layout.digest, layout.size, noise, b_entries)
            if experiment.terms is not None:
                recipe.spec(experiment.terms, len(experiment.members), recipe.widest)
        except ValueError as wrong:
            raise ConfigError("experiment", "privacy.epsilon or secure_sum.bits", str(wrong)) from None
        return recipe

    def orders(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> tuple[float, ...]:
        """Return the one Renyi order that lets this plan run with the least noise, from public numbers alone."""
        return best_orders(self.recipe(experiment, base), declared)

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast the experiment for members who declare their sizes."""
        recipe = self.recipe(experiment, base)
        return plan_of(experiment, base, declared, recipe, recipe)

    def task(self, experiment: Experiment, base: Base) -> Message:
        """Return the collaboration's task: train from an adapter of zeros."""
        recipe, inputs = self.recipe(experiment, base), layout_for(experiment, base).inputs
        start = np.zeros(recipe.length, np.float32)
        return Average(recipe, experiment.collaboration.quorum, start, experiment.terms, experiment.server, inputs)

    def trips(self, experiment: Experiment) -> int:
        """Return how many round trips the experiment takes if nothing goes wrong."""
        return trips_of_sums(experiment, experiment.collaboration.rounds)

    def outcome(self, result: Message, seconds: Sequence[float]) -> Outcome:
        """Return the outcome that a result is."""
        assert isinstance(result, Averaged)  # noqa: S101  what this collaboration returns
        return outcome_of_rounds(np.array(result.adapter), result.answered, result.trips, seconds)

    def cost(self, experiment: Experiment, side: Side) -> Cost:
        """Return what every round would cost. Raises: PeerError, Refused."""
        recipe = self._asked(experiment, side)
        return Cost(_event_at(recipe, experiment, side), recipe.rounds)

    def misfits(self, experiment: Experiment, side: Side) -> Iterator[Exception]:
        """Yield why the recipe does not fit the home's data and budget."""
        recipe = experiment.example
        units = units_of(recipe, side.settings.data.declared)
        if recipe.batch_size > units > 0:
            yield PeerError(f"batches of {recipe.batch_size} {UNITS[recipe.unit]}, larger than this data")
        if recipe.steps > MOST_STEPS:
            yield PeerError(f"{recipe.steps} steps in a round, at most {MOST_STEPS} here")
        yield from misfits_of_the_data(recipe, side.settings.data)
        yield from misfits_of_the_unit(recipe, side.policy.budget)

    def alone(self, experiment: Experiment, name: str, share: int) -> Experiment:
        """Return the experiment for a single member that holds the data of `share` members."""
        training = replace(experiment.training, batch_size=experiment.training.batch_size * share)
        collaboration = replace(experiment.collaboration, quorum=1, unsafe_plain_sum=True)  # of one: nothing to hide
        privacy = experiment.privacy
        if experiment.noise_in_the_sum:  # to protect a whole member from itself would say nothing
            privacy = replace(privacy, epsilon=None, unsafe_without_noise=True)
        only = (MemberTable(name),)
        return replace(experiment, members=only, training=training, collaboration=collaboration, privacy=privacy)

    def saw(self, experiment: Experiment) -> str:
        """Say that it saw the sum of the deltas, or each one by itself."""
        terms = experiment.terms
        noised = "noised " if experiment.privacy.epsilon is not None else "UNNOISED "
        if terms is None:
            return f"each member's {noised}delta, one by one, in every round: an UNSAFE plain sum, asked for by name"
        return (
            f"in every round the sum of the members' {noised}deltas, and no delta by itself"
            f" (secure sum, {terms.mode.value}; at least {terms.smallest_crowd} members in each,"
            f" at most {terms.colluding} of them colluding with it)"
        )

    def _asked(self, experiment: Experiment, side: Side) -> Recipe:
        """Return the recipe as the home would be asked to follow it. Raises: PeerError."""
        if not experiment.noise_in_the_sum:
            return experiment.example
        try:
            return self.recipe(experiment, load_base(side.settings.model.name))
        except ConfigError as wrong:
            raise PeerError(f"{wrong.key}: {wrong.expected}") from None


def plan_of(
    experiment: Experiment, base: Base, declared: Mapping[str, Declared], recipe: Recipe, timed: Recipe
) -> Plan:
    """Forecast rounds of deltas by `recipe`; a step by the recipe `timed` is measured."""
    orders, terms, of = best_orders(recipe, declared), experiment.terms, len(declared)
    down = len(WIRE.encode(Contribute(recipe, 0, np.zeros(recipe.length, np.float32), None, ())))
    up = len(WIRE.encode(_answer(recipe, terms, of)))
    members = tuple(_member_plan(n, units_of(recipe, d), recipe, orders, terms, of) for n, d in declared.items())
    seconds = step_seconds(timed, base, most_rows(timed, declared))
    return Plan(recipe, terms, orders, members, down, up, opening_bytes(terms, of), seconds, memory_bytes())


def unheld(experiment: Experiment, keys: Mapping[str, str]) -> Iterator[ConfigError]:
    """Yield an error for each of the `keys` of [training] that is set: why a collaboration cannot honour it."""
    plain = {field.name: field.default for field in fields(TrainingTable)}
    for key, why in keys.items():
        if getattr(experiment.training, key) != plain[key]:
            yield ConfigError("experiment", f"training.{key}", why)


def outcome_of_rounds(
    adapter: np.ndarray[tuple[int], np.dtype[np.float32]],
    answered: tuple[int, ...],
    trips: Sequence[int],
    seconds: Sequence[float],
) -> Outcome:
    """Return an outcome whose rounds took so many `trips` each, after an opening and before the close."""
    ends = np.cumsum((len(seconds) - 1 - sum(trips), *trips))
    opening, *rounds = (math.fsum(part) for part in np.split(np.asarray(seconds), ends)[:-1])
    return Outcome(adapter, answered, tuple(rounds), opening)


def misfits_of_the_data(recipe: Recipe, data: DataSettings) -> Iterator[Exception]:
    """Yield why a home's rows are not what a recipe is for."""
    wanted = CONTENT[recipe.objective]
    if data.content is not wanted:
        yield PeerError(f"a recipe for {wanted.value}, and data that is {data.content.value}")
    if recipe.unit is Unit.GROUP and data.group_column is None:
        yield PeerError("a recipe for groups, and data that names none")


def misfits_of_the_unit(recipe: Recipe, budget: Budget) -> Iterator[Exception]:
    """Yield why a budget promises something else than a recipe."""
    if budget.unit is not recipe.unit:
        yield LevelForbidden(f"the budget is per {budget.unit.value}, the recipe per {recipe.unit.value}")
    elif recipe.unit is Unit.MEMBER and budget.relation is not Relation.ZERO_OUT:
        yield LevelForbidden(f"the budget is for {budget.relation.value} and not for zero-out")
    elif recipe.unit is Unit.RECORD and budget.record_tokens != recipe.record_tokens:
        yield LevelForbidden(tokens_apart(budget.record_tokens, recipe.record_tokens))
    elif recipe.record_tokens > budget.record_tokens:
        yield LevelForbidden(
            f"records of {recipe.record_tokens} tokens, the policy says {budget.record_tokens} at most"
        )


def in_the_sum(
    name: str, records: int, recipe: Recipe, orders: tuple[float, ...], terms: Terms | None, members: int
) -> MemberPlan:
    """Plan for a member that is protected as a whole, by noise that the members add together."""
    if terms is None:
        raise ValueError("whole members are protected by the noise of a secure sum")
    code = recipe.spec(terms, members, recipe.widest)
    event = SelfComposedDpEvent(sum_event(code, terms.honest), recipe.rounds)
    guarantee = Guarantee(
        Filter(orders, recipe.delta).epsilon(price(event, orders, Relation.ZERO_OUT)),
        recipe.delta,
        recipe.unit,
        Relation.ZERO_OUT,
        f"{NAME} ({orders[0]:g})",
        (
            f"{terms.honest} members at least add their noise and collude with nobody",
            "a member is there, or all zeros",
        ),
        ("this member's noise alone: only the sum has it all",),
    )
    return MemberPlan(name, records, recipe.batch_size / records, recipe.noise_multiplier, guarantee, None)


def noise_of_sums(experiment: Experiment, length: int) -> float:
    """Return the least noise, in clipping norms, by which all rounds' sums protect whole members."""
    privacy, terms = experiment.privacy, experiment.terms
    if privacy.epsilon is None or terms is None:
        raise ValueError("whole members are protected by the noise of a secure sum")
    return least_noise_multiplier(
        sums=experiment.collaboration.rounds,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        orders=default_orders(privacy.epsilon, privacy.delta),
        honest=terms.honest,
        length=length,
    )


def _answer(recipe: Recipe, terms: Terms | None, members: int) -> Message:
    """Return a round's answer of the size that a real one has, with nothing in it."""
    if terms is None:
        return Contributed(0, np.zeros(recipe.entries(0), np.float32))
    return upload_of(recipe.spec(terms, members, recipe.widest), terms, members)


def best_orders(recipe: Recipe, declared: Mapping[str, Declared]) -> tuple[float, ...]:
    """Return the best order. It must be fixed before the first release; a plan fixes it best.

    Without noise there is none to choose. Raises: ConfigError for a batch larger than a member's data.
    """
    for name, size in declared.items():
        if recipe.batch_size > units_of(recipe, size):
            said = f"expected at most {units_of(recipe, size)}, the {UNITS[recipe.unit]} that {name} declares"
            raise ConfigError("experiment", "training.batch_size", said)
    if recipe.epsilon is None:
        return ()
    if recipe.noise_multiplier is not None:
        return default_orders(recipe.epsilon, recipe.delta)
    records = min(units_of(recipe, d) for d in declared.values())  # the largest rate decides
    choices = ((order,) for order in ORDERS)
    try:
        return calibrate_best(lambda s: _event(recipe, records, s), recipe.epsilon, recipe.delta, choices)[1]
    except ValueError:
        raise ValueError("no Renyi order meets this epsilon at this delta") from None


def assumed_by(recipe: Recipe) -> tuple[str, ...]:
    """Return what the epsilon of a member that adds its own noise rests on."""
    first, *others = assumed(recipe.unit, recipe.record_tokens)
    if recipe.unit is Unit.RECORD:
        first = f"a record is {record_of(recipe.objective, recipe.record_tokens)}"
    return first, *others


def _noise(recipe: Recipe, records: int, orders: tuple[float, ...]) -> float:
    assert recipe.epsilon is not None  # noqa: S101  callers have looked
    return calibrate(lambda s: _event(recipe, records, s), recipe.epsilon, recipe.delta, orders)


def _event(recipe: Recipe, records: int, noise: float) -> DpEvent:
    rate = min(1.0, recipe.batch_size / records)
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), recipe.steps * recipe.rounds)


def _event_at(recipe: Recipe, experiment: Experiment, side: Side) -> DpEvent | None:
    """Return what a round would cost a home, or None for a disclosure. Raises: PeerError, Refused."""
    if recipe.epsilon is None:
        return None
    terms = experiment.terms
    if recipe.noise_multiplier is not None and terms is not None:
        event = sum_event(recipe.spec(terms, len(experiment.members), recipe.widest), terms.honest)
        require_promise(recipe, event)
        return event
    units = units_of(recipe, side.settings.data.declared)
    if not units:
        raise PeerError("a recipe for groups, and data that names none")
    rate = min(1.0, recipe.batch_size / units)
    noise = noise_multiplier(recipe, recipe.epsilon, rate, opened(side.ledger, side.account))
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), recipe.steps)


def _member_plan(
    name: str, records: int, recipe: Recipe, orders: tuple[float, ...], terms: Terms | None, members: int
) -> MemberPlan:
    rate = recipe.batch_size / records
    if recipe.epsilon is None:
        return MemberPlan(name, records, rate, None, None, None)
    if recipe.noise_multiplier is not None:
        return in_the_sum(name, records, recipe, orders, terms, members)
    noise = _noise(recipe, records, orders)
    event = _event(recipe, records, noise)
    guarantee = Guarantee(
        Filter(orders, recipe.delta).epsilon(price(event, orders)),
        recipe.delta,
        recipe.unit,
        Relation.ADD_OR_REMOVE,
        f"{NAME} ({orders[0]:g})",
        assumed_by(recipe),
        (),
    )
    return MemberPlan(name, records, rate, noise, guarantee, certify([event], recipe.delta).epsilon)
