"""Attacks on the request for a sum, 10 to 19 of the list: refused, or worth nothing to who made them."""

from dataclasses import replace

import numpy as np
import pytest
from byhand import looks_uniform, opened, refused, total
from crowd import CONTEXT, PURPOSE, crowd

from privacy.fixed_point import FixedPoint
from privacy.refusal import CrowdTooSmall
from protocols.faults import LocalError, PeerError, WireError
from protocols.secure_sum.aggregation import Expected, begin
from protocols.secure_sum.coordinate import DeadSum, Opened, finish
from protocols.secure_sum.messages import Request
from protocols.secure_sum.pairs import mac
from protocols.secure_sum.terms import Mode, Terms
from protocols.wire import Wire

ME = "m001"
BOTH = pytest.mark.parametrize("mode", Mode)


def coordinated(at, request, answers):
    """What the coordinator's own code makes of these answers."""
    there = Opened(at.there.terms, at.sid, at.names, {})
    return at.there.drive(finish(there, request, answers))


def expecting(at, member: str, request: Request, context: bytes = CONTEXT, purpose: str = PURPOSE):
    """The upload of a member that computed `context` for itself."""
    one, spec = at[member], at.spec(len(request.members))
    begun = one.sums.begin(one.session, request, at.slips(member), Expected(purpose, spec, context, request.query))
    return one.sums.upload(one.session, begun, spec.encode(one.values))


# 10, 11: nothing is refused, since nobody can see it; but nothing comes out either ------------------------------


@BOTH
def test_other_members_told_to_other_members_give_a_sum_of_noise_and_nothing_else(mode):
    at = opened(5, mode, length=20_000)
    one, other = at.request(members=at.names[:4]), at.request(number=0, members=at.names[1:])
    answers = {m: at.ask(m, one if m in ("m000", "m001") else other) for m in at.names[:4]}
    with pytest.raises(DeadSum):
        coordinated(at, one, answers)
    for group in (("m000", "m001"), ("m002", "m003"), at.names[:4], ("m001", "m002", "m003")):
        assert looks_uniform(total(one, [answers[m] for m in group]))


@BOTH
def test_another_model_shown_to_one_member_gives_a_sum_of_noise_and_nothing_else(mode):
    at = opened(4, mode, length=20_000)
    right, wrong = at.request(), at.request(number=0, context=b"\1" * 32)
    answers = {m: expecting(at, m, right) for m in at.names if m != ME}
    answers[ME] = expecting(at, ME, wrong, context=b"\1" * 32)
    assert looks_uniform(total(right, answers.values()))
    if mode is Mode.STRICT:
        with pytest.raises(DeadSum, match="3 of 4 members uploaded"):
            coordinated(at, right, answers)
    else:  # the sum goes on without the member that was told something else, as it would without any
        assert coordinated(at, right, answers).members == ("m000", "m002", "m003")


def test_whatever_bit_of_a_request_differs_its_masks_are_others():
    at = opened(3, Mode.STRICT)
    request = at.request()
    other = at.spec(coordinate=4.0)
    changes = [
        {"sid": bytes(32)}, {"number": 1}, {"purpose": "tes"}, {"members": at.names[:2]}, {"spec": other},
        {"query": 1}, {"context": b"\1" + bytes(31)}, {"attempt": 1}, {"spec": replace(request.spec, deviation=1e-9)},
    ]  # fmt: skip
    seen = {request.ctx} | {replace(request, **change).ctx for change in changes}
    assert len(seen) == len(changes) + 1
    at.ask(ME, request)
    pair = at.joined(ME).ready.pairs["m000"]
    assert len({mac(pair.mask, "mask", ctx) for ctx in seen}) == len(seen)


@pytest.mark.parametrize(
    "change", [{"context": b"\1" + bytes(31)}, {"context": b""}, {"purpose": "another"}, {"query": 7}]
)
def test_a_request_for_another_model_purpose_or_round_than_mine_is_refused(change):
    at = opened(4)
    with refused(PeerError, "another purpose, encoding, context or query than mine", at[ME]):
        at.ask(ME, at.request(**change), query=0)


# 12, 13, 14: replay -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("number", [5, 4, 0, -1, -(2**63)])
def test_a_number_that_was_used_or_passed_over_is_refused(mode, number):
    at = opened(4, mode)
    at.ask(ME, at.request(number=5, query=0))
    with refused(PeerError, "a number that is used up", at[ME]):
        at.ask(ME, at.request(number=number, query=1))


@BOTH
def test_the_very_same_request_is_never_masked_twice(mode):
    at = opened(4, mode)
    request = at.request()
    at.ask(ME, request)
    with refused(PeerError, "a number that is used up", at[ME]):
        at.ask(ME, request)


@BOTH
def test_the_request_of_an_older_session_is_refused(mode):
    at = opened(4, mode)
    old = at.request(number=9)
    for m in at.names:
        at.introduce_again(m)
    at.join()
    with refused(PeerError, "a request of another session", at[ME]):
        at.ask(ME, old)


@pytest.mark.parametrize("sid", [b"", bytes(32), bytes(31)], ids=len)
def test_a_request_of_no_session_is_refused(sid):
    at = opened(4)
    with refused(PeerError, "a request of another session", at[ME]):
        at.ask(ME, at.request(sid=sid))


def test_a_request_before_all_keys_are_agreed_finds_no_session():
    at = opened(4)
    at.introduce_again(ME)
    with refused(PeerError, "not at that stage", at[ME]):
        at.ask(ME, at.request())
    with refused(PeerError, "no such session here"):
        at.ask(ME, at.request())


def test_a_sum_that_was_not_begun_here_or_was_uploaded_is_a_bug_of_ours():
    at = opened(4)
    one, request = at[ME], at.request()
    values = request.spec.encode(one.values)
    begun = one.sums.begin(one.session, request, at.slips(ME), Expected(PURPOSE, request.spec, CONTEXT, 0))
    one.sums.upload(one.session, begun, values)
    with refused(LocalError, "was uploaded before"):
        one.sums.upload(one.session, begun, values)
    one.sums.close()
    with refused(LocalError, "was uploaded before"):
        one.sums.upload(one.session, begun, values)


# 15, 16, 17: who is in it -----------------------------------------------------------------------------------------


@BOTH
def test_a_sum_of_fewer_than_the_smallest_crowd_is_refused(mode):
    at = opened(5, mode, smallest_crowd=4)
    with refused(CrowdTooSmall, "a sum of 3 members, 4 needed", at[ME]):
        at.ask(ME, at.request(members=at.names[:3]))


def test_a_sum_of_one_is_refused():
    at = opened(4, Mode.STRICT, smallest_crowd=2)
    with refused(CrowdTooSmall, "a sum of 1 members, 2 needed", at[ME]):
        at.ask(ME, at.request(members=(ME,)))


@BOTH
@pytest.mark.parametrize(("members", "why"), [
    (("m000", "m002", "m003"), "a sum without me"), ((), "sized for another crowd"),
    (("m000", "m001", "zed"), "1 members have not proved"), (("", "m000", "m001"), "1 members have not proved"),
    (("m000", "m001", "m001"), "out of order, or one twice"),
    (("m001", "m000", "m002"), "out of order, or one twice"),
])  # fmt: skip
def test_a_sum_without_me_with_strangers_or_with_a_member_twice_is_refused(mode, members, why):
    at = opened(4, mode)
    spec = at.spec(len(members) or 1)
    with refused(PeerError, why, at[ME]):
        at.ask(ME, at.request(members=members, spec=spec), spec=spec)


@BOTH
def test_a_member_whose_slip_has_not_come_is_not_masked_with(mode):
    at = opened(5, mode)
    some = [s for s in at.slips(ME) if s.member != "m003"]
    with refused(PeerError, "1 members have not proved", at[ME]):
        at.ask(ME, at.request(), some)


def test_slips_may_come_one_by_one_and_those_who_are_confirmed_can_sum_without_the_others():
    at = opened(5)
    at.ask(ME, at.request(members=at.names[:3]), [at.written[m][ME] for m in ("m000", "m002")])
    at.ask(ME, at.request(), [at.written[m][ME] for m in ("m003", "m004")])
    assert set(at.joined(ME).ready.pairs) == set(at.names) - {ME}


# 18, 19: the arithmetic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [-32, 0, 1, 2, 8, 15, 31, 33, 64, 128])
def test_no_terms_and_no_encoding_have_another_modulus_than_two_to_the_16_24_or_32(bits):
    with pytest.raises(ValueError, match="bits"):
        Terms(Mode.STRICT, smallest_crowd=3, colluding=1, bits=bits)
    with pytest.raises(ValueError, match="bits"):
        FixedPoint(7, bits, 1.0, 1.0, None, 3, 0.0)
    wire = Wire(Terms)
    packed = wire.encode(Terms(Mode.STRICT, smallest_crowd=3, colluding=1, bits=32))
    at = packed.index(b"\x20")
    if 0 <= bits < 128:
        with pytest.raises(WireError, match="Terms: out of range"):
            wire.decode(packed[:at] + bytes([bits]) + packed[at + 1 :])


@pytest.mark.parametrize("bits", [16, 24])
def test_a_request_whose_words_are_narrower_than_the_terms_is_refused(bits):
    """Even by a member whose own encoding would be as narrow."""
    at = opened(4)
    narrow = at.spec(bits=bits)
    with refused(PeerError, "words of another width", at[ME]):
        at.ask(ME, at.request(spec=narrow), spec=narrow)


def test_a_request_sized_for_another_crowd_is_refused():
    at = opened(4)
    wide = at.spec(40)
    with refused(PeerError, "sized for another crowd", at[ME]):
        at.ask(ME, at.request(spec=wide), spec=wide)


@pytest.mark.parametrize("change", [
    {"deviation": 0.0}, {"deviation": 4.0}, {"norm": 1000.0}, {"norm": None}, {"coordinate": 8000.0}, {"length": 8},
    {"length": 6}, {"scale": 2.0**-20}, {"bits": 24, "scale": 2.0},
])  # fmt: skip
def test_a_request_without_noise_or_with_another_clip_scale_or_length_than_mine_is_refused(change):
    at = opened(4)
    mine = at.spec(norm=8.0, noise_multiplier=1.0, honest=2)
    mine = replace(mine, scale=mine.scale / 4096)  # else no clip but mine would fit 32 bits
    theirs = replace(mine, **change)
    assert theirs != mine
    with refused(PeerError, "another purpose, encoding, context or query than mine", at[ME]):
        at.ask(ME, at.request(spec=theirs), spec=mine)


@pytest.mark.parametrize("change", [
    {"scale": float("nan")}, {"scale": float("inf")}, {"scale": 0.0}, {"scale": -1.0}, {"length": 0}, {"length": -1},
    {"deviation": -1.0}, {"deviation": float("nan")}, {"members": 0}, {"coordinate": 1e308}, {"members": 2**62},
])  # fmt: skip
def test_an_encoding_that_makes_no_sense_cannot_be_made(change):
    with pytest.raises(ValueError, match=r"expected|too few"):
        replace(FixedPoint(7, 32, 64.0, 8.0, None, 4, 0.0), **change)


def test_values_of_another_shape_are_a_bug_of_ours_and_use_the_number_up_and_end_the_sum_before():
    at = opened(4)
    one, before, uploads, _ = at[ME], *at.agreed()
    request = at.request()
    begun = one.sums.begin(
        one.session, request, at.slips(ME), Expected(PURPOSE, request.spec, CONTEXT, request.query)
    )
    with refused(LocalError, "values of another shape than the request's"):
        one.sums.upload(one.session, begun, np.zeros(8, np.int32))
    assert not one.sums._open
    with refused(PeerError, "a number that is used up"):
        at.ask(ME, request)
    assert uploads[ME].number == before.number


# 34, in part: retries ---------------------------------------------------------------------------------------------


@BOTH
def test_a_query_is_asked_again_in_order_as_often_as_the_terms_allow_and_never_after_a_later_one(mode):
    at = opened(4, mode, attempts=3)
    for attempt in (0, 1, 2):
        at.ask(ME, at.request(query=5, attempt=attempt))
    at.ask(ME, at.request(query=6))
    with refused(PeerError, "a query, or an attempt, that is used up", at[ME]):
        at.ask(ME, at.request(query=5))


@pytest.mark.parametrize(("query", "attempt", "why"), [
    (5, 0, "used up"), (5, 1, "used up"), (4, 0, "used up"), (4, 2, "used up"),
    (5, 3, "attempt 4, the terms allow 3"),
    (6, 1, "does not begin with its first attempt"), (5, -1, "attempt 0, the terms allow 3"), (6, -1, "attempt 0"),
    (6, 2**62, "the terms allow 3"),
])  # fmt: skip
def test_an_attempt_out_of_order_is_refused(query, attempt, why):
    at = opened(4, attempts=3)
    at.ask(ME, at.request(query=5))
    at.ask(ME, at.request(query=5, attempt=1))
    with refused(PeerError, why, at[ME]):
        at.ask(ME, at.request(query=query, attempt=attempt))


def test_a_query_whose_sum_was_revealed_is_not_asked_again_with_somebody_missing():
    there = crowd(5, Mode.RESILIENT, attempts=2)
    opened_ = there.open()
    there.sum(opened_)
    with pytest.raises(PeerError, match="a query whose sum was revealed"):
        there.sum(opened_, members=opened_.members[:4], attempt=1)
    assert sum(one.uploads for one in there.members.values()) == 5
    assert len(there.members["m000"].sums) == 0


@BOTH
def test_by_default_a_query_is_asked_once(mode):
    at = opened(4, mode)
    at.ask(ME, at.request(query=5))
    with refused(PeerError, "attempt 2, the terms allow 1", at[ME]):
        at.ask(ME, at.request(query=5, attempt=1, members=at.names[:3]))


def test_an_attempt_that_brings_in_somebody_new_is_refused():
    at = opened(5, attempts=3)
    at.ask(ME, at.request(query=5, members=at.names[:4]))
    at.ask(ME, at.request(query=5, attempt=1, members=at.names[:3]))
    with refused(PeerError, "asks somebody new", at[ME]):
        at.ask(ME, at.request(query=5, attempt=2, members=at.names[:4]))


def test_two_requests_begun_before_either_was_uploaded_do_not_both_count_as_the_first_attempt():
    at = opened(4)
    one, begun = at[ME], []
    for _ in range(2):
        request = at.request(query=0)
        expected = Expected(PURPOSE, request.spec, CONTEXT, 0)
        begun.append(one.sums.begin(one.session, request, at.slips(ME), expected))
    values = at.spec().encode(one.values)
    for one_of_them in begun:  # whoever mixes them up has none
        with refused(LocalError, "not the one begun last"):
            one.sums.upload(one.session, one_of_them, values)


@pytest.mark.parametrize("by", ["a restart", "a refusal"])
def test_a_request_begun_in_a_session_that_was_closed_since_is_not_uploaded_in_the_next(by):
    at = opened(4)
    one, request = at[ME], at.request()
    begun = one.sums.begin(one.session, request, at.slips(ME), Expected(PURPOSE, request.spec, CONTEXT, 0))
    if by == "a refusal":
        with refused(PeerError, "no sum here at that stage", one):
            one.agree(at.survivors(request, {}))
        at.introduced[ME] = one.introduce(at.there.terms)
    for m in at.names:
        if m != ME or by == "a restart":
            at.introduce_again(m)
    at.join()
    with refused(LocalError, "not the one begun last"):
        one.sums.upload(one.session, begun, at.spec().encode(one.values))


def test_a_large_crowd_of_whom_too_many_collude_is_refused_before_anything_is_charged():
    """No graph is safe for it: that has to be seen when the request is checked, not when it is masked."""
    at = opened(3)
    at.ask(ME, at.request())
    names = tuple(f"m{i:03d}" for i in range(150))
    terms = Terms(Mode.RESILIENT, smallest_crowd=149, colluding=140)
    pair = at.joined(ME).ready.pairs["m000"]
    ready = replace(at.joined(ME).ready, terms=terms, pairs=dict.fromkeys(names, pair))
    request = at.request(members=names)
    with refused(PeerError, "no graph of 150 members is safe against 140 of them"):
        begin(ready, request, Expected(PURPOSE, request.spec, CONTEXT, request.query), at[ME].clock())
