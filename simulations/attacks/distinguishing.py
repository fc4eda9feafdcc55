"""Play the game that an epsilon is a bound of: from which of two neighbouring data sets is this answer?

    each trial     the real mechanism, in one world and in the other ──▶ what leaves ──▶ its likelihood ratio
    first half     which threshold tells the worlds apart best?
    second half    how often is it right and wrong? ──▶ epsilon is at least log((right - delta) / wrong)

The worlds differ in one shard's records, and so in one expert: another one in its place, or none. `Sampled` plays
`private_predict`, whose symbols are drawn from exact sums; `Noised` plays sums with noise in shares. Both compute by
what a home and the coordinator compute by; only masks, which cancel, and letters are left out.

Learns:  nobody: it is a test. The attacker knows both worlds, the prompt and all other shards, and sees what leaves.
Cites:   Jagielski, Ullman and Oprea 2020; Nasr et al. 2021 (auditing by distinguishing); Clopper and Pearson 1934.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from client.experts.expert import RememberingExpert, Rows, normalised
from client.experts.opening import Experts
from client.homes.logits import Adding
from client.visit import Begun
from privacy.fixed_point import FixedPoint
from privacy.randomness import SystemRandomness
from privacy.redaction.measured import clopper_pearson
from protocols.logits.asking import NO_SUPPORT
from protocols.logits.block import Asked, Batch
from protocols.logits.question import Question
from protocols.logits.sampling import combined, folded, matched
from protocols.secure_sum.messages import Upload
from protocols.secure_sum.terms import Terms

Reals = NDArray[np.float64]
_THRESHOLDS, _WIDE = 199, 3.0  # how many are tried; standard deviations


@dataclass(frozen=True, slots=True)
class Played:
    """Hold what a game came to: epsilon is at least so much, with this confidence.

    `right` and `wrong` are how many of `judged` trials in either world were said to be from the first one.
    """

    epsilon: float
    delta: float
    confidence: float
    judged: int
    right: int
    wrong: int


def epsilon_at_least(one: Reals, other: Reals, delta: float, confidence: float = 0.99) -> Played:
    """Return a lower bound on epsilon from the scores (trials,) of what left in either world.

    Which threshold, and which world is said to be the first, is chosen on one half of the trials; rates, with Clopper
    and Pearson's interval, are of the other half alone. Raises: ValueError for fewer than two trials.
    """
    half = min(one.size, other.size) // 2
    if half < 1:
        raise ValueError("expected at least two trials in each world")
    worlds = [(one, other), (-other, -one)]
    threshold, world = max(
        ((t, w) for w, pair in enumerate(worlds) for t in _thresholds(pair, half)),
        key=lambda chosen: _guessed(worlds[chosen[1]], chosen[0], half, delta),
    )
    first, second = worlds[world]
    judged = min(first.size, second.size) - half
    right, wrong = (int((scores[half : half + judged] >= threshold).sum()) for scores in (first, second))
    low, high = clopper_pearson(right, judged, confidence)[0], clopper_pearson(wrong, judged, confidence)[1]
    return Played(_epsilon(low, high, delta), delta, confidence, judged, right, wrong)


class Planted(RememberingExpert):
    """Be a model that says the same of every next symbol, or the same after each one: `table` (V,) or (V, V)."""

    def __init__(self, table: NDArray[np.floating]) -> None:
        super().__init__(table.shape[-1])
        self._logs = normalised(np.asarray(table, np.float64))

    def rows(self, symbols: NDArray[np.int64], first: int) -> Rows:
        """Return what it says after the first `first` symbols, and so on to after all."""
        if self._logs.ndim == 1:
            return np.broadcast_to(self._logs, (symbols.size + 1 - first, self.symbols))
        return np.asarray(self._logs[symbols[first - 1 :]])


def farthest(symbols: int, many: float = 30.0) -> tuple[Planted, Planted, Planted]:
    """Return a public model, and two experts that are as far from each other as a clip lets them be, each way.

    They find one half of the symbols likely that the other finds impossible, and the public model both.
    """
    half = np.where(np.arange(symbols) < symbols // 2, many / 2, -many / 2)
    return Planted(np.zeros(symbols)), Planted(half), Planted(-half)


@dataclass
class Sampled:
    """Be `private_predict` in one world: symbols drawn from the homes' exact sum, as the coordinator draws them.

    `remembered` is how many of the last symbols the experts' word depends on: rows are computed once for each.
    """

    question: Question
    terms: Terms
    homes: tuple[Experts, ...]
    prompt: tuple[int, ...]
    remembered: int = 1
    _rows: dict[tuple[int, ...], Reals] = field(default_factory=dict, init=False, repr=False)

    def row(self, context: Sequence[int]) -> Reals:
        """Return the distribution (V,) that the next symbol is drawn from."""
        known = tuple(context[-self.remembered :])
        if known not in self._rows:
            asked = asked_of(self.question, context)
            public = self.homes[0].public.block(list(context), ()).next
            total = summed(asked, self.homes, self.terms)
            self._rows[known] = combined(self.question, public, total, NO_SUPPORT)[0]
        return self._rows[known]

    def answer(self, uniform: Callable[[], float]) -> tuple[int, ...]:
        """Return an answer of `question.most` symbols."""
        said: list[int] = []
        while len(said) < self.question.most:
            said += matched(self.row((*self.prompt, *said))[None], (), uniform)
        return tuple(said)

    def told(self, symbols: Sequence[int]) -> float:
        """Return the logarithm of how likely these symbols are as an answer."""
        whole = (*self.prompt, *symbols)
        given = len(self.prompt)
        return math.fsum(math.log(self.row(whole[:at])[whole[at]]) for at in range(given, len(whole)))


def play_sampled(
    one: Sampled, other: Sampled, trials: int, delta: float, uniform: Callable[[], float] | None = None
) -> Played:
    """Play so many trials in each of two worlds; an answer's score is its likelihood ratio."""
    draw = uniform or _uniform
    scores = [np.array([ratio(world.answer(draw), one, other) for _ in range(trials)]) for world in (one, other)]
    return epsilon_at_least(scores[0], scores[1], delta)


def ratio(symbols: Sequence[int], one: Sampled, other: Sampled) -> float:
    """Return the logarithm of how much likelier an answer is in one world: nothing tells the worlds apart better."""
    return one.told(symbols) - other.told(symbols)


@dataclass
class Noised:
    """Be one noised sum in one world, of a block of positions.

    `colluding` homes, the last ones, tell their noise: the attacker has it subtracted already.
    """

    asked: Asked
    terms: Terms
    homes: tuple[Experts, ...]
    colluding: int = 0

    def exact(self) -> Reals:
        """Return the sum (T, K) but for noise."""
        return summed(self.asked, self.homes, self.terms, noisy=0)

    def sum(self) -> Reals:
        """Return a sum (T, K), with the noise of the homes that do not collude."""
        return summed(self.asked, self.homes, self.terms, noisy=len(self.homes) - self.colluding)


def play_noised(one: Noised, other: Noised, trials: int, delta: float) -> Played:
    """Play so many trials in each world; a sum's score is how far it lies on the way between the two exact ones."""
    way = one.exact() - other.exact()
    scores = [np.array([float((world.sum() * way).sum()) for _ in range(trials)]) for world in (one, other)]
    return epsilon_at_least(scores[0], scores[1], delta)


def asked_of(question: Question, context: Sequence[int], drafts: Sequence[int] = ()) -> Asked:
    """Return what is asked after a context, over all symbols; ratios need nothing told of the public model's."""
    symbols, guesses = np.array(context, np.int32), np.array(drafts, np.int32)
    told, drafted = np.zeros(symbols.size, np.float32), np.zeros(guesses.size, np.float32)
    return Asked(question, symbols, told, guesses, drafted, NO_SUPPORT)


def summed(asked: Asked, homes: Sequence[Experts], terms: Terms, *, noisy: int | None = None) -> Reals:
    """Return what the homes' words add up to, (T, K): encoded, noised and decoded as in a secure sum, without masks.

    The first `noisy` homes add their noise; by default all, if the question asks for any.
    """
    randomness, names = SystemRandomness(), tuple(map(str, range(len(homes))))
    spec = asked.question.spec(terms, len(homes), asked.positions)
    total = np.zeros(spec.length, np.uint32)
    for number, experts in enumerate(homes):
        quiet = noisy is not None and number >= noisy
        begun = Begun(terms, replace(spec, deviation=0.0) if quiet else spec, names, _unmasked)
        total += Adding(Batch((asked,)), 0, experts, begun, lambda: None).draw(randomness).words.view(np.uint32)
    return folded(asked.question, spec, _decoded(spec, total, len(homes))).reshape(asked.positions, -1)


def _decoded(spec: FixedPoint, words: NDArray[np.uint32], members: int) -> Reals:
    return np.asarray(replace(spec, deviation=0.0).decode(words, members))


def _unmasked(values: NDArray[np.signedinteger]) -> Upload:
    return Upload(0, values.view(np.uint8), b"", b"", ())


def _thresholds(pair: tuple[Reals, Reals], half: int) -> Reals:
    scores = np.concatenate([p[:half] for p in pair])
    return np.unique(np.quantile(scores, np.linspace(0, 1, _THRESHOLDS + 2)[1:-1], method="nearest"))


def _guessed(pair: tuple[Reals, Reals], threshold: float, half: int, delta: float) -> float:
    """Return about what a threshold will come to: Wilson's bounds, so wide that a lucky threshold is not chosen."""
    right, wrong = (float((scores[:half] >= threshold).mean()) for scores in pair)
    return _epsilon(_wilson(right, half, -_WIDE), _wilson(wrong, half, _WIDE), delta)


def _wilson(rate: float, n: int, z: float) -> float:
    centre, spread = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (centre + spread) / (1 + z * z / n)


def _epsilon(right: float, wrong: float, delta: float) -> float:
    return max(0.0, math.log((right - delta) / wrong)) if right > delta and wrong > 0 else 0.0


def _uniform() -> float:
    return float(SystemRandomness().uniform(1)[0])
