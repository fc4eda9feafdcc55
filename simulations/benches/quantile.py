"""Measure how near an adaptive clipping norm comes to its target quantile in sixty rounds, from far below and above.

Rounds of one step of `DpSgd` with its noise and its sampling, on made-up records of many lengths; the norm is handed
on from round to round as a home does. What counts is the share of the records that are within the norm, in the mean
over the last ten rounds, beside the target.
"""

from dataclasses import dataclass

import numpy as np

from client.data import Records
from client.dp_training import DpSgd, Kept, Schedule, kept
from client.model import Adapted
from client.training.clipping import Clipper, torch_threads
from privacy.randomness import SystemRandomness
from simulations.benches.dp_models import Shape, adapted_of
from simulations.benches.rows import Row, at_most

SHAPE = Shape("quantile", 256, 32, 48, 2, 4, tokens=16, batch=128)
TARGET, NOISE = 0.5, 0.8
STARTS = (0.1, 10.0)  # times the norm that is sought
_LAST = 10  # rounds, over whose mean the noise of one count no longer shows


@dataclass(frozen=True, slots=True)
class Sought:
    """Hold the records, their gradients' norms at the point where training stays, and the norm that is sought."""

    adapted: Adapted
    records: Records
    norms: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    norm: float


def adaptive_clipping(rounds: int = 60) -> list[Row]:
    """Return the larger of the two relative errors."""
    with torch_threads(1):
        sought = _sought()
        worst = max(abs(reached(sought, start, rounds) / TARGET - 1) for start in STARTS)
    return [at_most("adaptive_clip_quantile_error", worst, 0.1, "1")]


def reached(sought: Sought, start: float, rounds: int) -> float:
    """Return the share of the records within the norm in the last rounds, begun at `start` times the right one."""
    expected = len(sought.records) // 2  # every record is in a step with probability one half
    schedule = Schedule(
        steps=1, batch_size=expected, declared_records=len(sought.records), learning_rate=1e-9,
        clipping_norm=start * sought.norm, micro_batch=len(sought.records), target_quantile=TARGET,
    )  # fmt: skip
    begun, shares, before = np.zeros(sought.adapted.layout.size, np.float32), [], Kept()
    for _ in range(rounds):
        mechanism = DpSgd(sought.adapted, sought.records, begun, schedule, NOISE, before=before)
        mechanism.draw(SystemRandomness())
        before = kept(mechanism.left.arrays())
        shares.append(float((sought.norms <= (before.norm or 0.0)).mean()))
    return float(np.mean(shares[-_LAST:]))


def _sought() -> Sought:
    draw, adapted = np.random.default_rng(6), adapted_of(SHAPE)
    lengths = draw.integers(3, SHAPE.tokens + 1, SHAPE.batch).astype(np.int32)
    tokens = draw.integers(0, SHAPE.vocabulary, (SHAPE.batch, SHAPE.tokens)).astype(np.int32)
    tokens[np.arange(SHAPE.tokens)[None] >= lengths[:, None]] = 0
    records = Records(tokens, lengths)
    each = Clipper(adapted, None, SHAPE.batch).each(np.zeros(adapted.layout.size), records)
    norms = each.double().norm(dim=1).numpy()
    return Sought(adapted, records, norms, float(np.quantile(norms, TARGET)))
