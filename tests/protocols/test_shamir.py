"""Any threshold of holders find the secrets, fewer know nothing, and no holder is at the point of the secrets."""

import hashlib
import hmac
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocols.faults import LocalError, PeerError
from protocols.field import PRIME, uniform
from protocols.shamir import extend, reconstruct, seed, share

TOP = PRIME - 1
points = st.integers(0, TOP)
holders = st.one_of(st.integers(1, 40), st.integers(1, TOP))
ELEMENT = st.one_of(st.integers(0, TOP), st.sampled_from([0, 1, TOP]))


def rows(count, width):
    return arrays.arrays(np.uint16, (count, width), elements=ELEMENT)


def lagrange(at, values, to):
    """The naive reference: one column, in Python's integers."""
    total = 0
    for j, a in enumerate(at):
        above = below = 1
        for k, b in enumerate(at):
            if k != j:
                above, below = above * (to - b) % PRIME, below * (a - b) % PRIME
        total += int(values[j]) * above * pow(below, -1, PRIME)
    return total % PRIME


@settings(max_examples=150)
@given(st.data(), st.lists(points, min_size=1, max_size=9, unique=True), st.lists(points, max_size=6, unique=True))
def test_polynomials_go_on_as_lagrange_in_python_integers_says(data, at, to):
    values = data.draw(rows(len(at), data.draw(st.integers(0, 3))))
    to = to + data.draw(st.sampled_from([[], [p for p in at[:2] if p not in to]]))  # some points are in both
    got = extend(at, values, to)
    assert got.dtype == np.uint16
    assert got.shape == (len(to), values.shape[1])
    assert got.tolist() == [[lagrange(at, column, t) for column in values.T] for t in to]


@settings(max_examples=60)
@given(st.data(), st.lists(points, min_size=2, max_size=30, unique=True), st.integers(1, 4))
def test_a_polynomial_is_the_same_through_any_of_its_points(data, at, width):
    degree = data.draw(st.integers(1, len(at)))
    first = at[:degree]
    everywhere = extend(first, data.draw(rows(degree, width)), at)
    chosen = data.draw(st.permutations(range(len(at))))[:degree]
    again = extend([at[i] for i in chosen], everywhere[chosen], at)
    assert (again == everywhere).all()


@settings(max_examples=100)
@given(st.data(), st.lists(holders, min_size=1, max_size=25, unique=True))
def test_any_threshold_of_holders_or_more_find_the_secrets(data, at):
    threshold = data.draw(st.integers(1, len(at)))
    secrets = data.draw(rows(1, 5))[0]
    shares = share(secrets, at, threshold, os.urandom)
    assert shares.shape == (len(at), 5)
    chosen = data.draw(st.permutations(range(len(at))))[: data.draw(st.integers(threshold, len(at)))]
    assert (reconstruct([at[i] for i in chosen], shares[chosen]) == secrets).all()


@settings(max_examples=100)
@given(st.data(), st.integers(1, 25), st.binary(min_size=8, max_size=8))
def test_shares_that_both_ends_derive_need_not_travel(data, n, key):
    """The first threshold - 1 holders draw their shares from keys they hold; all n together are one sharing."""
    at, threshold = list(range(1, n + 1)), data.draw(st.integers(1, n))
    secret = data.draw(rows(1, 16))

    def derived(holder):
        blocks = (hmac.digest(key, bytes([holder, i]), "sha256") for i in range(3))
        return uniform(iter_bytes(b"".join(blocks)), 16)

    own = np.array([derived(h) for h in at[: threshold - 1]], np.uint16).reshape(-1, 16)
    sent = extend([0, *at[: threshold - 1]], np.concatenate([secret, own]), at[threshold - 1 :])
    held = [derived(h) for h in at[: threshold - 1]] + list(sent)
    chosen = data.draw(st.permutations(range(n)))[:threshold]
    assert (reconstruct([at[i] for i in chosen], np.array([held[i] for i in chosen])) == secret[0]).all()


def iter_bytes(data):
    view = memoryview(data)

    def read(n):
        nonlocal view
        taken, view = view[:n], view[n:]
        return bytes(taken)

    return read


@pytest.mark.parametrize(("known", "other"), [((1, 2), 3), ((7, TOP), 1), ((5,), 9), ((2, 4, 6, 8), 65_000)])
def test_one_share_fewer_than_the_threshold_leaves_every_secret_equally_likely(known, other):
    """Exhaustively: with the known shares each of the 65,521 secrets goes with exactly one of another share."""
    candidates = np.arange(PRIME, dtype=np.uint16)
    seen = np.repeat(uniform(os.urandom, len(known))[:, np.newaxis], PRIME, axis=1)
    others = extend((0, *known), np.concatenate([candidates[np.newaxis], seen]), (other,))[0]
    assert np.array_equal(np.sort(others), candidates)
    assert np.array_equal(reconstruct((*known, other), np.concatenate([seen, others[np.newaxis]])), candidates)


@pytest.mark.parametrize("secret", [0, 1, 4711, TOP])
def test_a_share_alone_is_uniform_whatever_the_secret(secret):
    """Exhaustively, with threshold 2: over all that the source may give, a share takes each value once."""
    every = np.arange(PRIME, dtype=np.uint16)
    shares = share(np.full(PRIME, secret, np.uint16), [1, 2, 3, TOP], 2, iter_bytes(every.astype("<u2").tobytes()))
    for holder in shares:
        assert np.array_equal(np.sort(holder), every)


def test_two_secrets_of_one_sharing_have_unrelated_shares():
    shares = share(np.zeros(20_000, np.uint16), [1, 2, 3], 2, os.urandom).astype(float)
    neighbours = np.corrcoef(shares[:, :-1:2].ravel(), shares[:, 1::2].ravel())[0, 1]
    assert abs(neighbours) < 6 / np.sqrt(30_000)


def test_a_wrong_share_gives_another_secret_in_every_place():
    """With too few, or one false among them, nothing is found; that is why secrets are committed to."""
    secrets = uniform(os.urandom, 64)
    shares = share(secrets, [1, 2, 3, 4], 3, os.urandom)
    shares[1] = (shares[1].astype(int) + 1) % PRIME
    assert (reconstruct([1, 2, 3], shares[:3]) != secrets).all()
    assert (reconstruct([3, 4], shares[2:]) != secrets).any()


@pytest.mark.parametrize("at", [[0, 1, 2], [1, 0, 2], [0]])
def test_point_zero_is_no_holder_since_its_share_is_the_secret(at):
    with pytest.raises(PeerError, match="not between 1 and 65520"):
        share(np.zeros(4, np.uint16), at, 1, os.urandom)
    with pytest.raises(PeerError, match="not between 1 and 65520"):
        reconstruct(at, np.zeros((len(at), 4), np.uint16))


@pytest.mark.parametrize("at", [[-1, 2], [1, PRIME], [1, 2**16], [1, PRIME + 1], [1, 2**70]])
def test_a_point_out_of_range_is_refused(at):
    values = np.zeros((2, 4), np.uint16)
    for attempt in (
        lambda: share(values[0], at, 1, os.urandom),
        lambda: reconstruct(at, values),
        lambda: extend(at, values, [0]),
        lambda: extend([1, 2], values, at),
    ):
        with pytest.raises(PeerError, match="not between"):
            attempt()


@pytest.mark.parametrize("at", [[1, 1], [3, 5, 3]])
def test_a_holder_that_comes_twice_is_refused(at):
    values = np.zeros((len(at), 4), np.uint16)
    for attempt in (
        lambda: share(values[0], at, 1, os.urandom),
        lambda: reconstruct(at, values),
        lambda: extend(at, values, [0]),
        lambda: extend(range(1, len(at) + 1), values, at),
    ):
        with pytest.raises(PeerError, match="a point comes twice"):
            attempt()


def test_shares_that_are_no_elements_or_too_many_or_too_few_are_refused():
    values = np.zeros((2, 4), np.uint16)
    for words in (PRIME, 2**16 - 1):
        values[1, 3] = words
        with pytest.raises(PeerError, match="no element"):
            reconstruct([1, 2], values)
    for at in ([1], [1, 2, 3]):
        with pytest.raises(PeerError, match="2 rows of shares"):
            reconstruct(at, np.zeros((2, 4), np.uint16))
    with pytest.raises(PeerError, match="no points"):
        reconstruct([], np.zeros((0, 4), np.uint16))


@pytest.mark.parametrize("threshold", [-1, 0, 4])
def test_a_threshold_that_shares_with_nobody_or_needs_too_many_is_refused(threshold):
    with pytest.raises(PeerError, match=f"a threshold of {threshold} among 3 holders"):
        share(np.zeros(4, np.uint16), [1, 2, 3], threshold, os.urandom)


def test_values_of_another_type_are_a_bug_of_ours():
    for values in (np.zeros((2, 4), np.int64), np.zeros(2, np.uint16)):
        with pytest.raises(LocalError):
            reconstruct([1, 2], values)
    for limbs in (np.zeros(15, np.uint16), np.zeros((1, 16), np.uint16), np.zeros(16, np.uint32)):
        with pytest.raises(LocalError, match="16 elements"):
            seed(limbs)


def test_nothing_of_a_share_is_in_an_error():
    with pytest.raises(PeerError) as error:
        reconstruct([1, 2], np.array([[54_321], [65_530]], np.uint16))
    assert "54321" not in str(error.value)
    assert "65530" not in str(error.value)


def test_a_seed_is_the_hkdf_of_rfc_5869_over_the_elements():
    limbs = np.array([0, 1, 255, 256, 65_520, *range(1000, 1011)], np.uint16)
    material = b"".join(int(x).to_bytes(2, "little") for x in limbs)
    extracted = hmac.new(bytes(32), material, hashlib.sha256).digest()
    expanded = hmac.new(extracted, b"parley/v1/secure-sum/seed" + b"\x01", hashlib.sha256).digest()
    assert seed(limbs) == expanded
    assert seed(limbs).hex() == "edf179a898ed1fc60bdf51b1ec23271f78b3d949c2476bb3187352a68c3d87e0"
    assert seed(limbs) != seed(limbs[::-1])


def test_the_shares_from_a_known_source_are_frozen():
    blocks = (hmac.digest(b"parley shamir test", i.to_bytes(8, "big"), "sha256") for i in range(40))
    data = b"".join(blocks)
    secrets = np.array([0, 1, 2, 65_520], np.uint16)
    shares = share(secrets, [1, 2, 3, 10, 65_520], 3, iter_bytes(data))
    words = [data[i] + 256 * data[i + 1] for i in range(0, 16, 2)]
    assert shares[:2].ravel().tolist() == words
    expected = [[lagrange((0, 1, 2), (s, *shares[:2, i]), p) for i, s in enumerate(secrets)] for p in (3, 10, TOP)]
    assert shares[2:].tolist() == expected
    assert hashlib.sha256(shares.astype("<u2").tobytes()).hexdigest() == (
        "0a5da93fbda577bbbbd1bc4afd9ca855197fff1af1f995eb03e9d74c9ec54f17"
    )
