"""Say beforehand what an experiment will cost: epsilon, bytes, memory, time. Nothing private is touched.

The privacy figures are exact: they come from the sum that the members' ledgers will make. Bytes are counted on a
real encoded message. Memory and time are measured on this machine, with one real step on random tokens.
"""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from client.data import Records
from client.declared import Declared
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.model import Adapted, Base, layout_of
from privacy.accounting.accountant import NAME, Filter, calibrate, default_orders, price
from privacy.accounting.certificate import certify
from privacy.config import ConfigError
from privacy.distributed import least_noise_multiplier, sum_event
from privacy.randomness import SystemRandomness
from privacy.units import Guarantee, Relation
from protocols.secure_sum.boxes import SHARE_BYTES, TAG
from protocols.secure_sum.layout import layout_of as layout_of_sum
from protocols.secure_sum.messages import (
    ANNOUNCEMENTS,
    Acknowledge,
    Acknowledged,
    Announcement,
    Introduce,
    Introduced,
    Request,
    Slip,
    Upload,
)
from protocols.secure_sum.terms import Mode, Terms
from protocols.weights.average import WIRE, Contribute, Contributed
from protocols.weights.recipe import Recipe
from protocols.wire import Message
from simulations.experiment import Experiment

_ORDERS = tuple(round(1.5 + k / 4, 2) for k in range(60)) + tuple(float(a) for a in range(17, 65))
FLOWER_ROUND_S = 3.0  # what Flower's road adds to a round with three members on two cores, measured (docs/log.md)


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


def recipe_for(experiment: Experiment, base: Base) -> Recipe:
    """Return the experiment's recipe for this base model. Raises: ConfigError, naming a target it does not have."""
    lora = experiment.lora
    layout = layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=experiment.seed)
    try:
        noise = _noise_of_sums(experiment, layout.size) if experiment.noise_in_the_sum else None
        recipe = experiment.recipe(base.digest, layout.digest, layout.size, noise)
        if experiment.terms is not None:
            recipe.spec(experiment.terms, len(experiment.members))
    except ValueError as wrong:
        raise ConfigError("experiment", "privacy.epsilon or secure_sum.bits", str(wrong)) from None
    return recipe


def _noise_of_sums(experiment: Experiment, length: int) -> float:
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


def make_plan(experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
    """Forecast the experiment for members who declare their sizes."""
    recipe = recipe_for(experiment, base)
    orders = best_orders(recipe, declared)
    down = len(WIRE.encode(Contribute(recipe, 0, np.zeros(recipe.length, np.float32), None, ())))
    up = len(WIRE.encode(_answer(recipe, experiment.terms, len(declared))))
    terms, of = experiment.terms, len(declared)
    members = tuple(
        _member_plan(n, d.records(recipe.record_tokens), recipe, orders, terms, of) for n, d in declared.items()
    )
    seconds = _one_step(recipe, base)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Plan(recipe, terms, orders, members, down, up, _opening(terms, of), seconds, memory)


def _answer(recipe: Recipe, terms: Terms | None, members: int) -> Message:
    """Return a round's answer of the size that a real one has, with nothing in it."""
    if terms is None:
        return Contributed(0, np.zeros(recipe.length, np.float32))
    names = tuple(str(i) for i in range(members))
    layout = layout_of_sum(Request(bytes(32), 0, "", names, recipe.spec(terms, members), bytes(32), 0, 0), terms)
    near, words = len(layout.neighbours[names[0]]), np.zeros(recipe.length * terms.bits // 8, np.uint8)
    if terms.mode is Mode.STRICT:
        return Upload(0, words, bytes(32 * near), b"", ())
    box = bytes((1 + near) * SHARE_BYTES + TAG)
    return Upload(0, words, bytes(32 * near), bytes(32), (box,) * len(layout.dealing(names[0]).boxed))


def _opening(terms: Terms | None, members: int) -> tuple[int, int]:
    """Return the bytes down and up of messages that open a secure sum, on the average over the members."""
    if terms is None:
        return 0, 0
    key = Announcement(1, "k" * 51, "s" * 32, "m" * 8, "r" * 64, bytes(32), bytes(32), bytes(1184), bytes(32), 2**31)
    introduced = Introduced(ANNOUNCEMENTS.encode(key), bytes(64))
    peers = [Slip("m" * 8, bytes(32), bytes(1088 if i % 2 else 0)) for i in range(members - 1)]
    slips = WIRE.encode(Acknowledged(tuple(peers)))
    down = len(WIRE.encode(Introduce(terms))) + len(WIRE.encode(Acknowledge((introduced,) * members))) + len(slips)
    return down, len(WIRE.encode(introduced)) + len(slips)


def best_orders(recipe: Recipe, declared: Mapping[str, Declared]) -> tuple[float, ...]:
    """Return the one Renyi order that lets this plan run with the least noise, from public numbers alone.

    The order must be fixed before the first release; a plan fixes it best. Without noise there is none to choose.
    """
    if recipe.epsilon is None:
        return ()
    if recipe.noise_multiplier is not None:
        return default_orders(recipe.epsilon, recipe.delta)
    records = min(d.records(recipe.record_tokens) for d in declared.values())  # the largest rate decides
    noises = {}
    for order in _ORDERS:
        try:
            noises[order] = _noise(recipe, records, (order,))
        except ValueError:
            continue  # at this order no noise meets the budget
    if not noises:
        raise ValueError("no Renyi order meets this epsilon at this delta")
    return (min(noises, key=lambda order: noises[order]),)


def _noise(recipe: Recipe, records: int, orders: tuple[float, ...]) -> float:
    assert recipe.epsilon is not None  # noqa: S101  callers have looked
    return calibrate(lambda s: _event(recipe, records, s), recipe.epsilon, recipe.delta, orders)


def _event(recipe: Recipe, records: int, noise_multiplier: float) -> DpEvent:
    rate = min(1.0, recipe.batch_size / records)
    return SelfComposedDpEvent(
        PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), recipe.steps * recipe.rounds
    )


def _in_the_sum(
    name: str, records: int, recipe: Recipe, orders: tuple[float, ...], terms: Terms | None, members: int
) -> MemberPlan:
    """Plan for a member that is protected as a whole, by noise that the members add together."""
    if terms is None:
        raise ValueError("whole members are protected by the noise of a secure sum")
    code = recipe.spec(terms, members)
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


def _member_plan(
    name: str, records: int, recipe: Recipe, orders: tuple[float, ...], terms: Terms | None, members: int
) -> MemberPlan:
    rate = recipe.batch_size / records
    if recipe.epsilon is None:
        return MemberPlan(name, records, rate, None, None, None)
    if recipe.noise_multiplier is not None:
        return _in_the_sum(name, records, recipe, orders, terms, members)
    noise = _noise(recipe, records, orders)
    event = _event(recipe, records, noise)
    guarantee = Guarantee(
        Filter(orders, recipe.delta).epsilon(price(event, orders)),
        recipe.delta,
        recipe.unit,
        Relation.ADD_OR_REMOVE,
        f"{NAME} ({orders[0]:g})",
        (f"a record is {recipe.record_tokens} tokens of one document", "records are sampled independently (Poisson)"),
        (),
    )
    return MemberPlan(name, records, rate, noise, guarantee, certify([event], recipe.delta).epsilon)


def _one_step(recipe: Recipe, base: Base) -> float:
    """Return the seconds of one step on random tokens: one to warm up, one to time."""
    adapted = Adapted(
        base,
        layout_of(
            base, rank=recipe.rank, alpha=recipe.alpha, targets=recipe.targets, adapter_seed=recipe.adapter_seed
        ),
    )
    try:
        draws = SystemRandomness().uniform(2 * recipe.batch_size * recipe.record_tokens)
        tokens = (draws * base.model.config.vocab_size).astype(np.int32).reshape(-1, recipe.record_tokens)
        records = Records(tokens, np.full(len(tokens), recipe.record_tokens, np.int32))
        schedule = Schedule(
            steps=1,
            batch_size=recipe.batch_size,
            declared_records=2 * recipe.batch_size,
            learning_rate=recipe.learning_rate,
            clipping_norm=recipe.clipping_norm,
            optimizer=recipe.optimizer,
        )
        start = np.zeros(recipe.length, np.float32)
        task = (
            UnsafePlainSgd(adapted, records, start, schedule)
            if recipe.epsilon is None or recipe.noise_multiplier is not None
            else DpSgd(adapted, records, start, schedule, 1.0)
        )
        _timed(task)
        many = replace(task, schedule=replace(schedule, steps=3))
        return (_timed(many) - _timed(task)) / 2  # two steps more; the check before the first is left out
    finally:
        adapted.remove()


def _timed(task: DpSgd | UnsafePlainSgd) -> float:
    began = time.perf_counter()
    task.draw(SystemRandomness())
    return time.perf_counter() - began
