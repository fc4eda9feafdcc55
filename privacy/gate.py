"""The one door out: check the policy, write the ledger, then let go. In that order, and visible in it.

Only this file makes a `Released` or a `Disclosed`; a house rule in the tests holds every other file to it.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from privacy.ledger import Account, Ledger, Receipt
from privacy.mechanisms import Mechanism, Unprotected
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.randomness import Randomness, UnsafeSeededRandomness
from privacy.refusal import LevelForbidden

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Released(Generic[T]):
    """Hold a value that may leave, paid for in epsilon; `receipt` says where it is written."""

    value: T
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Disclosed(Generic[T]):
    """Hold a value that may leave without any epsilon: counted, never summed."""

    value: T
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Gate:
    """Let values out of one home.

    Trusts:  the operator's policy, and the disk under the ledger.
    """

    policy: Policy
    ledger: Ledger
    randomness: Randomness

    def __post_init__(self) -> None:
        if isinstance(self.randomness, UnsafeSeededRandomness) and not self.policy.unsafe_seeded_randomness:
            raise LevelForbidden("seeded randomness, and unsafe_seeded_randomness is not set")

    def release(self, mechanism: Mechanism[T], account: Account, occasion: Occasion) -> Released[T]:
        """Charge the mechanism's event, durably, then draw its value.

        Raises: Refused, in which case nothing was charged and nothing left.
        """
        self.policy.permit(occasion, noisy=True, summed=occasion.summed)
        receipt = self.ledger.charge(account, mechanism.event, occasion)  # on disk before the noise is drawn
        return Released(mechanism.draw(self.randomness), receipt)

    def disclose(self, value: Unprotected[T], account: Account, occasion: Occasion) -> Disclosed[T]:
        """Write down that a value leaves without noise, then compute it. Raises: Refused."""
        self.policy.permit(occasion, noisy=False, summed=occasion.summed)
        receipt = self.ledger.disclose(account, occasion)
        return Disclosed(value.draw(self.randomness), receipt)
