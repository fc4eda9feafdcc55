"""Plan, order and read what chooses by a private utility: soup, search and extrapolation; see `Run`.

The ingredients are adapters that are there: folders that `save_adapter` or `parley` wrote, all of the experiment's
own layout, or the word `base` for the base model as it is. `rounds` are the evaluations.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from dp_accounting import DpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from client.adapter import Layout, load
from client.data import Records
from client.declared import Declared
from client.homes.local import units_of
from client.model import Adapted, Base, layout_of
from client.training.noise import require_promise
from client.training.scoring import Scorer
from privacy.accounting.accountant import NAME, Filter, default_orders, price
from privacy.config import ConfigError
from privacy.distributed import least_noise_multiplier, sum_event
from privacy.refusal import LevelForbidden
from privacy.sampled_sum import sampled_sum_event
from privacy.units import Guarantee, Relation, Unit, assumed
from protocols.faults import PeerError
from protocols.secure_sum.terms import Terms
from protocols.weights.extrapolate import Extrapolate
from protocols.weights.recipe import Half
from protocols.weights.search import Search
from protocols.weights.soup import WIRE, Soup
from protocols.weights.utility import Found, Score, Trial
from protocols.wire import Message
from simulations.collaborations.average import AverageRun, misfits_of_the_data, misfits_of_the_unit, outcome_of_rounds
from simulations.collaborations.figures import memory_bytes, opening_bytes, trips_of_sums, upload_of
from simulations.collaborations.run import Cost, MemberPlan, Outcome, Plan, Side
from simulations.experiment import Experiment
from simulations.tables import BASE, UtilityTable

_TIMED = 16  # records


class JudgedRun:
    """Be the `Run` of a collaboration whose members judge candidates in secret sums."""

    def complete(self, experiment: Experiment, declared: Mapping[str, Declared]) -> Experiment:
        """Return the experiment with the number of validation records that the declared sizes come to."""
        table = table_of(experiment)
        if table.population:
            return experiment
        found = sum(held_back(experiment, d) for d in declared.values())
        return replace(experiment, utility=replace(table, population=found))

    def orders(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> tuple[float, ...]:  # noqa: ARG002
        """Return the order that suits the promise."""
        privacy = experiment.privacy
        return default_orders(privacy.epsilon, privacy.delta) if privacy.epsilon is not None else ()

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast the experiment for members who declare their sizes; a step is an evaluation."""
        layout, terms, of = layout_in(experiment, base), terms_of(experiment), len(declared)
        trial = trial_of(experiment, base.digest, layout.digest, layout.size)
        orders, count = self.orders(experiment, base, declared), candidates_of(experiment)
        ask = Score(
            trial, 0, np.zeros(trial.length, np.float32), np.zeros((count, trial.length), np.float32), None, ()
        )
        up = len(WIRE.encode(upload_of(trial.spec(terms, of, count), terms, of)))
        members = tuple(
            _member_plan(name, held_back(experiment, d), trial, orders, terms, of) for name, d in declared.items()
        )
        recipe = experiment.recipe(base.digest, layout.digest, layout.size, trial.noise_multiplier)
        seconds = _seconds(base, layout, trial, max(m.records for m in members))
        return Plan(
            recipe=replace(recipe, steps=1),
            terms=terms,
            orders=orders,
            members=members,
            bytes_down=len(WIRE.encode(ask)),
            bytes_up=up,
            bytes_opening=opening_bytes(terms, of),
            step_seconds=seconds,
            memory_bytes=memory_bytes(),
        )

    def task(self, experiment: Experiment, base: Base) -> Message:
        """Return the collaboration's task, with its ingredients read. Raises: ConfigError."""
        table, layout = table_of(experiment), layout_in(experiment, base)
        if not table.population:
            raise ConfigError(
                "experiment", "utility.population", "expected about how many validation records there are"
            )
        trial = trial_of(experiment, base.digest, layout.digest, layout.size)
        quorum, terms = experiment.collaboration.quorum, terms_of(experiment)
        found = np.stack([_ingredient(name, layout) for name in table.ingredients])
        match experiment.collaboration.name:
            case "search":
                return Search(trial, quorum, terms, found, table.method, experiment.seed)
            case "extrapolate":
                return Extrapolate(trial, quorum, terms, found, table.alphas)
        return Soup(trial, quorum, terms, found)

    def trips(self, experiment: Experiment) -> int:
        """Return how many round trips the experiment takes if nothing goes wrong."""
        return trips_of_sums(experiment, experiment.collaboration.rounds)

    def outcome(self, result: Message, seconds: Sequence[float]) -> Outcome:
        """Return the outcome that a result is."""
        assert isinstance(result, Found)  # noqa: S101  what these collaborations return
        members = tuple(v.members for v in result.verdicts)
        made = outcome_of_rounds(np.array(result.adapter), members, [v.trips for v in result.verdicts], seconds)
        return replace(made, notes=_notes(result))

    def cost(self, experiment: Experiment, side: Side) -> Cost:  # noqa: ARG002
        """Return what every evaluation would cost. Raises: PeerError."""
        try:
            trial, terms = trial_of(experiment, "", "", 1), terms_of(experiment)
        except ConfigError as wrong:
            raise PeerError(f"{wrong.key}: {wrong.expected}") from None
        if trial.epsilon is None:
            return Cost(None, trial.evaluations)
        event = _event(trial, terms, len(experiment.members), trial.candidates)
        require_promise(trial, event)
        return Cost(event, trial.evaluations)

    def misfits(self, experiment: Experiment, side: Side) -> Iterator[Exception]:
        """Yield why the trial does not fit the home's data and budget."""
        if not side.settings.data.validation:
            yield LevelForbidden("this home holds no records back for validation: data.validation in home.toml is 0")
        yield from misfits_of_the_data(experiment.example, side.settings.data)
        yield from misfits_of_the_unit(experiment.example, side.policy.budget)

    def alone(self, experiment: Experiment, name: str, share: int) -> Experiment:
        """Return the yardstick: the [training] of the experiment, as an average of one member without the others."""
        collaboration = replace(experiment.collaboration, name="average")
        return AverageRun().alone(replace(experiment, collaboration=collaboration, utility=None), name, share)

    def saw(self, experiment: Experiment) -> str:
        """Say that it saw the sums of the scores."""
        terms = terms_of(experiment)
        noised = "noised " if experiment.privacy.epsilon is not None else "UNNOISED "
        return (
            f"in every evaluation, for each candidate, the {noised}sum of the members' scores, and no score by itself"
            f" (secure sum, {terms.mode.value}; at least {terms.smallest_crowd} members in each,"
            f" at most {terms.colluding} of them colluding with it)"
        )


def table_of(experiment: Experiment) -> UtilityTable:
    """Return the [utility] table. Raises: ConfigError if it is missing, or does not fit the collaboration."""
    table, name, rounds = experiment.utility, experiment.collaboration.name, experiment.collaboration.rounds
    if table is None:
        raise ConfigError("experiment", "utility", f"missing: a {name} needs ingredients")
    if experiment.lora.half is not Half.B:
        raise ConfigError("experiment", "lora.half", "expected b: a mix of B's is the mix of what they do, for one A")
    if name == "soup" and rounds != len(table.ingredients):
        raise ConfigError(
            "experiment", "collaboration.rounds", f"expected {len(table.ingredients)}, one an ingredient"
        )
    if name == "extrapolate" and (rounds != 1 or len(table.ingredients) != 2):
        raise ConfigError(
            "experiment", "collaboration.rounds", "expected 1, and two ingredients: the weak, the strong"
        )
    if name == "search" and (rounds < 2 or table.candidates < 2):
        raise ConfigError("experiment", "collaboration.rounds", "expected at least 2, and 2 candidates or more")
    return table


def terms_of(experiment: Experiment) -> Terms:
    """Return the terms of the secure sum. Raises: ConfigError: nothing else is offered here."""
    if experiment.terms is None:
        raise ConfigError(
            "experiment", "collaboration.unsafe_plain_sum", "expected false: scores are summed secretly"
        )
    return experiment.terms


def candidates_of(experiment: Experiment) -> int:
    """Return how many candidates an evaluation has at most."""
    table = table_of(experiment)
    by_name = {"soup": len(table.ingredients), "extrapolate": len(table.alphas)}
    return by_name.get(experiment.collaboration.name, table.candidates)


def held_back(experiment: Experiment, declared: Declared) -> int:
    """Return about how many validation records a member has that declares this size."""
    return max(1, math.ceil(units_of(experiment.example, declared) * table_of(experiment).validation))


def layout_in(experiment: Experiment, base: Base) -> Layout:
    """Return the layout of the ingredients. Raises: ConfigError, naming a target that the model has not."""
    lora = experiment.lora
    return layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=experiment.seed)


def trial_of(experiment: Experiment, base: str, layout: str, length: int) -> Trial:
    """Return the terms by which candidates are scored, the noise for all evaluations planned. Raises: ConfigError."""
    table, terms, privacy, lora = table_of(experiment), terms_of(experiment), experiment.privacy, experiment.lora
    evaluations, candidates = experiment.collaboration.rounds, candidates_of(experiment)
    try:
        noise = None
        if privacy.epsilon is not None:
            noise = least_noise_multiplier(
                sums=evaluations,
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                orders=default_orders(privacy.epsilon, privacy.delta),
                honest=terms.honest,
                length=candidates,
            )
        trial = Trial(
            base=base,
            layout=layout,
            length=length,
            rank=lora.rank,
            alpha=lora.alpha,
            targets=lora.targets,
            adapter_seed=experiment.seed,
            record_tokens=experiment.training.record_tokens,
            clip=table.clip,
            candidates=candidates,
            evaluations=evaluations,
            population=max(1, table.population),
            unit=privacy.unit,
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            noise_multiplier=noise,
        )
        trial.spec(terms, len(experiment.members), candidates)
    except ValueError as wrong:
        raise ConfigError("experiment", "utility, privacy.epsilon or secure_sum.bits", str(wrong)) from None
    return trial


def _ingredient(name: str, layout: Layout) -> NDArray[np.float32]:
    return np.zeros(layout.size, np.float32) if name == BASE else load(Path(name), layout)[1]


def _event(trial: Trial, terms: Terms, members: int, candidates: int) -> DpEvent:
    code = trial.spec(terms, members, candidates)
    whole = trial.unit is Unit.MEMBER
    return sum_event(code, terms.honest) if whole else sampled_sum_event(code, 1.0, terms.honest)


def _member_plan(
    name: str, records: int, trial: Trial, orders: tuple[float, ...], terms: Terms, members: int
) -> MemberPlan:
    if trial.epsilon is None:
        return MemberPlan(name, records, 1.0, None, None, None)
    whole = trial.unit is Unit.MEMBER
    relation = Relation.ZERO_OUT if whole else Relation.ADD_OR_REMOVE
    event = SelfComposedDpEvent(_event(trial, terms, members, trial.candidates), trial.evaluations)
    guarantee = Guarantee(
        Filter(orders, trial.delta).epsilon(price(event, orders, relation)),
        trial.delta,
        trial.unit,
        relation,
        f"{NAME} ({orders[0]:g})",
        (
            f"{terms.honest} members at least add their noise and collude with nobody",
            "a member is there, or all zeros" if whole else assumed(trial.unit, trial.record_tokens)[0],
        ),
        ("this member's noise alone: only the sum has it all", "what the ingredients tell of what they learned from"),
    )
    return MemberPlan(name, records, 1.0, trial.noise_multiplier, guarantee, None)


def _notes(found: Found) -> tuple[str, ...]:
    """Say in lines what was tried and what was chosen."""
    lines = [f"weights: {', '.join(f'{w:.3f}' for w in found.weights)}"]
    for number, v in enumerate(found.verdicts, start=1):
        said = ", ".join(f"{g:+.4f}" for g in v.gains) if v.members else "lost"
        lines.append(f"evaluation {number}: {said} (nats a token and record, over the reference)")
    return tuple(lines)


def _seconds(base: Base, layout: Layout, trial: Trial, records: int) -> float:
    """Return the seconds of one evaluation of so many records, measured on a few of random tokens."""
    dice = np.random.default_rng(0)
    tokens = dice.integers(0, base.model.config.vocab_size, (_TIMED, trial.record_tokens)).astype(np.int32)
    made_up = Records(tokens, np.full(_TIMED, trial.record_tokens, np.int32))
    adapted = Adapted(base, layout)
    try:
        scorer = Scorer(adapted, [np.zeros(layout.size, np.float32)] * 2, trial.clip, _TIMED)
        scorer.each(made_up)
        began = time.perf_counter()
        scorer.each(made_up)
        took = time.perf_counter() - began
    finally:
        adapted.remove()
    return took / 2 * (trial.candidates + 1) * records / _TIMED
