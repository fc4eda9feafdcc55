"""The words of a secure sum: what the coordinator asks, what members answer, and what is signed."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from protocols.secure_sum.terms import Terms
from protocols.wire import Message, Wire

VERSION = 1


def label(what: str) -> bytes:
    """Return the domain-separation label of one kind of message or key."""
    return b"parley/v1/secure-sum/" + what.encode()


@dataclass(frozen=True, slots=True)
class Introduce(Message):
    """Ask for fresh session keys under `terms`."""

    terms: Terms


@dataclass(frozen=True, slots=True)
class Announcement(Message):
    """Say with which keys one member sums in one session; each member signs its own.

    `coordinator` is the public key of who asked; `roster` and `terms` are digests; `expires` is in Unix seconds.
    """

    version: int
    coordinator: str
    session: str
    member: str
    roster: str
    terms: bytes
    exchange_key: bytes
    kem_key: bytes
    nonce: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class Introduced(Message):
    """Answer with an encoded announcement and its member's signature on it."""

    announcement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Acknowledge(Message):
    """Show a member all announcements of the session, in the order of the members' names."""

    introduced: tuple[Introduced, ...]


@dataclass(frozen=True, slots=True)
class Slip(Message):
    """Prove to one peer that one has seen the same announcements, and bring the key it lacks.

    `member` is the addressee on the way to the coordinator, the author on the way on. `ciphertext` (ML-KEM-768) is
    there if the author's name comes before the addressee's, else empty.
    """

    member: str
    proof: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged(Message):
    """Answer with one slip for each peer."""

    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Request(Message):
    """Say exactly which sum is asked for. All masks and boxes depend on every bit of it.

    `number` grows with each sum of the session; `purpose` names the collaboration; `members` are sorted; `spec` says
    how values become words; `context` (32 bytes) is the digest of what the values were computed from; `query` says
    what is asked about and never falls; `attempt` counts from 0 within it.
    """

    sid: bytes
    number: int
    purpose: str
    members: tuple[str, ...]
    spec: FixedPoint
    context: bytes
    query: int
    attempt: int

    @property
    def ctx(self) -> bytes:
        """Return the digest (32 bytes) that binds every key of this sum to this request."""
        return hashlib.sha256(label("request") + b"\0" + _REQUEST.encode(self)).digest()


@dataclass(frozen=True, slots=True)
class Upload(Message):
    """Answer with masked words, and with what lets others take the masks away if somebody is missing.

    `words` are packed to the spec's bits; `commitments` hold 32 bytes for each neighbour in order, `own` 32 bytes for
    the member's own mask or nothing; `boxes` are sealed shares, one for each holder whose shares are not derived.
    """

    number: int
    words: NDArray[np.uint8]
    commitments: bytes
    own: bytes
    boxes: tuple[bytes, ...]

    def digest(self, ctx: bytes) -> bytes:
        """Return 32 bytes that stand for what unmasks this upload to this request.

        The words are left out: nobody's safety hangs on them, and the letter's signature has them already.
        """
        parts = (self.commitments, self.own, *self.boxes)
        each = b"".join(hashlib.sha256(part).digest() for part in parts)
        return hashlib.sha256(label("upload") + b"\0" + ctx + each).digest()


@dataclass(frozen=True, slots=True)
class Agree(Message):
    """Say whose uploads are in the sum (`survivors`, sorted), and the digest (32 bytes) of each."""

    number: int
    survivors: tuple[str, ...]
    digests: bytes


@dataclass(frozen=True, slots=True)
class Agreed(Message):
    """Answer with a signature on exactly these survivors of exactly this sum."""

    number: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Reveal(Message):
    """Show that enough members agreed (`signers`, 64 bytes each), and hand over the boxes sealed for this holder.

    `boxes` has one entry for each survivor that is this holder's neighbour, in order; it is empty where the holder
    derives its share.
    """

    number: int
    signers: tuple[str, ...]
    signatures: bytes
    boxes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Revealed(Message):
    """Answer with shares (count, 16): for each survivor in turn, of its own mask, then of its masks with the dropped.

    `broken` names survivors whose box did not open; their shares are left out.
    """

    number: int
    shares: NDArray[np.uint16]
    broken: tuple[str, ...]


KINDS = (Introduce, Introduced, Acknowledge, Acknowledged, Upload, Agree, Agreed, Reveal, Revealed)
_REQUEST = Wire(Request)
ANNOUNCEMENTS = Wire(Announcement)


def agreement(ctx: bytes, survivors: tuple[str, ...], digests: bytes) -> bytes:
    """Return what a member signs when it agrees on the survivors; every part has a fixed or a stated length."""
    names = b"".join(len(name.encode()).to_bytes(4, "big") + name.encode() for name in survivors)
    return ctx + len(survivors).to_bytes(4, "big") + names + digests


def session_id(introduced: tuple[Introduced, ...]) -> bytes:
    """Return the digest (32 bytes) of all announcements, which are sorted by member."""
    each = b"".join(hashlib.sha256(i.announcement).digest() for i in introduced)
    return hashlib.sha256(label("session") + b"\0" + each).digest()
