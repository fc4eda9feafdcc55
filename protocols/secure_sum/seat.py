"""Say what a secure sum asks of a member's home, and pass each ask on to it."""

from typing import Protocol

from protocols.faults import PeerError
from protocols.secure_sum.messages import (
    Acknowledge,
    Acknowledged,
    Agree,
    Agreed,
    Introduce,
    Introduced,
    Reveal,
    Revealed,
)
from protocols.secure_sum.terms import Terms
from protocols.wire import Message

ASKS = (Introduce, Acknowledge, Agree, Reveal)


class Seat(Protocol):
    """Take part in the sums of one session. What these four give away does not depend on any private value."""

    def introduce(self, terms: Terms) -> Introduced:
        """Make keys, if the policy allows sums by these terms. Raises: Refused, PeerError."""

    def acknowledge(self, ask: Acknowledge) -> Acknowledged:
        """Check everybody's keys against the approved roster. Raises: Refused, PeerError."""

    def agree(self, ask: Agree) -> Agreed:
        """Sign who is in a sum that this member has uploaded to. Raises: Refused, PeerError."""

    def reveal(self, ask: Reveal) -> Revealed:
        """Reveal what unmasks that sum, once. Raises: PeerError."""


def answer(ask: Message, seat: Seat) -> Message:
    """Answer an ask of the secure sum itself. Raises: Refused; PeerError, also for any other ask."""
    match ask:
        case Introduce(terms):
            return seat.introduce(terms)
        case Acknowledge():
            return seat.acknowledge(ask)
        case Agree():
            return seat.agree(ask)
        case Reveal():
            return seat.reveal(ask)
    raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
