"""Keep evidence of what leaves: on disk, and signed, before the bytes are out; and of what was refused."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from privacy.ledger import Ledger
from privacy.occasion import Occasion
from privacy.refusal import LedgerUnavailable, RolledBack
from privacy.trail import SignedHead


def _as_it_is(occasion: Occasion) -> Occasion:
    return occasion


def _nowhere(_head: SignedHead) -> None:
    """Remember nothing: where ledger and shelf go together, neither can be put back alone."""


def _as_before(_occasion: Occasion) -> None:
    """Allow what was allowed when it was let go: where no operator edits a policy meanwhile."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Write one home's lines into the trail; `sign` signs its heads, and `key` is whom they are signed by.

    `own` gives an occasion the name that the ledger knows it by; `remember` keeps the newest head somewhere else than
    in the ledger, so that an old copy of the ledger is noticed. `allowed` raises what the policy says now against an
    occasion.
    """

    ledger: Ledger
    sign: Callable[[bytes], bytes]
    key: str
    own: Callable[[Occasion], Occasion] = _as_it_is
    remember: Callable[[SignedHead], None] = _nowhere
    allowed: Callable[[Occasion], None] = _as_before

    def require_unanswered(self, occasion: Occasion) -> None:
        """Return if nothing ever left on this occasion.

        Raises: RolledBack: an answer left, and whoever asks has lost it. A second one would be a second draw.
        """
        if self.ledger.emitted(*self.own(occasion).key) is not None:
            raise RolledBack("an answer to this letter has left, and is not on the shelf: restore mailbox.db")

    def require_allowed(self, occasion: Occasion) -> None:
        """Return if an answer that was kept has left before, or may still leave: the policy may have changed since.

        Raises: Refused, ConfigError.
        """
        if self.ledger.emitted(*self.own(occasion).key) is None:
            self.allowed(occasion)

    def emit(self, occasion: Occasion, asked: bytes, answer: bytes, size: int) -> None:
        """Write down the digests of a letter and of its answer; only then may the answer leave.

        Raises: Refused for what the gate did not let go, or for a second answer to one letter.
        """
        self.remember(self.ledger.emit(self.own(occasion), asked, answer, size, self.sign, self.key))

    def refused(self, occasion: Occasion, why: str) -> None:
        """Write down that a letter was refused, and by what class of refusal."""
        with suppress(LedgerUnavailable):  # then that is why
            self.ledger.refuse(self.own(occasion), why)

    def taken(self, occasion: Occasion, number: int, answer: bytes, signature: bytes) -> None:
        """Keep the partner's signed word that it has the answer `number`.

        Raises: RolledBack if this trail does not know that answer: it is older than what its partner has seen.
        """
        own = self.own(occasion)
        if self.ledger.emitted(own.session, number) != answer:
            raise RolledBack("the partner has an answer that this ledger knows nothing of: restore the newest copy")
        self.ledger.receipt(own.session, number, answer, signature, own.partner)
