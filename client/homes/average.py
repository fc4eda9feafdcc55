"""Train a round of federated averaging at home: see `protocols/weights/average.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.masking import Masked, MaskedRelease, MaskedShare
from client.training.noise import noise_multiplier, opened, require_promise
from client.visit import Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.weights.average import NAME, context_of
from protocols.weights.recipe import Recipe

Vector = NDArray[np.float32]
MOST_STEPS = 100_000  # in one round; a letter may still keep a home busy for very long (THREATS.md)
_TOKENS_AT_ONCE = 1024  # activations of more cost memory and, on a processor, win no time
_ENTRIES_AT_ONCE = 2**26  # of records' gradients: 256 MiB
_MOST_AT_ONCE = 16
_UNITS = (Unit.RECORD, Unit.MEMBER)


@dataclass(frozen=True, slots=True)
class AverageVisit(Visit):
    """Train from the adapter so far, and let the delta go: as it is, or masked into a sum."""

    def contribution(self, recipe: Recipe, round_: int, adapter: Vector) -> Released[Vector] | Disclosed[Vector]:
        """Train from `adapter` and return the delta (length,) as it is, through the gate.

        Learns:  the caller: the delta, noised unless the recipe has no epsilon and the policy allows that.
        Raises:  PeerError for a recipe that does not fit this home; Refused, in which case nothing was charged.
        """
        occasion = replace(self.occasion, plan=recipe.plan)
        self.consider(occasion, noisy=recipe.epsilon is not None)
        self.require_unit(recipe.unit, recipe.record_tokens, _UNITS)
        if recipe.noise_multiplier is not None:
            raise PeerError("noise that only a sum has, and no sum")
        task = self._task(recipe, adapter)
        if isinstance(task, UnsafePlainSgd):
            return self.gate.disclose(task, self.account, occasion)
        self.require_room(task, _times(recipe, round_), occasion)
        return self.gate.release(task, self.account, occasion)

    def masked(
        self, recipe: Recipe, round_: int, adapter: Vector, request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Train from `adapter` and return the delta masked for the sum `request`, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a recipe or a request that does not fit this home; Refused: nothing was charged.
        """
        noise = Noise.NONE if recipe.epsilon is None else Noise.OWN
        if recipe.noise_multiplier is not None:
            if recipe.unit is not Unit.MEMBER:  # clipping the whole delta bounds no record
                raise PeerError("noise in the sum alone, and records that it would not protect")
            noise = Noise.SHARED
        self.consider(self.summed(recipe.plan, request), noisy=noise is not Noise.NONE)
        self.require_unit(recipe.unit, recipe.record_tokens, _UNITS)
        summand = Summand(
            purpose=NAME,
            plan=recipe.plan,
            context=context_of(recipe, round_, adapter),
            query=round_,
            noise=noise,
            spec=lambda terms, members: recipe.spec(terms, members, round_),
            make=lambda begun: self._mechanism(recipe, adapter, begun),
            times=_times(recipe, round_),
        )
        return self.add(summand, request, slips)

    def _mechanism(self, recipe: Recipe, adapter: Vector, begun: Begun) -> Masked | MaskedRelease | MaskedShare:
        task = self._task(recipe, adapter)
        if recipe.noise_multiplier is not None:
            share = MaskedShare(task, begun.spec, begun.terms.honest, begun.mask)
            require_promise(recipe, share.event)
            return share
        if isinstance(task, UnsafePlainSgd):
            return Masked(task, begun.spec, begun.mask)
        return MaskedRelease(task, begun.spec, begun.mask)

    def _task(self, recipe: Recipe, adapter: Vector) -> DpSgd | UnsafePlainSgd:
        """Return this round's training: by DP-SGD, where records are to be protected."""
        schedule, fitted = self._schedule(recipe), self.house.fit(recipe)
        if recipe.epsilon is None or recipe.noise_multiplier is not None:
            return UnsafePlainSgd(fitted.adapted, fitted.records, adapter, schedule)
        budget = opened(self.house.ledger, self.account)
        sigma = noise_multiplier(recipe, recipe.epsilon, schedule.rate, budget)
        return DpSgd(fitted.adapted, fitted.records, adapter, schedule, sigma)

    def _schedule(self, recipe: Recipe) -> Schedule:
        if recipe.steps > MOST_STEPS:
            raise PeerError(f"{recipe.steps} steps in a round, at most {MOST_STEPS} here")
        try:
            return Schedule(
                steps=recipe.steps,
                batch_size=recipe.batch_size,
                declared_records=self.house.declared.records(recipe.record_tokens),
                learning_rate=recipe.learning_rate,
                clipping_norm=recipe.clipping_norm,
                optimizer=recipe.optimizer,
                micro_batch=max(1, min(_MOST_AT_ONCE, *_fit_at_once(recipe))),
                threads=self.house.threads,
            )
        except ValueError:
            raise PeerError("a recipe whose batches are larger than this data, or with no such optimizer") from None


def _times(recipe: Recipe, round_: int) -> int:
    """Return how often a run will charge the like, asked in its first round."""
    return recipe.rounds if round_ == 0 else 0


def _fit_at_once(recipe: Recipe) -> tuple[int, int]:
    """Return how many records fit into memory by their activations, and by their gradients."""
    return _TOKENS_AT_ONCE // recipe.record_tokens, _ENTRIES_AT_ONCE // recipe.length
