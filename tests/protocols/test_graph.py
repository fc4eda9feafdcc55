"""The graph of a large sum: as small as is safe, in an order that nobody chose, and in one part."""

import hashlib
import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.faults import LocalError, PeerError
from protocols.secure_sum import graph
from protocols.secure_sum.graph import COMPLETE_UP_TO, neighbours, order, parameters

# Members, shares of them that are corrupt and that drop out; (degree, threshold) for a coordinator that is honest but
# curious, and for a malicious one.
PUBLISHED = [
    (100, 0.1, 0.1, (22, 11), (32, 22)),
    (100, 0.33, 0.1, (42, 32), (54, 44)),
    (200, 0.1, 0.1, (34, 19), (56, 39)),
    (500, 0.1, 0.1, (42, 24), (82, 57)),
    (1000, 0.1, 0.1, (48, 27), (96, 67)),
    (1000, 0.33, 0.1, (102, 72), (218, 171)),
    (1000, 0.33, 0.3, (250, 136), (926, 629)),
]


@pytest.mark.parametrize(("members", "corrupt", "dropout", "curious", "malicious"), PUBLISHED)
def test_the_published_parameters_come_out(members, corrupt, dropout, curious, malicious):
    assert parameters(members, corrupt, dropout, malicious=False) == curious
    assert parameters(members, corrupt, dropout) == malicious


def exact_tail(population, marked, sample, least):
    """The naive reference: the probability of `least` or more marked ones in a sample, as a fraction."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, sample - x)
        for x in range(max(0, least), min(marked, sample) + 1)
    )
    return Fraction(ways, math.comb(population, sample))


def parted_bound(n, corrupt, degree, threshold):
    """The bound on a sum in two parts: pairs of ends, each beside too many corrupt members."""
    return Fraction(n * n, 2) * exact_tail(n - 2, corrupt, degree // 2, threshold - degree // 2) ** 2


def is_safe(n, corrupt, dropped, degree, threshold, malicious, security, correctness, whole):
    """All bounds on (degree, threshold), one by one, in fractions."""
    negligible = Fraction(1, 2 ** (security + 1))
    reach = 2 * threshold - degree if malicious else threshold
    unmasked = n * exact_tail(n - 1, corrupt, degree, reach)
    unfinished = n * exact_tail(n - 1, dropped, degree, degree - threshold + 1)
    gone = corrupt + dropped
    complete = degree == n - 1
    apart = Fraction(n * n * math.comb(n - degree, gone - degree), 2 * math.comb(n, gone)) if gone >= degree else 0
    parted = parted_bound(n, corrupt, degree, threshold) if whole and malicious else 0
    return (
        unmasked <= negligible
        and unfinished <= Fraction(1, 2**correctness)
        and (complete or (apart <= negligible and parted <= negligible))
    )


@settings(max_examples=150, deadline=None)
@given(
    st.integers(3, 60), st.integers(0, 15), st.integers(0, 15), st.booleans(), st.integers(2, 45), st.integers(2, 25),
    st.booleans(),
)  # fmt: skip
@example(30, 7, 2, False, 8, 4, False)  # where one member more to draw from would make a difference
@example(35, 5, 2, True, 17, 4, True)
def test_no_smaller_degree_and_no_smaller_threshold_is_safe(n, corrupt, dropped, malicious, security, correct, whole):
    corrupt, dropped = min(corrupt, n // 3), min(dropped, n // 3)

    def first():
        for degree in (*range(2, n - 1, 2), n - 1):
            for threshold in range(1, degree + 1):
                if is_safe(n, corrupt, dropped, degree, threshold, malicious, security, correct, whole):
                    return degree, threshold
        return None

    try:
        found = parameters(
            n, corrupt / n, dropped / n, malicious, security=security, correctness=correct, whole=whole
        )
    except ValueError:
        safe = (is_safe(n, corrupt, dropped, n - 1, t, malicious, security, correct, whole) for t in range(1, n))
        assert not any(safe)
    else:
        assert found == first()


@pytest.mark.parametrize(("members", "corrupt", "dropout", "curious", "malicious"), PUBLISHED)
def test_the_published_parameters_meet_their_bounds_in_fractions(members, corrupt, dropout, curious, malicious):
    counts = members, round(corrupt * members), round(dropout * members)
    assert is_safe(*counts, *curious, False, 40, 20, whole=False)
    assert is_safe(*counts, *malicious, True, 40, 20, whole=False)
    assert not is_safe(*counts, malicious[0], malicious[1] - 1, True, 40, 20, whole=False)


def parts(alive, adjacent):
    """Return how many of the living each connected part has."""
    left, sizes = set(alive), []
    while left:
        part = edge = {left.pop()}
        while edge:
            edge = left & set().union(*(adjacent[m] for m in edge))
            left, part = left - edge, part | edge
        sizes.append(len(part))
    return sizes


def unmasked(n, corrupt, adjacent, threshold):
    """Say whether a malicious coordinator gets `threshold` shares of both of somebody's secrets."""
    near = (corrupt & set(adjacent[m]) for m in range(n) if m not in corrupt)
    return any(2 * threshold <= len(adjacent[0]) + len(found) for found in near)


def claims(n, corrupt, adjacent, threshold):
    """Yield the parts' sizes for all that a coordinator may say about who stayed, and still get enough shares."""
    honest = [m for m in range(n) if m not in corrupt]
    for size in range(1, len(honest) + 1):
        for alive in map(set, itertools.combinations(honest, size)):
            if all(len((alive | corrupt) & set(adjacent[m])) >= threshold for m in alive):
                yield parts(alive, adjacent)


def test_a_malicious_coordinator_parts_the_sum_no_more_often_than_is_allowed_for():
    """Exhaustively: everything that it may say about who stayed, for all places of the corrupt.

    Where one of them stands does not matter on a circle, so it stands at 0.
    """
    n, degree, threshold, corrupt = 14, 4, 4, 4
    adjacent = neighbours(range(n), degree)
    placed = [{0, *others} for others in itertools.combinations(range(1, n), corrupt - 1)]
    parted = sum(any(len(sizes) > 1 for sizes in claims(n, c, adjacent, threshold)) for c in placed)
    assert 0 < Fraction(parted, len(placed)) <= parted_bound(n, corrupt, degree, threshold) < 1


def test_parts_have_no_fewer_members_than_is_said_where_nobody_is_unmasked():
    """Exhaustively, with two corrupt members anywhere; and such parts there are, which is why `whole` exists."""
    n, degree, threshold = 10, 4, 3
    adjacent, smallest = neighbours(range(n), degree), []
    for corrupt in map(set, itertools.combinations(range(n), 2)):
        if not unmasked(n, corrupt, adjacent, threshold):
            smallest += [min(sizes) for sizes in claims(n, corrupt, adjacent, threshold) if len(sizes) > 1]
    assert min(smallest) == degree - threshold + 2


@pytest.mark.parametrize(("members", "corrupt"), [(129, 0.1), (200, 0.33), (500, 0.1), (1000, 0.33)])
def test_more_is_promised_for_more_neighbours_never_for_fewer(members, corrupt):
    promises = [
        {},
        {"whole": True},
        {"whole": True, "security": 80},
        {"whole": True, "security": 80, "correctness": 40},
    ]
    degrees = [parameters(members, corrupt, 0.1, **p).degree for p in promises]
    assert degrees == sorted(degrees)
    assert degrees[0] < degrees[1] < degrees[2]


@pytest.mark.parametrize(("corrupt", "dropout"), [(0.34, 0.34), (0.5, 0.3), (0.0, 0.6), (0.9, 0.1)])
def test_what_no_graph_can_stand_is_refused(corrupt, dropout):
    with pytest.raises(ValueError, match="1000 members cannot stand"):
        parameters(1000, corrupt, dropout)


@pytest.mark.parametrize("wrong", [-0.1, 1, 1.5, math.nan])
def test_a_share_of_the_members_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="from 0 to 1"):
        parameters(200, wrong, 0.1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        parameters(200, 0.1, wrong)


def test_shares_are_rounded_up_to_whole_members():
    assert parameters(30, 0.1, 0.1) == parameters(30, 0.07, 0.067)
    for count in range(50):
        assert graph._count(count / 49 if count < 49 else 0.0, 49) == count % 49


@settings(max_examples=60)
@given(st.integers(3, 60), st.data())
def test_every_member_has_as_many_neighbours_each_of_whom_has_it_and_all_are_joined(n, data):
    degree = data.draw(st.sampled_from([*range(2, n, 2), n - 1]))
    circle = data.draw(st.permutations([f"member {i}" for i in range(n)]))
    adjacent = neighbours(circle, degree)
    assert list(adjacent) == list(circle)
    for member, others in adjacent.items():
        assert len(set(others)) == len(others) == degree
        assert member not in others
        assert all(member in adjacent[other] for other in others)
    assert parts(circle, adjacent) == [n]
    if degree < n - 1:
        assert set(adjacent[circle[0]]) == {circle[i] for s in (1, -1) for i in range(s, s * (degree // 2 + 1), s)}


@pytest.mark.parametrize("n", [6, 9, 12])
def test_the_circle_stays_joined_whichever_members_fewer_than_its_degree_are_gone(n):
    """Exhaustively: what makes it a Harary graph, the most connected one with so few edges."""
    for degree in (2, 4):
        adjacent = neighbours(range(n), degree)
        gaps = dict.fromkeys(range(degree + 1), 0)
        for size in gaps:
            for gone in itertools.combinations(range(n), size):
                gaps[size] += len(parts(set(range(n)) - set(gone), adjacent)) > 1
        assert [size for size, parted in gaps.items() if parted] == [degree]


def test_a_single_member_and_a_pair_are_complete():
    assert neighbours(["a"], 0) == {"a": ()}
    assert neighbours(["b", "a"], 1) == {"b": ("a",), "a": ("b",)}


@pytest.mark.parametrize("degree", [-2, 0, 1, 3, 10, 11])
def test_a_degree_that_no_circle_of_ten_has_is_a_bug_of_ours(degree):
    with pytest.raises(LocalError, match="a circle of 10"):
        neighbours(range(10), degree)


def test_a_member_that_stands_in_the_circle_twice_is_refused():
    with pytest.raises(LocalError, match="twice"):
        neighbours(["a", "b", "a", "c"], 2)
    with pytest.raises(PeerError, match="twice"):
        order(["a", "b", "a"], bytes(32), 0)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_a_number_out_of_range_is_refused(number):
    with pytest.raises(PeerError, match="out of range"):
        order(["a", "b"], bytes(32), number)


def order_again(members, sid, number):
    """The same order from its definition: a shuffle by the 64-bit words of a hash in counter mode."""
    names = sorted(members)
    packed = b"parley/v1/secure-sum/order\0" + len(sid).to_bytes(4, "big") + sid + number.to_bytes(8, "big")
    for name in names:
        packed += len(name.encode()).to_bytes(4, "big") + name.encode()
    key = hashlib.sha256(packed).digest()
    stream = b"".join(hashlib.sha256(key + i.to_bytes(8, "big")).digest() for i in range(len(names)))
    at = 0
    for last in reversed(range(1, len(names))):
        while True:
            word = int.from_bytes(stream[at : at + 8], "big")
            at += 8
            if word < 2**64 - 2**64 % (last + 1):
                break
        other = word % (last + 1)
        names[last], names[other] = names[other], names[last]
    return tuple(names)


@given(st.lists(st.text(max_size=5), unique=True, max_size=40), st.binary(max_size=40), st.integers(0, 2**63 - 1))
def test_the_order_is_the_shuffle_that_its_definition_says(members, sid, number):
    assert order(members, sid, number) == order_again(members, sid, number)


def test_the_order_of_a_known_sum_is_frozen():
    members = [f"clinic {i}" for i in range(9)]
    assert [m[-1] for m in order(members, bytes(range(32)), 7)] == list("527806413")


@given(st.permutations(["ada", "bob", "cyd", "dan", "eve", "fay"]))
def test_the_order_does_not_depend_on_how_the_coordinator_lists_the_members(members):
    assert order(members, bytes(32), 3) == order(sorted(members), bytes(32), 3)


def test_a_coordinator_that_exchanges_a_member_moves_nobody_where_it_wants():
    """Did the order depend on how many take part and not on who, it could choose whom to put in which place."""

    def ranks(members):
        return [sorted(members).index(m) for m in order(members, bytes(32), 0)]

    members = [f"{i:04}" for i in range(400)]
    for others in ([*members[1:], "9999"], [*members[:-1], "9999"]):
        same = sum(a == b for a, b in zip(ranks(members), ranks(others), strict=True))
        assert same < 12  # one, by chance


def test_every_order_is_equally_likely():
    counts = Counter(order("abcd", bytes(32), number) for number in range(48_000))
    assert len(counts) == math.factorial(4)
    statistic = sum((c - 2000) ** 2 / 2000 for c in counts.values())
    assert statistic < 80  # chi-square with 23 degrees of freedom; the inputs are fixed, so this never wavers


def test_words_that_would_favour_small_numbers_are_passed_over():
    last = 2**64 - 1
    assert graph._below(3, iter([last, 5])) == 2  # 2**64 is one more than a multiple of 3
    assert graph._below(3, iter([last - 1])) == (last - 1) % 3
    assert graph._below(4, iter([last])) == 3


def test_members_up_to_a_limit_all_mask_with_each_other_since_little_is_saved():
    assert parameters(COMPLETE_UP_TO + 1, 0.33, 0.1, security=80, whole=True).degree > 0.7 * COMPLETE_UP_TO


def test_probabilities_of_a_sample_are_those_of_fractions():
    for population, marked, sample in [(9, 0, 4), (9, 9, 4), (30, 11, 7), (30, 25, 20), (12, 4, 12), (12, 4, 0)]:
        tail = graph._tail(population, marked, sample)
        exact = [float(exact_tail(population, marked, sample, x)) for x in range(sample + 2)]
        np.testing.assert_allclose(tail, exact, rtol=1e-12)
