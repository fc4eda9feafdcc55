"""Measure what every plan states: the bytes of a secure sum on real encoded messages, the seconds of a step."""

import math
import resource
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from client.data import Records
from client.declared import Declared
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.homes.local import MOST_ROWS, units_of
from client.model import Adapted, Base, layout_of
from client.training.objectives import loss_of
from privacy.fixed_point import FixedPoint
from privacy.randomness import SystemRandomness
from privacy.units import Unit
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
from protocols.weights.average import WIRE
from protocols.weights.recipe import Objective, Recipe
from simulations.experiment import Experiment


def upload_of(spec: FixedPoint, terms: Terms, members: int) -> Upload:
    """Return an upload of the size that a real one has, with nothing in it."""
    names = tuple(str(i) for i in range(members))
    layout = layout_of_sum(Request(bytes(32), 0, "", names, spec, bytes(32), 0, 0), terms)
    near, words = len(layout.neighbours[names[0]]), np.zeros(spec.length * terms.bits // 8, np.uint8)
    if terms.mode is Mode.STRICT:
        return Upload(0, words, bytes(32 * near), b"", ())
    box = bytes((1 + near) * SHARE_BYTES + TAG)
    return Upload(0, words, bytes(32 * near), bytes(32), (box,) * len(layout.dealing(names[0]).boxed))


def opening_bytes(terms: Terms | None, members: int) -> tuple[int, int]:
    """Return the bytes down and up of messages that open a secure sum, on the average over the members."""
    if terms is None:
        return 0, 0
    key = Announcement(1, "k" * 51, "s" * 32, "m" * 8, "r" * 64, bytes(32), bytes(32), bytes(1184), bytes(32), 2**31)
    introduced = Introduced(ANNOUNCEMENTS.encode(key), bytes(64))
    peers = [Slip("m" * 8, bytes(32), bytes(1088 if i % 2 else 0)) for i in range(members - 1)]
    slips = WIRE.encode(Acknowledged(tuple(peers)))
    down = len(WIRE.encode(Introduce(terms))) + len(WIRE.encode(Acknowledge((introduced,) * members))) + len(slips)
    return down, len(WIRE.encode(introduced)) + len(slips)


def trips_of_sums(experiment: Experiment, sums: int) -> int:
    """Return how many round trips so many sums, or plain rounds, take with the opening and the close."""
    terms = experiment.terms
    if terms is None:
        return sums + 1
    return 2 + (3 if terms.mode is Mode.RESILIENT else 1) * sums + 1


def memory_bytes() -> int:
    """Return the peak of this process's memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def most_rows(recipe: Recipe, declared: Mapping[str, Declared]) -> int:
    """Return about how many rows one unit brings into a step, at the member where it is most: one, but for groups."""
    if recipe.unit is not Unit.GROUP:
        return 1
    rows = replace(recipe, unit=Unit.RECORD)
    return min(MOST_ROWS, max(math.ceil(units_of(rows, d) / max(1, d.groups)) for d in declared.values()))


def step_seconds(recipe: Recipe, base: Base, rows: int = 1) -> float:
    """Return the seconds of one step on random tokens, each unit with so many rows: one to warm up, two to time."""
    layout = layout_of(
        base,
        rank=recipe.rank,
        alpha=recipe.alpha,
        targets=recipe.targets,
        adapter_seed=recipe.adapter_seed,
        half_a=recipe.b_entries > 0,
    )
    adapted = Adapted(base, layout)
    try:
        records = _random_records(recipe, base, rows)
        schedule = Schedule(
            steps=1,
            batch_size=recipe.batch_size,
            declared_records=2 * recipe.batch_size,
            learning_rate=recipe.learning_rate,
            clipping_norm=recipe.clipping_norm,
            optimizer="adam" if recipe.optimizer == "adamw" else recipe.optimizer,
        )
        start = np.zeros(recipe.length, np.float32)
        loss = loss_of(recipe.objective, recipe.beta, start)
        task = (
            UnsafePlainSgd(adapted, records, start, schedule, loss, recipe.chosen(0))
            if recipe.epsilon is None or recipe.noise_multiplier is not None
            else DpSgd(adapted, records, start, schedule, 1.0, loss, recipe.chosen(0))
        )
        _timed(task)
        many = replace(task, schedule=replace(schedule, steps=3))
        return (_timed(many) - _timed(task)) / 2  # two steps more; the check before the first is left out
    finally:
        adapted.remove()


def _random_records(recipe: Recipe, base: Base, rows: int) -> Records:
    """Return two batches of units of so many rows (pairs, for preferences) of random tokens."""
    paired = recipe.objective is Objective.PREFERENCE
    each = rows * (2 if paired else 1)
    count = 2 * recipe.batch_size * each
    draws = SystemRandomness().uniform(count * recipe.record_tokens)
    tokens = (draws * base.model.config.vocab_size).astype(np.int32).reshape(count, recipe.record_tokens)
    owner = np.arange(count, dtype=np.int32) // each if each > 1 else None
    return Records(tokens, np.full(count, recipe.record_tokens, np.int32), owner, paired=paired)


def _timed(task: DpSgd | UnsafePlainSgd) -> float:
    began = time.perf_counter()
    task.draw(SystemRandomness())
    return time.perf_counter() - began
