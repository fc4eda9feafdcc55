"""Sums of encoded vectors are exact and do not wrap; no vector leaves longer than its bound; bad input is refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from privacy.fixed_point import FixedPoint, sized, sum_of_squares
from privacy.randomness import UnsafeSeededRandomness
from privacy.refusal import NotEncodable, Refused

WORDS = {16: np.uint16, 24: np.uint32, 32: np.uint32}


def plain(bits: int = 32, length: int = 3, members: int = 5, coordinate: float = 1.0) -> FixedPoint:
    return sized(length=length, bits=bits, members=members, coordinate=coordinate)


def summed(code: FixedPoint, encoded: list[np.ndarray]) -> np.ndarray:
    """What the coordinator holds: the sum modulo 2**bits, in words."""
    total = sum(q.astype(np.int64) for q in encoded)
    return (total % 2**code.bits).astype(WORDS[code.bits])


# Reference section 4.8: bits, members, honest, length, log2 of the scale (None: not given), inflation of the bound.
LORA = [
    (32, 5, 4, 10**7, 26.9, 1.0000),
    (32, 100, 70, 10**7, 24.2, 1.0001),
    (32, 100, 70, 10**8, 24.2, 1.0003),
    (32, 1000, 700, 10**7, 21.0, 1.0007),
    (32, 1000, 700, 10**8, 21.0, 1.0024),
    (24, 5, 4, 10**7, 18.9, 1.003),
    (24, 20, 14, 10**7, 18.0, 1.006),
    (24, 100, 70, 10**7, 16.2, 1.021),
    (16, 5, 4, 10**5, 10.9, 1.08),
    (16, 100, 70, 10**5, 8.1, 1.58),
]


@pytest.mark.parametrize(("bits", "members", "honest", "length", "log2", "inflation"), LORA)
def test_the_scale_is_the_published_one(bits, members, honest, length, log2, inflation):
    code = sized(
        length=length, bits=bits, members=members, coordinate=1.0, norm=1.0, noise_multiplier=1.0, honest=honest
    )
    assert math.log2(code.scale) == pytest.approx(log2, abs=0.1)
    assert code.bound / code.scale == pytest.approx(inflation, rel=0.006)
    assert code.deviation == pytest.approx(code.bound / math.sqrt(honest))


@pytest.mark.parametrize(("members", "honest", "deviation"), [(5, 4, 6.3e7), (100, 70, 2.3e6), (1000, 700, 8.0e4)])
def test_the_deviation_of_a_members_noise_is_the_published_one(members, honest, deviation):
    code = sized(
        length=10**7, bits=32, members=members, coordinate=1.0, norm=1.0, noise_multiplier=1.0, honest=honest
    )
    assert code.deviation == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(("noise", "log2", "inflation"), [(0.05, 12.5, 1.023), (0.5, 11.2, 1.053), (2.0, 9.6, 1.17)])
def test_the_scale_of_next_token_vectors_in_16_bits_is_the_published_one(noise, log2, inflation):
    code = sized(
        length=128_256, bits=16, members=5, coordinate=1.0, norm=math.sqrt(2), noise_multiplier=noise, honest=4
    )
    assert math.log2(code.scale) == pytest.approx(log2, abs=0.1)
    assert code.bound / (code.scale * math.sqrt(2)) == pytest.approx(inflation, abs=0.006)


@given(
    st.sampled_from([16, 24, 32]),
    st.integers(1, 200),
    st.integers(1, 10**8),
    st.floats(0.01, 4),
    st.integers(1, 200),
    st.floats(1e-3, 1e3),
)
def test_the_noised_sum_wraps_with_probability_below_2_to_the_minus_60(bits, members, length, noise, honest, norm):
    try:
        code = sized(
            length=length,
            bits=bits,
            members=members,
            coordinate=2 * norm,
            norm=norm,
            noise_multiplier=noise,
            honest=min(honest, members),
        )
    except ValueError:
        return
    chances = []
    for scale in (code.scale, code.scale * (1 + 2.0**-22)):
        margin = 2 ** (bits - 1) - members * (scale * norm + 0.5)
        deviation = code.deviation * (scale * norm + length**0.5 / 2) / code.bound
        deviations = margin / (math.sqrt(members) * deviation)
        chances.append(math.log2(2 * length) - deviations**2 / 2 / math.log(2))
    assert chances[0] <= -60 <= chances[1]  # and the scale is the largest float32 of which it is true
    deviations = math.sqrt(2 * (math.log(2 * length) - chances[0] * math.log(2)))
    assert math.log2(2 * length) + stats.norm.logsf(deviations) / math.log(2) < -60  # a Gaussian's own tail


@settings(deadline=None)
@given(st.data(), st.sampled_from([16, 24, 32]), st.integers(1, 8), st.floats(1e-6, 1e6))
def test_a_sum_is_exact_bit_for_bit(data, bits, members, coordinate):
    code = plain(bits, 7, members, coordinate)
    number = st.floats(-2 * coordinate, 2 * coordinate) | st.sampled_from([-coordinate, 0.0, coordinate])
    vectors = [data.draw(arrays(np.float64, 7, elements=number)) for _ in range(members)]
    encoded = [code.encode(v) for v in vectors]
    total = code.decode(summed(code, encoded), members)
    assert np.array_equal(np.rint(total * code.scale), sum(q.astype(np.int64) for q in encoded))
    clipped = sum(np.clip(v, -coordinate, coordinate) for v in vectors)
    assert np.abs(total - clipped).max() <= members * (0.5 / code.scale + 2e-7 * coordinate)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("members", [1, 2, 5, 100, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_at_either_limit_does_not_wrap(bits, members, sign):
    code = plain(bits, 2, members)
    encoded = code.encode(np.full(2, sign * 10.0))
    assert abs(int(encoded[0])) == pytest.approx(code.scale, rel=1e-6, abs=1)
    total = code.decode(summed(code, [encoded] * members), members)
    assert np.array_equal(total, members * encoded.astype(np.int64) * (1 / code.scale))
    assert np.all(total * sign > 0)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_words_are_read_as_signed_to_the_last_value(bits):
    code = plain(bits, 4)
    words = np.array([0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1)], dtype=WORDS[bits])
    steps = np.rint(code.decode(words, 5) * code.scale).astype(np.int64)
    assert steps.tolist() == [0, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]


def test_16_bit_words_may_come_in_32_and_what_lies_above_them_is_no_part_of_the_sum():
    code = plain(16, 3)
    narrow = np.array([1, 65535, 32768], dtype=np.uint16)
    assert np.array_equal(code.decode(narrow.astype(np.uint32) + np.uint32(5 << 16), 5), code.decode(narrow, 5))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2**16, 2**16 + 1, 200_000])
def test_every_chunk_is_rounded_to_nearest_and_clipped(kind, length):
    code = plain(32, length, coordinate=0.75)
    vector = (2 * UnsafeSeededRandomness(1).uniform(length) - 1).astype(kind)
    exact = code.scale * np.clip(vector.astype(np.float64), -0.75, 0.75)
    allowed = 0.5 + (0 if kind == np.float64 else code.scale * 2.0**-24)
    encoded = code.encode(vector)
    assert encoded.dtype == np.int32
    assert np.abs(encoded - exact).max() <= allowed
    assert np.array_equal(code.decode(summed(code, [encoded]), 1), encoded * (1 / code.scale))


@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
    | arrays(np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False)),
    st.sampled_from([16, 24, 32]),
    st.floats(1e-3, 1e3),
    st.floats(0.1, 10),
)
def test_whatever_comes_in_no_vector_leaves_longer_than_its_bound(vector, bits, norm, wider):
    code = sized(length=vector.size, bits=bits, members=3, coordinate=norm * wider, norm=norm)
    encoded = code.encode(vector)
    assert sum(int(q) ** 2 for q in encoded) <= Fraction(code.bound) ** 2
    assert np.abs(encoded.astype(np.int64)).max() <= code.scale * min(norm * wider, norm) + 0.5


def test_a_long_vector_keeps_its_direction_and_a_short_one_its_length():
    code = sized(length=2, bits=32, members=3, coordinate=10.0, norm=1.0)
    assert np.allclose(code.encode(np.array([3.0, 4.0])) / code.scale, [0.6, 0.8])
    assert np.allclose(code.encode(np.array([0.3, 0.4])) / code.scale, [0.3, 0.4])


def test_coordinates_are_clipped_before_the_norm():
    code = sized(length=2, bits=32, members=3, coordinate=3.0, norm=5.0)
    assert np.allclose(code.encode(np.array([100.0, 1.0])) / code.scale, [3.0, 1.0])
    code = sized(length=2, bits=32, members=3, coordinate=3.0, norm=1.0)
    assert np.allclose(code.encode(np.array([300.0, 400.0])) / code.scale, [0.5**0.5, 0.5**0.5])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("less", [0.5, 1e-9])
def test_a_vector_whose_integers_exceed_the_bound_is_scaled_again_until_they_do_not(monkeypatch, kind, less):
    code = sized(length=1000, bits=32, members=3, coordinate=1.0, norm=1.0)
    vector = np.full(1000, 0.1, dtype=kind)
    full = math.sqrt(sum_of_squares(code.encode(vector)))
    monkeypatch.setattr(FixedPoint, "bound", property(lambda self: full * (1 - less)))
    again = code.encode(vector)
    assert sum_of_squares(again) <= Fraction(full * (1 - less)) ** 2
    assert math.sqrt(sum_of_squares(again)) > full * (1 - less) * (1 - 1e-5)


@pytest.mark.parametrize("length", [1, 2**16, 2**16 + 1])
@pytest.mark.parametrize(
    "value", [-(2**31), 2**31 - 1, -1, 65535, 65536, -65537, 2**18 - 1, 1 - 2**18, 2**18, -(2**18)]
)
def test_the_sum_of_squares_is_exact_at_the_ends(length, value):
    assert sum_of_squares(np.full(length, value, dtype=np.int32)) == length * value**2


@pytest.mark.parametrize("bits", [10, 18, 19, 25, 31])
def test_no_partial_sum_of_squares_is_rounded(bits):
    integers = (UnsafeSeededRandomness(bits).words(100_000) >> np.uint64(64 - bits)).astype(np.int32)
    assert sum_of_squares(integers) == sum(q * q for q in integers.tolist())


@given(arrays(np.int32, st.integers(0, 50)))
def test_the_sum_of_squares_is_that_of_whole_numbers(integers):
    assert sum_of_squares(integers) == sum(int(q) ** 2 for q in integers)


SECRET = 12.345678


@pytest.mark.parametrize(
    "vector",
    [
        np.array([SECRET, np.nan, 0.0]),
        np.array([SECRET, np.inf, 0.0], dtype=np.float32),
        np.array([-np.inf, SECRET, 0.0], dtype=np.float16),
        np.array([np.inf, -np.inf, SECRET]),
        np.array([SECRET, 1.0]),
        np.array([SECRET, 1.0, 1.0, 1.0]),
        np.array([[SECRET, 1.0, 1.0]]),
        np.array([12345678, 1, 1]),
        np.array([SECRET, 1.0, 1.0j]),
        np.array([SECRET, 1.0, 1.0], dtype=">f8"),
        np.array([SECRET, "a", None], dtype=object),
        [SECRET, 1.0, 1.0],
        SECRET,
    ],
    ids=lambda v: f"{getattr(v, 'dtype', type(v).__name__)}{getattr(v, 'shape', '')}",
)
@pytest.mark.parametrize("norm", [None, 1.0])
def test_what_is_no_finite_vector_of_the_length_is_refused_and_no_value_is_named(vector, norm):
    code = sized(length=3, bits=32, members=3, coordinate=1.0, norm=norm)
    with pytest.raises(NotEncodable) as refused:
        code.encode(vector)
    assert isinstance(refused.value, Refused)
    assert refused.value.__cause__ is None
    assert not any(text in str(refused.value) for text in ("12.3", "123", "nan", "inf"))


@pytest.mark.parametrize(("kind", "huge"), [(np.float32, 3e38), (np.float64, 1e308)])
def test_values_whose_square_overflows_are_clipped_not_refused(kind, huge):
    vector = np.array([huge, -huge, 0.25], dtype=kind)
    assert np.allclose(plain().encode(vector) / plain().scale, [1, -1, 0.25])
    normed = sized(length=3, bits=32, members=3, coordinate=1.0, norm=10.0)
    assert np.allclose(normed.encode(vector) / normed.scale, [1, -1, 0.25])


def test_no_rounding_of_the_norm_lifts_a_coordinate_above_what_the_sum_was_sized_for():
    code = sized(length=1000, bits=32, members=2, coordinate=100.0, norm=0.7)
    for tenth in range(1, 1000):
        vector = np.zeros(1000, dtype=np.float32)
        vector[7] = tenth / 10
        assert code.encode(vector).max() <= code.scale * 0.7 + 0.5


def test_a_zero_vector_is_zero():
    code = sized(length=3, bits=32, members=3, coordinate=1.0, norm=1.0)
    assert not code.encode(np.zeros(3)).any()


def test_encoding_leaves_the_caller_its_array_and_takes_views():
    mine = np.array([3.0, -1.0, 4.0, -1.0, 5.0])
    encoded = plain().encode(mine[::2])
    assert np.array_equal(mine, [3.0, -1.0, 4.0, -1.0, 5.0])
    assert np.all(encoded == encoded[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 16, "members": 70_000}, "too few"),
        ({"bits": 16, "members": 30_000}, "too few"),
        ({"bits": 16, "norm": 1.0, "noise_multiplier": 100.0, "length": 10**7}, "too few"),
        ({"norm": 1.0, "noise_multiplier": 1e-9, "length": 10}, "deviation"),
        ({"noise_multiplier": 1.0}, "clipping norm"),
        ({"norm": 1.0, "noise_multiplier": -1.0}, "noise_multiplier"),
        ({"norm": 1.0, "noise_multiplier": math.nan}, "noise_multiplier"),
        ({"honest": 0}, "honest"),
        ({"honest": 6}, "honest"),
        ({"bits": 20}, "bits"),
        ({"bits": 64}, "bits"),
        ({"length": 0}, "length"),
        ({"members": 0}, "members"),
        ({"coordinate": 0.0}, "coordinate"),
        ({"coordinate": math.nan}, "coordinate"),
        ({"norm": math.inf}, "norm"),
        ({"norm": -1.0}, "norm"),
    ],
)
def test_what_fits_nowhere_is_refused_with_its_reason(change, said):
    fitting = {"length": 1000, "bits": 32, "members": 5, "coordinate": 1.0}
    sized(**fitting)
    with pytest.raises(ValueError, match=said):
        sized(**{**fitting, **change})


def test_a_scale_at_which_the_sum_could_wrap_cannot_be_written_down():
    code = plain(16, 3, 5)
    FixedPoint(3, 16, code.scale, 1.0, None, 5, 0.0)
    with pytest.raises(ValueError, match="too few"):
        FixedPoint(3, 16, code.scale * 1.001, 1.0, None, 5, 0.0)
    for deviation in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="deviation"):
            FixedPoint(3, 16, 1.0, 1.0, None, 5, deviation)


def test_without_a_norm_there_is_no_bound():
    with pytest.raises(ValueError, match="clipping norm"):
        _ = plain().bound


@pytest.mark.parametrize("members", [0, 6, -1])
def test_a_sum_over_more_members_than_were_sized_for_is_not_read(members):
    with pytest.raises(ValueError, match="members"):
        plain().decode(np.zeros(3, dtype=np.uint32), members)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (32, np.zeros(2, dtype=np.uint32)),
        (32, np.zeros((3, 1), dtype=np.uint32)),
        (32, np.zeros(3, dtype=np.int32)),
        (32, np.zeros(3, dtype=np.uint16)),
        (32, np.zeros(3, dtype=np.uint64)),
        (24, np.zeros(3, dtype=np.uint16)),
        (16, np.zeros(3, dtype=np.uint8)),
    ],
)
def test_words_of_another_length_or_width_are_not_read(bits, words):
    with pytest.raises(ValueError, match="words"):
        plain(bits).decode(words, 5)
