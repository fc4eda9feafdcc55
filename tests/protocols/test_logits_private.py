"""What predictions cost where each symbol, or each sum, is charged; and that it is enough."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent, ZCDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from test_attacks_on_positions import Scene, block
from test_logits_speaking import CENTRAL, RATIOS, said
from thinkers import PLAIN, PUBLIC, bigram, public_rows, question, reading, support_of
from village import village

from client.homes.logits import noised, sampled
from client.homes.positions import divergences, mixed, ratios, votes
from privacy.accounting.events import (
    DistributedGaussianSumDpEvent,
    PMixedDpEvent,
    SampledSumDpEvent,
    from_json,
)
from privacy.units import Unit
from protocols.faults import Abort
from protocols.logits.question import Question, Sends
from protocols.logits.sampling import combined
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId

NOISED = question(**RATIOS, noise_multiplier=8.0)
VOTES = question(sends=Sends.VOTES, noise_multiplier=2.0)
WARY = Terms(Mode.STRICT, smallest_crowd=3, colluding=2)  # one member's noise is enough
MIXED = question(sends=Sends.MIXED, central=True, most=24)


def lines(there, kind: str) -> list[list[dict]]:
    """Return what each member's ledger has of a kind."""
    houses = [h for _, h in sorted(there.houses.items())]
    return [[line for text in h.ledger.lines() if (line := json.loads(text))["kind"] == kind] for h in houses]


def test_a_session_that_is_sampled_from_is_charged_once_for_all_its_symbols(tmp_path):
    there = village(tmp_path, 3)
    made = said(there, "private_predict", CENTRAL)
    for charged, more in zip(lines(there, "charged"), lines(there, "continued"), strict=True):
        assert len(charged) == 1
        assert len(more) == len(made.given) - 1
        spec = CENTRAL.spec(PLAIN, 3, 4)
        assert from_json(charged[0]["event"]) == SelfComposedDpEvent(sampled(CENTRAL, 1, spec), CENTRAL.most)
        assert {line["of"] for line in more} == {charged[0]["seq"]}


def test_another_session_is_charged_anew(tmp_path):
    there = village(tmp_path, 3)
    for session in ("aaaa", "bbbb"):
        said(there, "private_predict", replace(CENTRAL, most=4), session=session)
    assert [len(c) for c in lines(there, "charged")] == [2, 2, 2]


def test_who_does_not_trust_the_coordinator_lets_nothing_be_sampled_from(tmp_path):
    there = village(tmp_path, 4)
    house = there.houses[MemberId("m1")]
    policy = house.gate.policy
    distrusting = tuple(replace(p, trusts_coordinator=False) for p in policy.allow)
    house.gate = replace(house.gate, policy=replace(policy, allow=distrusting))
    scene = Scene(there, "private_predict")
    with pytest.raises(Abort, match="3 of 4 members"):
        scene.play(lambda opened: block(scene.blocks(opened, CENTRAL), (1, 4), (2,)))
    assert "trusts_coordinator" in str(scene.why["m1"])
    assert scene.released == [1, 0, 1, 1]


@pytest.mark.parametrize("asked", [NOISED, VOTES])
def test_noise_in_the_sum_is_charged_block_by_block_and_so_is_a_sum_that_died(asked, tmp_path):
    there = village(tmp_path, 4, lost=lambda trip, member, way: member == "m3" and way.name == "BACK" and trip == 3)
    scene = Scene(there, "private_predict", WARY)

    def part(opened):
        blocks = scene.blocks(opened, asked)
        yield from block(blocks, (1, 4), (2,))
        yield from block(blocks, (1, 4, 2, 2), (3,))

    with pytest.raises(Abort, match="3 of 4"):
        scene.play(part)
    spec = asked.spec(WARY, 4, 2)
    for charged in lines(there, "charged"):
        assert [from_json(c["event"]) for c in charged] == [noised(asked, 1, spec, 1)] * 2


def test_the_noise_of_a_sum_has_its_stated_size_at_every_position(tmp_path):
    """One honest member is enough by the terms, and all three add noise: three times the variance promised."""
    there, asked = village(tmp_path, 3), replace(NOISED, clip=1.0, block=30, most=400)
    text = tuple(np.random.default_rng(5).integers(0, 6, 30).tolist())
    exact = there.run(reading(replace(asked, noise_multiplier=None, clip=100.0), text), "aaaa", "product").sums
    off = []
    for session in range(8):
        off.append(there.run(reading(asked, text, terms=WARY), f"{session:04x}", "private_predict").sums)
    spread = np.std(off, axis=0, ddof=1)
    expected = math.sqrt(3) * 8.0
    assert np.sqrt((spread**2).mean()) == pytest.approx(expected, rel=5 / math.sqrt(2 * 7 * exact.size))
    norms = np.linalg.norm(np.clip(exact, -9, 9), axis=1)
    assert norms.min() > 0.5  # the models differ from the public one: there was something to clip


def test_each_position_of_a_noised_block_is_within_its_own_bound():
    asked = replace(NOISED, clip=0.7)
    own, public = bigram(3).block((1, 4, 2), (0, 5)), PUBLIC.block((1, 4, 2), (0, 5))
    norms = np.linalg.norm(ratios(asked, own.next, public.next), axis=1)
    assert np.allclose(norms, 0.7)


@pytest.mark.parametrize(
    ("asked", "event"),
    [
        (NOISED, lambda s: SampledSumDpEvent(1.0, 2 * s.bound, s.deviation, 2, s.length)),
        (VOTES, lambda s: SampledSumDpEvent(1.0, math.sqrt(2) * s.bound, s.deviation, 2, s.length)),
        (
            replace(NOISED, unit=Unit.MEMBER),
            lambda s: DistributedGaussianSumDpEvent(3 * s.bound, s.deviation, 2, s.length),
        ),
    ],
)
def test_a_noised_sum_costs_what_two_neighbouring_sums_can_differ_by(asked, event):
    spec = asked.spec(PLAIN, 3, 4)
    assert noised(asked, 3, spec, 2) == event(spec)
    assert spec.deviation * math.sqrt(2) == pytest.approx(asked.noise_multiplier / 2 * spec.bound, rel=1e-6)


@pytest.mark.parametrize("positions", [1, 2, 4])
def test_positions_that_are_noised_together_cost_as_much_as_one_by_one(positions):
    """Within what half a step of rounding adds: at 32 bits less than a thousandth."""
    event = noised(NOISED, 1, NOISED.spec(WARY, 3, positions), 1)
    rho = (event.bound / event.deviation) ** 2 / 2
    assert rho == pytest.approx(positions * (2 / 8.0) ** 2 / 2, rel=1e-3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9, 0), st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=8),
    st.sampled_from([1.5, 2.0, 8.0, 32.0]),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.6, -1.0, 1.0]),
    st.integers(0, 1),
)
def test_one_sampled_symbol_costs_no_more_than_is_charged_for_it(rows, order, shards, lean, outside):
    """Exact divergences of the sampled distribution, for the worst that one shard (or all of a member's) can do.

    With a symbol outside of the sum, or without.
    """
    clip, experts, strength, temperature = 1.0, 4, 1.6, 0.8
    public, before, after = (np.array(c) for c in zip(*rows, strict=True))
    asked = question(
        **RATIOS | {"clip": clip, "lean": lean},
        experts=experts,
        strength=strength,
        temperature=temperature,
        central=True,
    )
    where = np.arange(len(rows) - outside)[None]
    before, after = ((lean + v)[: where.size] for v in (before, after))  # from (lean - 1) clip to (lean + 1) clip
    asked = replace(asked, symbols=len(rows))

    def said_by(total):
        return combined(asked, public[None], total[None], where)[0]

    def divergence(p, q):
        return math.log(float(np.sum(p**order * q ** (1 - order)))) / (order - 1)

    spec = asked.spec(PLAIN, 3, 1)
    one, other = said_by(before), said_by(after)
    record = sampled(asked, shards, spec)
    assert max(divergence(one, other), divergence(other, one)) <= order * record.rho + 1e-12
    there, gone = said_by(shards * before), said_by(np.zeros(where.size))
    member = sampled(replace(asked, unit=Unit.MEMBER), shards, spec)
    assert max(divergence(there, gone), divergence(gone, there)) <= order * member.rho + 1e-12


def test_the_worst_that_a_shard_can_do_comes_near_to_what_is_charged():
    asked = replace(question(**RATIOS | {"clip": 1.0}, experts=8, central=True), symbols=2)
    public, where = np.log([[0.5, 0.5]]), np.arange(2)[None]
    one, other = (combined(asked, public, s * np.array([[1.0, -1.0]]), where)[0] for s in (1, -1))
    reached = math.log(float(np.sum(one**2 / other))) / 2
    charged = sampled(asked, 1, asked.spec(PLAIN, 3, 1))
    assert charged == ZCDpEvent(pytest.approx(2 * (1 / 8) ** 2, rel=1e-6))
    assert 0.95 * charged.rho < reached <= charged.rho


@pytest.mark.parametrize(("order", "radius"), [(3.0, 0.1), (2.0, 1e-3), (8.0, 0.5)])
def test_mixing_goes_as_far_as_both_divergences_allow_and_no_further(order, radius):
    own, public = bigram(2, 3.0).logs, PUBLIC.logs
    near = mixed(own, public, order, radius)
    p, p0 = np.exp(own), np.exp(public)
    shares = (near - p0)[:, 0] / (p - p0)[:, 0]
    grid = np.linspace(0, 1, 2001)
    for row in range(len(p)):
        far = [
            max(
                math.log(np.sum(m**order * p0[row] ** (1 - order))) / (order - 1),
                math.log(np.sum(p0[row] ** order * m ** (1 - order))) / (order - 1),
            )
            for m in (g * p[row] + (1 - g) * p0[row] for g in grid)
        ]
        best = max(g for g, d in zip(grid, far, strict=True) if d <= order * radius)
        assert best - 1e-9 <= shares[row] <= best + 1 / 2000 + 1e-9
    both = [divergences(p, p0, shares, order, back=b) for b in (False, True)]
    assert np.maximum(*both).max() <= order * radius * (1 + 1e-9)


def test_models_with_impossible_symbols_are_mixed_to_finite_divergences():
    own = np.log(np.array([[1.0, 0.0, 0.0]]) + 0.0, where=[[True, False, False]], out=np.full((1, 3), -np.inf))
    public = np.log(np.full((1, 3), 1 / 3))
    near = mixed(own, public, 3.0, 0.1)
    assert np.isfinite(near).all()
    assert near.sum() == pytest.approx(1)
    same = mixed(public, public, 3.0, 0.1)
    assert np.allclose(same, 1 / 3)


def test_mixed_distributions_are_charged_as_such_and_average_to_a_distribution(tmp_path):
    there = village(tmp_path, 3)
    sums = there.run(reading(MIXED), collaboration="private_predict").sums
    made = combined(MIXED, public_rows(), sums, support_of((1, 4), 0))
    p0 = np.exp(public_rows())
    expected = np.mean([mixed(e.logs[[1, 4, 2, 2, 5, 0, 3, 1, 1]], public_rows(), 3.0, 0.1)
                        for h in there.houses.values() for e in h.thinkers.own], axis=0)  # fmt: skip
    assert np.allclose(made, expected, atol=1e-7)
    assert not np.allclose(made, p0, atol=1e-3)
    for charged in lines(there, "charged"):
        (one,) = charged
        assert from_json(one["event"]) == SelfComposedDpEvent(PMixedDpEvent(3, 3.0, 0.1), MIXED.most)


def test_a_vote_is_a_sample_and_those_who_agree_vote_alike():
    p = np.log([[0.5, 0.3, 0.2], [0.05, 0.9, 0.05]])
    counts = np.zeros((2, 3))
    for seed in range(4000):
        one = votes(p, seed, 0)
        assert np.array_equal(one, votes(p + 1e-12, seed, 0))
        assert one.sum(axis=1).tolist() == [1, 1]
        counts += one
    expected = np.exp(p) * 4000
    assert ((counts - expected) ** 2 / expected).sum(axis=1).max() < 25  # of two degrees of freedom
    assert not np.array_equal(votes(p, 1, 0), votes(p, 1, 1)) or not np.array_equal(votes(p, 2, 0), votes(p, 2, 1))


def test_votes_of_many_elect_what_most_find_likely(tmp_path):
    there = village(tmp_path, 3)
    asked = replace(VOTES, experts=300, noise_multiplier=2.0)
    for house in there.houses.values():
        house.thinkers.own = tuple(replace(PUBLIC, table=PUBLIC.table * 3) for _ in range(100))
    done = there.run(reading(asked, (1, 4, 2, 2), terms=WARY), collaboration="private_predict")
    made = combined(asked, public_rows((1, 4, 2, 2)), done.sums, support_of((1,), 0))
    rows = replace(PUBLIC, table=PUBLIC.table * 3).logs[[1, 4, 2]]
    assert made.argmax(1).tolist() == votes(rows, 0, 0).argmax(1).tolist()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (replace(CENTRAL, unit=Unit.MEMBER), "the budget is per record"),
        (replace(NOISED, unit=Unit.GROUP), "the budget is per record"),
        (question(**RATIOS), "another collaboration"),
        (question(), "another collaboration"),
    ],
)
def test_what_would_protect_less_than_the_account_promises_is_not_charged_to_it(asked: Question, why, tmp_path):
    scene = Scene(village(tmp_path, 3), "private_predict")
    with pytest.raises(Abort):
        scene.play(lambda opened: block(scene.blocks(opened, asked), (1, 4), (2,)))
    assert all(why in str(fault) for fault in scene.why.values())
    assert scene.released == [0, 0, 0]


def test_a_session_that_a_budget_cannot_pay_for_to_its_end_does_not_begin(tmp_path):
    scene = Scene(village(tmp_path, 3), "private_predict")
    dear = replace(CENTRAL, clip=100.0, experts=1, most=2000)
    with pytest.raises(Abort):
        scene.play(lambda opened: block(scene.blocks(opened, dear), (1, 4), (2,)))
    assert {type(fault).__name__ for fault in scene.why.values()} == {"BudgetExceeded"}
    assert scene.released == [0, 0, 0]
