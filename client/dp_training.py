"""Train LoRA matrices on a member's own records by DP-SGD, and say what that costs.

    each step:  choose every unit with probability q  ->  clip each one's gradient to C  ->  sum
                ->  add N(0, (sigma C)^2)  ->  divide by the expected batch  ->  optimiser

C is fixed, or follows a quantile of the gradients' norms: see `training/adaptive.py`.

Cites:  Abadi et al. 2016, algorithm 1; Sun et al. 2024 (FFA-LoRA) for what is trained.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.model import Adapted
from client.quiet import LOG
from client.training.adaptive import Quantile
from client.training.clipping import MEAN_LOSS, Clipped, Clipper, Loss, say_skipped, torch_threads
from client.training.optimisers import OPTIMISERS, Stepper, optimiser
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
             is trained together; `most_rows` of one unit are in a step, None for all; `micro_batch` in rows.
             `micro_batch`, `threads` and `running` are the member's own affair. `proximal` is the weight of the pull
             to the start (Li et al. 2020, FedProx). `target_quantile` of the gradients' norms is what the clipping
             norm seeks, beginning at `clipping_norm`; None for a fixed one.
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
    target_quantile: float | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.micro_batch, self.threads) < 1:
            raise ValueError("steps, batch_size, micro_batch and threads: expected at least 1")
        if self.most_rows is not None and self.most_rows < 1:
            raise ValueError("most_rows: expected at least 1")
        if self.batch_size > self.declared_records:
            raise ValueError("batch_size: expected at most declared_records")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError("learning_rate: expected a positive number")
        if not SMALLEST_NORM <= self.clipping_norm <= LARGEST_NORM:
            raise ValueError(f"clipping_norm: expected a number from {SMALLEST_NORM:g} to {LARGEST_NORM:g}")
        if not 0 <= self.proximal < np.inf:
            raise ValueError("proximal: expected a number of at least 0")
        if self.target_quantile is not None and not 0 < self.target_quantile < 1:
            raise ValueError("target_quantile: expected a number between 0 and 1")
        if self.optimizer not in OPTIMISERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")

    @property
    def rate(self) -> float:
        """Return q, the probability with which each unit is in a step."""
        return self.batch_size / self.declared_records


@dataclass(slots=True)
class Kept:
    """Hold what a draw leaves at home for the next round, and what it began with: never part of an answer.

    `norm` is the clipping norm it ended with, where it seeks one; `optimiser` what that remembers. `skipped` units of
    this draw added nothing, since their gradients were not finite: a private number.
    """

    norm: float | None = None
    optimiser: dict[str, NDArray[np.generic]] = field(default_factory=dict, repr=False)
    skipped: int = field(default=0, repr=False)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what the next round begins with, by name, for `client/state.py`."""
        norm = {} if self.norm is None else {"norm": np.array([self.norm])}
        return {**norm, **{f"optimiser.{name}": array for name, array in self.optimiser.items()}}


def kept(arrays: Mapping[str, NDArray[np.generic]]) -> Kept:
    """Return what `Kept.arrays` said; what is not of it is left out."""
    norm = np.asarray(arrays.get("norm", np.zeros(0)), dtype=np.float64)
    known = {k.removeprefix("optimiser."): v for k, v in arrays.items() if k.startswith("optimiser.")}
    sound = norm.shape == (1,) and SMALLEST_NORM <= norm[0] <= LARGEST_NORM
    return Kept(float(norm[0]) if sound else None, known)


@dataclass(frozen=True, slots=True)
class DpSgd:
    """Be the mechanism of one round: from `start` (size,), the delta of what is trained after `schedule.steps` steps.

    Shapes:  `chosen` are the entries of the vector that are trained, None for all: the delta has as many.
    The same seed gives the same delta, bit for bit, on the same kind of machine with the same number of threads.
    Units:   one record, or one group if the records have owners, added or removed; each is chosen independently
             (Poisson) by the gate's randomness.
    Learns:  who gets the delta: a noised sum for each step (and, where the norm is sought, a noised count, which the
             norm follows), no more; the batches' sizes stay at home, and so does `left`, what the draw leaves for the
             next one, which may begin with it as `before`; `keep` is given it at the end.
    """

    adapted: Adapted
    records: Records
    start: Delta
    schedule: Schedule
    noise_multiplier: float
    loss: Loss = MEAN_LOSS
    chosen: Chosen | None = None
    before: Kept | None = None
    left: Kept = field(default_factory=Kept, compare=False)
    keep: Callable[[Kept], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        entries_of(self.adapted.layout, self.chosen)
        if not 0 < self.noise_multiplier < np.inf:
            raise ValueError("noise_multiplier: expected a positive number; without noise, say UnsafePlainSgd")

    @property
    def event(self) -> DpEvent:
        """Return the sampled Gaussian of one step, as often as there are steps; a count of its own is part of it."""
        step = PoissonSampledDpEvent(self.schedule.rate, GaussianDpEvent(self.noise_multiplier))
        return SelfComposedDpEvent(step, self.schedule.steps)

    def draw(self, randomness: Randomness) -> Delta:
        """Return the delta, shape (entries,) float32."""
        schedule, norm = self.schedule, self.schedule.clipping_norm
        if schedule.target_quantile is None:
            return _train(_Private(norm, self.noise_multiplier, None), self, randomness)
        seeking = Quantile(schedule.target_quantile, self.noise_multiplier, schedule.batch_size)
        if self.before is not None and self.before.norm is not None:
            norm = self.before.norm
        return _train(_Private(norm, seeking.sum_multiplier, seeking), self, randomness)


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
    before: Kept | None = None
    left: Kept = field(default_factory=Kept, compare=False)
    keep: Callable[[Kept], None] | None = field(default=None, compare=False)

    def draw(self, randomness: Randomness) -> Delta:
        """Return the delta, shape (entries,) float32."""
        return _train(_Plain(), self, randomness)


@dataclass(slots=True)
class _Plain:
    """Let sums be as they are."""

    norm: float | None = None

    def noised(self, found: Clipped, units: int, randomness: Randomness) -> Vector:  # noqa: ARG002
        """Return the sum as it is."""
        return found.total


@dataclass(slots=True)
class _Private:
    """Put noise into sums of gradients clipped to `norm`, and move the norm where it is sought."""

    norm: float | None
    multiplier: float
    seeking: Quantile | None

    def noised(self, found: Clipped, units: int, randomness: Randomness) -> Vector:
        """Return the sum with noise, of what was found of so many units; then move the norm."""
        norm = float(self.norm or 0.0)
        total = found.total + self.multiplier * norm * randomness.normal(found.total.size)
        if self.seeking is not None:
            beyond = units - found.within - found.skipped
            moved = self.seeking.moved(norm, found.within, beyond, float(randomness.normal(1)[0]))
            self.norm = min(max(moved, SMALLEST_NORM), LARGEST_NORM)
        return total


def _train(how: _Plain | _Private, task: DpSgd | UnsafePlainSgd, randomness: Randomness) -> Delta:
    """Run the steps. An empty batch is a step like any other: its noise is added, and it was charged."""
    schedule, records, skipped = task.schedule, task.records, 0
    point, trained = task.start.astype(np.float64), slice(None) if task.chosen is None else task.chosen
    start, rule = point[trained].copy(), _optimiser(task)
    clipper = Clipper(
        task.adapted, how.norm, schedule.micro_batch, task.loss, task.chosen, schedule.most_rows, schedule.running
    )
    with torch_threads(schedule.threads):
        clipper.check_isolation(point, records.tokens.shape[1], paired=records.paired)
        for _ in range(schedule.steps):
            units = poisson(records.units, schedule.rate, randomness)
            found = replace(clipper, norm=how.norm).gather(point, records, units, randomness)
            skipped += found.skipped
            # Divided by the expected size: the true one is private. Pulled after the noise, by what is public.
            gradient = how.noised(found, units.size, randomness) / schedule.batch_size
            if schedule.proximal:
                gradient = gradient + schedule.proximal * (point[trained] - start)
            point[trained] += rule.step(gradient, point[trained])
    say_skipped(skipped)
    task.left.norm, task.left.optimiser, task.left.skipped = how.norm, rule.arrays(), skipped
    if task.keep is not None:
        task.keep(task.left)
    return _in_float32(point[trained] - start)


def _optimiser(task: DpSgd | UnsafePlainSgd) -> Stepper:
    """Return the optimiser as it was left; afresh if that was of another kind or size: a draw fails for no state."""
    name, rate = task.schedule.optimizer, task.schedule.learning_rate
    known = {} if task.before is None else task.before.optimiser
    size = entries_of(task.adapted.layout, task.chosen)
    try:
        if all(array.shape in {(1,), (size,)} for array in known.values()):
            return optimiser(name, rate, known)
    except ValueError:
        LOG.warning("the state of an optimiser was damaged or of another kind: it begins anew")
    return optimiser(name, rate)


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
