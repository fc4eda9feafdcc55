"""Stand for a value that was drawn under a charge and stays at home: what is made of it later costs nothing more."""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.randomness import Randomness

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Artefact:
    """Hold the values (length,) float32, and as text what they are: an adapter's layout as canonical JSON.

    Cites: Dwork and Roth 2014, proposition 2.1 (post-processing).
    """

    shape: str
    values: NDArray[np.float32] = field(repr=False)

    @property
    def digest(self) -> str:
        """Return SHA-256, in hex, of what it is and of every bit of it."""
        shape, values = self.shape.encode(), np.ascontiguousarray(self.values, dtype="<f4").tobytes()
        return hashlib.sha256(b"parley/v1/artefact\0%d\0" % len(shape) + shape + values).hexdigest()


class Derivation(Protocol[T_co]):
    """Make something of an artefact and of nothing else that is private: the gate looks up what that was charged."""

    @property
    def artefact(self) -> Artefact:
        """Return what it is made of."""

    def draw(self, randomness: Randomness) -> T_co:
        """Return what is made of it; called once, after it is written down."""
