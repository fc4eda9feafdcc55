"""Merging once: what the sums come to is what the papers' lines come to, and no step is asked for out of turn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from village import LENGTH, village

from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId
from protocols.weights.average import Contributed
from protocols.weights.blending import Sketch, agreeing, dropped, mean_of_agreeing, trimmed
from protocols.weights.merge import Apart, Combine, Merge, MergePlan, Method, Protection, coordinate

NOTHING = np.zeros(0, np.float32)
rng = np.random.default_rng(5)


def plan(method=Method.ARITHMETIC, **changes) -> MergePlan:
    given_ = {"base": "b", "adapter": "mine", "method": method, "layout": "l", "length": LENGTH}
    return MergePlan(**(given_ | {"protection": Protection.NONE} | changes))


def sketch_plan(**changes) -> MergePlan:
    return plan(Method.SKETCH, layout="", outputs=(2,), inputs=(LENGTH - 2,), width=2, bound=4.0, **changes)


def merged(folder, the_plan, points, mode=Mode.STRICT, **road):
    there = village(folder, len(points), noise_multiplier=0.0, **road)
    for house, point in zip(there.houses.values(), points, strict=True):
        house.point = np.asarray(point, np.float64)
    return there.run(Merge(the_plan, 2, Terms(mode, smallest_crowd=2, colluding=1)), collaboration="merge")


@pytest.mark.parametrize("mode", list(Mode))
def test_task_arithmetic_is_the_mean_by_public_weights_times_the_scale(mode, tmp_path):
    points = rng.normal(size=(3, LENGTH))
    weighted = plan(members=("m0", "m1", "m2"), weights=(1.0, 0.5, 0.25), scale=0.7)
    result = merged(tmp_path, weighted, points, mode)
    assert np.allclose(result.adapter, 0.7 * np.average(points, axis=0, weights=[1, 0.5, 0.25]), atol=1e-6)
    assert result.answered == (3,)


def ties_by_the_paper(points: np.ndarray, density: float) -> np.ndarray:
    """Yadav et al. 2023, algorithm 1, with all members' adapters in one hand."""
    kept = np.array([trimmed(p, density) for p in points])
    elected = np.sign(kept.sum(axis=0))
    out = np.zeros(points.shape[1])
    for j in range(points.shape[1]):
        those = [k[j] for k in kept if k[j] != 0 and np.sign(k[j]) == elected[j]]
        out[j] = np.mean(those) if those else 0.0
    return out


@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_ties_by_two_secure_sums_is_ties_with_everything_in_one_hand(density, tmp_path):
    points = rng.normal(size=(4, LENGTH))
    result = merged(tmp_path, plan(Method.TIES, density=density), points)
    assert np.allclose(result.adapter, ties_by_the_paper(points, density), atol=1e-6)
    assert result.answered == (4, 4)


def test_the_product_of_adapters_with_other_as_is_summed_exactly_within_the_sketch(tmp_path):
    points = rng.normal(size=(2, LENGTH))
    result = merged(tmp_path, sketch_plan(), points)
    q, z = result.adapter[:4].reshape(2, 2), result.adapter[4:].reshape(2, LENGTH - 2)
    expected = np.mean([np.outer(p[:2], p[2:]) for p in points], axis=0)
    assert np.allclose(q @ z, expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3))
def test_a_sketch_as_wide_as_the_sums_rank_loses_nothing_whatever_the_widths_of_the_slots(seed, members, rank):
    rng_ = np.random.default_rng(seed)
    outputs, inputs = (5, 16, 3), (9, 4, 14)
    sketch = Sketch(outputs, inputs, members * rank, 7)
    apart = [
        [[(rng_.normal(size=(o, rank)), rng_.normal(size=(rank, i)))] for o, i in zip(outputs, inputs, strict=True)]
        for _ in range(members)
    ]
    bases = sketch.bases(sum(sketch.ranges(pairs) for pairs in apart))
    within = sum(sketch.projected(pairs, bases) for pairs in apart)
    for slot, (q, z) in enumerate(
        zip(matrices(bases, outputs, sketch.width), matrices(within, inputs, sketch.width, 1), strict=True)
    ):
        whole = sum(b @ a for pairs in apart for b, a in pairs[slot])
        assert np.allclose(q @ z, whole, atol=1e-8 * max(1.0, np.abs(whole).max()))


def matrices(flat, widths, width, transposed=0):
    parts = np.split(flat, np.cumsum([w * width for w in widths])[:-1])
    return [p.reshape((width, w) if transposed else (w, width)) for p, w in zip(parts, widths, strict=True)]


def test_a_narrower_sketch_is_an_approximation_and_not_the_sum():
    pairs = [[(rng.normal(size=(8, 3)), rng.normal(size=(3, 8)))]]
    sketch = Sketch((8,), (8,), 2, 7)
    q = sketch.bases(sketch.ranges(pairs))
    z = sketch.projected(pairs, q)
    off = np.linalg.norm(q.reshape(8, 2) @ z.reshape(2, 8) - pairs[0][0][0] @ pairs[0][0][1])
    assert off > 0.01


def test_trimming_keeps_the_largest_and_one_at_least():
    assert np.array_equal(trimmed(np.array([1.0, -3, 2, 0.5]), 0.5), [0, -3, 2, 0])
    assert np.array_equal(trimmed(np.array([1.0, -3, 2]), 1e-9), [0, -3, 0])


def test_where_nobody_agrees_the_merged_entry_is_zero():
    votes = agreeing(np.array([1.0, -1, 0]), np.array([1.0, 1, 0]))
    assert np.array_equal(votes, [1, 0, 0, 1, 0, 0])
    assert np.array_equal(mean_of_agreeing(2 * votes), [1, 0, 0])


def test_dropping_keeps_the_expected_value():
    vector, uniform = np.ones(200_000), rng.random(200_000)
    kept = dropped(vector, uniform, 0.25)
    assert set(np.unique(kept)) == {0.0, 4.0}
    assert abs(kept.mean() - 1) < 0.02


def test_below_the_quorum_a_merge_aborts_and_says_how_many_of_how_many(tmp_path):
    with pytest.raises(Abort, match="of 3"):
        merged(tmp_path, plan(), np.ones((3, LENGTH)), lost=lambda trip, member, way: trip == 2 and member != "m0")


class NoHome:
    """A home that must not be asked."""

    def combined(self, *_):
        raise AssertionError("asked")


@pytest.mark.parametrize(
    ("state", "ask"),
    [
        (Apart(1), Combine(plan(), 0, NOTHING, None, ())),
        (Apart(0), Combine(plan(), 1, NOTHING, None, ())),
        (Apart(0), Combine(plan(Method.TIES), 2, NOTHING, None, ())),
        (Apart(0), Combine(plan(Method.TIES), 1, NOTHING, None, ())),
        (Apart(0), Combine(plan(Method.TIES), 0, np.ones(LENGTH, np.float32), None, ())),
        (Apart(0), Combine(sketch_plan(), 1, np.ones(3, np.float32), None, ())),
        (Apart(0), Contributed(0, NOTHING)),
    ],
)
def test_a_step_out_of_order_or_with_other_knowledge_than_the_plans_never_reaches_the_home(state, ask):
    with pytest.raises(PeerError):
        state.answer(ask, NoHome())


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": ""}, {"adapter": "../ledger"}, {"adapter": "a/b"}, {"length": 0}, {"density": 0.0},
        {"density": 1.1}, {"bound": 0.0}, {"scale": float("nan")}, {"weights": (1.0,)},
        {"members": ("m",), "weights": (0.0,)}, {"outputs": (2,)}, {"method": Method.SKETCH},
        {"protection": Protection.SUM}, {"noise_multiplier": 1.0}, {"epsilon": 1.0},
        {"protection": Protection.SUM, "noise_multiplier": 1.0, "epsilon": 1.0, "method": Method.TIES},
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_not_made(change):
    with pytest.raises(ValueError, match=r"expected|range"):
        replace(plan(), **change)


def test_a_task_of_another_kind_is_our_bug():
    with pytest.raises(LocalError):
        next(coordinate([MemberId("a")], Apart(0)))


def test_a_bound_that_would_cut_the_counts_of_ties_is_refused():
    with pytest.raises(ValueError, match="bound: expected at least 1"):
        plan(Method.TIES, bound=0.5)
    assert plan(Method.DARE, bound=0.5).bound == 0.5
