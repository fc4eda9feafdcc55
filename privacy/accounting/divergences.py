"""Compute Renyi divergences of mechanisms from their numbers: closed forms, exact sums, proven bounds, a quadrature.

Where a formula holds at whole orders only, the ones between are interpolated: (order - 1) times the divergence is
convex in the order, and 0 at order 1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from privacy.units import Relation

Array = NDArray[np.float64]
_HUGE = 700.0  # exp of more is no float
_MOST_POINTS = 10**7  # of a quadrature, times the shifts
_MARGIN = 1e-9  # relative: what a quadrature is raised by, far more than its error


def pure(epsilon: float, order: float) -> float:
    """Return the most that an epsilon-private mechanism diverges: that of a coin flipped with its odds.

    Cites:   Bun and Steinke 2016, proposition 3.3 and its proof.
    """
    over = order * epsilon
    if over < 1:
        rises = 2 * math.sinh(over / 2) * math.sinh((order - 1) * epsilon / 2) / math.cosh(epsilon / 2)
        return math.log1p(rises) / (order - 1)
    grows = math.log1p(math.exp((1 - 2 * order) * epsilon)) - math.log1p(math.exp(-epsilon))
    return epsilon + grows / (order - 1)


def laplace(epsilon: float, order: float) -> float:
    """Return the divergence of Laplace noise of scale sensitivity / epsilon. Cites: Mironov 2017, proposition 6."""
    twice = 2 * order - 1
    return epsilon + math.log1p((order - 1) / twice * math.expm1(-twice * epsilon)) / (order - 1)


def discrete_laplace(parameter: float, sensitivity: int, order: float) -> float:
    """Return the divergence of exp(-parameter |x|) noise, summed exactly, between integers `sensitivity` apart.

    All of an L1 sensitivity in one coordinate is the worst: the divergence is convex in the shift.
    """
    shift, twice = parameter * sensitivity, 2 * order - 1
    outer = (1 + math.exp(-shift * twice)) / (1 + math.exp(-parameter))  # beyond either of the two, ends included
    inner = math.expm1((1 - sensitivity) * parameter * twice) / math.expm1(-parameter * twice)
    inner *= math.tanh(parameter / 2) * math.exp(-parameter * twice)
    return shift + math.log(outer + inner) / (order - 1)


def randomised_response(noise: float, buckets: int, order: float) -> float:
    """Return the divergence between any two answers; a zeroed record may answer a bucket, or all of them evenly.

    That it is at most the one between two buckets follows from convexity: even answers are the mean over buckets.
    """
    low = noise / buckets
    high = 1 - noise + low
    loss = math.log(high / low)
    if order * loss < 0.5:
        rises = high * math.expm1((order - 1) * loss) + low * math.expm1((1 - order) * loss)
        return math.log1p(rises) / (order - 1)
    others = max(0.0, noise - 2 * low)
    inside = high + low * math.exp(2 * (1 - order) * loss) + others * math.exp((1 - order) * loss)
    return loss + math.log(inside) / (order - 1)


def skellam(variance: float, l1: float, l2: float, order: float) -> float:
    """Return a bound for Skellam noise, proven at whole orders. Cites: Agarwal, Kairouz and Liu 2021, theorem 3.5."""

    def whole(a: float) -> float:
        extra = min(((2 * a - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
        return a * l2**2 / (2 * variance) + extra

    return _between(whole, order)


def distributed_rho(bound: float, deviation: float, honest: int, length: int) -> float:
    """Return the zero-concentrated privacy loss of one sum of integer vectors, an org's vector being there or zero.

    The samplers cut their noise off at 16 deviations: in total variation that is less than length * honest * 2**-183.

    Units:   bound and deviation in steps; the loss is that of 1/2 (bound / (sqrt(honest) deviation))**2 and, for
             noise narrower than we allow, more.
    Trusts:  `honest` members add their noise and tell nobody what it was.
    Cites:   Kairouz, Liu and Steinke 2021, proposition 14.
    """
    if honest < 1 or length < 1 or not (bound > 0 and deviation >= 0.5):
        raise ValueError("expected honest and length at least 1, a positive bound, and a deviation of at least 0.5")
    tau = 10 * sum(math.exp(-2 * (math.pi * deviation) ** 2 * k / (k + 1)) for k in range(1, honest))
    return (bound / (math.sqrt(honest) * deviation) + math.sqrt(length) * tau) ** 2 / 2


def pmixed(members: int, alpha: float, beta: float, order: float, relation: Relation) -> float:
    """Return the divergence of one query of PMixED, from what it enforces: one order, both ways.

    Zero-out: a member that is zeroed answers with the public distribution, so its own bound is all there is, at
    orders up to alpha. Add-or-remove: its distribution is compared with the others', through the public one, by the
    weak triangle inequality (Mironov 2017, proposition 11) with p = (alpha - 1) / (alpha - order), the least p that
    asks for no order above alpha; that holds up to alpha**2 / (2 alpha - 1). The published 4 alpha beta needs the
    bound at every order, which the mechanism does not enforce.
    """
    one = alpha * beta
    most, apart = alpha, one
    if relation is not Relation.ZERO_OUT:
        most, apart = alpha**2 / (2 * alpha - 1), one * (2 * alpha - 1) / (alpha - 1)
    if order > most:
        return math.inf
    grows = (order - 1) * apart
    if grows > _HUGE:
        return apart
    return math.log1p(math.expm1(grows) / members) / (order - 1)


def poisson(rate: float, curve: Callable[[float], float], order: float) -> float:
    """Return a bound for any mechanism with this curve, on a Poisson sample.

    Cites:   Zhu and Wang 2019, theorem 5: the general bound, whose terms from the third on count three times.
    """

    def whole(a: float) -> float:
        n = int(a)
        terms = [_log_binomial(n, 2, rate) + _log_expm1(curve(2))]
        for k in range(3, n + 1):
            terms.append(_log_binomial(n, k, rate) + _log_three(curve(k) * (k - 1)))
        return _from_log_excess(_log_sum(np.array(terms)), a)

    return min(curve(order), _between(whole, order) if rate < 1 else math.inf)


def sampled_gaussian(rate: float, noise_multiplier: float, order: float) -> float:
    """Return the divergence of the Gaussian mechanism on a Poisson sample. Cites: Mironov et al. 2019, section 3."""
    plain = order / (2 * noise_multiplier) / noise_multiplier
    if rate == 1:
        return plain
    if order == int(order) or noise_multiplier < 0.1:
        return min(plain, _between(lambda a: _sampled_gaussian_whole(rate, noise_multiplier, a), order))
    return min(plain, mixture(noise_multiplier, (0.0, 1.0), (1 - rate, rate), order))


def _sampled_gaussian_whole(rate: float, noise_multiplier: float, order: float) -> float:
    n = int(order)
    k = np.arange(2, n + 1)
    binomial = np.array([_log_binomial(n, int(each), rate) for each in k])
    grows = (k * k - k) / (2 * noise_multiplier) / noise_multiplier
    return _from_log_excess(_log_sum(binomial + np.array([_log_expm1(float(g)) for g in grows])), order)


def mixture(deviation: float, shifts: Sequence[float], chances: Sequence[float], order: float) -> float:
    """Return the divergence between a Gaussian and a mixture of its shifts, both ways, by quadrature.

    The integrand is analytic and falls like a Gaussian, where the trapezoid rule errs by exp(-2 pi width / step):
    here by less than 1e-16. Where that takes too many points, the largest shift alone is a bound.
    """
    c = [shift / deviation for shift in shifts]
    most = max(c)
    plain = order * most**2 / 2
    step = min(1 / 16, 1 / (2 * most))
    points = (2 * order * most + 26) / step
    if not points * min(len(c), 100) < _MOST_POINTS:
        return plain
    x = np.arange(-(order - 1) * most - 13, order * most + 13, step)
    excess, log_ratio = _mixture_ratio(x, c, chances)
    log_normal = math.log(step) - (x**2 + math.log(2 * math.pi)) / 2
    worst = max(_log_sum(log_normal + _log_convex(excess, log_ratio, power)) for power in (order, 1 - order))
    return min(plain, _from_log_excess(worst, order) * (1 + _MARGIN))


def _mixture_ratio(x: Array, shifts: Sequence[float], chances: Sequence[float]) -> tuple[Array, Array]:
    """Return the mixture's density over the Gaussian's, at each x: the ratio less 1, and the ratio's logarithm."""
    excess, logarithm, largest = np.zeros_like(x), np.full_like(x, -np.inf), np.full_like(x, -np.inf)
    for shift, chance in zip(shifts, chances, strict=True):
        exponent = shift * x - shift**2 / 2
        excess += chance * np.expm1(np.minimum(exponent, 50))
        logarithm = np.logaddexp(logarithm, exponent + math.log(chance))
        largest = np.maximum(largest, exponent)
    precise = (largest < 40) & (excess > -0.5)  # there the sum has more digits than its logarithm
    return excess, np.where(precise, np.log1p(np.where(precise, excess, 0)), logarithm)


def _log_convex(u: Array, log_ratio: Array, power: float) -> Array:
    """Return log(r**power - 1 - power (r - 1)) without cancelling, r = 1 + u: its mean is E[r**power] - 1."""
    with np.errstate(all="ignore"):
        series = np.ones_like(u)
        for k in range(7, 2, -1):
            series = 1 + (power - k + 1) / k * u * series
        small = math.log(power * (power - 1) / 2) + 2 * np.log(np.abs(u)) + np.log(series)
        middle = np.log(np.expm1(power * log_ratio) - power * u)
        y = power * log_ratio
        large = y + np.log1p(-np.minimum((1 + power * u) * np.exp(-y), 0.999999))
        huge = y + np.log1p(-np.minimum(power * np.exp(log_ratio - y), 0.999999)) if power > 1 else y * 0
        if power < 1:
            huge = math.log(-power) + log_ratio
    return np.select([np.abs(u) * max(1.0, abs(power)) < 1e-3, log_ratio > 40, y > 40], [small, huge, large], middle)


def _log_sum(logs: Array) -> float:
    most = float(np.max(logs))
    return most + math.log(float(np.sum(np.exp(logs - most)))) if math.isfinite(most) else most


def _log_binomial(n: int, k: int, rate: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(rate) + (n - k) * math.log1p(-rate)


def _log_expm1(x: float) -> float:
    if x > 1:
        return x + math.log1p(-math.exp(-x))
    return math.log(math.expm1(x)) if x > 0 else -math.inf


def _log_three(x: float) -> float:
    return x + math.log(3 - math.exp(-x))  # of 3 e**x - 1


def _from_log_excess(log_excess: float, order: float) -> float:
    """Return the divergence whose moment is 1 + exp(log_excess), raised by more than logarithms of gammas err."""
    log_excess += 1e-10
    return (max(log_excess, 0.0) + math.log1p(math.exp(-abs(log_excess)))) / (order - 1)


def _between(whole: Callable[[float], float], order: float) -> float:
    """Return the bound at an order between two whole ones, from those at them: it is convex times order - 1."""
    low = math.floor(order)
    if low == order:
        return whole(order)
    below = (low - 1) * whole(low) if low > 1 else 0.0
    return ((low + 1 - order) * below + (order - low) * low * whole(low + 1)) / (order - 1)
