"""Attacks on what unmasks a sum when members have dropped out, 20 to 24 and 27 to 29 of the list."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from byhand import changed, opened, refused
from crowd import crowd, integers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.refusal import CrowdTooSmall
from protocols.faults import PeerError
from protocols.field import PRIME
from protocols.secure_sum.aggregation import wanted
from protocols.secure_sum.boxes import _NONCE, LIMBS, _about, open_box
from protocols.secure_sum.coordinate import DeadSum
from protocols.secure_sum.layout import layout_of
from protocols.secure_sum.messages import Agree, Reveal, Revealed, agreement, label
from protocols.secure_sum.pairs import mac
from protocols.secure_sum.recovery import recovered
from protocols.secure_sum.terms import Mode, Terms

ME = "m001"


def whole(at, request, uploads, signed, lie=lambda _holder, revealed: revealed):
    """What all holders reveal, perhaps not truthfully, and what the coordinator makes of it."""
    layout = layout_of(request, at.there.terms)
    shares = {m: lie(m, at[m].reveal(at.reveal(m, request, uploads, signed))) for m in uploads}
    return recovered(layout, uploads, shares)


# 20, 21, 22: who is in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [(ME,), ("m000", ME), ("m000", ME, "m002"), ()])
def test_a_coordinator_that_declares_so_many_dropped_that_few_are_left_is_refused(kept):
    at = opened(6)
    request = at.request()
    uploads = at.upload(request)
    ask = at.survivors(request, {m: uploads[m] for m in kept})
    if ME in kept:
        with refused(CrowdTooSmall, f"{len(kept)} of 6 members are in the sum, 4 needed", at[ME]):
            at[ME].agree(ask)
    else:
        with refused(PeerError, "leaves me out", at[ME]):
            at[ME].agree(ask)


def test_a_sum_of_no_fewer_than_the_threshold_but_of_less_than_the_smallest_crowd_is_refused():
    at = opened(6, smallest_crowd=5)
    request = at.request()
    uploads = at.upload(request)
    del uploads["m000"], uploads["m002"]
    with refused(CrowdTooSmall, "4 of 6 members are in the sum, 5 needed", at[ME]):
        at[ME].agree(at.survivors(request, uploads))


@pytest.mark.parametrize(("survivors", "why"), [
    (("m000", "m001", "m002", "zed"), "not of this sum"), (("m000", "m001", "m002", "m005"), "not of this sum"),
    (("m000", "m001", "m001", "m002"), "twice"), (("m001", "m000", "m002", "m003"), "out of order"),
    (("m000", "m002", "m003", "m004"), "leaves me out"),
])  # fmt: skip
def test_survivors_who_are_not_in_the_sum_or_twice_or_not_me_are_refused(survivors, why):
    """m005 is of the session but not of this sum."""
    at = opened(6)
    request = at.request(members=at.names[:5])
    at.upload(request)
    with refused(PeerError, why, at[ME]):
        at[ME].agree(Agree(request.number, survivors, bytes(32 * len(survivors))))


def test_nobody_can_be_said_to_be_in_and_out_since_the_dropped_are_who_is_not_in():
    assert {f.name for f in fields(Agree)} == {"number", "survivors", "digests"}
    assert {f.name for f in fields(Reveal)} == {"number", "signers", "signatures", "boxes"}
    at = opened(6)
    layout = layout_of(at.request(), at.there.terms)
    for size in (4, 5, 6):
        for survivors in itertools.combinations(at.names, size):
            for dealer in survivors:
                peers = [layout.neighbours[dealer][row - 1] for row in wanted(layout, dealer, survivors)[1:]]
                assert set(peers) == set(at.names) - set(survivors)  # own mask of who is in, pair masks of who is out


def test_a_member_signs_one_set_of_survivors_and_the_second_ends_its_session_with_nothing_revealed():
    at = opened(6)
    request = at.request()
    uploads = at.upload(request)
    without = {m: u for m, u in uploads.items() if m != "m005"}
    signed = {m: at[m].agree(at.survivors(request, uploads)).signature for m in at.names}
    with refused(PeerError, "no sum here at that stage", at[ME]):
        at[ME].agree(at.survivors(request, without))
    with refused(PeerError, "no sum here at that stage"):
        at[ME].reveal(at.reveal(ME, request, uploads, signed))


def test_no_two_sets_of_survivors_find_enough_signers_however_the_colluding_sign():
    for members, colluding in itertools.product(range(2, 200), range(60)):
        if colluding < members:
            threshold = Terms(Mode.RESILIENT, max(2, colluding + 1), colluding).threshold(members)
            assert 2 * threshold - members > colluding  # two sets of signers have an honest member in common
            assert colluding < threshold <= members


def test_two_stories_to_two_halves_of_whom_one_member_tells_both_unmask_nothing():
    """Of five, m003 colludes and signs whatever helps; m000 and m001 hear that m004 is out, m002 that m000 is."""
    at = opened(5)
    request = at.request()
    uploads = at.upload(request)
    first = {m: u for m, u in uploads.items() if m != "m004"}
    second = {m: u for m, u in uploads.items() if m != "m000"}
    one, other = at.survivors(request, first), at.survivors(request, second)
    signed = {m: at[m].agree(one).signature for m in ("m000", "m001")} | {"m002": at["m002"].agree(other).signature}
    for victim, story, told in (("m001", first, one), ("m002", second, other)):
        said = agreement(request.ctx, told.survivors, told.digests)
        helped = signed | {"m003": at["m003"].identity.sign(label("agreement"), said), "m004": bytes(64)}
        with refused(PeerError, "[23] signatures verify, 4 needed", at[victim]):
            at[victim].reveal(at.reveal(victim, request, story, {m: helped[m] for m in story}))


def test_another_upload_under_a_members_name_is_refused():
    at = opened(5)
    request = at.request()
    uploads = at.upload(request)
    swapped = {**uploads, ME: uploads["m002"], "m002": uploads[ME]}  # 31, in part: an upload passed off as another's
    with refused(PeerError, "another upload than mine under my name", at[ME]):
        at[ME].agree(at.survivors(request, swapped))
    altered = {**uploads, "m002": replace(uploads["m002"], commitments=changed(uploads["m002"].commitments))}
    with refused(PeerError, "another upload than mine under my name", at["m002"]):
        at["m002"].agree(at.survivors(request, altered))


@pytest.mark.parametrize("part", ["commitments", "own", "boxes"])
def test_all_of_an_upload_that_unmasks_it_is_in_its_digest(part):
    """The words are not: nobody is unmasked by them, and the letter they come in is signed."""
    at = opened(4)
    request = at.request()
    upload = at.ask(ME, request)
    before = getattr(upload, part)
    after = (before[1], before[0], *before[2:]) if part == "boxes" else changed(before)
    altered = replace(upload, **{part: after})
    assert altered.digest(request.ctx) != upload.digest(request.ctx)
    assert upload.digest(bytes(32)) != upload.digest(request.ctx)


@pytest.mark.parametrize("cut", [-1, 1, -32, 32])
def test_digests_of_another_length_are_refused(cut):
    at = opened(4)
    request = at.request()
    ask = at.survivors(request, at.upload(request))
    wrong = ask.digests + bytes(cut) if cut > 0 else ask.digests[:cut]
    with refused(PeerError, "another upload than mine", at[ME]):
        at[ME].agree(replace(ask, digests=wrong))


# 23, 24: what is revealed, and how often -----------------------------------------------------------------------


def test_shares_are_revealed_once():
    at = opened(5)
    request, uploads, signed = at.agreed()
    ask = at.reveal(ME, request, uploads, signed)
    at[ME].reveal(ask)
    with refused(PeerError, "no sum here at that stage", at[ME]):
        at[ME].reveal(ask)


def test_a_reveal_that_was_refused_is_not_answered_the_second_time_even_if_it_is_right():
    at = opened(5)
    request, uploads, signed = at.agreed()
    ask = at.reveal(ME, request, uploads, signed)
    with refused(PeerError, "3 signatures, 4 needed", at[ME]):
        at[ME].reveal(replace(ask, signers=ask.signers[:3], signatures=ask.signatures[: 3 * 64]))
    with refused(PeerError, "no sum here at that stage"):
        at[ME].reveal(ask)


def test_a_coordinator_that_asks_for_both_shares_of_one_member_is_refused():
    """m004 is first said to be in (its own mask), then to be out (the masks it has with the others)."""
    at = opened(5)
    request, uploads, signed = at.agreed()
    revealed = at[ME].reveal(at.reveal(ME, request, uploads, signed))
    assert revealed.shares.shape == (5, LIMBS)  # of own masks alone
    left = {m: u for m, u in uploads.items() if m != "m004"}
    with refused(PeerError, "no sum here at that stage", at[ME]):
        at[ME].agree(at.survivors(request, left))


def test_fewer_signatures_than_the_threshold_or_from_elsewhere_reveal_nothing():
    cases = {
        "0 signatures, 4 needed": lambda a: replace(a, signers=(), signatures=b""),
        "3 signatures, 4 needed": lambda a: replace(a, signers=a.signers[:3], signatures=a.signatures[: 3 * 64]),
        "5 signatures, 4 needed": lambda a: replace(a, signatures=a.signatures[:-1]),
        "signers out of order": lambda a: replace(a, signers=a.signers[::-1]),
        "twice": lambda a: replace(a, signers=(a.signers[0],) * 5),
        "not in the sum": lambda a: replace(a, signers=(*a.signers[:4], "zed")),
        "3 signatures verify": lambda a: replace(a, signatures=changed(changed(a.signatures), 64)),
        "0 signatures verify": lambda a: replace(a, signatures=bytes(5 * 64)),
        "1 signatures verify": lambda a: replace(a, signatures=a.signatures[:64] * 5),
        "signatures of another sum": lambda a: replace(a, number=a.number + 1),
        "0 boxes, 4 members dealt to me": lambda a: replace(a, boxes=()),
        "5 boxes, 4 members dealt to me": lambda a: replace(a, boxes=(*a.boxes, b"")),
    }
    for why, lie in cases.items():
        at = opened(5)
        request, uploads, signed = at.agreed()
        with refused(PeerError, why, at[ME]):
            at[ME].reveal(lie(at.reveal(ME, request, uploads, signed)))


def test_one_signature_that_is_wrong_among_enough_that_are_right_stops_nobody():
    at = opened(6)
    request, uploads, signed = at.agreed()
    signed["m005"] = bytes(64)
    assert at[ME].reveal(at.reveal(ME, request, uploads, signed)).broken == ()


@pytest.mark.parametrize("other", ["another sum", "other survivors", "other digests"])
def test_signatures_over_anything_else_than_i_signed_reveal_nothing(other):
    at = opened(6)
    _, _, old = at.agreed()
    request = at.request()
    uploads = at.upload(request)
    right = at.survivors(request, uploads)
    if other == "another sum":
        signed = old
        at[ME].agree(right)
    else:
        left = {m: u for m, u in uploads.items() if m != "m005"}
        wrong = at.survivors(request, left)
        if other == "other digests":
            wrong = replace(right, digests=right.digests[:-32] + bytes(32))
        at[ME].agree(right)
        signed = {m: at[m].agree(wrong).signature for m in wrong.survivors if m not in (ME, "m005")}
        signed |= {ME: bytes(64), "m005": bytes(64)}
    with refused(PeerError, "0 signatures verify, 4 needed", at[ME]):
        at[ME].reveal(at.reveal(ME, request, uploads, signed))


@pytest.mark.parametrize("order", ["agree", "reveal", "reveal before agree"])
def test_asks_out_of_order_are_refused(order):
    at = opened(5)
    request, uploads, signed = at.agreed()
    other = at.request()
    if order == "agree":  # for the sum that is over
        at.upload(other)
        with refused(PeerError, "survivors of another sum", at[ME]):
            at[ME].agree(at.survivors(request, uploads))
    elif order == "reveal":  # for the sum that was left behind
        at.upload(other)
        with refused(PeerError, "no sum here at that stage", at[ME]):
            at[ME].reveal(at.reveal(ME, request, uploads, signed))
    else:
        later = at.upload(other)
        with refused(PeerError, "no sum here at that stage", at[ME]):
            at[ME].reveal(at.reveal(ME, other, later, signed))


def test_a_strict_sum_reveals_nothing_whatever_is_asked():
    at = opened(4, Mode.STRICT)
    request = at.request()
    uploads = at.upload(request)
    assert all(u.own == b"" and u.boxes == () for u in uploads.values())
    with refused(PeerError, "no sum here at that stage", at[ME]):
        at[ME].agree(at.survivors(request, uploads))
    with refused(PeerError, "no sum here at that stage", at["m002"]):
        at["m002"].reveal(Reveal(request.number, (), b"", ()))


# 27, 28: shares --------------------------------------------------------------------------------------------------


def garbage(revealed: Revealed) -> Revealed:
    return replace(revealed, shares=(revealed.shares ^ np.uint16(1)) % np.uint16(PRIME))


@pytest.mark.parametrize("liars", [("m000",), ("m005",), ("m000", "m003"), ("m002", "m004")])
@pytest.mark.parametrize("gone", [(), ("m001",)])
def test_garbage_shares_are_found_by_the_commitments_blamed_and_done_without(liars, gone):
    at = opened(8)
    request, uploads, signed = at.agreed(gone)
    found = whole(at, request, uploads, signed, lambda m, r: garbage(r) if m in liars else r)
    assert found.lost == 0
    assert found.liars == set(liars)
    honest = whole(*again(at, gone))
    assert honest.lost == 0
    assert not honest.liars


def again(at, gone):
    request, uploads, signed = at.agreed(gone)
    return at, request, uploads, signed


def test_the_sum_is_exact_although_a_holder_reveals_garbage():
    there = crowd(6, Mode.RESILIENT)
    opened_ = there.open()
    there.alter = lambda stage, m, a: garbage(a) if stage == "Reveal" and m == "m000" else a
    there.lost = lambda stage, _q, m: stage == "Request" and m == "m003"
    spec = there.spec(6)
    summed = there.sum(opened_, spec=spec)
    assert np.array_equal(summed.words.astype(np.uint64), integers(there, spec, summed.members))


def test_more_garbage_than_can_be_done_without_ends_the_sum_and_names_no_value():
    there = crowd(6, Mode.RESILIENT)
    opened_ = there.open()
    there.alter = lambda stage, m, a: garbage(a) if stage == "Reveal" and m in ("m000", "m001", "m002") else a
    with refused(DeadSum, "6 of 6 members' masks cannot be recovered"):
        there.sum(opened_)


@pytest.mark.parametrize("shape", [(0, 16), (4, 16), (6, 16), (5, 15), (5, 17), (80,), (5, 16, 1), (10**6, 16)])
def test_rows_too_many_or_too_few_are_left_out_since_a_share_says_by_its_place_whose_it_is(shape):
    """There is no index to choose, so none can be 0, come twice or be out of range; for points see test_shamir.py."""
    at = opened(5)
    request, uploads, signed = at.agreed()
    wrong = np.zeros(shape, np.uint16)
    found = whole(at, request, uploads, signed, lambda m, r: replace(r, shares=wrong) if m == "m004" else r)
    assert found.lost == 0
    assert not found.liars


def test_a_share_that_is_no_element_or_of_somebody_who_is_not_there_is_left_out():
    at = opened(5)
    request, uploads, signed = at.agreed()
    layout = layout_of(request, at.there.terms)
    shares = {m: at[m].reveal(at.reveal(m, request, uploads, signed)) for m in uploads}
    shares["m000"] = replace(shares["m000"], shares=np.full((5, LIMBS), PRIME, np.uint16))
    shares["zed"] = shares["m001"]
    found = recovered(layout, uploads, shares)
    assert (found.lost, found.liars) == (0, frozenset())
    del shares["m001"]
    assert recovered(layout, uploads, shares).lost == 5  # three of the four that are needed


def test_a_holder_that_calls_everybody_broken_is_done_without():
    at = opened(5)
    for broken in (at.names, (*at.names, "zed"), ("zed",) * 1000):
        empty = Revealed(at.number, np.zeros((0, LIMBS), np.uint16), broken)
        assert whole(*again(at, ()), lambda m, r, e=empty: e if m == "m000" else r).lost == 0


def test_a_holder_for_whom_one_box_is_broken_still_counts_for_all_the_others():
    at = opened(6)  # four are needed; m005 is one of the last four, and cannot open what m000 sealed
    request, uploads, signed = at.agreed()
    left = ("m002", "m003", "m004", "m005")
    asks = {m: at.reveal(m, request, uploads, signed) for m in left}
    asks["m005"] = replace(asks["m005"], boxes=(b"", *asks["m005"].boxes[1:]))
    shares = {m: at[m].reveal(asks[m]) for m in left}
    assert shares["m005"].broken == ("m000",)
    assert recovered(layout_of(request, at.there.terms), uploads, shares).lost == 1


# 29: boxes ---------------------------------------------------------------------------------------------------------


def test_a_box_that_is_cut_extended_flipped_or_anothers_does_not_open_and_costs_that_share_alone():
    at = opened(6)
    earlier, old, _ = at.agreed()
    holder, dealer = "m005", "m000"
    request, uploads, signed = at.agreed()
    right = at.reveal(holder, request, uploads, signed)
    of = {d: i for i, d in enumerate(m for m in at.names if m != holder)}
    good, key = right.boxes[of[dealer]], at.joined(holder).ready.pairs[dealer].opening
    open_box(key, request.ctx, dealer, holder, good, 6)
    other_holder = at.reveal("m004", request, uploads, signed).boxes[of[dealer]]
    lies = [
        good[:-1], good + b"\0", b"", good[:16], changed(good), changed(good, -1), right.boxes[of["m001"]],
        other_holder, at.reveal(holder, earlier, old, signed).boxes[of[dealer]], bytes(len(good)),
        good[:-16] + bytes(16),
    ]  # fmt: skip
    for lie in lies:
        with refused(PeerError, "a box of m000 (has another length|does not open)"):
            open_box(key, request.ctx, dealer, holder, lie, 6)
    for wrong in ((earlier.ctx, dealer, holder), (request.ctx, "m001", holder), (request.ctx, dealer, "m004")):
        with refused(PeerError, "does not open"):
            open_box(key, *wrong, good, 6)
    boxes = list(right.boxes)
    boxes[of[dealer]] = lies[4]
    answer = at[holder].reveal(replace(right, boxes=tuple(boxes)))
    assert answer.broken == (dealer,)
    assert answer.shares.shape == (5, LIMBS)


def test_a_box_sealed_by_the_right_member_around_what_is_no_share_is_broken():
    at = opened(6)
    ctx, key = at.request().ctx, bytes(32)
    for words, why in (
        (np.full(96, PRIME, np.uint16), "holds what is no share"),
        (np.zeros(95, np.uint16), "length"),
    ):
        box = AESGCM(mac(key, "seal", ctx)).encrypt(_NONCE, words.tobytes(), _about("m000", "m005", ctx))
        with refused(PeerError, why):
            open_box(key, ctx, "m000", "m005", box, 6)
