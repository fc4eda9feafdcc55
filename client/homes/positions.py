"""Compute what one expert adds at each position of a block: numbers in, bounded numbers out.

Shapes:  rows of log-probabilities (T, V); supports (T, K) of symbols; results (T, width) float64.
Learns:  nobody: what is computed here is encoded, added up and masked before it leaves.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from client.experts.expert import Thought
from protocols.logits.block import Asked
from protocols.logits.question import Question, Sends

Reals = NDArray[np.float64]
_LARGEST = 1e4  # of one symbol's evidence, in nats: what is impossible by one model stays a number
_HALVINGS = 50


def entries(asked: Asked, number: int, own: Thought, public: Thought | None, scale: float | None = None) -> Reals:
    """Return what an expert adds of one strand to a block, shape (T, width); `public`: for ratios and mixes.

    `number` is the block's. With the `scale` of the words mixes are whole steps of it.
    """
    question, where = asked.question, _where(asked)
    if question.sends is Sends.WEIGHTED:
        return weighted(question, asked, own, where)
    if question.sends is Sends.VOTES:
        return votes(_of(own.next, where), question.seed, number, asked.strand)
    if public is None:
        raise ValueError("expected what the public model says")
    if question.sends is Sends.MIXED:
        rows, near_by = (own.next, public.next), (question.order, question.radius)
        near = _of(mixed(*rows, *near_by), where) if scale is None else in_steps(*rows, where, *near_by, scale)
        return np.concatenate([near, np.ones((len(near), 1))], axis=1)
    return ratios(question, _of(own.next, where), _of(public.next, where))


def weighted(question: Question, asked: Asked, own: Thought, where: NDArray[np.intp]) -> Reals:
    """Return w p over the support, and w: see `protocols/logits/mixture.py`."""
    new = _evidence(np.concatenate([own.told, own.drafted]), np.concatenate([asked.told, asked.drafted]))
    size = asked.context.size
    score = float(new[:size] @ question.decay ** np.arange(size - 1, -1, -1.0))
    scores = [score]
    for each in new[size:]:
        score = question.decay * score + float(each)
        scores.append(score)
    weights = np.exp(np.clip(np.array(scores), -question.weight_bound, question.weight_bound))[:, None]
    return np.concatenate([weights * np.exp(_of(own.next, where)), weights], axis=1)


def ratios(question: Question, own: Reals, public: Reals) -> Reals:
    """Return log p - log p0, each rounded and cut off; where there is noise, each position's norm is bounded instead.

    A ratio is linear in both models' outputs, but for its row's normaliser: sums of exact ones span no more than the
    models' hidden widths, and show them. The clip breaks that where it cuts, the grain where it does not.
    """
    found = _evidence(own, public)
    if question.noise_multiplier is None:
        if question.grain:
            found = np.rint(found / question.grain) * question.grain
        return np.clip(found, (question.lean - 1) * question.clip, (question.lean + 1) * question.clip)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found * np.minimum(1.0, question.clip / np.maximum(norms, 1e-300)))


def mixed(own: Reals, public: Reals, order: float, radius: float) -> Reals:
    """Return l p + (1 - l) p0, (T, V), with the largest l at which both divergences of `order` are small.

    At most order * radius: from the public distribution, and to it. Both grow with l, so that halving finds it.
    Cites:   Flemings, Razaviyayn and Annavaram 2024, section 4.
    """
    low, high = np.zeros(len(own)), np.ones(len(own))
    p, p0 = np.exp(own), np.exp(public)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        near = np.maximum(divergences(p, p0, middle, order), divergences(p, p0, middle, order, back=True))
        inside = near <= order * radius
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(low[:, None] * p + (1 - low[:, None]) * p0)


def in_steps(own: Reals, public: Reals, where: NDArray[np.intp], order: float, radius: float, scale: float) -> Reals:
    """Return `mixed` over the support (T, K) in whole steps of 1 / scale, within the bounds as it is sent.

    Rounding alone would break them: of a symbol that is as rare as a step one shard decides whether it can be drawn
    at all. So each has a step at least, the public distribution too, and all that is outside of the support is one
    symbol more.
    """
    steps, ones = float(np.rint(scale)), np.ones(len(own))
    p, p0 = _cells(own, where), _cells(public, where)
    most = p0.argmax(axis=1)[:, None]
    least = found = _whole(p0, most, steps)
    low, high = np.zeros(len(own)), np.ones(len(own))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        near = _whole(middle[:, None] * p + (1 - middle[:, None]) * p0, most, steps)
        sent = near / steps, least / steps, ones, order
        inside = np.maximum(divergences(*sent), divergences(*sent, back=True)) <= order * radius
        found = np.where(inside[:, None], near, found)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(found[:, : where.shape[1]] / scale)


def _cells(rows: Reals, where: NDArray[np.intp]) -> Reals:
    """Return probabilities on the support, and of all else if there is anything else, which add up to 1."""
    inside = np.exp(_of(rows, where))
    if where.shape[1] < rows.shape[1]:
        inside = np.concatenate([inside, np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)], axis=1)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True))


def _whole(cells: Reals, most: NDArray[np.intp], steps: float) -> Reals:
    """Return whole numbers, each at least 1, that add up to `steps`; what is left over goes to the symbol `most`."""
    made = 1 + np.floor((steps - cells.shape[1]) * cells)
    left = steps - made.sum(axis=1, keepdims=True)
    np.put_along_axis(made, most, np.take_along_axis(made, most, axis=1) + left, axis=1)
    return np.asarray(made)


def divergences(p: Reals, p0: Reals, share: Reals, order: float, *, back: bool = False) -> Reals:
    """Return each row's Renyi divergence of `order` of the mix from the public row, or of that from the mix."""
    mix = share[:, None] * p + (1 - share[:, None]) * p0
    top, bottom = (p0, mix) if back else (mix, p0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.where(top > 0, np.log(top) - np.log(bottom), -np.inf)
        terms = np.where(top > 0, bottom * np.exp(order * ratio), 0.0)
        terms = np.where((top > 0) & (bottom == 0), np.inf, terms)
    return np.asarray(np.log(terms.sum(axis=1)) / (order - 1))


def votes(own: Reals, seed: int, number: int, strand: int = 0) -> Reals:
    """Return 1 at one symbol of each position: the first to ring, of clocks that ring as fast as it is likely.

    The clocks are common: experts that agree vote alike, and each one's vote is a sample of its own distribution.
    Cites:   Cohen et al. 2023 (Hot PATE: coordinated ensembles).
    """
    clocks = -np.log(_uniform(f"{seed}/{number}/{strand}", own.shape))
    best = (np.log(clocks) - own).argmin(axis=1)
    made = np.zeros_like(own)
    np.put_along_axis(made, best[:, None], 1.0, axis=1)
    return made


def _uniform(named: str, shape: tuple[int, ...]) -> Reals:
    """Return common numbers above 0 and below 1, the same at every member. SHAKE-256, which stays as it is."""
    label = f"parley/v1/votes/{named}".encode()
    words = np.frombuffer(hashlib.shake_256(label).digest(8 * int(np.prod(shape))), dtype="<u8")
    return np.asarray(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52).reshape(shape)


def _evidence(own: NDArray[np.floating], public: NDArray[np.floating]) -> Reals:
    """Return own - public; where both are impossible nothing, and where one is, much."""
    with np.errstate(invalid="ignore"):
        found = np.asarray(own, np.float64) - np.asarray(public, np.float64)
    return np.clip(np.nan_to_num(found, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST), -_LARGEST, _LARGEST)


def _where(asked: Asked) -> NDArray[np.intp]:
    if asked.support.size:
        return asked.support.astype(np.intp)
    everything = np.arange(asked.question.symbols, dtype=np.intp)
    return np.broadcast_to(everything, (asked.positions, asked.question.symbols))


def _of(rows: NDArray[np.floating], where: NDArray[np.intp]) -> Reals:
    if where.shape == rows.shape and not where.strides[0]:  # everything, in order
        return np.asarray(rows, dtype=np.float64)
    return np.take_along_axis(np.asarray(rows, dtype=np.float64), where, axis=1)
