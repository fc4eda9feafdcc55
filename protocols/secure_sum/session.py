"""Open a session of secure sums, at one member: fresh keys, agreed with every peer, held in memory alone.

    coordinator                                      member i
      Introduce(terms) ─────────────────────────────▶ X25519 and ML-KEM-768 keys, made now      -> Announced
      ◀──────────────────────────── Introduced(signed announcement)
      Acknowledge(all announcements) ───────────────▶ signatures against the approved roster,
                                                      one roster, terms and session for all     -> Joined
      ◀──────────────────────────── Acknowledged(a slip for each peer)
      ... the first request brings the peers' slips ─▶ a proof from each that it saw the same   -> Ready

    K(i,j) = HKDF(salt = session, ikm = X25519 || ML-KEM, info = names, ciphertext)

Each stage is a frozen value; a stage that is left is dropped. No stage can be encoded: keys are in memory alone, so
a member that was restarted can repeat no mask, since it has no key to make it with.

Learns:  the coordinator and the peers: public keys. Nobody: a key of a pair but the two.
Trusts:  the approved roster; the security of X25519 or, against whoever records today and computes later, ML-KEM-768.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.refusal import CrowdTooSmall, RosterNotApproved
from protocols.faults import PeerError, WireError
from protocols.keys import PublicKey
from protocols.roster import Roster
from protocols.secure_sum.messages import (
    ANNOUNCEMENTS,
    VERSION,
    Acknowledge,
    Acknowledged,
    Announcement,
    Introduced,
    Slip,
    label,
    session_id,
)
from protocols.secure_sum.terms import Terms
from protocols.session import MemberId

CLOCK_SKEW_S = 300
_ANNOUNCE, _SHORT = label("announcement"), 32


class Signer(Protocol):
    """Sign as one member."""

    def sign(self, label: bytes, data: bytes) -> bytes:
        """Return the signature (64 bytes) on `data` under `label`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say who a member is in which session, and whom it was told takes part."""

    me: MemberId
    coordinator: str
    session: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold the keys that two members share in one session (32 bytes each)."""

    mask: bytes = field(repr=False)
    sealing: bytes = field(repr=False)
    opening: bytes = field(repr=False)

    @classmethod
    def derive(cls, root: bytes, me: str, peer: str) -> "Pair":
        """Return the keys at `me`: what it seals to `peer` with, `peer` opens with."""
        here, there = me.encode(), peer.encode()
        return cls(mac(root, "mask"), mac(root, "box", here, there), mac(root, "box", there, here))


@dataclass(frozen=True, slots=True)
class Announced:
    """Have announced keys, and wait to see everybody's."""

    place: Place
    terms: Terms
    roster: Roster
    own: Introduced
    expires: int
    _exchange: X25519PrivateKey = field(repr=False)
    _kem: MLKEM768PrivateKey = field(repr=False)

    def acknowledge(self, ask: Acknowledge, now: float) -> "tuple[Joined, Acknowledged]":
        """Check all announcements, and answer with a slip for each peer.

        Raises: PeerError, RosterNotApproved, CrowdTooSmall.
        """
        announced = self._checked(ask.introduced, now)
        sid = session_id(ask.introduced)
        half, slips = {}, []
        for peer, theirs in announced.items():
            if peer != self.place.me:
                half[peer] = self._meet(sid, peer, theirs)
                slips.append(half[peer].slip)
        keys = {str(m): k for m, k in self.roster.keys if m in announced}
        ready = Ready(self.place, self.terms, self.roster.digest, sid, self.expires, {}, keys)
        return Joined(ready, half, self._kem), Acknowledged(tuple(slips))

    def _checked(self, introduced: Sequence[Introduced], now: float) -> dict[str, Announcement]:
        """Return the announcements by member, every one of them in order. The roster's keys decide, and no others."""
        if len(introduced) > len(self.place.members):
            raise PeerError("more announcements than members")
        announced: dict[str, Announcement] = {}
        digest, keys = self.roster.digest, dict(self.roster.keys)
        for one in introduced:
            theirs = _decoded(one)
            key = keys.get(MemberId(theirs.member))
            if key is None or theirs.member not in self.place.members:
                raise RosterNotApproved("an announcement of a member that is not in the approved roster")
            verify(key, _ANNOUNCE, one.announcement, one.signature, theirs.member)
            if theirs.roster != digest:
                raise RosterNotApproved(f"{theirs.member} has approved another roster")
            self._check(theirs, now)
            announced[theirs.member] = theirs
        if list(announced) != sorted(announced) or len(announced) != len(introduced):
            raise PeerError("announcements out of order, or a member twice")
        if len({a.exchange_key for a in announced.values()} | {a.kem_key for a in announced.values()}) < 2 * len(
            announced
        ):
            raise PeerError("two members announce the same key")
        if self.own not in introduced:
            raise PeerError("my own announcement is missing or changed")
        if len(announced) < self.terms.smallest_crowd:
            raise CrowdTooSmall(f"{len(announced)} members announced, {self.terms.smallest_crowd} needed")
        return announced

    def _check(self, theirs: Announcement, now: float) -> None:
        who = theirs.member
        if (theirs.version, theirs.coordinator, theirs.session) != (
            VERSION,
            self.place.coordinator,
            self.place.session,
        ):
            raise PeerError(f"{who} announced itself for another session")
        if theirs.terms != self.terms.digest:
            raise PeerError(f"{who} has been told other terms")
        if not now <= theirs.expires <= now + self.terms.lifetime_s + CLOCK_SKEW_S:
            raise PeerError(f"{who} announced keys that have expired, or that live longer than the terms allow")
        if len(theirs.nonce) != _SHORT:
            raise PeerError(f"{who} announced a nonce of another length")

    def _meet(self, sid: bytes, peer: str, theirs: Announcement) -> "_Half":
        """Return what can be known of the pair before the peer's slip has come."""
        me = self.place.me
        try:
            classical = self._exchange.exchange(X25519PublicKey.from_public_bytes(theirs.exchange_key))
            ciphertext, secret = b"", b""
            if me < peer:
                secret, ciphertext = MLKEM768PublicKey.from_public_bytes(theirs.kem_key).encapsulate()
        except ValueError:  # also for a point of low order, whose secret anybody would know
            raise PeerError(f"{peer} announced a key that is none") from None
        proof_key = mac(classical, "proof", sid)
        return _Half(classical, secret, proof_key, Slip(peer, _proof(proof_key, me, peer, ciphertext), ciphertext))


@dataclass(frozen=True, slots=True)
class _Half:
    """Hold a pair's secrets until its other member has shown that it saw the same session."""

    classical: bytes = field(repr=False)
    encapsulated: bytes = field(repr=False)
    proof_key: bytes = field(repr=False)
    slip: Slip = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """Hold the keys of all pairs whose other member is confirmed, and how far the sums have come.

    `keys` are the members' public keys, as the approved roster has them, whose digest is `roster`; `revealed` is the
    last query of which this member has revealed shares.
    """

    place: Place
    terms: Terms
    roster: str
    sid: bytes
    expires: int
    pairs: Mapping[str, Pair] = field(repr=False)
    keys: Mapping[str, PublicKey] = field(repr=False)
    number: int = -1
    query: int = -1
    attempt: int = -1
    queried: tuple[str, ...] = ()
    revealed: int = -1


@dataclass(frozen=True, slots=True)
class Joined:
    """Have acknowledged, and wait for the peers' slips; those that came are in `ready`."""

    ready: Ready
    _half: Mapping[str, _Half] = field(repr=False)
    _kem: MLKEM768PrivateKey = field(repr=False)

    def confirm(self, slips: Sequence[Slip]) -> "Joined":
        """Take in slips of peers. A slip of a peer that is confirmed already changes nothing.

        Raises: PeerError for a slip of a stranger, or of a peer that saw other announcements.
        """
        pairs, half = dict(self.ready.pairs), dict(self._half)
        for slip in slips:
            if slip.member not in pairs:
                if slip.member not in half:
                    raise PeerError("a slip of somebody who announced nothing")
                pairs[slip.member] = self._pair(slip)
                del half[slip.member]  # nobody needs what the pair's keys were made of any more
        return Joined(replace(self.ready, pairs=pairs), half, self._kem)

    def at(self, ready: Ready) -> "Joined":
        """Return the same keys, gone on to `ready`."""
        return Joined(ready, self._half, self._kem)

    def _pair(self, slip: Slip) -> Pair:
        me, peer, half = self.ready.place.me, slip.member, self._half[slip.member]
        expected = _proof(half.proof_key, peer, me, slip.ciphertext)
        if not hmac.compare_digest(expected, slip.proof):
            raise PeerError(f"{peer} does not prove that it saw the same announcements")
        if (len(slip.ciphertext) > 0) is not (peer < me):
            raise PeerError(f"{peer} sent a ciphertext where none is due, or none where one is")
        ciphertext, secret = (half.slip.ciphertext, half.encapsulated) if me < peer else (slip.ciphertext, b"")
        if me > peer:
            try:
                secret = self._kem.decapsulate(ciphertext)
            except ValueError:
                raise PeerError(f"{peer} sent a ciphertext of another length") from None
        return Pair.derive(_root(self.ready.sid, half.classical + secret, me, peer, ciphertext), me, peer)


def introduce(
    place: Place, terms: Terms, roster: Roster, identity: Signer, now: float
) -> tuple[Announced, Introduced]:
    """Make this session's keys, and announce them.

    Raises: CrowdTooSmall; RosterNotApproved if a member is not in the approved roster.
    """
    if len(place.members) < terms.smallest_crowd:
        raise CrowdTooSmall(f"{len(place.members)} members, {terms.smallest_crowd} needed")
    strangers = set(place.members) - set(roster.members)
    if strangers:
        raise RosterNotApproved(f"{len(strangers)} of {len(place.members)} members are not in the approved roster")
    exchange, kem = X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
    expires = int(now) + terms.lifetime_s
    data = ANNOUNCEMENTS.encode(
        Announcement(
            VERSION,
            place.coordinator,
            place.session,
            place.me,
            roster.digest,
            terms.digest,
            exchange.public_key().public_bytes_raw(),
            kem.public_key().public_bytes_raw(),
            os.urandom(_SHORT),
            expires,
        )
    )
    own = Introduced(data, identity.sign(_ANNOUNCE, data))
    return Announced(place, terms, roster, own, expires, exchange, kem), own


def sound(said: Announcement, terms: Terms) -> bool:
    """Say whether an announcement is under these terms, and its keys are keys; whose they are takes a roster."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(said.exchange_key))
        MLKEM768PublicKey.from_public_bytes(said.kem_key)
    except ValueError:
        return False
    return (said.version, said.terms, len(said.nonce)) == (VERSION, terms.digest, _SHORT)


def verify(key: PublicKey, what: bytes, data: bytes, signature: bytes, who: str) -> None:
    """Return if `who` signed `data` with its key in the roster. Raises: PeerError that names who."""
    try:
        key.verify(what, data, signature)
    except PeerError:
        raise PeerError(f"a signature of {who} does not verify") from None


def _decoded(one: Introduced) -> Announcement:
    announcement = ANNOUNCEMENTS.decode(one.announcement)
    if not isinstance(announcement, Announcement):
        raise WireError("not an announcement")
    return announcement


def mac(key: bytes, what: str, *parts: bytes) -> bytes:
    """Return HMAC-SHA256 (32 bytes) under `key` of the label of `what` and of the parts, each behind its length."""
    data = _named(what)
    for part in parts:
        data += len(part).to_bytes(4, "big") + part
    return hmac.digest(key, data, "sha256")


@lru_cache(maxsize=64)
def _named(what: str) -> bytes:
    return label(what) + b"\0"


def _proof(key: bytes, author: str, addressee: str, ciphertext: bytes) -> bytes:
    return mac(key, "slip", author.encode(), addressee.encode(), ciphertext)


def _root(sid: bytes, secret: bytes, me: str, peer: str, ciphertext: bytes) -> bytes:
    """Return the pair's root (32 bytes). The ciphertext is in it: ML-KEM binds a key to less than what was sent."""
    first, second = sorted((me, peer))
    info = mac(sid, "pair", first.encode(), second.encode(), ciphertext)
    return HKDF(SHA256(), 32, sid, info).derive(secret)
