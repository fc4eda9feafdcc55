"""Name what both ends of a stream must agree on: who proves what to whom, and how a letter is framed. No I/O.

    member, who dials                                hub
        Hello(stream, member, nonce, knows)  ──────▶   knows: an HMAC under the member's ticket, else hung up
                                             ◀──────   Challenge(nonce, signature): the coordinator's, on all of it
        Proof(signature): the member's, too  ──────▶
                                             ◀──────   Welcome()
        then frames, either way: a letter's number (8 bytes) and a piece of it; its answer under the same number

The road is TLS under the coordinator's own authority. What is signed names the certificate that was shown, so that
nobody who holds another one of that authority can stand in between. The ticket itself never travels on the stream.

Learns:  who listens: sizes and times. Whoever reaches the port: nothing without a ticket.
Trusts:  the ticket came in a sealed letter; the letters on the stream are sealed and numbered as on any road.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from protocols.faults import PeerError
from protocols.keys import Identity, PublicKey
from protocols.wire import Message, Wire

PATH = "/parley/stream"  # a WebSocket on the coordinator's public address
OVER = 4000  # closed for good: nobody need dial again
REPLACED = 4001  # the member has dialled anew
REFUSED = 1008  # WebSocket's own code: policy violation

NONCE_BYTES = TICKET_BYTES = 32
LONGEST_S = 24 * 3600.0  # a stream lives no longer
PIECE_BYTES = 2**20  # so that no letter keeps pings, or another member's letters, waiting
MOST_FRAME_BYTES = PIECE_BYTES + 8
MOST_LETTER_BYTES = 64 * 2**20

_HUB, _MEMBER, _TICKET = b"parley/v1/stream/hub", b"parley/v1/stream/member", b"parley/v1/stream/ticket"
_NUMBER = struct.Struct(">Q")
_MORE = 1 << 63  # in a frame's number: further pieces follow


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Say who dials which stream, and `knows`, an HMAC that only the ticket's holder can make for this channel."""

    stream: str
    member: str
    nonce: bytes
    knows: bytes


@dataclass(frozen=True, slots=True)
class Challenge(Message):
    """Prove to be the coordinator, and ask for the member's proof on a fresh nonce."""

    nonce: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Proof(Message):
    """Prove to be the member."""

    signature: bytes


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Say that letters may come now."""


WIRE = Wire(Hello, Challenge, Proof, Welcome, max_bytes=4096)


@dataclass(frozen=True, slots=True)
class Channel:
    """Hold what a greeting is about. `certificate` is the SHA-256, over DER, of the server certificate shown."""

    stream: str
    member: str
    certificate: bytes
    ticket: bytes = field(repr=False)

    def hello(self, nonce: bytes) -> Hello:
        """Return the member's first word; `nonce` is fresh."""
        return Hello(self.stream, self.member, nonce, self._knows(nonce))

    def challenge(self, hello: Hello, nonce: bytes, identity: Identity) -> Challenge:
        """Return the hub's answer, signed by the coordinator; `nonce` is fresh. Raises: PeerError for no ticket."""
        if len(hello.nonce) != NONCE_BYTES or not hmac.compare_digest(hello.knows, self._knows(hello.nonce)):
            raise PeerError("a greeting without the ticket")
        return Challenge(nonce, identity.sign(_HUB, self._said(hello.nonce, nonce)))

    def proof(self, nonce: bytes, challenge: Challenge, coordinator: PublicKey, identity: Identity) -> Proof:
        """Return the member's proof, for nobody but the coordinator on this channel. Raises: PeerError."""
        if len(challenge.nonce) != NONCE_BYTES:
            raise PeerError("a challenge without a nonce")
        said = self._said(nonce, challenge.nonce)
        coordinator.verify(_HUB, said, challenge.signature)
        return Proof(identity.sign(_MEMBER, said))

    def check(self, hello: Hello, challenge: Challenge, proof: Proof, member: PublicKey) -> None:
        """Return if the member has dialled itself. Raises: PeerError."""
        member.verify(_MEMBER, self._said(hello.nonce, challenge.nonce), proof.signature)

    def _knows(self, nonce: bytes) -> bytes:
        return hmac.digest(self.ticket, _joined(_TICKET, *self._named(), nonce), "sha256")

    def _said(self, members: bytes, hubs: bytes) -> bytes:
        return _joined(*self._named(), hashlib.sha256(self.ticket).digest(), members, hubs)

    def _named(self) -> tuple[bytes, ...]:
        return self.stream.encode(), self.member.encode(), self.certificate


def frames(number: int, data: bytes) -> Iterator[bytes]:
    """Yield the frames of a letter or an answer. No bytes at all are one frame: there is no answer."""
    at = 0
    while len(data) - at > PIECE_BYTES:
        yield _NUMBER.pack(number | _MORE) + data[at : at + PIECE_BYTES]
        at += PIECE_BYTES
    yield _NUMBER.pack(number) + data[at:]


@dataclass(slots=True)
class Pieces:
    """Put together what comes in frames, one letter after another, each of at most `largest` bytes."""

    largest: int = MOST_LETTER_BYTES
    _number: int | None = field(default=None, init=False)
    _data: bytearray = field(default_factory=bytearray, init=False, repr=False)

    def add(self, frame: bytes | str, only: int | None = None) -> tuple[int, bytes] | None:
        """Return the number and the bytes of what this frame is the last piece of. Raises: PeerError.

        With `only`, a piece of anything else is refused before it is kept.
        """
        if not isinstance(frame, bytes) or not _NUMBER.size <= len(frame) <= MOST_FRAME_BYTES:
            raise PeerError("not a frame")
        (header,) = _NUMBER.unpack_from(frame)
        number, more = header & ~_MORE, bool(header & _MORE)
        if (only if self._number is None else self._number) not in (None, number):
            raise PeerError("a piece of another letter in between")
        if len(self._data) + len(frame) - _NUMBER.size > self.largest:
            raise PeerError(f"a letter of more than {self.largest} bytes")
        self._number = number
        self._data += memoryview(frame)[_NUMBER.size :]
        if more:
            return None
        data, self._data, self._number = bytes(self._data), bytearray(), None
        return number, data


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
