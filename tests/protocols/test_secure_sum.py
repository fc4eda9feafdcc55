"""The sum comes out bit for bit, whoever drops out, and no term does."""

import itertools

import numpy as np
import pytest
from crowd import crowd, integers
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.faults import Abort
from protocols.secure_sum.coordinate import DeadSum
from protocols.secure_sum.messages import Agree, Reveal
from protocols.secure_sum.terms import Mode


def check(there, summed, spec=None):
    spec = spec or there.spec(len(summed.members))
    mask = 2**there.terms.bits - 1
    got = summed.words.astype(np.uint64) & np.uint64(mask)
    assert np.array_equal(got, integers(there, spec, summed.members))


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 6), mode=st.sampled_from(Mode), length=st.integers(1, 40),
    bits=st.sampled_from([16, 24, 32]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_with_everybody_there_the_sum_is_exact(count, mode, length, bits, seed):
    there = crowd(count, mode, length, seed, bits=bits, smallest_crowd=2)
    opened = there.open()
    for query in range(3):
        summed = there.sum(opened, query)
        assert summed.members == tuple(there.members)
        check(there, summed)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_every_pattern_of_members_dropping_before_the_upload_ends_in_the_exact_sum_or_in_nothing(count):
    there = crowd(count, Mode.RESILIENT)
    opened = there.open()
    least = max(3, there.terms.threshold(count))
    for query, gone in enumerate(itertools.product((False, True), repeat=count)):
        there.lost = lambda stage, _q, m, gone=gone: stage == "Request" and gone[int(m[1:])]
        left = [m for m in there.members if not gone[int(m[1:])]]
        spec = there.spec(count)
        if len(left) < least:
            with pytest.raises(DeadSum):
                there.sum(opened, query, spec=spec)
        else:
            summed = there.sum(opened, query, spec=spec)
            assert summed.members == tuple(left)
            check(there, summed, spec)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(4, 6))
def test_any_member_may_drop_out_at_any_stage(data, count):
    there = crowd(count, Mode.RESILIENT)
    stages = st.sampled_from(["never", "Request", "Agree", "Reveal"])
    fate = {m: data.draw(stages) for m in there.members}
    order = {"Request": 0, "Agree": 1, "Reveal": 2, "never": 3}
    opened = there.open()
    there.lost = lambda stage, _q, m: order.get(stage, -1) >= order[fate[m]]
    try:
        summed = there.sum(opened)
    except DeadSum:
        assert sum(f == "never" for f in fate.values()) < max(3, there.terms.threshold(count))
    else:
        assert summed.members == tuple(m for m in there.members if fate[m] != "Request")
        check(there, summed, there.spec(count))
    there.lost = lambda *_: False
    check(there, there.sum(opened, 1))  # the session outlives a sum that died


def test_in_strict_mode_a_missing_member_is_the_end_of_that_sum_and_nothing_is_asked_of_the_others():
    there = crowd(4, Mode.STRICT)
    opened = there.open()
    there.lost = lambda stage, _q, m: stage == "Request" and m == "m002"
    with pytest.raises(DeadSum, match="3 of 4"):
        there.sum(opened)
    assert not any(isinstance(ask, Agree | Reveal) for ask in there.shown)


@pytest.mark.parametrize("stage", ["Introduce", "Acknowledge"])
def test_who_is_away_while_the_session_opens_is_left_out_of_it(stage):
    there = crowd(5, Mode.RESILIENT)
    there.lost = lambda now, _q, m: now == stage and m == "m001"
    opened = there.open()
    assert opened.members == ("m000", "m002", "m003", "m004")
    there.lost = lambda *_: False
    check(there, there.sum(opened))


def test_a_session_of_too_few_is_not_opened_and_says_how_many_of_how_many():
    there = crowd(4)
    there.lost = lambda stage, _q, m: stage == "Acknowledge" and m in ("m001", "m002")
    with pytest.raises(Abort, match="2 of 4 members acknowledged the others, need 3"):
        there.open()


@pytest.mark.slow
def test_above_128_members_masks_and_shares_go_along_a_graph_of_neighbours():
    there = crowd(132, Mode.RESILIENT, length=5, colluding=13, smallest_crowd=90)
    opened = there.open()
    gone = {f"m{i:03d}" for i in range(0, 132, 15)}
    there.lost = lambda stage, _q, m: stage == "Request" and m in gone
    summed = there.sum(opened)
    assert set(summed.members) == set(there.members) - gone
    check(there, summed, there.spec(132))
