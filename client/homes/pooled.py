"""Take part in one step on everybody's records, from home: see `protocols/weights/pooled.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.dp_training import LARGEST_NORM, SMALLEST_NORM
from client.homes.local import MOST_ROWS, rows_at_once, trained_here, units_of
from client.masking import Masked, MaskedSample, MaskedShare
from client.training.clipping import Clipper
from client.training.noise import require_promise
from client.training.objectives import loss_of
from client.training.unit_gradients import Gradients, MeanGradient
from client.visit import UNITS, Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released
from privacy.sampled_sum import SampledShare
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.weights.pooled import NAME, context_of, rate_of, spec_of
from protocols.weights.recipe import Recipe

Vector = NDArray[np.float32]
KNOWN = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)


@dataclass(frozen=True, slots=True)
class PooledVisit(Visit):
    """Sample, clip, add up, noise and mask: a member's part of one step, charged before a record is looked at."""

    def stepped(
        self, recipe: Recipe, step: int, point: Vector, request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Return this member's part of the step, masked for the sum `request`, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a recipe or a request that does not fit this home; Refused: nothing was charged.
        """
        noise = Noise.NONE if recipe.epsilon is None else Noise.SHARED
        self.consider(self.summed(recipe.plan, request), noisy=noise is not Noise.NONE)
        self.require_unit(recipe.unit, recipe.record_tokens, KNOWN)
        self._require_fit(recipe)
        summand = Summand(
            purpose=NAME,
            plan=recipe.plan,
            context=context_of(recipe, step, point),
            query=step,
            noise=noise,
            spec=lambda terms, members: spec_of(recipe, terms, members, step),
            make=lambda begun: self._mechanism(recipe, step, point, begun),
            times=recipe.rounds if step == 0 else 0,
        )
        return self.add(summand, request, slips)

    def _require_fit(self, recipe: Recipe) -> None:
        """Refuse numbers that cannot be true of a pool that this home's data is in. Raises: PeerError."""
        own = units_of(recipe, self.house.declared)
        if own < 1:
            raise PeerError(f"this home has declared no {UNITS[recipe.unit]}")
        if recipe.population < own:
            raise PeerError("a population smaller than this home's own data")
        if not SMALLEST_NORM <= recipe.clipping_norm <= LARGEST_NORM:
            raise PeerError("a clipping norm out of range")

    def _mechanism(
        self, recipe: Recipe, step: int, point: Vector, begun: Begun
    ) -> Masked | MaskedSample | MaskedShare:
        rate, honest = rate_of(recipe), begun.terms.honest
        units = self._units(recipe, step, point)
        made: MaskedSample | MaskedShare
        if recipe.unit is Unit.MEMBER:
            whole = MeanGradient(units, rate, rate * units_of(recipe, self.house.declared), begun.spec.length)
            if recipe.epsilon is None:
                return Masked(whole, begun.spec, begun.mask)
            made = MaskedShare(whole, begun.spec, honest, begun.mask)
        else:
            made = MaskedSample(SampledShare(units, begun.spec, rate, honest), begun.mask)
        if recipe.epsilon is not None:
            require_promise(recipe, made.event)
        return made

    def _units(self, recipe: Recipe, step: int, point: Vector) -> Gradients:
        fitted = self.house.fit(recipe)
        at_once = rows_at_once(recipe, recipe.entries(step))
        loss = loss_of(recipe.objective, recipe.beta, np.zeros(recipe.length, np.float32))
        own, where = trained_here(self.house, recipe, fitted.adapted.layout, step)
        norm = None if recipe.unit is Unit.MEMBER else recipe.clipping_norm
        most = MOST_ROWS if recipe.unit is Unit.GROUP else None
        clipper = Clipper(fitted.adapted, norm, at_once, loss, own, most, self.house.running)
        return Gradients(clipper, point.astype(np.float64), fitted.records, self.house.threads, where)
