"""Train a silo's model by the product's own DP-SGD: LoRA on all linear layers of the public model, then merged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.dp_training import DpSgd, Schedule
from client.model import Adapted, Base, layout_of
from privacy.accounting.accountant import calibrate_best
from privacy.randomness import SystemRandomness

EPSILON, DELTA = 8.0, 1e-5
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ORDERS = tuple(2 + k / 5 for k in range(16))  # candidates: one is fixed from public numbers, before any release


@dataclass(frozen=True, slots=True)
class DpTraining:
    """Say how a silo trains: a record is one window of its text, chosen with probability batch / records."""

    steps: int = 100
    batch: int = 96
    rank: int = 16
    rate: float = 0.007
    norm: float = 0.3


def dp_model(public: Any, tokenizer: Any, rows: NDArray[np.int32], how: DpTraining, seed: int) -> Any:
    """Return the public model with what DP-SGD at epsilon 8 made of the silo's rows; a model like any other."""
    base = Base("bench", public.eval().requires_grad_(False), tokenizer, "")
    layout = layout_of(base, rank=how.rank, alpha=2.0 * how.rank, targets=TARGETS, adapter_seed=seed, half_a=True)
    adapted = Adapted(base, layout)
    records = Records(rows, np.full(len(rows), rows.shape[1], dtype=np.int32))
    schedule = Schedule(
        steps=how.steps,
        batch_size=min(how.batch, len(rows)),
        declared_records=len(rows),
        learning_rate=how.rate,
        clipping_norm=how.norm,
        optimizer="adam",
        micro_batch=32,
    )
    noise = noise_multiplier(schedule)
    start = np.zeros(layout.size, dtype=np.float32)
    delta = DpSgd(adapted, records, start, schedule, noise).draw(SystemRandomness())
    adapted.set(delta)
    return adapted.model.merge_and_unload()


def noise_multiplier(schedule: Schedule) -> float:
    """Return the least noise by which the ledger's filter, at the best order for this plan, admits the training."""

    def event(noise: float) -> DpEvent:
        step = PoissonSampledDpEvent(schedule.rate, GaussianDpEvent(noise))
        return SelfComposedDpEvent(step, schedule.steps)

    return calibrate_best(event, EPSILON, DELTA, ((order,) for order in _ORDERS))[0]
