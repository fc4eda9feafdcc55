"""Train LoRA matrices on a member's own records by DP-SGD, and say what that costs.

    each step:  choose every unit with probability q  ->  clip each one's gradient to C  ->  sum
                ->  add N(0, (sigma C)^2)  ->  divide by the expected batch  ->  optimiser

Cites:  Abadi et al. 2016, algorithm 1; Sun et al. 2024 (FFA-LoRA) for what is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.model import Adapted
from client.training.clipping import MEAN_LOSS, Clipper, Loss, torch_threads
from client.training.optimisers import OPTIMISERS, optimiser
from client.training.parts import Chosen, entries_of
from client.training.running import AS_IT_IS, Running
from privacy.randomness import Randomness

Delta = NDArray[np.float32]
Vector = NDArray[np.float64]
SMALLEST_NORM, LARGEST_NORM = 1e-6, 1e6  # beyond, float32 scales a gradient wrongly: see `clipped_sum`


@dataclass(frozen=True, slots=True)
class Schedule:
    """State the public parameters of one round of training.

    Units:   `batch_size` is the expected number of privacy units a step (records, or groups of them),
             `declared_records` the public number of units that it is a share of; `clipping_norm` in L2, over all that
             is trained together; `most_rows` of one unit are in a step, None for all; `micro_batch` in rows;
             `proximal` is the weight of the pull back to the start (Li et al. 2020, FedProx).
             `micro_batch`, `threads` and `running` are the member's own affair.
    """

    steps: int
    batch_size: int
    declared_records: int
    learning_rate: float
    clipping_norm: float
    optimizer: str = "sgd"
    micro_batch: int = 16
    threads: int = 1
    most_rows: int | None = None
    running: Running = AS_IT_IS
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.micro_batch, self.threads) < 1:
            raise ValueError("steps, batch_size, micro_batch and threads: expected at least 1")
        if self.most_rows is not None and self.most_rows < 1:
            raise ValueError("most_rows: expected at least 1")
        if self.batch_size > self.declared_records:
            raise ValueError("batch_size: expected at most declared_records")
        if not 0 <= self.proximal < np.inf:
            raise ValueError("proximal: expected a number of at least 0")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError("learning_rate: expected a positive number")
        if not SMALLEST_NORM <= self.clipping_norm <= LARGEST_NORM:
            raise ValueError(f"clipping_norm: expected a number from {SMALLEST_NORM:g} to {LARGEST_NORM:g}")
        if self.optimizer not in OPTIMISERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")

    @property
    def rate(self) -> float:
        """Return q, the probability with which each unit is in a step."""
        return self.batch_size / self.declared_records


@dataclass(frozen=True, slots=True)
class DpSgd:
    """Be the mechanism of one round: from `start` (size,), the delta of what is trained after `schedule.steps` steps.

    Shapes:  `chosen` are the entries of the vector that are trained, None for all: the delta has as many.
    The same seed gives the same delta, bit for bit, on the same kind of machine with the same number of threads.
    Units:   one record, or one group if the records have owners, added or removed; each is chosen independently
             (Poisson) by the gate's randomness.
    Learns:  who gets the delta: a noised sum for each step, no more; the batches' sizes stay at home.
    """

    adapted: Adapted
    records: Records
    start: Delta
    schedule: Schedule
    noise_multiplier: float
    loss: Loss = MEAN_LOSS
    chosen: Chosen | None = None

    def __post_init__(self) -> None:
        entries_of(self.adapted.layout, self.chosen)
        if not 0 < self.noise_multiplier < np.inf:
            raise ValueError("noise_multiplier: expected a positive number; without noise, say UnsafePlainSgd")

    @property
    def event(self) -> DpEvent:
        """Return the sampled Gaussian of one step, as often as there are steps."""
        step = PoissonSampledDpEvent(self.schedule.rate, GaussianDpEvent(self.noise_multiplier))
        return SelfComposedDpEvent(step, self.schedule.steps)

    def draw(self, randomness: Randomness) -> Delta:
        """Return the delta, shape (entries,) float32."""
        clipper = _clipper(self, self.schedule.clipping_norm)
        deviation = self.noise_multiplier * self.schedule.clipping_norm
        return _train(clipper, self, lambda total: total + deviation * randomness.normal(total.size), randomness)


@dataclass(frozen=True, slots=True)
class UnsafePlainSgd:
    """Train as `DpSgd` does, without clipping and without noise: it has no event, hence no epsilon; a disclosure.

    Learns:  who gets the delta: whatever a gradient tells about the records, which can be their text.
    """

    adapted: Adapted
    records: Records
    start: Delta
    schedule: Schedule
    loss: Loss = MEAN_LOSS
    chosen: Chosen | None = None

    def draw(self, randomness: Randomness) -> Delta:
        """Return the delta, shape (entries,) float32."""
        clipper = _clipper(self, None)
        return _train(clipper, self, lambda total: total, randomness)


def _clipper(task: DpSgd | UnsafePlainSgd, norm: float | None) -> Clipper:
    schedule = task.schedule
    return Clipper(
        task.adapted, norm, schedule.micro_batch, task.loss, task.chosen, schedule.most_rows, schedule.running
    )


def _train(
    clipper: Clipper, task: DpSgd | UnsafePlainSgd, noised: Callable[[Vector], Vector], randomness: Randomness
) -> Delta:
    """Run the steps. An empty batch is a step like any other: its noise is added, and it was charged."""
    schedule, records = task.schedule, task.records
    point, trained = task.start.astype(np.float64), slice(None) if task.chosen is None else task.chosen
    rule = optimiser(schedule.optimizer, schedule.learning_rate)
    with torch_threads(schedule.threads):
        clipper.check_isolation(point, records.tokens.shape[1], paired=records.paired)
        for _ in range(schedule.steps):
            units = poisson(records.units, schedule.rate, randomness)
            total = noised(clipper.sum(point, records, units, randomness))
            gradient = total / schedule.batch_size  # the expected size: the true one is private
            if schedule.proximal:  # of points that are noised already: post-processing
                gradient += schedule.proximal * (point - task.start)[trained]
            point[trained] += rule.step(gradient)
    return _in_float32((point - task.start)[trained])


def _in_float32(delta: Vector) -> Delta:
    """Return `delta` in float32, cut off at its limits and zero where it is no number: always finite.

    What the wire cannot carry would fail after the draw, and its letter, come again, would be drawn for once more on
    the same charge: whether a draw fails must not hang on the draw.
    """
    largest = float(np.finfo(np.float32).max)
    return np.nan_to_num(delta, nan=0.0).clip(-largest, largest).astype(np.float32)


def poisson(count: int, rate: float, randomness: Randomness) -> NDArray[np.intp]:
    """Choose each of `count` units independently with probability `rate`; return their indices."""
    return np.flatnonzero(randomness.uniform(count) < rate)
