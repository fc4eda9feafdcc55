"""Search for mixing weights without gradients, asking for noisy gains: an evolution strategy, and a swarm.

Both are deterministic: their dice are SHAKE-256 of a public seed, so that a coordinator that crashed asks the same
again. `ask` returns candidates (K, M), `tell` takes their gains (K,); a generation that was lost is not told.
"""

import hashlib
import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
WIDEST = 1.5  # the weights that are tried are within [-1.5, 1.5], as LoraHub's
_STEP = 0.25  # the evolution's first deviation


class Seeker(Protocol):
    """Seek the weights of the highest gain."""

    def ask(self) -> Reals:
        """Return the next candidates, shape (K, M)."""

    def tell(self, gains: Reals) -> None:
        """Take in the gains (K,) of what was asked last."""

    @property
    def answer(self) -> Reals:
        """Return the weights (M,) that it would settle on now."""


class Dice:
    """Draw numbers that are fixed by a public seed alone, on every machine."""

    def __init__(self, seed: int, name: str) -> None:
        self._label, self._drawn = f"parley/v1/seeker/{name}/{seed}", 0

    def uniform(self, *shape: int) -> Reals:
        """Return numbers above 0 and below 1, of this shape."""
        count, self._drawn = math.prod(shape), self._drawn + 1
        stream = hashlib.shake_256(f"{self._label}/{self._drawn}".encode()).digest(8 * count)
        words = np.frombuffer(stream, dtype="<u8") >> np.uint64(12)
        values: Reals = (words.astype(np.float64) + 0.5) * 2.0**-52
        return values.reshape(shape)

    def normal(self, *shape: int) -> Reals:
        """Return standard normal numbers of this shape. Cites: Box and Muller 1958."""
        return np.asarray(np.sqrt(-2 * np.log(self.uniform(*shape))) * np.cos(2 * np.pi * self.uniform(*shape)))


class Evolution:
    """Be a CMA-ES of K candidates a generation from the even mix: it ranks, so that noise moves it little.

    Cites:   Hansen 2016, the CMA evolution strategy, figure 6 and table 1 (positive weights alone);
             Huang et al. 2023, LoraHub, for what is sought.
    """

    def __init__(self, ingredients: int, candidates: int, seed: int) -> None:
        n, half = ingredients, max(1, candidates // 2)
        raw = math.log((candidates + 1) / 2) - np.log(np.arange(1, half + 1))
        raw = raw if raw.sum() > 0 else np.ones(half)
        self._shares = raw / raw.sum()
        mass = 1 / float(np.sum(self._shares**2))
        self._c_sigma, self._c_c = (mass + 2) / (n + mass + 5), (4 + mass / n) / (n + 4 + 2 * mass / n)
        self._damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + self._c_sigma
        self._c_1 = 2 / ((n + 1.3) ** 2 + mass)
        self._c_mu = min(1 - self._c_1, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        self._mass, self._length = mass, math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        self._mean, self._sigma, self._covariance = np.full(n, 1 / n), _STEP, np.eye(n)
        self._path_sigma, self._path_c = np.zeros(n), np.zeros(n)
        self._candidates, self._dice, self._generation = candidates, Dice(seed, "evolution"), 0
        self._asked = np.zeros((candidates, n))

    def ask(self) -> Reals:
        """Return the next generation, the mean itself among it: what it is compared with."""
        variances, axes = np.linalg.eigh(self._covariance)
        root = axes * np.sqrt(np.maximum(variances, 1e-12))
        drawn = self._mean + self._sigma * self._dice.normal(self._candidates, self._mean.size) @ root.T
        if self._candidates > 2:
            drawn[0] = self._mean
        self._asked = np.clip(drawn, -WIDEST, WIDEST)
        return self._asked

    def tell(self, gains: Reals) -> None:
        """Move the mean, the step and the shape towards the better half."""
        n, before = self._mean.size, self._mean
        best = self._asked[np.argsort(-gains, kind="stable")[: self._shares.size]]
        steps = (best - before) / self._sigma
        way = self._shares @ steps
        variances, axes = np.linalg.eigh(self._covariance)
        white = axes @ ((axes.T @ way) / np.sqrt(np.maximum(variances, 1e-12)))
        self._generation += 1
        self._mean = before + self._sigma * way
        c = self._c_sigma
        self._path_sigma = (1 - c) * self._path_sigma + math.sqrt(c * (2 - c) * self._mass) * white
        length = float(np.linalg.norm(self._path_sigma))
        fresh = math.sqrt(1 - (1 - c) ** (2 * self._generation))
        steady = length / fresh < (1.4 + 2 / (n + 1)) * self._length
        c = self._c_c
        self._path_c = (1 - c) * self._path_c + steady * math.sqrt(c * (2 - c) * self._mass) * way
        lost = (1 - steady) * c * (2 - c)
        kept = 1 - self._c_1 - self._c_mu + self._c_1 * lost
        one, many = np.outer(self._path_c, self._path_c), (steps.T * self._shares) @ steps
        self._covariance = kept * self._covariance + self._c_1 * one + self._c_mu * many
        self._sigma *= math.exp(min(1.0, self._c_sigma / self._damping * (length / self._length - 1)))
        self._sigma = min(self._sigma, WIDEST)

    @property
    def answer(self) -> Reals:
        """Return the mean: an average over many noisy rankings, which the best candidate is not."""
        return np.asarray(np.clip(self._mean, -WIDEST, WIDEST))


class Swarm:
    """Be K particles that set out from the ingredients, each drawn to its own best place and to the swarm's.

    Cites:   Feng et al. 2024, Model Swarms, algorithm 1: inertia, own best, best and worst of all, in random shares.
    """

    INERTIA, OWN, BEST, WORST, STEP, SLOWING = 0.3, 0.3, 0.4, 0.1, 0.8, 0.95

    def __init__(self, ingredients: int, candidates: int, seed: int) -> None:
        self._dice = Dice(seed, "swarm")
        experts = np.eye(ingredients)
        places = [experts[i % ingredients] for i in range(candidates)]
        for i in range(ingredients, candidates):  # more particles than ingredients start on the way between two
            other = experts[(i + 1 + i // ingredients) % ingredients]
            t = float(self._dice.uniform(1)[0])
            places[i] = t * places[i] + (1 - t) * other
        self._places = np.array(places)
        self._speed = np.roll(self._places, 1, axis=0) - self._places
        self._own, self._own_gain = self._places.copy(), np.full(candidates, -np.inf)
        self._best, self._worst = experts.mean(axis=0), experts.mean(axis=0)
        self._best_gain, self._worst_gain, self._step = -np.inf, np.inf, self.STEP

    def ask(self) -> Reals:
        """Return where the particles are."""
        return self._places

    def tell(self, gains: Reals) -> None:
        """Note the best and the worst places so far, and move on."""
        better = gains > self._own_gain
        self._own[better], self._own_gain[better] = self._places[better], gains[better]
        if gains.max() > self._best_gain:
            self._best, self._best_gain = self._places[gains.argmax()].copy(), float(gains.max())
        if gains.min() < self._worst_gain:
            self._worst, self._worst_gain = self._places[gains.argmin()].copy(), float(gains.min())
        shares = self._dice.uniform(4, len(gains), 1) * np.array(
            [self.INERTIA, self.OWN, self.BEST, self.WORST]
        ).reshape(4, 1, 1)
        here = self._places
        pulls = shares[0] * self._speed + shares[1] * (self._own - here) + shares[2] * (self._best - here)
        self._speed = (pulls - shares[3] * (self._worst - here)) / shares.sum(axis=0)
        self._places = np.clip(here + self._step * self._speed, -WIDEST, WIDEST)
        self._step *= self.SLOWING

    @property
    def answer(self) -> Reals:
        """Return the best place that any particle has been at."""
        return np.asarray(self._best)
