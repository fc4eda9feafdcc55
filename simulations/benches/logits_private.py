"""Combine shards' distributions privately: clipped log-ratios with sampling, PMixED, and Gaussian noise in the sum.

Budgets are what the ledger's own filter admits: epsilon at delta = 1e-5 for so many tokens.
    record    one record changes one shard's model: its vector is replaced by another.
    removal   one shard is taken away: its vector is zero, and the number that sums are divided by stays.
"""

import math
from enum import Enum

import numpy as np
from dp_accounting import DpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from privacy.accounting.divergences import poisson
from privacy.accounting.events import PMixedDpEvent
from privacy.units import Relation
from simulations import allowances
from simulations.benches.logits_rules import Judged, Logs, Reals, normalised

DELTA = 1e-5


class Unit(Enum):
    """Name what is protected: how often the bound of one vector its worth counts."""

    RECORD = 2.0
    REMOVAL = 1.0


def push(epsilon: float, tokens: int, unit: Unit) -> float:
    """Return a = clip * strength / (members * temperature): how far one vector may push a logit.

    A vector within [-a, a] that is taken away costs a**2 / 2 a token (the range of its log-ratio is 2 a), one that is
    replaced four times as much. So many tokens fit the budget exactly.
    """
    rho = rho_of(epsilon, tokens)
    return math.sqrt(2 * rho) / unit.value


def rho_of(epsilon: float, tokens: int) -> float:
    """Return the most zero-concentrated loss of one token of so many, by the ledger's filter."""
    return allowances.rho_of(epsilon, DELTA, tokens)


def gaussian_sum(
    judged: Judged, norm: float, strength: float, deviation: float, support: int, noise: np.random.Generator
) -> Reals:
    """Return log q of the targets from a sum of log-ratios on the public model's best symbols, with noise in it.

    Each vector is scaled to an L2 norm; `deviation` is the noise's, in units of it.
    """
    chosen = np.argpartition(-judged.public, support - 1, axis=-1)[..., :support]
    base = np.take_along_axis(judged.public, chosen, -1)
    total = noise.standard_normal(base.shape, dtype=np.float32) * np.float32(deviation * norm)
    for model in judged.models:
        d = np.take_along_axis(model, chosen, -1) - base
        total += d * np.minimum(1, norm / np.maximum(np.linalg.norm(d, axis=-1, keepdims=True), 1e-9))
    logits = judged.public.copy()
    np.put_along_axis(logits, chosen, base + np.float32(strength / len(judged.models)) * total, -1)
    return normalised(logits, judged.rows)


def pmixed_beta(epsilon: float, tokens: int, members: int, alpha: float, sampled: float) -> float:
    """Return the largest beta by PMixED's own accounting: for a shard's removal, amplified by a Poisson sample.

    Its bound takes alpha * beta to hold at every order, which our accountant does not grant: the peer gains by it.
    Cites:   Flemings, Razaviyayn and Annavaram 2024, theorem 4.2; Zhu and Wang 2019, theorem 5.
    """
    taking_part = max(1.0, members * sampled)

    def spent(beta: float) -> float:
        def curve(order: float) -> float:
            return math.log1p(math.expm1((order - 1) * 4 * beta * order) / taking_part) / (order - 1)

        orders = [a for a in (1.5, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64) if (a - 1) * 4 * beta * a < 600]
        return min(
            tokens * (poisson(sampled, curve, a) if sampled < 1 else curve(a))
            + math.log1p(-1 / a)
            - math.log(DELTA * a) / (a - 1)
            for a in orders
        )

    low, high = 0.0, 50.0 / alpha
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) <= epsilon else (low, middle)
    return low


def pmixed_radius(epsilon: float, tokens: int, members: int, alpha: int) -> float:
    """Return the largest alpha * beta that the ledger's filter admits; a shard that is away answers as p0 does."""

    def event(radius: float) -> DpEvent:
        return SelfComposedDpEvent(PMixedDpEvent(members, float(alpha), radius / alpha), tokens)

    return allowances.largest(event, epsilon, DELTA, (float(alpha),), Relation.ZERO_OUT)


def pmixed(judged: Judged, alpha: int, radius: float, sampled: float, draw: np.random.Generator) -> Reals:
    """Return log of the mean of the members' distributions, each mixed with the public one as far as it may be.

    A member mixes as much of its own as keeps both divergences of order `alpha`, to and from the public one, within
    `radius`. Each takes part with probability `sampled`; of nobody, it is the public one's.
    """
    public = np.exp(judged.public)
    told = np.exp(judged.told)
    total, count = np.zeros_like(told), np.zeros_like(told)
    for model, each in zip(judged.models, judged.each, strict=True):
        ratio = np.exp(model - judged.public)
        share = mixed_share(ratio, public, alpha, radius)
        here = draw.random(told.shape) < sampled
        total += here * (share * np.exp(each) + (1 - share) * told)
        count += here
    return np.asarray(np.log(np.where(count > 0, total / np.maximum(count, 1), told)))


def mixed_share(ratio: Logs, public: Logs, alpha: int, radius: float) -> NDArray[np.float64]:
    """Return for each position the largest share of p, of p / p0 = ratio, within the radius: by bisection."""
    low, high = np.zeros(public.shape[:-1], np.float32), np.ones(public.shape[:-1], np.float32)
    most = math.exp((alpha - 1) * radius)
    for _ in range(12):
        share = (low + high) / 2
        mixed = 1 + share[..., None] * (ratio - 1)
        power = mixed.copy()
        for _ in range(alpha - 2):  # a whole power by products: numpy's own takes ten times as long
            power *= mixed
        back, forth = (public / power).sum(-1), (public * (power * mixed)).sum(-1)
        fits = np.maximum(forth, back) <= most
        low, high = np.where(fits, share, low), np.where(fits, high, share)
    return low.astype(np.float64)
