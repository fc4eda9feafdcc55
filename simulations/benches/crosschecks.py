"""Check each kind of event's curve against numbers: exact sums or integrals of neighbouring distributions."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, RandomizedResponseDpEvent
from numpy.typing import NDArray

from privacy.accounting import events as ev
from privacy.accounting.curves import divergence
from privacy.units import Relation

ORDERS = (1.3, 2.0, 3.85, 8.0, 17.5)
Law = NDArray[np.float64]  # logarithms of weights on a grid
Laws = Iterator[tuple[Law, Law]]
GRID = np.arange(-60, 60, 1 / 256)
WHOLE = np.arange(-400, 401)


def numeric(p: Law, q: Law, order: float) -> float:
    """Return the Renyi divergence of two laws on one grid, the larger of both ways."""
    return max(_one_way(p, q, order), _one_way(q, p, order))


def _one_way(p: Law, q: Law, order: float) -> float:
    logs = order * p + (1 - order) * q
    most = float(np.max(logs))
    return (most + math.log(float(np.sum(np.exp(logs - most))))) / (order - 1)


def never_below(event: DpEvent, laws: Sequence[tuple[Law, Law]], tight: float | None = None) -> bool:
    """Return whether the curve is at no order below these laws, and within `tight` (relative) of the worst."""
    for order in ORDERS:
        ours = divergence(event, order, Relation.ZERO_OUT)
        worst = max(numeric(p, q, order) for p, q in laws)
        if not worst <= ours * (1 + 1e-9) + 1e-12 or (tight is not None and ours > worst * (1 + tight) + 1e-12):
            return False
    return True


def _normal(x: Law) -> Law:
    return _law(-(x**2) / 2)


def _law(logs: Law) -> Law:
    most = float(np.max(logs))
    law: Law = logs - most - math.log(float(np.sum(np.exp(logs - most))))
    return law


def _gaussian() -> bool:
    sigma, law = 1.7, _normal(GRID)
    return never_below(GaussianDpEvent(sigma), [(law, _normal(GRID - 1 / sigma))], 1e-7)


def _integers(noise: Callable[[Law], Law], shift: int) -> tuple[Law, Law]:
    k = WHOLE.astype(np.float64)
    return _law(noise(k)), _law(noise(k - shift))


def _discrete_gaussian() -> bool:
    return all(
        never_below(ev.DiscreteGaussianDpEvent(s, 3.0), [_integers(lambda k, s=s: -((k / s) ** 2) / 2, 3)], tight)  # type: ignore[misc]
        for s, tight in ((0.4, None), (4.0, 1e-6))
    )


def _distributed() -> bool:
    one = np.exp(_law(-((np.arange(-40, 41) / 1.5) ** 2) / 2))
    total = np.array([1.0])
    for _ in range(3):
        total = np.convolve(total, one)
    pair = np.log(total[4:] + 1e-300), np.log(total[:-4] + 1e-300)
    keep = (pair[0] > -600) & (pair[1] > -600)
    return never_below(ev.DistributedGaussianSumDpEvent(4.0, 1.5, 3, 1), [(pair[0][keep], pair[1][keep])], 1e-3)


def _sampled_sum() -> bool:
    """Mix the exact law of three members' noise with itself moved by a record, in one direction and in two."""
    one = np.exp(_law(-((np.arange(-60, 61) / 2.5) ** 2) / 2))
    total = np.log(np.convolve(np.convolve(one, one), one) + 1e-300)

    def moved(shift: int) -> tuple[Law, Law]:
        pair = total[8 : total.size - 8], total[8 - shift : total.size - 8 - shift]
        keep = (pair[0] > -120) & (pair[1] > -120)
        return _law(pair[0][keep]), _law(pair[1][keep])

    along, across = moved(5), _product(moved(3), moved(4))  # of norm 5 both
    return all(
        never_below(ev.SampledSumDpEvent(q, 5.0, 2.5, 3, len_), [_sampled(q, *pair), _sampled(q, *pair[::-1])])
        for q in (0.01, 0.3, 0.95)
        for len_, pair in ((1, along), (2, across))
    )


def _skellam() -> bool:
    """Sum the law of a difference of two Poisson variables, of mean 8 each."""
    poisson = np.exp(-8 + np.arange(200) * math.log(8) - np.array([math.lgamma(k + 1) for k in range(200)]))
    law = np.log(np.convolve(poisson, poisson[::-1])[80:320])
    return never_below(ev.SkellamDpEvent(16.0, 2.0, 2.0), [(law[2:], law[:-2])])


def _laplace() -> bool:
    x = np.arange(-60, 60, 1 / 512) + 1 / 1024
    return never_below(LaplaceDpEvent(2.0), [(_law(-np.abs(x)), _law(-np.abs(x - 0.5)))], 1e-4)


def _discrete_laplace() -> bool:
    return all(
        never_below(DiscreteLaplaceDpEvent(a, s), [_integers(lambda k, a=a: -a * np.abs(k), s)], 1e-9)  # type: ignore[misc]
        for a, s in ((0.3, 1), (0.3, 5), (2.0, 2))
    )


def _response() -> bool:
    p, k = 0.4, 5
    answers = [np.log(np.full(k, p / k) + np.eye(k)[i] * (1 - p)) for i in range(2)]
    even = np.log(np.full(k, 1 / k))
    return never_below(
        RandomizedResponseDpEvent(p, k), [(answers[0], answers[1]), (answers[0], even), (even, answers[1])], 1e-9
    )


def _choices(epsilon: float) -> Iterator[tuple[Law, Law]]:
    """Yield scores that move by 1 in every pattern, as exponents of epsilon / 2."""
    for scores in ((0.0, 0.0), (0.0, 3.0, 1.0), tuple([0.0] * 8), (0.0, *[20.0] * 3)):
        base = np.array(scores)
        for pattern in range(3 ** min(len(base), 4)):
            moves = np.array([(pattern // 3 ** min(i, 3)) % 3 - 1 for i in range(len(base))])
            yield epsilon / 2 * base, epsilon / 2 * (base + moves)


def _exponential() -> bool:
    laws = [(_law(a), _law(b)) for a, b in _choices(1.2)]
    return never_below(ev.ExponentialMechanismDpEvent(1.2), laws)


def _noisy_max() -> bool:
    """Integrate the chance of each score to be the highest, by the law of its noise."""
    return all(
        never_below(
            ev.ReportNoisyMaxDpEvent(1.2, noise), [(_winner(a, noise), _winner(b, noise)) for a, b in _few(1.2)]
        )
        for noise in ev.NOISES
    )


def _few(epsilon: float) -> Iterator[tuple[Law, Law]]:
    for i, (a, b) in enumerate(_choices(epsilon)):
        if len(a) < 4 and i % 2 == 0:
            yield a, b


def _winner(scores: Law, noise: str) -> Law:
    x = np.arange(-40, 60, 1 / 64) + 1 / 128
    cdf = [_cdf(x - s, noise) for s in scores]
    density = [np.diff(c, prepend=0.0) for c in cdf]
    wins = [
        float(np.sum(density[i] * np.prod([cdf[j] - density[j] / 2 for j in range(len(scores)) if j != i], axis=0)))
        for i in range(len(scores))
    ]
    return np.log(np.array(wins) / sum(wins))


def _cdf(x: Law, noise: str) -> Law:
    """Return the chance that noise of scale 1 is below x, in units in which the exponents are the scores."""
    below: Law
    if noise == "gumbel":
        below = np.exp(-np.exp(-x))
    elif noise == "exponential":
        below = 1 - np.exp(-np.maximum(x, 0))
    else:
        below = np.where(x < 0, np.exp(np.minimum(x, 0)) / 2, 1 - np.exp(-np.maximum(x, 0)) / 2)
    return below


def _permute_and_flip() -> bool:
    def law(exponents: Law) -> Law:
        keep = np.exp(exponents - exponents.max())  # the chance that a candidate that is looked at is kept
        wins = [_kept(i, keep, [j for j in range(len(keep)) if j != i]) for i in range(len(keep))]
        logs: Law = np.log(np.array(wins))
        return logs

    return never_below(ev.PermuteAndFlipDpEvent(1.2), [(law(a), law(b)) for a, b in _few(1.2)])


def _kept(i: int, keep: Law, others: Sequence[int]) -> float:
    """Return the chance that `i` is kept before any of the others: over every set that comes first."""
    total, n = 0.0, len(others) + 1
    for chosen in range(2 ** len(others)):
        before = [j for b, j in enumerate(others) if chosen >> b & 1]
        orders = math.factorial(len(before)) * math.factorial(n - 1 - len(before)) / math.factorial(n)
        total += orders * float(keep[i]) * math.prod(1 - float(keep[j]) for j in before)
    return total


def _above_threshold() -> bool:
    """Integrate over the threshold's noise where a stream of answers crosses first, every answer moving by 1."""
    t = np.arange(-60, 60, 1 / 16)
    weight = np.exp(-np.abs(t) / 2)  # Laplace of scale 2 / epsilon, answers' of 4 / epsilon; epsilon is 1

    def law(answers: Sequence[float]) -> Law:
        below = [_cdf((t - a) / 4, "laplace") for a in answers]
        missed, wins = np.ones_like(t), []
        for each in below:
            wins.append(float(np.sum(weight * missed * (1 - each))))
            missed = missed * each
        wins.append(float(np.sum(weight * missed)))
        return np.log(np.array(wins) / sum(wins))

    streams = [((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((-3.0, 2.0), (-4.0, 3.0)), ((-5.0,) * 20, (-6.0,) * 19 + (-4.0,))]
    return never_below(ev.AboveThresholdDpEvent(1.0), [(law(a), law(b)) for a, b in streams])


def coin(epsilon: float) -> tuple[Law, Law]:
    """Return a coin whose odds are exp(epsilon), and its neighbour's."""
    law = _law(np.array([epsilon, 0.0]))
    return law, law[::-1]


def _pure() -> bool:
    return all(never_below(ev.PureDpEvent(e), [coin(e)], 1e-9) for e in (1e-3, 0.5, 6.0))


def _approximate() -> bool:
    """Check that what is left of an (epsilon, delta) mechanism, once its leak is set apart, is a coin."""
    return never_below(ev.ApproximateDpEvent(0.5, 1e-6), [coin(0.5)], 1e-9)


def _zcdp() -> bool:
    sigma = 3.0
    pair = _normal(GRID), _normal(GRID - 1 / sigma)
    return never_below(ZCDpEvent(1 / 18), [pair], 1e-7) and never_below(ZCDpEvent(0.5, 0.1), [coin(1.0)])


def _renyi() -> bool:
    event = ev.RenyiDpEvent(17.5, numeric(*coin(1.0), 17.5))
    return never_below(event, [coin(1.0)]) and math.isinf(divergence(event, 18.0, Relation.ZERO_OUT))


def _histogram() -> bool:
    law = _normal(GRID)
    shifts = [(ev.HistogramDpEvent(6.0, 4, distinct), 2 if distinct else 4) for distinct in (True, False)]
    return all(never_below(e, [(law, _normal(GRID - n / 6.0))], 1e-7) for e, n in shifts)


def _sampled(rate: float, base: Law, moved: Law) -> tuple[Law, Law]:
    return base, np.logaddexp(math.log1p(-rate) + base, math.log(rate) + moved)


def _sampled_gaussian() -> bool:
    sigmas = (0.7, 2.0)
    return all(
        never_below(
            PoissonSampledDpEvent(q, GaussianDpEvent(s)), [_sampled(q, _normal(GRID), _normal(GRID - 1 / s))], 1e-6
        )
        for q in (0.01, 0.3)
        for s in sigmas
    )


def _sampled_anything() -> bool:
    x = np.arange(-60, 60, 1 / 512) + 1 / 1024
    laplace = _law(-np.abs(x)), _law(-np.abs(x - 0.5))
    return all(
        never_below(PoissonSampledDpEvent(q, event), [_sampled(q, *laws), _sampled(q, *laws[::-1])])
        for q in (0.01, 0.3)
        for event, laws in ((LaplaceDpEvent(2.0), laplace), (ev.PureDpEvent(0.8), coin(0.8)))
    )


def _dp_sgd() -> bool:
    one = _sampled(0.05, _normal(GRID), _normal(GRID - 1 / 1.5))
    worst = {order: 40 * numeric(*one, order) for order in ORDERS}
    ours = {order: divergence(ev.DpSgdDpEvent(0.05, 1.5, 40), order, Relation.ZERO_OUT) for order in ORDERS}
    return all(worst[a] * (1 - 1e-9) <= ours[a] <= worst[a] * (1 + 1e-6) for a in ORDERS)


def _mixture() -> bool:
    event = ev.sampled_group(0.1, 3, 2.0)
    mixed = np.full_like(GRID, -np.inf)
    for k in range(4):
        chance = math.comb(3, k) * 0.1**k * 0.9 ** (3 - k)
        mixed = np.logaddexp(mixed, math.log(chance) + _normal(GRID - k / 2.0))
    return never_below(event, [(_normal(GRID), mixed)], 1e-6)


def _product(*laws: tuple[Law, Law]) -> tuple[Law, Law]:
    p, q = laws[0]
    for a, b in laws[1:]:
        p, q = np.add.outer(p, a).ravel(), np.add.outer(q, b).ravel()
    return p, q


def _repeated() -> bool:
    return never_below(SelfComposedDpEvent(ev.PureDpEvent(0.4), 5), [_product(*[coin(0.4)] * 5)], 1e-9)


def _all() -> bool:
    event = ComposedDpEvent([ev.PureDpEvent(0.4), RandomizedResponseDpEvent(0.5, 2)])
    return never_below(event, [_product(coin(0.4), coin(math.log(3)))], 1e-9)


def _parallel() -> bool:
    """Check both places a unit may be in: the other part's law is the same on both sides."""
    event = ev.ParallelDpEvent((ev.PureDpEvent(0.4), ev.PureDpEvent(0.9)), "the operator")
    still = coin(0.9)[0], coin(0.9)[0]
    return never_below(event, [_product(coin(0.4), still), _product((coin(0.4)[0],) * 2, coin(0.9))], 1e-9)


def _pmixed() -> bool:
    return all(never_below_pmixed(seed) for seed in range(40))


def never_below_pmixed(seed: int) -> bool:
    """Try one ensemble that keeps just what PMixED enforces, against the curve of either relation."""
    members, alpha, beta = 3 + seed % 3, (2.0, 3.0, 6.0)[seed % 3], (0.02, 0.2)[seed % 2]
    drawn = np.abs(np.sin(np.arange(1, 1 + (members + 1) * 6) * (seed + 1) * 12.9898) * 43758.5453) % 1
    laws = np.exp(6 * drawn.reshape(members + 1, 6))
    laws /= laws.sum(axis=1, keepdims=True)
    public, mixed = laws[0], [_enforced(law, laws[0], alpha, beta) for law in laws[1:]]
    mean, without = np.mean(mixed, axis=0), np.mean(mixed[1:], axis=0)
    zeroed = np.mean([public, *mixed[1:]], axis=0)
    event = ev.PMixedDpEvent(members, alpha, beta)
    for other, relation in ((without, Relation.ADD_OR_REMOVE), (zeroed, Relation.ZERO_OUT)):
        for order in (1.05, 1.2, 1.3, 1.7, 2.0, 3.0, 3.2, 6.0):
            bound = divergence(event, order, relation)
            if numeric(np.log(mean), np.log(other), order) > bound * (1 + 1e-9):
                return False
    return True


def _enforced(own: Law, public: Law, alpha: float, beta: float) -> Law:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        mix = np.log(middle * own + (1 - middle) * public)
        low, high = (middle, high) if numeric(mix, np.log(public), alpha) <= alpha * beta else (low, middle)
    mixed: Law = low * own + (1 - low) * public
    return mixed


CHECKS: Mapping[str, Callable[[], bool]] = {
    "gaussian": _gaussian,
    "discrete-gaussian": _discrete_gaussian,
    "distributed-gaussian-sum": _distributed,
    "sampled-sum": _sampled_sum,
    "skellam": _skellam,
    "laplace": _laplace,
    "discrete-laplace": _discrete_laplace,
    "randomised-response": _response,
    "exponential": _exponential,
    "noisy-max": _noisy_max,
    "permute-and-flip": _permute_and_flip,
    "above-threshold": _above_threshold,
    "pure": _pure,
    "approximate": _approximate,
    "zcdp": _zcdp,
    "rdp": _renyi,
    "pmixed": _pmixed,
    "histogram": _histogram,
    "dp-sgd": _dp_sgd,
    "gaussian-mixture": _mixture,
    "poisson": lambda: _sampled_gaussian() and _sampled_anything(),
    "repeat": _repeated,
    "all": _all,
    "parallel": _parallel,
}
