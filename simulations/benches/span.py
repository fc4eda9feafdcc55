"""Measure how much of a member's text the span attack reads out of its update, with and without differential privacy.

One step on all records, at a random adapter: with B at zero, A's first update is zero. Recall is the share of the
records' distinct tokens among as many guesses; the base rate is what blind guessing gets.
"""

from dataclasses import dataclass

import numpy as np
from dp_accounting import GaussianDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.model import Adapted, Base, layout_of
from client.training.clipping import torch_threads
from privacy.accounting.accountant import calibrate, default_orders
from privacy.randomness import SystemRandomness
from simulations.attacks.span import View, first_inputs, guess, recall
from simulations.benches.dp_models import ALPHA, RANK, Shape, model_of
from simulations.benches.rows import Row, at_most

SHAPE = Shape("span", 2048, 256, 688, 2, 4, tokens=32, batch=16)
TARGETS = ("q_proj", "k_proj", "v_proj")
EPSILON, DELTA = 8.0, 1e-5
NORM = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Say on how many records a step is taken, and how often."""

    records: int
    trials: int


ALONE, BATCH = Setting(1, 60), Setting(16, 6)


def span_attack(alone: Setting = ALONE, batch: Setting = BATCH, shape: Shape = SHAPE) -> list[Row]:
    """Return the recalls over their base rates: with DP the worst of the settings, and without."""
    noise = calibrate(GaussianDpEvent, EPSILON, DELTA, default_orders(EPSILON, DELTA))
    settings = {"one_record": alone, "batch": batch}
    with torch_threads(1):
        attacks = {"": Attack(shape, half_a=True), "b_only_": Attack(shape, half_a=False)}
        found = [
            (f"span_attack_over_base_without_dp_{half}{name}", attack.over_base(setting, None))
            for half, attack in attacks.items()
            for name, setting in settings.items()
        ]
        private = max(attack.over_base(s, noise) for attack in attacks.values() for s in settings.values())
    rows = [Row(name, value, "x", goal="for comparison") for name, value in found]
    return [at_most("span_attack_recall_over_base", private, 2.0, "x"), *rows]


class Attack:
    """Hold a model and its adapter, and what an attacker computes from the public base."""

    def __init__(self, shape: Shape, *, half_a: bool) -> None:
        base = Base("span", model_of(shape), None, "")
        layout = layout_of(base, rank=RANK, alpha=ALPHA, targets=TARGETS, adapter_seed=1, half_a=half_a)
        self.shape, self.layout = shape, layout
        self.first = [slot for slot in layout.slots if ".0." in slot.name]
        self.inputs = first_inputs(base.model, self.first[0].name)
        self.adapted = Adapted(base, layout)

    def over_base(self, setting: Setting, noise: float | None) -> float:
        """Return the mean recall over the mean base rate; `noise` None is training without DP."""
        draw = np.random.default_rng(setting.records)
        found, base_rate = 0.0, 0.0
        for _ in range(setting.trials):
            tokens = draw.integers(0, self.shape.vocabulary, (setting.records, self.shape.tokens)).astype(np.int32)
            records = Records(tokens, np.full(setting.records, self.shape.tokens, dtype=np.int32))
            start = (0.05 * draw.standard_normal(self.layout.size)).astype(np.float32)
            start[self.layout.b_entries :] = 0.0
            count = np.unique(tokens).size
            found += recall(guess(self.views(self._delta(records, start, noise)), count), tokens.astype(np.intp))
            base_rate += count / self.shape.vocabulary
        return found / base_rate

    def views(self, delta: NDArray[np.float32]) -> list[View]:
        """Return what the attacker compares: the rows of all A's together if they were trained, else each B's."""
        added = self.layout.split_a(delta)
        if added:
            return [View(np.concatenate([added[slot.name] for slot in self.first]), self.inputs)]
        b = self.layout.split(delta)
        a = {slot.name: self.layout.frozen(slot).astype(np.float64) for slot in self.first}
        return [View(b[slot.name], self.inputs @ a[slot.name].T) for slot in self.first]

    def _delta(self, records: Records, start: NDArray[np.float32], noise: float | None) -> NDArray[np.float32]:
        schedule = Schedule(1, len(records), len(records), 1.0, NORM)  # everybody is in the one step
        if noise is None:
            return UnsafePlainSgd(self.adapted, records, start, schedule).draw(SystemRandomness())
        return DpSgd(self.adapted, records, start, schedule, noise).draw(SystemRandomness())
