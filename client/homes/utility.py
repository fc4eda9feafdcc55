"""Score candidate adapters at home, on records that training never sees: see `protocols/weights/utility.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.masking import Masked, MaskedSample, MaskedShare, masked_units
from client.training.scoring import Scorer
from client.visit import Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released
from privacy.randomness import Randomness
from privacy.refusal import LevelForbidden
from privacy.units import Unit
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.weights.utility import Trial, context_of

Vector = NDArray[np.float32]
_TOKENS_AT_ONCE = 2048
_UNITS = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)


@dataclass(frozen=True, slots=True)
class UtilityVisit(Visit):
    """Judge candidates on the validation records, and let the noised sum of their scores go."""

    def scored(
        self, trial: Trial, number: int, points: Sequence[Vector], request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Score points[1:] over points[0] and return the sums masked for `request`, through the gate.

        No validation record at all, and the scores are zeros with the same noise: nobody can tell.
        Learns:  the caller: nothing but sizes, until all others' words are added; then the noised sum.
        Raises:  PeerError for a trial or a request that does not fit this home; Refused: nothing was charged.
        """
        name, count = self.occasion.collaboration, len(points) - 1
        noise = Noise.NONE if trial.noise_multiplier is None else Noise.SHARED
        self.consider(self.summed(trial.plan, request), noisy=noise is not Noise.NONE)
        self.require_unit(trial.unit, trial.record_tokens, _UNITS)
        if not self.house.validation:
            raise LevelForbidden("this home holds no records back for validation: data.validation in home.toml is 0")
        summand = Summand(
            purpose=name,
            plan=trial.plan,
            context=context_of(name, trial, number, points[0], np.stack(points[1:])),
            query=number,
            noise=noise,
            spec=lambda terms, members: trial.spec(terms, members, count),
            make=lambda begun: self._mechanism(trial, points, begun),
            times=trial.evaluations if number == 0 else 0,
        )
        return self.add(summand, request, slips)

    def _mechanism(
        self, trial: Trial, points: Sequence[Vector], begun: Begun
    ) -> "Masked | MaskedShare | MaskedSample":
        fitted = self.house.fit(trial)
        at_once = max(1, min(16, _TOKENS_AT_ONCE // trial.record_tokens))
        scorer = Scorer(fitted.adapted, points, trial.clip, at_once, self.house.threads)
        whole = _Scores(scorer, fitted.held_back, mean=trial.unit is Unit.MEMBER)
        return masked_units(Judges(scorer, fitted.held_back), whole, trial, begun)


@dataclass(frozen=True, slots=True)
class _Scores:
    """Draw the sum over the units of their scores, or the mean, without noise: shape (candidates,) float32."""

    scorer: Scorer
    records: Records
    mean: bool

    def draw(self, randomness: Randomness) -> Vector:  # noqa: ARG002  there is nothing to draw
        """Return it; zeros where there is no record."""
        scores = self.scorer.each(self.records)
        total = scores.sum(axis=0) / (max(1, len(scores)) if self.mean else 1)
        return np.asarray(total, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Judges:
    """Be the units that are summed: each one's vector of scores, bounded by itself, whatever the candidates are."""

    scorer: Scorer
    records: Records

    def __len__(self) -> int:
        """Return how many units there are."""
        return self.records.units

    def vectors(
        self,
        chosen: NDArray[np.intp],
        randomness: Randomness,  # noqa: ARG002  all of a unit is looked at
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the scores (candidates,) of each unit."""
        yield from self.scorer.each(self.records)[chosen]
