"""Score candidate adapters on records: how much better each privacy unit fares than under a reference, cut off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Records
from client.model import Adapted
from client.training.clipping import record_losses, torch_threads

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Compute each privacy unit's scores of points[1:] over points[0], vectors of the layout.

    Every batch has the same shape, filled up with blank rows: a row's loss is its own, but for rounding, whoever is
    beside it.
    """

    adapted: Adapted
    points: Sequence[NDArray[np.floating]]
    clip: float
    micro_batch: int
    threads: int = 1

    def each(self, records: Records) -> Reals:
        """Return the scores, shape (units, candidates), each within [-clip, clip].

        A record's score is its gain in nats a token that counts; a pair's is the gain, in nats, of the chosen answer
        over the rejected one; a group's is the mean over its records or pairs. A candidate that has no finite loss on
        one of them has the lowest score there; where the reference has none, the score is 0.
        """
        candidates = len(self.points) - 1
        if not len(records):
            return np.zeros((0, candidates))
        with torch_threads(self.threads), torch.no_grad():
            before, *after = (self._merits(point, records) for point in self.points)
        merits = np.stack(after, axis=1)  # (examples, candidates)
        with np.errstate(invalid="ignore"):
            gains = np.where(np.isfinite(merits), merits - before[:, None], -np.inf)
        gains = np.clip(np.where(np.isfinite(before)[:, None], gains, 0.0), -self.clip, self.clip)
        if records.owner is None:
            return gains
        owner = records.owner[:: records.rows_per_example]
        totals = np.zeros((records.units, candidates))
        np.add.at(totals, owner, gains)
        counts = np.bincount(owner, minlength=records.units)[:, None]
        return np.asarray(np.clip(totals / np.maximum(counts, 1), -self.clip, self.clip))

    def _merits(self, point: NDArray[np.floating], records: Records) -> Reals:
        """Return every example's merit under one adapter, shape (examples,): the higher the better."""
        self.adapted.set(point)
        losses = np.concatenate(
            [
                self._losses(records, np.arange(start, min(start + self.micro_batch, len(records)), dtype=np.intp))
                for start in range(0, len(records), self.micro_batch)
            ]
        )
        with np.errstate(invalid="ignore"):
            return losses[1::2] - losses[::2] if records.paired else -losses

    def _losses(self, records: Records, rows: NDArray[np.intp]) -> Reals:
        """Return the losses of a few rows: means, or of pairs the sums."""
        shape = (self.micro_batch, records.tokens.shape[1])
        tokens, lengths = np.zeros(shape, dtype=np.int64), np.full(self.micro_batch, 2, dtype=np.int64)
        counted = np.ones(shape, dtype=np.bool_)
        tokens[: rows.size], lengths[: rows.size] = records.tokens[rows], records.lengths[rows]
        if records.counted is not None:
            counted[: rows.size] = records.counted[rows]
        device = self.adapted.a(self.adapted.layout.slots[0].name).device
        x, ends, said = (torch.from_numpy(each).to(device) for each in (tokens, lengths, counted))
        weights = torch.ones(self.micro_batch, device=device) if records.paired else None
        losses = record_losses(self.adapted.base.model, x, ends, said, weights)
        return np.asarray(losses.double().cpu().numpy())[: rows.size]
