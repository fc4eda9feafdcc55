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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.refusal import CrowdTooSmall, RosterNotApproved
from protocols.faults import LocalError, PeerError
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
from protocols.secure_sum.pairs import WIDTH, Pairs, Secrets, mac
from protocols.secure_sum.shared import decoded, kem_key, shared, verified
from protocols.secure_sum.terms import Terms
from protocols.session import MemberId

CLOCK_SKEW_S = 300
_ANNOUNCE, _SHORT = label("announcement"), 32
_HALF = 2 * WIDTH


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
                half[peer], slip = self._meet(sid, peer, theirs)
                slips.append(slip)
        ready = Ready(self.place, self.terms, self.roster, sid, self.expires, Pairs.none(self.place.me))
        return Joined(ready, Secrets.of(half, _HALF), self._kem), Acknowledged(tuple(slips))

    def _checked(self, introduced: Sequence[Introduced], now: float) -> dict[str, Announcement]:
        """Return the announcements by member, every one of them in order. The roster's keys decide, and no others."""
        if len(introduced) > len(self.place.members):
            raise PeerError("more announcements than members")
        announced: dict[str, Announcement] = {}
        keys, invited, terms = dict(self.roster.keys), set(self.place.members), self.terms.digest
        for one in introduced:
            theirs = decoded(one.announcement)
            key = keys.get(MemberId(theirs.member))
            if key is None or theirs.member not in invited:
                raise RosterNotApproved("an announcement of a member that is not in the approved roster")
            verify(key, _ANNOUNCE, one.announcement, one.signature, theirs.member)
            if theirs.roster != self.roster.digest:
                raise RosterNotApproved(f"{theirs.member} has approved another roster")
            self._check(theirs, terms, now)
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

    def _check(self, theirs: Announcement, terms: bytes, now: float) -> None:
        who = theirs.member
        if (theirs.version, theirs.coordinator, theirs.session) != (
            VERSION,
            self.place.coordinator,
            self.place.session,
        ):
            raise PeerError(f"{who} announced itself for another session")
        if theirs.terms != terms:
            raise PeerError(f"{who} has been told other terms")
        if not now <= theirs.expires <= now + self.terms.lifetime_s + CLOCK_SKEW_S:
            raise PeerError(f"{who} announced keys that have expired, or that live longer than the terms allow")
        if len(theirs.nonce) != _SHORT:
            raise PeerError(f"{who} announced a nonce of another length")

    def _meet(self, sid: bytes, peer: str, theirs: Announcement) -> tuple[bytes, Slip]:
        """Return what can be known of the pair before the peer's slip has come (see `Joined`), and my slip for it."""
        me, ciphertext = self.place.me, b""
        try:
            classical = secret = self._exchange.exchange(X25519PublicKey.from_public_bytes(theirs.exchange_key))
            if me < peer:
                encapsulated, ciphertext = kem_key(theirs.kem_key).encapsulate()
                secret = _root(sid, classical + encapsulated, me, peer, ciphertext)
        except ValueError:  # also for a point of low order, whose secret anybody would know
            raise PeerError(f"{peer} announced a key that is none") from None
        proof_key = mac(classical, "proof", sid)
        return proof_key + secret, Slip(peer, _proof(proof_key, me, peer, ciphertext), ciphertext)


@dataclass(frozen=True, slots=True)
class Ready:
    """Hold the keys of all pairs whose other member is confirmed, and how far the sums have come.

    `roster` is the approved one, with the members' public keys; `revealed` is the last query of which this member has
    revealed shares.
    """

    place: Place
    terms: Terms
    roster: Roster = field(repr=False)
    sid: bytes
    expires: int
    pairs: Pairs = field(repr=False)
    number: int = -1
    query: int = -1
    attempt: int = -1
    queried: tuple[str, ...] = ()
    revealed: int = -1


@dataclass(frozen=True, slots=True)
class Joined:
    """Have acknowledged, and wait for the peers' slips; those that came are in `ready`.

    For each peer of whom none came yet `_half` has 64 bytes: the key of both proofs; then the pair's root where the
    ciphertext was mine to make, else what X25519 gave. Without such peers there is no KEM key either.
    """

    ready: Ready
    _half: Secrets = field(repr=False)
    _kem: MLKEM768PrivateKey | None = field(repr=False)

    def confirm(self, slips: Sequence[Slip]) -> "Joined":
        """Take in slips of peers. A slip of a peer that is confirmed already changes nothing.

        Raises: PeerError for a slip of a stranger, or of a peer that saw other announcements.
        """
        roots: dict[str, bytes] = {}
        for slip in slips:
            if slip.member not in self.ready.pairs and slip.member not in roots:
                if slip.member not in self._half:
                    raise PeerError("a slip of somebody who announced nothing")
                roots[slip.member] = self._root(slip)
        if not roots:
            return self
        half = {peer: secret for peer, secret in self._half.items() if peer not in roots}
        ready = replace(self.ready, pairs=self.ready.pairs.joined_by(roots))
        return Joined(ready, Secrets.of(half, _HALF), self._kem if half else None)

    def at(self, ready: Ready) -> "Joined":
        """Return the same keys, gone on to `ready`."""
        return Joined(ready, self._half, self._kem)

    def _root(self, slip: Slip) -> bytes:
        me, peer, half = self.ready.place.me, slip.member, self._half[slip.member]
        proof_key, secret = half[:WIDTH], half[WIDTH:]
        if not hmac.compare_digest(_proof(proof_key, peer, me, slip.ciphertext), slip.proof):
            raise PeerError(f"{peer} does not prove that it saw the same announcements")
        if (len(slip.ciphertext) > 0) is not (peer < me):
            raise PeerError(f"{peer} sent a ciphertext where none is due, or none where one is")
        if me < peer:
            return secret
        if self._kem is None:
            raise LocalError("a peer that is not confirmed, and no key left")
        try:
            encapsulated = self._kem.decapsulate(slip.ciphertext)
        except ValueError:
            raise PeerError(f"{peer} sent a ciphertext of another length") from None
        return _root(self.ready.sid, secret + encapsulated, me, peer, slip.ciphertext)


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
    place = replace(place, members=shared(place.members))
    return Announced(place, terms, roster, own, expires, exchange, kem), own


def sound(said: Announcement, terms: Terms) -> bool:
    """Say whether an announcement is under these terms, and its keys are keys; whose they are takes a roster."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(said.exchange_key))
        kem_key(said.kem_key)
    except ValueError:
        return False
    return (said.version, said.terms, len(said.nonce)) == (VERSION, terms.digest, _SHORT)


def verify(key: PublicKey, what: bytes, data: bytes, signature: bytes, who: str) -> None:
    """Return if `who` signed `data` with its key in the roster. Raises: PeerError that names who."""
    if not verified(key, what, data, signature):
        raise PeerError(f"a signature of {who} does not verify")


def _proof(key: bytes, author: str, addressee: str, ciphertext: bytes) -> bytes:
    return mac(key, "slip", author.encode(), addressee.encode(), ciphertext)


def _root(sid: bytes, secret: bytes, me: str, peer: str, ciphertext: bytes) -> bytes:
    """Return the pair's root (32 bytes). The ciphertext is in it: ML-KEM binds a key to less than what was sent."""
    first, second = sorted((me, peer))
    info = mac(sid, "pair", first.encode(), second.encode(), ciphertext)
    return HKDF(SHA256(), 32, sid, info).derive(secret)
