"""A member's part of a sampled step: no unit counts more than the norm, whatever it holds."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from privacy.accounting.accountant import price
from privacy.accounting.events import SampledSumDpEvent
from privacy.fixed_point import FixedPoint, largest_sample, sized, sum_of_squares
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness
from privacy.sampled_sum import SampledShare

LENGTH = 7


class Rows:
    """Units whose vectors are rows; notes how many were asked for."""

    def __init__(self, rows: NDArray) -> None:
        self.rows, self.asked = np.asarray(rows), []

    def __len__(self) -> int:
        return len(self.rows)

    def vectors(self, chosen, randomness) -> Iterator[NDArray]:
        self.asked.append(chosen.size)
        yield from self.rows[chosen]


def code(
    noise: float = 0.0, norm: float = 1.0, length: int = LENGTH, vectors: int = 50, bits: int = 32
) -> FixedPoint:
    return sized(
        length=length, bits=bits, members=3, coordinate=norm, norm=norm, noise_multiplier=noise, honest=2,
        vectors=vectors,
    )  # fmt: skip


def drawn(rows, how: FixedPoint, rate: float = 1.0) -> NDArray:
    return SampledShare(Rows(rows), how, rate, 2).draw(SystemRandomness())


def rows(count: int, seed: int = 0, scale: float = 3.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(count, LENGTH)) * scale).astype(np.float32)


def test_without_noise_it_is_the_sum_of_the_clipped_vectors():
    how, given_ = code(), rows(40)
    clipped = given_ / np.maximum(1, np.linalg.norm(given_.astype(np.float64), axis=1))[:, None]
    assert np.abs(drawn(given_, how) / how.scale - clipped.sum(axis=0)).max() < 1e-5


HARD = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from([np.float32(1).item(), float(np.nextafter(np.float32(1), np.float32(2))), 1e-45, 3.4e38]),
)


@settings(max_examples=300)
@given(
    vector=arrays(np.float32, LENGTH, elements=HARD),
    norm=st.floats(1e-3, 1e3),
    bits=st.sampled_from([16, 24, 32]),
    many=st.integers(1, 300),
)
def test_whatever_a_unit_holds_and_however_floats_round_its_integers_stay_within_the_norm(vector, norm, bits, many):
    how = code(norm=norm, bits=bits, vectors=many)
    integers = drawn(vector[None], how)
    assert sum_of_squares(integers) <= how.bound**2 * (1 + 1e-12)
    if not np.isfinite(vector).all():
        assert not integers.any()


def test_vectors_just_above_the_norm_that_rounding_takes_over_it_are_taken_back_within():
    how = sized(length=400, bits=16, members=3, coordinate=1.0, norm=1.0, vectors=30)  # half steps weigh most here
    over = 0
    for seed in range(50):
        vector = np.random.default_rng(seed).normal(size=400)
        vector *= (1 + 1e-7) / np.linalg.norm(vector)
        nearest = np.rint(vector * how.scale)
        over += bool(np.square(nearest).sum() > (how.scale * 1.0) ** 2)
        integers = SampledShare(Rows(vector[None]), how, 1.0, 1).draw(SystemRandomness())
        assert sum_of_squares(integers) <= how.bound**2
    assert over  # plain rounding does exceed the scaled norm: the bound counts half a step a coordinate


def test_a_unit_more_or_less_moves_the_sum_by_no_more_than_the_events_bound():
    how, given_ = code(), rows(30, scale=100.0)
    whole = drawn(given_, how).astype(np.int64)
    moves = [
        math.sqrt(np.square(whole - drawn(np.delete(given_, i, axis=0), how).astype(np.int64)).sum())
        for i in range(30)
    ]
    assert max(moves) <= how.bound
    assert max(moves) > how.scale * 0.999  # and it is a bound that is reached


def test_a_poisoned_batch_moves_the_sum_by_its_units_norms_and_no_more():
    how, good = code(), rows(20, scale=0.1)
    poison = np.full((3, LENGTH), 3e38, np.float32)
    poison[1] = np.nan
    poison[2, 0] = -np.inf
    moved = (drawn(np.concatenate([good, poison]), how).astype(np.int64) - drawn(good, how)) / how.scale
    assert np.linalg.norm(moved) <= 1 + 1e-6


def test_a_sample_is_poisson_with_the_declared_rate_and_its_size_does_not_leave():
    units, rate = Rows(rows(400)), 0.2
    share = SampledShare(units, code(noise=2.0, vectors=200), rate, 2)
    lengths = {share.draw(SystemRandomness()).size for _ in range(200)}
    mean, variance = np.mean(units.asked), np.var(units.asked)
    assert lengths == {LENGTH}
    assert abs(mean - 80) < 5 * math.sqrt(64 / 200)
    assert abs(variance / 64 - 1) < 5 * math.sqrt(2 / 200)


def test_an_empty_sample_still_has_its_noise():
    share = SampledShare(Rows(np.zeros((0, LENGTH), np.float32)), code(noise=2.0), 0.5, 2)
    assert np.count_nonzero(share.draw(SystemRandomness())) == LENGTH


def test_the_members_noise_together_is_what_the_honest_ones_must_have():
    how = code(noise=1.5, length=20_000, vectors=10)
    nothing = Rows(np.zeros((1, 20_000), np.float32))
    total = sum(SampledShare(nothing, how, 0.5, 2).draw(SystemRandomness()).astype(np.float64) for _ in range(2))
    assert np.std(total) / how.bound == pytest.approx(1.5, rel=0.03)
    assert abs(np.mean(total)) < 5 * np.std(total) / math.sqrt(total.size)


def test_the_event_needs_no_unit_and_says_the_rate_it_samples_with():
    class Untouched:
        def __len__(self):
            raise AssertionError("looked at")

        def vectors(self, chosen, randomness):
            raise AssertionError("looked at")

    how = code(noise=2.0)
    event = SampledShare(Untouched(), how, 0.25, 2).event
    assert event == SampledSumDpEvent(0.25, how.bound, how.deviation, 2, LENGTH)
    assert price(event, (4.0,)).nats[0] > 0


def test_without_noise_there_is_no_event():
    with pytest.raises(ValueError, match="deviation"):
        _ = SampledShare(Rows(rows(3)), code(), 0.5, 2).event


def test_more_units_than_the_words_hold_wrap_and_are_noised_all_the_same():
    how = code(noise=2.0, vectors=3)
    along = np.zeros((400, LENGTH), np.float32)
    along[:, 0] = 1.0
    same = [
        SampledShare(Rows(along), how, 1.0, 2).draw(UnsafeSeededRandomness(s)).astype(np.int64) for s in (1, 1, 2)
    ]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    alone = SampledShare(Rows(0 * along), how, 1.0, 2).draw(UnsafeSeededRandomness(1)).astype(np.int64)
    assert ((same[0] - alone - 400 * how.encode(along[0]).astype(np.int64)) % 2**32 == 0).all()


@pytest.mark.parametrize(("expected", "units"), [(1, 10), (8, 8), (100, 1000), (256, 2500), (300, 10**6)])
def test_a_sample_is_larger_than_its_words_hold_less_often_than_one_in_two_to_the_61(expected, units):
    most, q = largest_sample(expected, units), expected / units
    if most == units:
        return
    logs = [
        math.lgamma(units + 1) - math.lgamma(k + 1) - math.lgamma(units - k + 1)
        + k * math.log(q) + (units - k) * math.log1p(-q)
        for k in range(most + 1, min(units, most + 3000) + 1)
    ]  # fmt: skip
    assert math.fsum(math.exp(x) for x in logs) < 2.0**-61
    assert most < 4 * expected + 120  # and not absurdly far


@pytest.mark.parametrize(("bits", "vectors", "noise"), [(32, 500, 1.0), (24, 120, 0.7), (32, 5, 40.0), (16, 40, 0.0)])
def test_a_full_sample_and_all_the_noise_fit_into_the_words(bits, vectors, noise):
    how = code(noise=noise, bits=bits, vectors=vectors)
    tail = math.sqrt(2 * math.log(2 * LENGTH) + 2 * 61 * math.log(2))
    most = max(vectors, 3) * (how.scale * 1.0 + 0.5) + tail * math.sqrt(3) * how.deviation
    assert 0.99 * 2 ** (bits - 1) < most < 2 ** (bits - 1) * (1 + 1e-9)


@pytest.mark.parametrize(
    "change",
    [{"rate": 0.0}, {"rate": 1.1}, {"rate": math.nan}, {"honest": 0}, {"honest": 4},
     {"code": FixedPoint(LENGTH, 32, 1.0, 1.0, None, 3, 0.0)},
     {"code": FixedPoint(LENGTH, 32, 1.0, 1.0, 1.0, 3, 2.0)}],
)  # fmt: skip
def test_a_share_with_a_rate_crowd_or_encoding_that_protects_nothing_cannot_be_made(change):
    with pytest.raises(ValueError, match="expected"):
        SampledShare(**({"units": Rows(rows(3)), "code": code(noise=2.0), "rate": 0.5, "honest": 2} | change))
