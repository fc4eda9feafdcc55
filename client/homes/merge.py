"""Add an adapter that was trained at home to a merge: see `protocols/weights/merge.py`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.adapter import Layout
from client.masking import Masked, MaskedDerivation, MaskedShare
from client.training.noise import require_kept
from client.visit import Begun, Noise, Summand, Visit
from privacy.artefact import Artefact
from privacy.config import ConfigError, build
from privacy.gate import Disclosed, Released
from privacy.randomness import Randomness
from privacy.refusal import CrowdTooSmall
from privacy.units import Relation, Unit
from protocols.faults import OtherBase, PeerError
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.weights.blending import Pair, agreeing, dropped, trimmed
from protocols.weights.merge import NAME, MergePlan, Method, Protection, context_of

Vector = NDArray[np.float64]
_NOISE = {Protection.TRAINING: Noise.EARLIER, Protection.SUM: Noise.SHARED, Protection.NONE: Noise.NONE}


@dataclass(frozen=True, slots=True)
class Combining:
    """Compute what one adapter adds to a step's sum, from the adapter and public numbers alone.

    Learns:  who gets it by itself: the adapter, or which of its entries are large. So it is masked.
    """

    plan: MergePlan
    step: int
    known: NDArray[np.float32]
    weight: float
    artefact: Artefact

    def draw(self, randomness: Randomness) -> Vector:
        """Return the summand, shape (entries,) float64; randomness serves dropping, not protection."""
        plan, values = self.plan, self.artefact.values.astype(np.float64)
        match plan.method:
            case Method.SKETCH:
                sketch, pairs = plan.sketch, products(_layout(self.artefact), self.weight * values)
                return sketch.ranges(pairs) if self.step == 0 else sketch.projected(pairs, self.known.astype(float))
            case Method.TIES:
                kept = trimmed(values, plan.density)
                return kept if self.step == 0 else agreeing(kept, self.known.astype(np.float64))
            case Method.DARE:
                return self.weight * dropped(values, randomness.uniform(values.size), plan.density)
            case _:
                return self.weight * values


def products(layout: Layout, vector: Vector) -> list[list[Pair]]:
    """Return each slot's (B, A), with LoRA's scale in B: the slot's weight gets B A."""
    halves = np.split(vector, np.cumsum([layout.rank * slot.outputs for slot in layout.slots]))
    found = []
    for slot, part in zip(layout.slots, halves, strict=False):
        b = layout.scale * part.reshape(slot.outputs, layout.rank)
        found.append([(b, layout.frozen(slot).astype(np.float64))])
    return found


@dataclass(frozen=True, slots=True)
class MergeVisit(Visit):
    """Let what is made of a kept adapter go, masked into a sum; nothing is trained."""

    def combined(
        self, plan: MergePlan, step: int, known: NDArray[np.float32], request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Return what this member adds to a step's sum, masked, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a plan or a request that does not fit this home's adapter; Refused.
        """
        noise, weight = _NOISE[plan.protection], plan.weight(self.place.me)
        self.consider(self.summed(plan.text, request), noisy=noise is not Noise.NONE)
        if noise is Noise.SHARED:
            self.require_unit(Unit.MEMBER, 0, (Unit.MEMBER,))
        if plan.base != self.house.base.digest:
            raise OtherBase("a merge for another base model")
        if weight == 0:
            raise PeerError("a merge that has no weight for this member")
        combining = Combining(plan, step, known, weight, self._fitting(plan))
        summand = Summand(
            purpose=NAME,
            plan=plan.text,
            context=context_of(plan, step, known),
            query=step,
            noise=noise,
            spec=lambda terms, members: plan.spec(terms, members, step),
            make=lambda begun: self._made(combining, begun, request),
            times=1,
        )
        return self.add(summand, request, slips)

    def _made(self, combining: Combining, begun: Begun, request: Request) -> Masked | MaskedDerivation | MaskedShare:
        """Return what the gate draws, unless a sum without noise would be little but this home's own adapter."""
        plan, least = combining.plan, begun.terms.smallest_crowd
        hidden = plan.hidden_among(self.place.me, request.members)
        if plan.protection is Protection.NONE and hidden < least:
            raise CrowdTooSmall(f"weights by which {hidden} members hide an adapter, {least} needed")
        return _masked(combining, begun)

    def _fitting(self, plan: MergePlan) -> Artefact:
        """Return the adapter of that name, if it fits the plan. Raises: PeerError."""
        artefact = self.house.adapters(plan.adapter)
        layout = _layout(artefact)
        if layout.half_a or artefact.values.shape != (layout.size,):
            raise PeerError("an adapter that was not trained by its B's alone cannot be merged")
        if plan.method is Method.SKETCH:
            widths = tuple((slot.outputs, slot.inputs) for slot in layout.slots)
            if widths != tuple(zip(plan.outputs, plan.inputs, strict=True)):
                raise PeerError("an adapter of other target modules or widths than the plan's")
            if plan.width > max(map(min, widths)):
                raise PeerError("a sketch wider than any rank could be")  # it would fill the memory
        elif layout.digest != plan.layout or layout.size != plan.length:
            raise PeerError("an adapter of another layout than the plan's: its A may differ, and needs a sketch")
        return artefact


def _masked(combining: Combining, begun: Begun) -> Masked | MaskedDerivation | MaskedShare:
    plan = combining.plan
    if plan.protection is Protection.TRAINING:
        return MaskedDerivation(combining, begun.spec, begun.mask)
    if plan.protection is Protection.NONE:
        return Masked(combining, begun.spec, begun.mask)
    share = MaskedShare(combining, begun.spec, begun.terms.honest, begun.mask)
    if plan.epsilon is None:
        raise PeerError("noise that promises nothing")
    require_kept(share.event, plan.epsilon, plan.delta, Relation.ZERO_OUT)
    return share


def _layout(artefact: Artefact) -> Layout:
    try:
        return build(Layout, json.loads(artefact.shape), "an adapter")
    except (ConfigError, ValueError):
        raise PeerError("no adapter") from None
