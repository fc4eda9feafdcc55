"""Make distributions of sums, and symbols of distributions, at the coordinator: numbers in, numbers out.

Shapes:  rows of log-probabilities of the public model (T, V), sums (T, width), supports (T, K) or (0, 0); results
         (T, V) float64 that add up to 1. Uniform numbers are arguments: nothing is drawn here.
Cites:   Leviathan, Kalman and Matias 2023 (speculative sampling); Li et al. 2023 (the plausible set of contrastive
         decoding).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from protocols.logits.question import Question, Sends

Reals = NDArray[np.float64]
Uniform = Callable[[], float]


def combined(question: Question, public: NDArray[np.floating[Any]], total: Reals, support: NDArray[Any]) -> Reals:
    """Return what all models together say of each position: one distribution (V,) a row."""
    log_p0 = np.asarray(public, dtype=np.float64)
    where = support.astype(np.intp) if support.size else np.broadcast_to(np.arange(log_p0.shape[1]), log_p0.shape)
    match question.sends:
        case Sends.WEIGHTED:
            return weighted(log_p0, total, where)
        case Sends.MIXED:
            return mixed(question, log_p0, total, where)
        case Sends.VOTES:
            return elected(log_p0, total, where)
    return ratios(question, log_p0, total, where)


def folded(question: Question, spec: FixedPoint, total: Reals) -> Reals:
    """Return a sum as it may be sampled from: it moves no further than what is added moves.

    Modulo 2**bits a sum that wraps would jump from its largest value to its least, and a member that adds garbage
    could have it do so just where another's record decides. The experts' own values take half of the range; in the
    other half the way leads back, so that there is no jump.
    """
    if not question.central:
        return total
    half = 2 ** (spec.bits - 1) / spec.scale
    return np.where(np.abs(total) <= half / 2, total, np.copysign(half - np.abs(total), total))


def weighted(log_p0: Reals, total: Reals, where: NDArray[np.intp]) -> Reals:
    """Return (p0 + sum w p) / (1 + sum w): the public model is one more expert, of weight 1."""
    inside = np.exp(np.take_along_axis(log_p0, where, axis=1)) + np.maximum(total[:, :-1], 0)
    return _completed(log_p0, inside / (1 + np.maximum(total[:, -1:], 0)), where)


def mixed(question: Question, log_p0: Reals, total: Reals, where: NDArray[np.intp]) -> Reals:
    """Return the mean of the experts' mixed distributions, where the public one stands for each that is missing.

    It is over no fewer than `question.experts`: among so many one expert is hidden, by what is charged.
    """
    there = np.maximum(total[:, -1:], 0)
    missing = np.maximum(question.experts - there, 0)
    inside = np.maximum(total[:, :-1], 0) + missing * np.exp(np.take_along_axis(log_p0, where, axis=1))
    return _completed(log_p0, inside / (there + missing), where)


def elected(log_p0: Reals, total: Reals, where: NDArray[np.intp]) -> Reals:
    """Return certainty of the symbol with most votes: by common randomness it is a sample already."""
    made = np.zeros_like(log_p0)
    best = np.take_along_axis(where, total.argmax(axis=1)[:, None], axis=1)
    np.put_along_axis(made, best, 1.0, axis=1)
    return made


def ratios(question: Question, log_p0: Reals, total: Reals, where: NDArray[np.intp]) -> Reals:
    """Return p0 exp(strength / N sum d), to the power 1 / temperature; among the plausible symbols alone, if any.

    Plausible is what the experts' geometric mean (the same with strength 1) finds at least so likely as a share of
    the likeliest.
    """
    shift = np.zeros_like(log_p0)
    np.put_along_axis(shift, where, total / question.experts, axis=1)
    made = (log_p0 + question.strength * shift) / question.temperature
    if question.plausible > 0:
        mean = log_p0 + shift
        made = np.where(mean >= mean.max(axis=1, keepdims=True) + np.log(question.plausible), made, -np.inf)
    made = np.exp(made - made.max(axis=1, keepdims=True))
    return np.asarray(made / made.sum(axis=1, keepdims=True))


def pick(row: Reals, uniform: float) -> int:
    """Return the symbol at which the distribution's cumulative sum passes `uniform`, a number from 0 to below 1."""
    sums = np.cumsum(row)
    found = int(np.searchsorted(sums, uniform * sums[-1], side="right"))
    return min(found, int(np.flatnonzero(row)[-1]))  # a rounding up at the end finds a symbol that can be


def accepted(targets: Reals, proposals: Reals, drafts: Sequence[int], uniform: Uniform) -> list[int]:
    """Return the drafts that stand, and the symbol after them: distributed exactly as `targets` (T, V) say.

    Draft t was drawn from proposals[t], a row of (T - 1, V). It stands with probability min(1, q / p); else the
    symbol is drawn from what q has beyond p. Only where nothing private is sampled from: whether a draft stands
    depends on q in a way that no exponential mechanism bounds.
    """
    found: list[int] = []
    for draft, q, p in zip(drafts, targets, proposals, strict=False):
        if uniform() * p[draft] < q[draft]:
            found.append(int(draft))
            continue
        beyond = np.maximum(q - p, 0)
        return [*found, pick(beyond if beyond.any() else q, uniform())]
    return [*found, pick(targets[len(drafts)], uniform())]


def matched(targets: Reals, drafts: Sequence[int], uniform: Uniform) -> list[int]:
    """Return one sample of each position, up to the first that is not the draft: sample and match.

    Each is a sample of `targets` (T, V) and of nothing else; whether the next is used is a function of it and of the
    public draft. So the mechanism is the exponential one, once for each symbol.
    """
    found: list[int] = []
    for draft, q in zip([*drafts, -1], targets, strict=True):
        found.append(pick(q, uniform()))
        if found[-1] != draft:
            break
    return found


def _completed(log_p0: Reals, inside: Reals, where: NDArray[np.intp]) -> Reals:
    """Return distributions that are `inside` on their support, and outside of it spread what is left as p0 does."""
    made = np.exp(log_p0)
    np.put_along_axis(made, where, 0.0, axis=1)
    outside = made.sum(axis=1, keepdims=True)
    left = np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)
    made *= np.divide(left, outside, out=np.zeros_like(outside), where=outside > 0)
    np.put_along_axis(made, where, inside, axis=1)
    return np.asarray(made / made.sum(axis=1, keepdims=True))
