"""State the public hyper-parameters by which members train: the same for all of them, and in every mask's context."""

import hashlib
import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, sized
from privacy.units import Unit
from protocols.plans import plan_of
from protocols.secure_sum.terms import Terms
from protocols.wire import Message

Chosen = slice | NDArray[np.intp]
LARGEST = 16.0  # entries of a delta are cut off there, which no honest one reaches: it sets the scale of the words


class Objective(Enum):
    """Name what a member's records are trained for.

    TEXT: the next token, of every token. ANSWERS: of the answers in a conversation alone. PREFERENCE: the chosen
    answer over the rejected one (Rafailov et al. 2023, DPO).
    """

    TEXT = "text"
    ANSWERS = "answers"
    PREFERENCE = "preference"


class Half(Enum):
    """Name which matrices of each LoRA pair are trained.

    B: A stays as the public seed drew it (Sun et al. 2024, FFA-LoRA). ALTERNATE: B in rounds 0, 2, ..., A in the
    others (Chen et al. 2025, RoLoRA): every round's mean stays exact. BOTH: together, where gradients are summed.
    """

    B = "b"
    ALTERNATE = "alternate"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Recipe(Message):
    """State the public hyper-parameters of a run; every member trains by the same recipe.

    Shapes:  `length` entries in the flat vector of all B's, then (unless `half` is B) of all A's, in the layout whose
             digest is `layout`; `b_entries` of them are B's, 0 for all.
    Units:   `record_tokens` tokens a record; `steps` a round; `batch_size` the expected number of records (or groups)
             a step; `clipping_norm` in L2, of a record's or group's gradient or, for the unit "member", of the
             member's whole delta; `epsilon` over all `rounds` at `delta`, or None for no noise (then a disclosure);
             `noise_multiplier` of the sum, in clipping norms, where only the sum has the noise; `share` of the
             entries that are trained in a round; `proximal` the weight of the pull to the round's start (Li et al.
             2020, FedProx); `target_quantile` of the gradients' norms that the clipping norm seeks (Andrew et al.
             2021), None for a fixed one; `beta` that of DPO; `largest` where a delta's entries are cut off: a step
             of the words is that, times the members, over 2**(bits - 1); `population` the declared records (or
             groups) of all members together, where a step is sampled from them all, else 0.
    """

    base: str
    layout: str
    length: int
    rank: int
    alpha: float
    targets: tuple[str, ...]
    adapter_seed: int
    record_tokens: int
    rounds: int
    steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    clipping_norm: float
    unit: Unit
    epsilon: float | None
    delta: float
    noise_multiplier: float | None = None
    objective: Objective = Objective.TEXT
    beta: float = 0.1
    half: Half = Half.B
    b_entries: int = 0
    share: float = 1.0
    proximal: float = 0.0
    target_quantile: float | None = None
    largest: float = LARGEST
    population: int = 0

    def __post_init__(self) -> None:
        counts = (self.length, self.rank, self.record_tokens, self.rounds, self.steps, self.batch_size)
        scales = (self.alpha, self.learning_rate, self.clipping_norm, self.beta, self.largest)
        if min(counts) < 1 or not all(math.isfinite(s) and s > 0 for s in scales):
            raise ValueError("a count, a rate or a norm that is not positive")
        if not 1 <= len(self.targets) <= 256 or max(map(len, self.targets)) > 256:
            raise ValueError("targets out of range: none, too many or too long")
        if not 0 < self.delta < 1 or not 0 <= self.adapter_seed < 2**63:
            raise ValueError("a delta or a seed out of range")
        self._check_noise()
        self._check_what_is_trained()

    def _check_noise(self) -> None:
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError("an epsilon that is not positive")
        if self.noise_multiplier is not None and not 0 < self.noise_multiplier < 1e6:
            raise ValueError("a noise multiplier out of range")
        whole = self.unit is Unit.MEMBER and self.epsilon is not None
        if (self.noise_multiplier is None and whole) or (self.noise_multiplier is not None and self.epsilon is None):
            raise ValueError("a noise multiplier out of place: whole members need one, and without epsilon is none")

    def _check_what_is_trained(self) -> None:
        if not 0 <= self.b_entries < self.length or (self.b_entries > 0) is (self.half is Half.B):
            raise ValueError("b_entries out of place: the number of B's entries where A's follow, and else 0")
        if not 0 < self.share <= 1:
            raise ValueError("share: expected a number above 0 and at most 1")
        if self.population and not self.batch_size <= self.population < 2**53:
            raise ValueError("population: expected 0, or a number of at least batch_size")
        if not 0 <= self.proximal < math.inf:
            raise ValueError("proximal: expected a number of at least 0")
        if self.target_quantile is not None and not 0 < self.target_quantile < 1:
            raise ValueError("target_quantile: expected a number between 0 and 1")

    def chosen(self, round_: int) -> Chosen:
        """Return which entries of the vector a round trains and sends: the same at everybody's, in order.

        By `half` and `share` and from the public seed alone: what is chosen says nothing about the data, as the
        largest entries would. SHAKE-256, so that no library's generator has to stay as it is.
        """
        first, last = 0, self.length
        if self.half is Half.ALTERNATE:
            first, last = (0, self.b_entries) if round_ % 2 == 0 else (self.b_entries, self.length)
        if self.share == 1.0:
            return slice(first, last)
        label = f"parley/v1/chosen/{self.adapter_seed}/{round_}".encode()
        words = np.frombuffer(hashlib.shake_256(label).digest(4 * (last - first)), dtype="<u4")
        found = first + np.flatnonzero(words < self.share * 2.0**32)
        return found if found.size else slice(first, first + 1)

    def entries(self, round_: int) -> int:
        """Return how many entries a round trains and sends."""
        chosen = self.chosen(round_)
        return chosen.stop - chosen.start if isinstance(chosen, slice) else int(chosen.size)

    @property
    def widest(self) -> int:
        """Return the round with the most entries, among the first of each half: what a plan reckons with."""
        return max(range(min(2, self.rounds)), key=self.entries)

    def spec(self, terms: Terms, members: int, round_: int) -> FixedPoint:
        """Return how a round's deltas become words where `members` add up.

        Raises: ValueError if their words are too narrow.
        """
        size = {"length": self.entries(round_), "bits": terms.bits, "members": members}
        if self.noise_multiplier is None:
            return sized(coordinate=self.largest, **size)
        bound, z = self.clipping_norm, self.noise_multiplier
        return sized(coordinate=bound, norm=bound, noise_multiplier=z, honest=terms.honest, **size)

    @property
    def plan(self) -> str:
        """Return the recipe as canonical JSON of at most 4 KiB, for whoever approves or audits it."""
        return plan_of(self, self.targets)


def reach(optimizer: str, learning_rate: float, steps: int) -> float:
    """Return what no entry of a round's delta goes beyond, as far as the optimiser bounds it; at most LARGEST.

    Adam's step is learning_rate |sum a_i g_i| / sqrt(sum b_i g_i**2), which by Cauchy and Schwarz is at most
    learning_rate sqrt(sum a_i**2 / b_i) = 7.3 learning_rates for betas (0.9, 0.999). Finer words for smaller steps.
    """
    return min(LARGEST, 8 * learning_rate * steps) if optimizer in ("adam", "adamw") else LARGEST
