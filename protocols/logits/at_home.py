"""Mix what a sum says with what the asker's own models say, at its own home: nothing more is asked of anybody.

    a sum's distribution ──┐   each weighed by how well it has predicted the shared context so far:
    its own models' ───────┴─▶ q = sum_j w_j p_j,  w_j ~ prior_j p_j(x_1) p_j(x_2) ... p_j(x_t)

The weights are Bayes' rule, and have no bound: unlike the members' in a sum they leave nowhere. So on any text the
loss is at most the sum's + log 2, and at most that of each of m own models + log 2m, in nats over the whole text: who
asks at home is never worse off than with its own model alone, but for log 2m nats.

Learns:  nobody, of the mixing. Who is shown symbols that are drawn from q learns of the asker's models what these
         symbols tell: a home lets them go by its gate.
Trusts:  nobody. Not for sums that are sampled from to protect somebody: the weights are made of the exact sums.
Cites:   Vovk 1990; Cesa-Bianchi and Lugosi 2006, section 9.2 (the Bayesian mixture's regret is log of the prior).
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError

Reals = NDArray[np.float64]
_LEAST = -1e4  # nats: what somebody finds impossible outweighs all evidence, and is still a number


class Thought(Protocol):
    """Hold what a model says after a context, and after each draft."""

    @property
    def next(self) -> Reals:
        """Return (drafts + 1, symbols), logarithms of probabilities."""


class Expert(Protocol):
    """Be a model of the asker's own."""

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what it says of the symbols after the context, and after each draft. Raises: PeerError."""


def priors(own: int) -> Reals:
    """Return the logarithms (1 + own,) of what is thought beforehand of the sum, and of each own model."""
    return np.array([math.log(0.5), *[math.log(0.5 / own)] * own])


def weights(told: NDArray[np.floating], before: Reals) -> Reals:
    """Return the logarithms (sources, ..., n + 1) of the weights before each symbol, and after the last.

    Shapes:  told (sources, ..., n), log p of each symbol given those before; before (sources, ...).
    """
    first = np.reshape(before, before.shape + (1,) * (told.ndim - before.ndim))
    start = np.broadcast_to(first, (*told.shape[:-1], 1))
    grown = np.concatenate([start, np.maximum(told, _LEAST)], axis=-1).cumsum(axis=-1)
    largest = grown.max(axis=0)
    return np.asarray(grown - largest - np.log(np.exp(grown - largest).sum(axis=0)))


def mixed_told(told: NDArray[np.floating]) -> Reals:
    """Return log q (..., n) of each symbol of texts, of `told` (1 + own, ..., n): the sum first, then own models."""
    weighed = weights(told, priors(len(told) - 1))[..., :-1] + np.maximum(told, _LEAST)
    largest = weighed.max(axis=0)
    return np.asarray(largest + np.log(np.exp(weighed - largest).sum(axis=0)))


class AtHome:
    """Mix block after block of one text, and remember how well each has predicted it."""

    def __init__(self, own: Sequence[Expert]) -> None:
        if not own:
            raise LocalError("nothing to mix with: no model of one's own")
        self._own = tuple(own)
        self._before = priors(len(own))
        self._context: list[int] = []
        self._last: Reals | None = None  # (1 + own, T, V): what was said of the last block

    def mixed(self, context: Sequence[int], drafts: Sequence[int], together: Reals) -> Reals:
        """Return q (T, V) after the context and after each draft; `together` (T, V) is what the sum says there.

        The context is the last call's, and of what follows at most its T symbols. Raises: LocalError, PeerError.
        """
        self._heard(list(context))
        with np.errstate(divide="ignore"):
            said = np.stack([np.log(together), *(e.block(context, drafts).next for e in self._own)])
        told = said[:, np.arange(len(drafts)), list(drafts)]
        made = (np.exp(weights(told, self._before))[..., None] * np.exp(said)).sum(axis=0)
        self._last = said
        return np.asarray(made / made.sum(axis=1, keepdims=True))

    def _heard(self, context: list[int]) -> None:
        """Judge the sum and the own models by the symbols that are new. Raises: LocalError."""
        if self._last is not None:
            new = context[len(self._context) :]
            if context[: len(self._context)] != self._context or len(new) > self._last.shape[1]:
                raise LocalError("another context than the one that was mixed for")
            told = self._last[:, np.arange(len(new)), new]
            self._before = weights(told, self._before)[:, -1]
        self._context = context
