"""Mask what a member has to say before the gate lets it go: charged first, then drawn, encoded and masked in one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from client.training.noise import Promise, require_promise
from client.visit import Begun
from privacy.artefact import Artefact, Derivation
from privacy.distributed import NoiseShare, sum_event
from privacy.fixed_point import FixedPoint
from privacy.mechanisms import Mechanism, Unprotected
from privacy.randomness import Randomness
from privacy.refusal import NotEncodable
from privacy.sampled_sum import SampledShare, Units
from privacy.units import Unit
from protocols.faults import LocalError
from protocols.secure_sum.messages import Upload

Vector = NDArray[np.float32] | NDArray[np.float64]
Integers = NDArray[np.signedinteger[Any]]
Mask = Callable[[Integers], Upload]


@dataclass(frozen=True, slots=True)
class Masked:
    """Draw a value without noise, encode and mask it. The sum it goes into has no epsilon: a disclosure.

    Learns:  who gets all the others' uploads too: the sum.
    """

    inner: Unprotected[Vector]
    spec: FixedPoint
    mask: Mask

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words. Raises: LocalError if what was drawn cannot be encoded."""
        return self.mask(_encoded(self.spec, self.inner.draw(randomness)))


@dataclass(frozen=True, slots=True)
class MaskedRelease:
    """Draw a value that has all its noise already, encode and mask it: post-processing, charged as the value is."""

    inner: Mechanism[Vector]
    spec: FixedPoint
    mask: Mask

    @property
    def event(self) -> DpEvent:
        """Return the inner event."""
        return self.inner.event

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words. Raises: LocalError if what was drawn cannot be encoded."""
        return self.mask(_encoded(self.spec, self.inner.draw(randomness)))


@dataclass(frozen=True, slots=True)
class MaskedDerivation:
    """Make something of what was charged before, encode and mask it: post-processing, and nothing is charged."""

    inner: Derivation[Vector]
    spec: FixedPoint
    mask: Mask

    @property
    def artefact(self) -> Artefact:
        """Return what it is made of."""
        return self.inner.artefact

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words. Raises: LocalError if what was made cannot be encoded."""
        return self.mask(_encoded(self.spec, self.inner.draw(randomness)))


@dataclass(frozen=True, slots=True)
class MaskedShare:
    """Draw a whole member's value, add its share of the noise, and mask it; only the sum has all the noise.

    What it costs follows from the encoding alone, so it is charged before a record is read.
    Trusts:  that `honest` members, this one among them, add their shares and tell nobody what they were.
    """

    inner: Unprotected[Vector]
    spec: FixedPoint
    honest: int
    mask: Mask

    @property
    def event(self) -> DpEvent:
        """Return the event of the noise that the honest members add together."""
        return sum_event(self.spec, self.honest)

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words. Raises: LocalError if what was drawn cannot be encoded."""
        try:
            share = NoiseShare(self.inner.draw(randomness), self.spec, self.honest)
        except NotEncodable:
            raise LocalError("a value was drawn that cannot be encoded") from None
        return self.mask(share.draw(randomness))


@dataclass(frozen=True, slots=True)
class MaskedSample:
    """Sample, clip, add up and noise a member's units, and mask that; what it costs is charged before it looks.

    Without noise in the encoding it has no event, and is a disclosure.
    Trusts:  that the honest members, this one among them, add their shares and tell nobody what they were.
    """

    share: SampledShare
    mask: Mask

    @property
    def event(self) -> DpEvent:
        """Return the event of the noise that the honest members add together, on a sample."""
        return self.share.event

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words."""
        return self.mask(self.share.draw(randomness))


def masked_units(
    units: Units, whole: Unprotected[Vector], promise: Promise, begun: Begun
) -> Masked | MaskedShare | MaskedSample:
    """Mask what all of a home's units add, as `promise` protects it: not at all, as one, or each unit by itself.

    `whole` draws the sum of them all without noise, or for the unit "member" what the member adds.
    Raises: PeerError for noise that does not keep the promise.
    """
    if promise.epsilon is None:
        return Masked(whole, begun.spec, begun.mask)
    honest = begun.terms.honest
    made: MaskedShare | MaskedSample = (
        MaskedShare(whole, begun.spec, honest, begun.mask)
        if promise.unit is Unit.MEMBER
        else MaskedSample(SampledShare(units, begun.spec, 1.0, honest), begun.mask)
    )
    require_promise(promise, made.event)
    return made


def _encoded(spec: FixedPoint, drawn: Vector) -> Integers:
    """Encode what was drawn, and so was charged: not to be able to is a bug of ours, and no refusal."""
    try:
        return spec.encode(drawn)
    except NotEncodable:
        raise LocalError("a value was drawn that cannot be encoded") from None
