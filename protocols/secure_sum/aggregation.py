"""Take part in one sum, at one member.

    coordinator                                       member
      Request ──────────────────────────────────────▶ equal to what I computed myself? number and
                                                      query grown? crowd large enough?            -> Begun
                                                      (the gate charges, then:) mask, commit, deal -> Uploaded
      ◀────────────────────────────────────── Upload
      STRICT: add up, done. RESILIENT:
      Agree(who is in, digests) ────────────────────▶ am I in, with my upload? enough of us?      -> Consenting
      ◀────────────────────────────────────── Agreed(signature)
      Reveal(enough signatures, boxes) ─────────────▶ one share for each: of the own mask of who is
                                                      in, of the pair masks of who is not          -> done
      ◀────────────────────────────────────── Revealed(shares)

No stage repeats: each is left when it has answered. What is revealed is used up with this sum, since every secret in
it was drawn or derived for this request alone.

Learns:  the coordinator: the sum over the survivors. With c members on its side: the sum over the others.
Trusts:  at most terms.colluding members work with the coordinator; then of nobody both kinds of share are revealed.
Cites:   Bonawitz et al. 2017, figure 4 (the consistency round is its round 3); Ma et al. 2023 (keys for each round).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from privacy.refusal import CrowdTooSmall
from protocols import shamir
from protocols.faults import LocalError, PeerError
from protocols.secure_sum.boxes import LIMBS, Limbs, deal, derived_share, open_box, uniform
from protocols.secure_sum.layout import Layout, layout_of
from protocols.secure_sum.masks import add_masks, in_place, pack
from protocols.secure_sum.messages import Agree, Agreed, Request, Reveal, Revealed, Upload, agreement, label
from protocols.secure_sum.pairs import Pair, mac
from protocols.secure_sum.session import Ready, Signer, verify
from protocols.secure_sum.shared import shared
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId

_AGREE = label("agreement")
_SIGNATURE = 64


@dataclass(frozen=True, slots=True)
class Expected:
    """Hold what this member computed for itself; a request that says anything else is refused."""

    purpose: str
    spec: FixedPoint
    context: bytes
    query: int


@dataclass(frozen=True, slots=True)
class Begun:
    """Have accepted a request; nothing has been charged or masked yet. `ready` is the session gone on past it."""

    ready: Ready
    request: Request
    ctx: bytes

    def upload(self, values: NDArray[np.signedinteger[Any]], threads: int = 1) -> "tuple[Uploaded | None, Upload]":
        """Mask `values` (length,), and deal shares of what unmasks them. Called once, after the charge.

        The memory of `values` is taken over: they are gone afterwards.
        In STRICT mode there is no further stage, and nothing is dealt.
        Raises: LocalError for values of another shape.
        """
        spec, layout = self.request.spec, layout_of(self.request, self.ready.terms)
        if values.shape != (spec.length,):
            raise LocalError("values of another shape than the request's")
        words = in_place(values, spec.bits)
        me, near = self.ready.place.me, layout.neighbours[self.ready.place.me]
        pairs = {peer: self.ready.pairs[peer] for peer in near}
        seeds = {peer: self._seed(pair) for peer, pair in pairs.items()}
        keys = [(sign(me, peer), _key(seed)) for peer, seed in seeds.items()]
        commitments = b"".join(commitment(seed) for seed in seeds.values())
        number = self.request.number
        if self.ready.terms.mode is Mode.STRICT:
            add_masks(words, keys, threads)
            return None, Upload(number, pack(words, spec.bits), commitments, b"", ())
        own = uniform(os.urandom(32), 1)[0]
        add_masks(words, [*keys, (1, _key(own))], threads)
        secrets = np.stack([own, *(np.asarray(s) for s in seeds.values())])
        mine = os.urandom(32)  # my own share is derived from, or sealed with, what nobody else has
        dealt = deal(layout.dealing(me), secrets, self.ctx, lambda h: mine if h == me else pairs[h].sealing)
        upload = Upload(number, pack(words, spec.bits), commitments, commitment(own), dealt.boxes)
        return Uploaded(self.ready, self.request, self.ctx, upload.digest(self.ctx), dealt.own), upload

    def _seed(self, pair: Pair) -> "Limbs | bytes":
        """Return what the pair's mask comes from: 16 elements where it may have to be shared, else a key."""
        if self.ready.terms.mode is Mode.STRICT:
            return mac(pair.mask, "mask", self.ctx)
        limbs: Limbs = uniform(mac(pair.mask, "mask", self.ctx), 1)[0]
        return limbs


def begin(ready: Ready, request: Request, expected: Expected, now: float) -> Begun:
    """Check a request against what this member knows by itself.

    Raises: PeerError for one that is out of order or asks for something else; CrowdTooSmall.
    """
    if request.sid != ready.sid or now > ready.expires:
        raise PeerError("a request of another session, or of one whose keys have expired")
    if request.number <= ready.number:
        raise PeerError("a sum with a number that is used up")
    if expected != Expected(request.purpose, request.spec, request.context, request.query):
        raise PeerError("a request for another purpose, encoding, context or query than mine")
    if request.spec.bits != ready.terms.bits or request.spec.members != len(request.members):
        raise PeerError("words of another width, or sized for another crowd")
    _check_crowd(ready, request)
    _check_attempt(ready, request)
    request = replace(request, members=shared(request.members))
    layout_of(request, ready.terms)  # above 128 members not every crowd has one
    after = replace(
        ready, number=request.number, query=request.query, attempt=request.attempt, queried=request.members
    )
    return Begun(after, request, request.ctx)


def _check_crowd(ready: Ready, request: Request) -> None:
    members, terms = request.members, ready.terms
    if list(members) != sorted(set(members)):
        raise PeerError("members out of order, or one twice")
    if ready.place.me not in members:
        raise PeerError("a sum without me")
    strangers = set(members).difference(ready.pairs, {ready.place.me})
    if strangers:
        raise PeerError(f"{len(strangers)} members have not proved that they saw the same announcements")
    if len(members) < terms.smallest_crowd:
        raise CrowdTooSmall(f"a sum of {len(members)} members, {terms.smallest_crowd} needed")


def _check_attempt(ready: Ready, request: Request) -> None:
    """Let a query be asked again only in order, at most so often, and of no one new."""
    if not 0 <= request.attempt < ready.terms.attempts:
        raise PeerError(f"attempt {request.attempt + 1}, the terms allow {ready.terms.attempts}")
    if request.query > ready.query:
        if request.attempt != 0:
            raise PeerError("a new query that does not begin with its first attempt")
    elif request.query < ready.query or request.attempt <= ready.attempt:
        raise PeerError("a query, or an attempt, that is used up")
    elif request.query == ready.revealed:
        raise PeerError("another attempt at a query whose sum was revealed: the difference would be somebody's")
    elif not set(request.members) <= set(ready.queried):
        raise PeerError("an attempt that asks somebody new")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Have uploaded; wait to hear who is in."""

    ready: Ready
    request: Request
    ctx: bytes
    digest: bytes
    _own: Limbs = field(repr=False)

    def agree(self, ask: Agree, identity: Signer) -> "tuple[Consenting, Agreed]":
        """Sign who is in, if I am, with my upload, in a crowd that is large enough.

        Raises: PeerError, CrowdTooSmall.
        """
        members, terms, me = self.request.members, self.ready.terms, self.ready.place.me
        if ask.number != self.request.number:
            raise PeerError("survivors of another sum")
        if list(ask.survivors) != sorted(set(ask.survivors)) or not set(ask.survivors) <= set(members):
            raise PeerError("survivors out of order, twice, or not of this sum")
        if me not in ask.survivors:
            raise PeerError("a sum that leaves me out")
        if (
            len(ask.digests) != 32 * len(ask.survivors)
            or _nth(ask.digests, ask.survivors.index(me), 32) != self.digest
        ):
            raise PeerError("another upload than mine under my name")
        least = max(terms.smallest_crowd, terms.threshold(len(members)))
        if len(ask.survivors) < least:
            raise CrowdTooSmall(f"{len(ask.survivors)} of {len(members)} members are in the sum, {least} needed")
        signed = shared(agreement(self.ctx, ask.survivors, ask.digests))
        stage = Consenting(self.ready, self.request, self.ctx, shared(ask.survivors), signed, self._own)
        return stage, Agreed(ask.number, identity.sign(_AGREE, signed))


@dataclass(frozen=True, slots=True)
class Consenting:
    """Have signed who is in; wait to see that enough others signed the same."""

    ready: Ready
    request: Request
    ctx: bytes
    survivors: tuple[str, ...]
    _signed: bytes = field(repr=False)
    _own: Limbs = field(repr=False)

    def reveal(self, ask: Reveal) -> Revealed:
        """Return one share for each survivor's own mask, and for each mask it shares with one who is not in.

        Learns:  the coordinator: of every member, shares of one kind only.
        Raises:  PeerError unless the threshold of survivors signed exactly what this member signed.
        """
        self._check_signatures(ask)
        layout, me = layout_of(self.request, self.ready.terms), self.ready.place.me
        dealers = [s for s in self.survivors if s == me or me in layout.neighbours[s]]
        if len(ask.boxes) != len(dealers) - 1:
            raise PeerError(f"{len(ask.boxes)} boxes, {len(dealers) - 1} members dealt to me")
        boxes = dict(zip([d for d in dealers if d != me], ask.boxes, strict=True))
        shares, broken = [], []
        for dealer in dealers:
            try:
                share = self._own if dealer == me else self._share(layout, dealer, boxes[dealer])
            except PeerError:
                broken.append(dealer)  # without this one's share the others may still be enough
                continue
            shares.append(share[wanted(layout, dealer, self.survivors)])
        rows = np.concatenate(shares) if shares else np.zeros((0, LIMBS), np.uint16)
        return Revealed(ask.number, rows, tuple(broken))

    def _share(self, layout: Layout, dealer: str, box: bytes) -> Limbs:
        me, dealing = self.ready.place.me, layout.dealing(dealer)
        count, key = 1 + len(layout.neighbours[dealer]), self.ready.pairs[dealer].opening
        if me in dealing.derived:
            return derived_share(key, self.ctx, count)
        return open_box(key, self.ctx, dealer, me, box, count)

    def _check_signatures(self, ask: Reveal) -> None:
        terms, signers = self.ready.terms, ask.signers
        if ask.number != self.request.number:
            raise PeerError("signatures of another sum")
        if list(signers) != sorted(set(signers)) or not set(signers) <= set(self.survivors):
            raise PeerError("signers out of order, twice, or not in the sum")
        threshold = terms.threshold(len(self.request.members))
        if len(signers) < threshold or len(ask.signatures) != _SIGNATURE * len(signers):
            raise PeerError(f"{len(signers)} signatures, {threshold} needed")
        each = (s for i, s in enumerate(signers) if self._signed_by(s, _nth(ask.signatures, i, _SIGNATURE)))
        good = sum(1 for _ in islice(each, threshold))  # as many as are needed are looked at
        if good < threshold:  # one bad signature among enough good ones is its author's, and stops nobody
            raise PeerError(f"{good} signatures verify, {threshold} needed")

    def _signed_by(self, signer: str, signature: bytes) -> bool:
        try:
            verify(self.ready.roster.key(MemberId(signer)), _AGREE, self._signed, signature, signer)
        except PeerError:
            return False
        return True


def wanted(layout: Layout, dealer: str, survivors: Sequence[str]) -> list[int]:
    """Return which rows of a survivor's secrets are revealed: its own mask, and those with the dropped."""
    here = set(survivors)
    return [0, *(1 + i for i, peer in enumerate(layout.neighbours[dealer]) if peer not in here)]


def sign(me: str, peer: str) -> int:
    """Return with which sign `me` adds the mask it shares with `peer`, who adds it with the other."""
    return 1 if me < peer else -1


def commitment(seed: "Limbs | bytes") -> bytes:
    """Return 32 bytes by which the coordinator sees that two members mask with the same seed, and not which."""
    data = seed if isinstance(seed, bytes) else seed.astype("<u2").tobytes()
    return mac(b"", "commitment", data)


def _key(seed: "Limbs | bytes") -> bytes:
    return seed if isinstance(seed, bytes) else shamir.seed(seed)


def _nth(data: bytes, index: int, width: int) -> bytes:
    return data[width * index : width * (index + 1)]
