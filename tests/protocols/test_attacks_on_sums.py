"""Attacks on whole sums, 25, 30 to 32, 35, 36, 41 and 42 of the list: a coordinator is left with noise, or the sum.

26 (one share fewer than the threshold leaves every secret equally likely) is shown exhaustively in test_shamir.py.
"""

import itertools
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from byhand import looks_uniform, opened, refused, reworded, total
from crowd import crowd, integers

from privacy.fixed_point import FixedPoint
from protocols import shamir
from protocols.carriers.memory import MemoryRoad
from protocols.keys import Identity
from protocols.post import Outbox, seal, unseal
from protocols.secure_sum import aggregation
from protocols.secure_sum.aggregation import Begun, sign, wanted
from protocols.secure_sum.boxes import LIMBS, derived_share, open_box, uniform
from protocols.secure_sum.coordinate import DeadSum, Opened, finish
from protocols.secure_sum.layout import layout_of
from protocols.secure_sum.masks import pack
from protocols.secure_sum.messages import Reveal, Revealed
from protocols.secure_sum.pairs import mac
from protocols.secure_sum.recovery import recovered
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId

ME = "m001"


def exact(there, summed, spec) -> bool:
    mask = np.uint64(2**spec.bits - 1)
    return np.array_equal(summed.words.astype(np.uint64) & mask, integers(there, spec, summed.members))


# 25, 32: who is said to have dropped out, and had not -----------------------------------------------------------


def test_the_vector_of_a_member_that_was_declared_dropped_stays_under_its_own_mask():
    """The coordinator takes away every mask that it was shown; without the member's own, the rest is uniform."""
    at = opened(5, length=40_000)
    victim = "m002"
    request = at.request()
    uploads = at.upload(request)  # the victim's too, or late: it comes to the same
    layout, left = layout_of(request, at.there.terms), {m: u for m, u in uploads.items() if m != victim}
    signed = at.agree(at.survivors(request, left))
    shares = {m: at[m].reveal(at.reveal(m, request, left, signed)) for m in left}
    found = recovered(layout, left, shares)
    assert found.lost == 0
    rows = {m: 1 + layout.neighbours[m].index(victim) for m in left}
    known = [(-sign(victim, m), found.keys[m, rows[m]]) for m in left]
    residual = total(request, [uploads[victim]], known)
    assert looks_uniform(residual)

    honest = {m: at.joined(m).ready.pairs[victim].opening for m in left}  # what only the holders have: to see
    own = everything(layout, request, uploads[victim], victim, honest)  # that nothing but this mask is left
    bare = total(request, [uploads[victim]], [*known, (-1, own)])
    assert np.array_equal(bare.view(np.int32), request.spec.encode(at[victim].values))
    assert not looks_uniform(bare)


def everything(layout, request, upload, dealer, openings) -> bytes:
    """The key of the dealer's own mask, from shares of its holders, against all rules."""
    dealing, count, held = layout.dealing(dealer), 1 + len(layout.neighbours[dealer]), {}
    for holder, key in openings.items():
        if holder in dealing.derived:
            held[holder] = derived_share(key, request.ctx, count)
        else:
            box = upload.boxes[dealing.boxed.index(holder)]
            held[holder] = open_box(key, request.ctx, dealer, holder, box, count)
    chosen = tuple(held)[: layout.threshold]
    stacked = np.stack([held[h].reshape(-1) for h in chosen])
    return shamir.seed(shamir.reconstruct(layout.points(chosen), stacked).reshape(-1, LIMBS)[0])


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_what_a_coordinator_holds_of_fewer_than_all_is_uniform(mode, bits):
    at = opened(4, mode, length=20_000, bits=bits)
    request = at.request()
    uploads = at.upload(request)
    for size in (1, 2, 3):
        for some in itertools.combinations(at.names, size):
            assert looks_uniform(packed(total(request, [uploads[m] for m in some]), bits))
    assert looks_uniform(packed(total(request, uploads.values()), bits)) is (mode is Mode.RESILIENT)


def packed(words: np.ndarray, bits: int) -> np.ndarray:
    return pack(words, bits)


# 31: whose upload it is -----------------------------------------------------------------------------------------


def test_an_upload_that_another_member_signed_counts_as_silence():
    coordinator, people = Identity.generate(), {MemberId(m): Identity.generate() for m in ("a", "b")}
    keys = {m: i.public for m, i in people.items()}

    def answering(signer):
        def deliver(sealed: bytes) -> bytes:
            letter = unseal(sealed, coordinator.public)
            return seal(
                replace(letter, sender=letter.recipient, recipient="coordinator"), people[signer or letter.recipient]
            )

        return deliver

    road = MemoryRoad({MemberId("a"): answering(None), MemberId("b"): answering("a")})
    outbox = Outbox(road, coordinator, "coordinator", "s", "average", keys)
    assert outbox({MemberId("a"): b"1", MemberId("b"): b"2"}) == {"a": b"1"}


# 35, 36: how many are left ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 1, 3, 4, 5, 6])
def test_with_the_threshold_left_the_sum_comes_out_and_with_one_fewer_nothing_is_asked(left):
    there = crowd(6, Mode.RESILIENT)
    assert there.terms.threshold(6) == 4
    opened_, spec = there.open(), there.spec(6)
    there.shown.clear()
    there.lost = lambda stage, _q, m: stage == "Request" and int(m[1:]) >= left
    if left >= 4:
        assert exact(there, there.sum(opened_, spec=spec), spec)
        return
    with refused(DeadSum, f"{left} of 6 members uploaded, need 4"):
        there.sum(opened_, spec=spec)
    assert there.shown == []


@pytest.mark.parametrize(("stage", "trips"), [("Agree", 1), ("Reveal", 2)])
def test_one_fewer_than_the_threshold_at_a_later_trip_ends_the_sum(stage, trips):
    there = crowd(6, Mode.RESILIENT)
    opened_, spec = there.open(), there.spec(6)
    there.lost = lambda now, _q, m: now == stage and m > "m002"
    with refused(DeadSum, "3 of 6 members agreed, need 4|6 of 6 members' masks cannot be recovered") as caught:
        there.sum(opened_, spec=spec)
    assert caught.value.trips == trips
    assert any(isinstance(a, Reveal) for a in there.shown) is (stage == "Reveal")


def test_the_mask_that_two_dropped_members_share_is_never_revealed_nor_needed():
    at = opened(6)
    gone = ("m001", "m004")
    request, left, signed = at.agreed(gone)
    layout = layout_of(request, at.there.terms)
    for m in left:
        assert len(wanted(layout, m, tuple(left))) == 3  # its own, and those with the two
        assert at[m].reveal(at.reveal(m, request, left, signed)).shares.shape == (4 * 3, LIMBS)
    there = crowd(6, Mode.RESILIENT)
    there.lost = lambda stage, _q, m: stage == "Request" and m in gone
    spec = there.spec(6)
    assert exact(there, there.sum(there.open(), spec=spec), spec)


@pytest.mark.parametrize("change", [
    lambda a: replace(a, signature=a.signature[:-1]), lambda a: replace(a, signature=a.signature + b"\0"),
    lambda a: replace(a, signature=b""), lambda a: replace(a, signature=bytes(64)),
    lambda a: replace(a, number=a.number + 1), lambda a: Revealed(a.number, np.zeros((6, 16), np.uint16), ()),
])  # fmt: skip
def test_a_member_that_agrees_with_no_signature_or_to_another_sum_stops_nobody(change):
    there = crowd(6, Mode.RESILIENT)
    opened_, spec = there.open(), there.spec(6)
    there.alter = lambda stage, m, a: change(a) if stage == "Agree" and m == "m002" else a
    assert exact(there, there.sum(opened_, spec=spec), spec)
    assert all(len(one.sums) == 1 for one in there.members.values())


def test_shares_for_another_sum_are_as_none():
    there = crowd(6, Mode.RESILIENT)
    opened_, spec = there.open(), there.spec(6)
    there.alter = lambda stage, m, a: replace(a, number=9) if stage == "Reveal" and m < "m003" else a
    with refused(DeadSum, "6 of 6 members' masks cannot be recovered"):
        there.sum(opened_, spec=spec)


def test_a_members_own_mask_and_own_share_are_drawn_anew_and_known_to_nobody():
    """Of the first by name all shares but the last are derived; its own from what no other member has."""
    at = opened(5)
    request = at.request()
    at.upload(request)
    begun, stage = Begun(at.joined("m000").ready, request, request.ctx), at.stage("m000")
    (one, first), (other, second) = (begun.upload(request.spec.encode(at["m000"].values)) for _ in range(2))
    assert (one._own != other._own).mean() > 0.99
    assert (one._own != stage._own).mean() > 0.99
    assert first.own != second.own
    assert first.commitments == second.commitments


# 41: what others got wrong ----------------------------------------------------------------------------------------


def test_no_threshold_is_so_low_that_the_colluding_reach_it_or_one_member_does():
    for colluding, members in itertools.product(range(10), range(2, 40)):
        if colluding < members:
            terms = Terms(Mode.RESILIENT, smallest_crowd=max(2, colluding + 1), colluding=colluding)
            assert max(1, colluding) < terms.threshold(members) <= members
            assert terms.threshold(members) > members / 2
    for wrong in ({"smallest_crowd": 1, "colluding": 0}, {"smallest_crowd": 3, "colluding": 3},
                  {"smallest_crowd": 3, "colluding": -1}, {"smallest_crowd": 0, "colluding": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=r"bits: expected|smallest_crowd: expected|colluding: expected"):
            Terms(Mode.RESILIENT, **wrong)
    for wrong in ({"attempts": 0}, {"attempts": 1001}, {"lifetime_s": 0}, {"lifetime_s": 7 * 24 * 3600 + 1}):
        with pytest.raises(ValueError, match=r"attempts: expected|lifetime_s: expected"):
            Terms(Mode.RESILIENT, 3, 1, **wrong)


def test_a_mask_depends_on_every_limb_of_its_secret_and_on_both_secrets_of_the_pair():
    limbs = uniform(bytes(32), 1)[0]
    seeds = {shamir.seed(limbs)}
    for i in range(LIMBS):
        other = limbs.copy()
        other[i] ^= 1
        seeds.add(shamir.seed(other))
    assert len(seeds) == LIMBS + 1
    assert {len(s) for s in seeds} == {32}
    assert len({uniform(i.to_bytes(32, "big"), 1).tobytes()[:16] for i in range(3000)}) == 3000


def test_the_modulus_is_of_the_terms_and_no_request_has_one_of_its_own():
    assert {f for f in Terms.__slots__ if f == "bits"} == {"bits"}
    assert {f for f in FixedPoint.__slots__ if f == "bits"} == {"bits"}  # compared with the terms': see 18


# 42: no mask twice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sums", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_over_a_hundred_thousand_sums_no_two_masks_of_a_pair_have_one_key(sums):
    at = opened(3, Mode.STRICT)
    request = at.request()
    at.ask(ME, request)
    begun = Begun(at.joined(ME).ready, request, request.ctx)
    pairs = list(at.joined(ME).ready.pairs.values())
    seen, contexts = set(), set()
    for number in range(sums):
        ctx = replace(request, number=number, query=number).ctx
        contexts.add(ctx)
        seen.update(Begun._seed(replace(begun, ctx=ctx), pair) for pair in pairs)
    assert len(contexts) == sums
    assert len(seen) == 2 * sums
    assert mac(pairs[0].mask, "mask", request.ctx) in seen


@pytest.mark.parametrize("mode", Mode)
def test_in_real_sums_every_key_masks_one_vector_at_each_of_two_members_or_one_members_alone(mode, monkeypatch):
    """A ledger of keys and vectors, as they are added: retries, droppings and several sessions included."""
    used, add = Counter(), aggregation.add_masks

    def noted(words, keys, threads=1):
        used.update((key, sign_) for sign_, key in keys)
        add(words, keys, threads)

    monkeypatch.setattr(aggregation, "add_masks", noted)
    uploads = 0
    for _ in range(3):
        there = crowd(5, mode, attempts=3)
        opened_ = there.open()
        for query, attempt in itertools.product(range(6), range(3)):
            there.lost = lambda stage, _q, _m: stage == "Reveal"  # no sum comes out, so there are retries
            members = opened_.members[: 5 - attempt]
            with suppress(DeadSum):  # masked it was all the same
                there.sum(opened_, query, members, attempt)
            uploads += len(members)
    own = [key for key, _ in used if (key, -1) not in used]
    assert set(used.values()) == {1}
    assert len(own) == (uploads if mode is Mode.RESILIENT else 0)
    assert all((key, 1) in used for key, _ in used)


# 30, 31, 32: uploads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("change", [
    lambda u: reworded(u, lambda w: w[:-1]), lambda u: reworded(u, lambda w: w + b"\0"),
    lambda u: replace(u, words=u.words.reshape(1, -1)),
    lambda u: reworded(u, lambda w: b""), lambda u: reworded(u, lambda w: w[: len(w) // 2]),
    lambda u: reworded(u, lambda w: w * 2), lambda u: replace(u, commitments=u.commitments[:-1]),
    lambda u: replace(u, commitments=u.commitments + bytes(32)), lambda u: replace(u, own=u.own + b"\0"),
    lambda u: replace(u, boxes=(*u.boxes, b"")), lambda u: replace(u, number=u.number + 1),
    lambda u: Revealed(u.number, np.zeros((0, 16), np.uint16), ()),
])  # fmt: skip
def test_an_upload_of_another_length_width_or_kind_is_as_none(mode, change):
    there = crowd(5, mode)
    opened_ = there.open()
    there.alter = lambda stage, m, a: change(a) if stage == "Request" and m == ME else a
    if mode is Mode.STRICT:
        with refused(DeadSum, "4 of 5 members uploaded; all must"):
            there.sum(opened_)
        return
    spec = there.spec(5)
    summed = there.sum(opened_, spec=spec)
    assert summed.members == ("m000", "m002", "m003", "m004")
    assert np.array_equal(summed.words.astype(np.uint64), integers(there, spec, summed.members))


def test_an_upload_in_the_name_of_who_was_not_asked_is_ignored():
    at = opened(5)
    request = at.request(members=at.names[:4])
    answers = dict(at.upload(request), zed=at.ask("m003", at.request()), m004=at.ask("m004", at.request()))
    summed = at.there.drive(finish(Opened(at.there.terms, at.sid, at.names, {}), request, dict(answers)))
    assert set(summed.members) <= set(request.members)
