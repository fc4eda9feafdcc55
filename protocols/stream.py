"""Ask the members to dial: a stream carries the letters of later sessions faster than any post office.

    coordinator                              member
    OpenStream(stream, ticket, expires) ──▶  dials the coordinator's address in its own settings, outbound
                                   ◀──────── Dialling(stream), at once

The stream is a road and nothing else: what comes over it are sealed letters of other sessions, each with its own
mailbox, gate and ledger line (see `protocols/carriers/stream_road.py`). No ask can name an address to dial.

Learns:  the coordinator: that the member is there, and dials.
Trusts:  nothing: the ticket opens nothing without the member's key, and the member asks for the coordinator's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from privacy.cleared import Cleared
from protocols.faults import Abort, LocalError, PeerError
from protocols.session import Coordinator, Member, MemberId
from protocols.wire import Message, Wire

NAME = "stream"


@dataclass(frozen=True, slots=True)
class Tickets(Message):
    """Hold what a hub gives out for one stream: a ticket of 32 bytes for each member, in the order's order.

    Units:  `expires` in whole seconds since 1970, UTC.
    """

    stream: str
    tickets: tuple[bytes, ...]
    expires: int


@dataclass(frozen=True, slots=True)
class OpenStream(Message):
    """Ask a member to dial the stream with its own `ticket`, and to keep it until `expires` (seconds since 1970)."""

    stream: str
    ticket: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class Dialling(Message):
    """Say that the member dials."""

    stream: str


@dataclass(frozen=True, slots=True)
class Opened(Message):
    """Name who dials."""

    stream: str
    members: tuple[str, ...]


class Home(Protocol):
    """Be what a stream needs of a member's home."""

    def dial(self, stream: str, ticket: bytes, expires: int) -> Cleared[Dialling]:
        """Begin to dial. Raises: PeerError for a stream that is none; Refused, and then nobody dials."""


@dataclass(frozen=True, slots=True)
class Waiting(Message):
    """Be a member that was not asked yet."""

    def answer(self, ask: Message, home: Home) -> "tuple[Member[Any], Cleared[Dialling]]":
        """Dial. Raises: PeerError, Refused."""
        if not isinstance(ask, OpenStream):
            raise PeerError("expected to be asked for a stream")
        return Asked(), home.dial(ask.stream, ask.ticket, ask.expires)


@dataclass(frozen=True, slots=True)
class Asked(Message):
    """Be a member that dials already: a session opens one stream."""

    def answer(self, ask: Message, home: Home) -> "tuple[Member[Any], Cleared[Dialling]]":  # noqa: ARG002
        """Refuse. Raises: PeerError."""
        raise PeerError("this session has opened its stream")


WIRE = Wire(Tickets, OpenStream, Dialling, Opened)
STATES = Wire(Waiting, Asked)
BEGIN = Waiting()


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Ask all members to dial; return who does. Raises: Abort if nobody does."""
    if not isinstance(task, Tickets) or len(task.tickets) != len(members):
        raise LocalError("a stream needs a ticket for each member")
    asked = {m: OpenStream(task.stream, t, task.expires) for m, t in zip(members, task.tickets, strict=True)}
    answers = yield asked
    dialling = sorted(m for m, answer in answers.items() if answer == Dialling(task.stream))
    if not dialling:
        raise Abort(f"0 of {len(members)} members dial")
    return Opened(task.stream, tuple(dialling))
