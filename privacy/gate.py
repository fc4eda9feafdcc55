"""The one door out: check the policy, write the ledger, then let go. In that order, and visible in it.

Only this file makes a `Released`, a `Disclosed` or a `Said`, and a mailbox encodes nothing else; a house rule in the
tests holds every other file to it. Every refusal here leaves a line in the ledger, too, written by the mailbox.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.artefact import Artefact, Derivation
from privacy.cleared import Cleared, Disclosed, Released, Said
from privacy.ledger import Account, Ledger
from privacy.mechanisms import Mechanism, Unprotected
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.randomness import Randomness, UnsafeSeededRandomness
from privacy.redaction.redacted import Redacted
from privacy.refusal import LevelForbidden, Refused
from privacy.units import Kind

__all__ = ["Cleared", "Disclosed", "Gate", "Released", "Said"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gate:
    """Let values out of one home, for one letter: of each kind once, since a charge pays for one look at the data.

    Trusts:  the operator's policy, and the disk under the ledger.
    """

    policy: Policy
    ledger: Ledger
    randomness: Randomness
    _drawn: set[tuple[str, int, str]] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.randomness, UnsafeSeededRandomness) and not self.policy.unsafe_seeded_randomness:
            raise LevelForbidden("seeded randomness, and unsafe_seeded_randomness is not set")

    def release(self, mechanism: Mechanism[T], account: Account, occasion: Occasion) -> Released[T]:
        """Charge the mechanism's event, durably, then draw its value.

        Raises: Refused, in which case nothing was charged and nothing left.
        """
        event = mechanism.event
        limits = self.policy.permit(occasion, noisy=True, summed=occasion.summed, event=event)
        self._require_first(occasion, "answer")
        receipt = self.ledger.charge(account, event, occasion, limits)  # on disk before the noise is drawn
        self._drawn.add((*occasion.key, "answer"))
        return Released(mechanism.draw(self.randomness), receipt)

    def keep(
        self, mechanism: Mechanism[NDArray[np.float32]], shape: str, account: Account, occasion: Occasion
    ) -> Released[Artefact]:
        """Charge and draw a value that stays at home, and write down by its digest that it is what was drawn.

        What is made of it later costs nothing more: `derive`. Raises: Refused, and then nothing was charged.
        """
        drawn = self.release(mechanism, account, occasion)
        artefact = Artefact(shape, drawn.value)
        self.ledger.tie(occasion, artefact.digest)
        return Released(artefact, drawn.receipt)

    def derive(self, derivation: Derivation[T], account: Account, occasion: Occasion) -> Released[T]:
        """Write down that something made of an artefact leaves, then make it; nothing is charged.

        Raises: Refused, also where the artefact's digest is not that of a value that was charged.
        """
        artefact = derivation.artefact.digest
        event = self.ledger.paid_for(artefact)
        limits = self.policy.permit(occasion, noisy=True, summed=occasion.summed, event=event)
        self._require_first(occasion, "answer")
        receipt = self.ledger.derive(account, occasion, artefact, limits)
        self._drawn.add((*occasion.key, "answer"))
        return Released(derivation.draw(self.randomness), receipt)

    def go_on(self, value: Unprotected[T], account: Account, occasion: Occasion, first: int) -> Released[T]:
        """Write down that another answer leaves which was charged on number `first` of its session, then compute it.

        For a mechanism whose randomness is drawn elsewhere, from the sum: the event that was charged counts the
        answers. Raises: Refused, also where all that were paid for have left.
        """
        event = self.ledger.prepaid(occasion.session, first)
        limits = self.policy.permit(occasion, noisy=True, summed=occasion.summed, event=event)
        self._require_first(occasion, "answer")
        receipt = self.ledger.go_on(account, occasion, first, limits)
        self._drawn.add((*occasion.key, "answer"))
        return Released(value.draw(self.randomness), receipt)

    def disclose(
        self, value: Unprotected[T], account: Account, occasion: Occasion, kind: Kind = Kind.VALUE
    ) -> Disclosed[T]:
        """Write down that a value leaves without noise, then compute it. Raises: Refused.

        What is only a figure goes by `tell`, and what is no value of the data by `say`.
        """
        if kind not in (Kind.VALUE, Kind.TEXT, Kind.CAPABILITY):
            raise LevelForbidden(f"a value that is called a {kind.value}")
        limits = self.policy.permit(occasion, noisy=False, summed=occasion.summed, kind=kind)
        slot = "answer" if kind is not Kind.CAPABILITY else kind.value
        self._require_first(occasion, slot)
        receipt = self.ledger.disclose(account, occasion, limits, kind.value)
        self._drawn.add((*occasion.key, slot))
        return Disclosed(value.draw(self.randomness), receipt)

    def pass_on(
        self, redacted: Redacted, account: Account, occasion: Occasion, form: Callable[[Redacted], T]
    ) -> Disclosed[T]:
        """Let redacted text go: a disclosure, counted and capped, which has no epsilon whatever was taken out of it.

        What the policy's `redaction` is compared with is what the redactor wrote on it, not what the caller says.
        `form` makes the message of it.
        Learns:  the partner: the text, and what its redaction is worth. Raises: Refused.
        """
        return self.disclose(
            _Formed(redacted, form), account, replace(occasion, redaction=redacted.profile), Kind.TEXT
        )

    def require_text(self, profile: str, account: Account, occasion: Occasion) -> None:
        """Return if text that this profile redacts may leave, before any is written. Raises: Refused."""
        redacted = replace(occasion, redaction=profile)
        limits = self.policy.permit(redacted, noisy=False, kind=Kind.TEXT)
        self._require_first(redacted, "answer")
        self.ledger.require_disclosable(account, redacted, limits, Kind.TEXT.value)

    def tell(self, kind: Kind, figure: float, account: Account, occasion: Occasion) -> Disclosed[float]:
        """Let a count, a metric or a timing go, with two significant digits: a disclosure like any other.

        Raises: Refused, unless the policy lets this kind be told.
        """
        if kind not in (Kind.COUNT, Kind.METRIC, Kind.TIMING):
            raise LevelForbidden(f"a {kind.value} is no figure")
        limits = self.policy.permit(occasion, noisy=False, kind=kind)
        self._require_first(occasion, kind.value)
        receipt = self.ledger.disclose(account, occasion, limits, kind.value)
        self._drawn.add((*occasion.key, kind.value))
        return Disclosed(float(f"{figure:.1e}"), receipt)

    def say(self, make: Callable[[], T], account: Account, occasion: Occasion) -> Said[T]:
        """Let go what says nothing about the data: keys, signatures, shares of masks. Raises: Refused."""
        self.policy.permit(occasion, noisy=False, kind=Kind.KEYS)
        value = make()
        return Said(value, self.ledger.say(account, occasion, Kind.KEYS.value))

    def _require_first(self, occasion: Occasion, slot: str) -> None:
        """Refuse what the ledger would take for the same release as before, and charge nothing for."""
        if (*occasion.key, slot) in self._drawn:
            raise Refused("this letter's charge has been drawn on already")


@dataclass(frozen=True, slots=True)
class _Formed(Generic[T]):
    redacted: Redacted
    form: Callable[[Redacted], T]

    def draw(self, _randomness: Randomness) -> T:
        """Return the text, as it goes on its way."""
        return self.form(self.redacted)
