"""Train a round of federated averaging at home: see `protocols/weights/average.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.dp_training import DpSgd
from client.homes.local import PlacedRelease, training
from client.masking import Masked, MaskedRelease, MaskedShare
from client.training.noise import require_promise
from client.visit import Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released
from privacy.mechanisms import Unprotected
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.weights.average import context_of
from protocols.weights.recipe import Recipe

Vector = NDArray[np.float32]
Task = DpSgd | PlacedRelease | Unprotected[Vector]
_UNITS = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)


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
        task = self._task(recipe, round_, adapter)
        if not isinstance(task, DpSgd | PlacedRelease):
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
            purpose=self.occasion.collaboration,
            plan=recipe.plan,
            context=context_of(recipe, round_, adapter, self.occasion.collaboration),
            query=round_,
            noise=noise,
            spec=lambda terms, members: recipe.spec(terms, members, round_),
            make=lambda begun: self._mechanism(recipe, round_, adapter, begun),
            times=_times(recipe, round_),
        )
        return self.add(summand, request, slips)

    def rank(self, recipe: Recipe) -> int | None:
        """Return the rank that this home trains, a public number, if it is smaller than the recipe's."""
        most = self.house.most_rank
        return most if most is not None and most < recipe.rank else None

    def protected(self, recipe: Recipe, round_: int, adapter: Vector) -> DpSgd | PlacedRelease:
        """Return a round's training by DP-SGD. Raises: PeerError, also if the recipe protects no record by itself."""
        task = self._task(recipe, round_, adapter)
        if not isinstance(task, DpSgd | PlacedRelease):
            raise PeerError("a recipe without noise of its own")
        return task

    def _task(self, recipe: Recipe, round_: int, adapter: Vector) -> Task:
        return training(self.house, self.account, recipe, round_, adapter, self.occasion.key)

    def _mechanism(
        self, recipe: Recipe, round_: int, adapter: Vector, begun: Begun
    ) -> Masked | MaskedRelease | MaskedShare:
        task = self._task(recipe, round_, adapter)
        if recipe.noise_multiplier is not None:
            share = MaskedShare(task, begun.spec, begun.terms.honest, begun.mask)
            require_promise(recipe, share.event)
            return share
        if not isinstance(task, DpSgd | PlacedRelease):
            return Masked(task, begun.spec, begun.mask)
        return MaskedRelease(task, begun.spec, begun.mask)


def _times(recipe: Recipe, round_: int) -> int:
    """Return how often a run will charge the like, asked in its first round."""
    return recipe.rounds if round_ == 0 else 0
