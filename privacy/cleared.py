"""Hold what the gate has let go. A mailbox encodes nothing else; only `privacy/gate.py` makes these.

Light on purpose: a coordinator reads these names and needs no accountant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from privacy.ledger import Receipt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cleared(Generic[T]):
    """Hold a value that may leave; `receipt` says where that is written."""

    value: T
    receipt: Receipt

    def then(self, wrap: Callable[[T], Any]) -> Cleared[Any]:
        """Return what `wrap` makes of the value, as cleared as it: post-processing that looks at nothing else."""
        return replace(self, value=wrap(self.value))


@dataclass(frozen=True, slots=True)
class Released(Cleared[T]):
    """Hold a value paid for in epsilon."""


@dataclass(frozen=True, slots=True)
class Disclosed(Cleared[T]):
    """Hold a value that leaves without any epsilon: counted, never summed."""


@dataclass(frozen=True, slots=True)
class Said(Cleared[T]):
    """Hold what says nothing about the data: public keys, signatures, shares of masks."""
