"""Train a round between two synchronisations at home: see `protocols/weights/pretrain.py`."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.homes.average import AverageVisit, Task
from client.homes.local import schedule_of
from client.model import longest
from client.training.clipping import Clipper
from client.training.inner import Moments, UnsafeInner
from client.training.objectives import loss_of
from client.training.whole import Whole
from privacy.gate import Said
from protocols.faults import OtherBase, PeerError
from protocols.weights.pretrain import EVERYTHING
from protocols.weights.recipe import Half, Objective, Recipe

Vector = NDArray[np.float32]
INNER = "adamw"


@dataclass(frozen=True, slots=True)
class PretrainVisit(AverageVisit):
    """Train by AdamW from the point so far, and let the way go: as it is, or masked into a sum."""

    def close(self) -> Said[bytes]:
        """Forget the keys of this session, and give the memory of a whole model back. Raises: Refused."""
        self.house.whole = None
        return AverageVisit.close(self)

    def rank(self, recipe: Recipe) -> None:
        """Return that this home trains all there is, whatever its rank elsewhere."""

    def _task(self, recipe: Recipe, round_: int, adapter: Vector) -> Task:  # noqa: ARG002
        if recipe.epsilon is not None and recipe.noise_multiplier is None:
            raise PeerError("many steps without clipping protect no record: whole members, or nobody")
        if recipe.optimizer != INNER or recipe.half is not Half.B or recipe.share != 1.0:
            raise PeerError("a recipe that is not AdamW's, or of other entries than all")
        if recipe.target_quantile is not None:
            raise PeerError("a clipping norm to be sought, and no gradients that are clipped")
        schedule = schedule_of(self.house, replace(recipe, optimizer="adam"))
        session, number, states = *self.occasion.key, self.house.states
        moments = Moments.of(states.before(session, number))

        def keep(after: Moments) -> None:
            states.keep(session, number, after.arrays)

        if recipe.targets == EVERYTHING:
            if recipe.objective is Objective.PREFERENCE:
                raise PeerError("preferences are trained for by an adapter: a whole model has no start to return to")
            whole, records = self._whole(recipe), self._records(recipe)
            whole_gradient = partial(whole.gradient, records, running=schedule.running)
            return UnsafeInner(records, adapter, whole.start, schedule, whole_gradient, moments, keep)
        fitted = self.house.fit(recipe)
        loss = loss_of(recipe.objective, recipe.beta, adapter)
        clipper = Clipper(fitted.adapted, None, schedule.micro_batch, loss, running=schedule.running)

        def gradient(point: NDArray[np.float64], chosen: NDArray[np.intp]) -> NDArray[np.float64]:
            return clipper.sum(point, fitted.records, chosen) / max(1, chosen.size)

        zeros = np.zeros(recipe.length, np.float32)
        return UnsafeInner(fitted.records, adapter, zeros, schedule, gradient, moments, keep)

    def _whole(self, recipe: Recipe) -> Whole:
        """Return the model whose parameters are trained. Raises: PeerError for a recipe that does not fit it."""
        if recipe.base != self.house.base.digest:
            raise OtherBase("a recipe for another base model")
        if not 2 <= recipe.record_tokens <= longest(self.house.base):
            raise PeerError("records longer than this model reads, or shorter than two tokens")
        whole = self.house.whole or Whole(self.house.base)
        if (recipe.layout, recipe.length) != (whole.digest, whole.size):
            raise PeerError("a recipe for parameters of other names or shapes")
        self.house.whole = whole
        return whole

    def _records(self, recipe: Recipe) -> Records:
        return self.house.records(recipe)[0]
