"""The field is exact where floats could round; one stream gives everybody the same uniform elements."""

import hashlib
import hmac
import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocols.faults import LocalError
from protocols.field import PRIME, inverse, matmul, product, uniform

TOP = PRIME - 1
elements = st.integers(0, TOP)


def matrix(rows, columns):
    return arrays.arrays(np.uint16, (rows, columns), elements=elements)


def stream(data, piece=None):
    """Give the bytes of `data` in turn, put together from pieces of `piece` bytes."""
    file = io.BytesIO(data)
    if piece is None:
        return file.read
    return lambda n: b"".join(file.read(min(piece, n - start)) for start in range(0, n, piece))


def pseudo_random(label, size):
    """The counter mode of HMAC-SHA256: bytes that do not depend on any code of ours."""
    blocks = (hmac.digest(label, i.to_bytes(8, "big"), "sha256") for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def test_the_prime_is_a_prime_and_the_largest_of_sixteen_bits():
    def prime(n):
        return all(n % d for d in range(2, int(n**0.5) + 1))

    assert prime(PRIME)
    assert not any(prime(n) for n in range(PRIME + 1, 2**16))


@settings(max_examples=100)
@given(st.data(), st.integers(0, 5), st.integers(0, 9), st.integers(0, 5))
def test_a_product_of_matrices_is_the_one_of_python_integers(data, rows, inner, columns):
    a, b = data.draw(matrix(rows, inner)), data.draw(matrix(inner, columns))
    got = matmul(a, b)
    assert got.dtype == np.uint16
    assert got.shape == (rows, columns)
    assert got.tolist() == [
        [sum(int(a[r, k]) * int(b[k, c]) for k in range(inner)) % PRIME for c in range(columns)] for r in range(rows)
    ]


@pytest.mark.parametrize("inner", [1, 67, 1024, TOP, 2**53 // TOP**2])
def test_the_largest_entries_in_the_longest_sums_are_not_rounded(inner):
    a, b = np.full((2, inner), TOP, np.uint16), np.full((inner, 3), TOP, np.uint16)
    assert (matmul(a, b) == inner % PRIME).all()  # (-1) * (-1), inner times
    a[0, 0], b[-1, 2] = TOP - 1, TOP - 2  # one out of step is not lost among millions
    integers = a.astype(np.uint64) @ b.astype(np.uint64)  # below 2**53, and never near a float
    assert (matmul(a, b) == integers % PRIME).all()


@pytest.mark.parametrize("columns", [511, 512, 513, 1600])
def test_wide_matrices_are_multiplied_to_their_last_column(columns):
    a, b = (uniform(os.urandom, 7 * n).reshape(shape) for n, shape in [(3, (3, 7)), (columns, (7, columns))])
    assert (matmul(a, b) == a.astype(np.uint64) @ b.astype(np.uint64) % PRIME).all()


def test_sums_that_could_be_rounded_are_refused():
    inner = 2**53 // TOP**2 + 1
    with pytest.raises(LocalError, match="not exact"):
        matmul(np.zeros((1, inner), np.uint16), np.zeros((inner, 1), np.uint16))


def test_every_element_has_its_inverse_and_zero_has_none():
    a = np.arange(PRIME, dtype=np.uint16)
    b = inverse(a)
    assert b[0] == 0
    assert (a.astype(np.uint64) * b % PRIME)[1:].min() == 1
    assert (a.astype(np.uint64) * b % PRIME)[1:].max() == 1


@given(st.lists(elements, max_size=12))
def test_a_product_over_an_axis_is_the_one_of_python_integers(factors):
    expected = 1
    for factor in factors:
        expected = expected * factor % PRIME
    assert product(np.array([factors, factors], np.uint16)).tolist() == [expected, expected]


def test_each_word_below_the_prime_gives_itself_and_the_fifteen_others_nothing():
    """Exactly uniform: from all 65,536 words, equally often each, comes each element once."""
    words = np.arange(2**16, dtype="<u2")
    assert uniform(stream(words.tobytes()), PRIME).tolist() == list(range(PRIME))
    assert uniform(stream(words[::-1].tobytes()), PRIME).tolist() == list(range(TOP, -1, -1))


@given(st.lists(st.one_of(st.integers(0, 2**16 - 1), st.integers(PRIME - 2, 2**16 - 1)), max_size=60), st.data())
def test_the_elements_are_the_first_of_the_stream_and_nothing_is_read_past_them(words, data):
    accepted = [w for w in words if w < PRIME]
    count = data.draw(st.integers(0, len(accepted)))
    raw = np.array(words, "<u2").tobytes()
    file = io.BytesIO(raw)
    assert uniform(file.read, count).tolist() == accepted[:count]
    taken = file.tell() // 2
    assert [w for w in words[:taken] if w < PRIME] == accepted[:count]
    assert count == 0 or words[taken - 1] < PRIME


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 7))
def test_the_elements_do_not_depend_on_how_the_stream_is_cut(first, second, piece):
    raw = np.frombuffer(pseudo_random(b"cut", 400), "<u2").copy()
    raw[::3] |= 0xFFF0  # many words that are no elements, or hardly
    raw = raw.tobytes() + pseudo_random(b"tail", 400)
    whole = uniform(stream(raw), first + second).tolist()
    assert uniform(stream(raw, piece), first + second).tolist() == whole
    source = stream(raw)
    assert uniform(source, first).tolist() + uniform(source, second).tolist() == whole


def test_uniform_elements_pass_a_chi_square_test():
    """Over all elements and over 240 equal runs of them: ten million draws from the operating system."""
    drawn = uniform(os.urandom, 10_000_000)
    counts = np.bincount(drawn, minlength=PRIME)
    assert counts.size == PRIME
    for cells in (counts, counts[:65_520].reshape(240, -1).sum(axis=1)):
        expected = cells.sum() / cells.size
        statistic = ((cells - expected) ** 2 / expected).sum()
        freedom = cells.size - 1
        assert abs(statistic - freedom) < 6 * np.sqrt(2 * freedom)  # hardly ever by chance


def test_the_elements_of_a_known_stream_are_frozen():
    data = pseudo_random(b"parley field test", 20_000)
    drawn = uniform(stream(data), 9_000)
    words = [data[i] + 256 * data[i + 1] for i in range(0, len(data), 2)]
    assert drawn.tolist() == [w for w in words if w < PRIME][:9_000]
    assert drawn[:8].tolist() == [40909, 52538, 64724, 14818, 22131, 4725, 42721, 15720]
    assert hashlib.sha256(drawn.astype("<u2").tobytes()).hexdigest() == (
        "7be5aaac336c51ff74710a2f771700ef9fdf4489f748e914df4690de8cc26f5b"
    )


def test_a_source_that_runs_dry_or_a_negative_number_is_a_bug_of_ours():
    with pytest.raises(LocalError, match="6 bytes were asked of a source, 5 came"):
        uniform(stream(b"12345"), 3)
    with pytest.raises(LocalError, match="negative"):
        uniform(os.urandom, -1)
    assert uniform(stream(b""), 0).tolist() == []
