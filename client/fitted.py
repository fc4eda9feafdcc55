"""A model with LoRA matrices in it and the records it is trained on, as a recipe asks for them."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from client.data import Records
from client.model import Adapted
from privacy.units import Unit
from protocols.weights.recipe import Objective


class Cutting(Protocol):
    """Be how a home's documents become records, as public terms state it."""

    @property
    def record_tokens(self) -> int:
        """Return the tokens of a record."""

    @property
    def unit(self) -> Unit:
        """Return what is protected."""

    @property
    def objective(self) -> Objective:
        """Return what the records are for."""


class Shape(Cutting, Protocol):
    """Be the public shape of what is trained, as a recipe states it: see `protocols/weights/recipe.py`."""

    @property
    def base(self) -> str:
        """Return the digest of the base model."""

    @property
    def layout(self) -> str:
        """Return the digest of the adapter's layout."""

    @property
    def length(self) -> int:
        """Return the length of its flat vector."""

    @property
    def rank(self) -> int:
        """Return the rank."""

    @property
    def alpha(self) -> float:
        """Return LoRA's alpha."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the names that the adapted modules end in."""

    @property
    def adapter_seed(self) -> int:
        """Return the seed of the frozen half."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold a model with LoRA matrices in it, and the records cut to the width it is trained on.

    `held_back` are the validation records, which are not among `records`.
    """

    adapted: Adapted
    records: Records
    held_back: Records = field(default_factory=lambda: Records(np.zeros((0, 2), np.int32), np.zeros(0, np.int32)))
