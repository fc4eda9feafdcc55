"""Combine next-token distributions over windows of text by each rule, in numpy, and judge them by perplexity.

Shapes:  rows (windows, length) tokens; a model's scores (windows, length - 1, V) log p in nats; several models'
         (models, windows, length - 1, V). What is said of the targets alone has no last axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.logits.at_home import mixed_told

Logs = NDArray[np.float32]
Reals = NDArray[np.float64]
Tokens = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold windows of text, and what the public model and the others say of them.

    `home` (windows,) is the number of the silo that a window is from.
    """

    rows: Tokens
    home: NDArray[np.intp]
    public: Logs
    models: Logs

    def take(self, windows: NDArray[Any]) -> "Judged":
        """Return these windows alone."""
        return Judged(self.rows[windows], self.home[windows], self.public[windows], self.models[:, windows])

    def of(self, models: Sequence[int] | NDArray[np.intp]) -> "Judged":
        """Return the windows with these models alone."""
        return Judged(self.rows, self.home, self.public, self.models[list(models)])

    @property
    def told(self) -> Reals:
        """Return log p0 of each target, (windows, length - 1)."""
        return at(self.public, self.rows)

    @property
    def each(self) -> Reals:
        """Return each model's log p of each target, (models, windows, length - 1)."""
        return np.stack([at(m, self.rows) for m in self.models])


def at(scores: NDArray[np.floating[Any]], rows: Tokens) -> Reals:
    """Return the entries of scores (..., V) at the targets, in float64."""
    targets = rows[:, 1:, None].astype(np.int64)
    return np.take_along_axis(scores, targets, axis=-1)[..., 0].astype(np.float64)


def perplexity(logs: Reals) -> float:
    """Return the perplexity of targets with these log p."""
    return float(np.exp(-logs.mean()))


def weights(told: Reals, each: Reals, bound: float, decay: float) -> Reals:
    """Return the weight of each model for each position, (models, windows, length - 1): see `mixture`."""
    state, found = np.zeros(each.shape[:2]), np.empty_like(each)
    for t in range(each.shape[2]):
        found[:, :, t] = np.exp(np.clip(state, -bound, bound))
        state = decay * state + each[:, :, t] - told[:, t]
    return found


def mixture(told: Reals, each: Reals, bound: float, decay: float) -> Reals:
    """Return the locally weighted mixture's log q of the targets: (p0 + sum w p) / (1 + sum w).

    Each model's weight is exp of a running sum of how much better than the public model it predicted the tokens
    before, which it computes alone: decayed, and kept within the bound.
    """
    w = weights(told, each, bound, decay)
    return np.asarray(np.log((np.exp(told) + (w * np.exp(each)).sum(0)) / (1 + w.sum(0))))


def at_home(joined: Reals, own: Reals) -> Reals:
    """Return log q of the targets where who asks mixes its own model's word with what the others' sum says.

    Shapes:  both (windows, length - 1), log p of each target; each window is a text of its own.
    """
    return mixed_told(np.stack([joined, own]))


def plain_mixture(told: Reals, each: Reals) -> Reals:
    """Return log of the mean of all distributions, the public one's too, at the targets."""
    return np.asarray(np.log((np.exp(told) + np.exp(each).sum(0)) / (1 + len(each))))


def routed(told: Reals, each: Reals) -> Reals:
    """Return log p by whichever model, the public one too, does best on a whole window: nobody can know that."""
    everyone = np.concatenate([told[None], each])
    best = everyone.sum(-1).argmax(0)
    return np.asarray(np.take_along_axis(everyone, best[None, :, None], axis=0)[0])


def mean_logit(judged: Judged, with_public: bool) -> Reals:
    """Return log q of the targets where q is the softmax of the mean of all models' logits."""
    total = judged.models.sum(0, dtype=np.float32)
    if with_public:
        total = total + judged.public
    return normalised(total / np.float32(len(judged.models) + with_public), judged.rows)


def clipped(judged: Judged, clip: float, lean: float = 0.0) -> Logs:
    """Return the sum over models of log p - log p0: (windows, length - 1, V).

    Each entry is from (lean - 1) clip to (lean + 1) clip.
    """
    total = np.zeros_like(judged.public)
    for model in judged.models:
        total += np.clip(model - judged.public, (lean - 1) * clip, (lean + 1) * clip)
    return total


def product(judged: Judged, total: Logs, strength: float, temperature: float = 1.0) -> Reals:
    """Return log q of the targets, q ~ (p0 exp(strength * total)) ** (1 / temperature)."""
    return normalised((judged.public + np.float32(strength) * total) / np.float32(temperature), judged.rows)


def normalised(logits: NDArray[np.floating[Any]], rows: Tokens) -> Reals:
    """Return the log-softmax of logits at the targets."""
    largest = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(-1, dtype=np.float64)) + largest[..., 0]
    return np.asarray(at(logits, rows) - total)
