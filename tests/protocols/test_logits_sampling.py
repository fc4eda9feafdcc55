"""Samples from sums: every way that chance can fall is counted, so that distributions are exact, not estimated."""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from thinkers import bigram, question

from protocols.logits.question import Sends
from protocols.logits.sampling import accepted, combined, matched, mixed, pick
from protocols.logits.speaking import likeliest

GRID = 8  # a uniform number is one of eight midpoints, each as likely: every probability below is made of eighths
UNIFORMS = [(i + 0.5) / GRID for i in range(GRID)]
PROPOSALS = np.array([[4, 2, 2], [2, 2, 4]]) / 8
# q / p is a multiple of an eighth wherever it is below 1, and so are the residuals
TARGETS = [
    np.array([[2, 2, 4], [4, 2, 2], [1, 6, 1]]) / 8,
    np.array([[4, 2, 2], [2, 2, 4], [8, 0, 0]]) / 8,
    np.array([[0, 4, 4], [0, 8, 0], [4, 4, 0]]) / 8,
    np.array([[6, 0, 2], [5, 2, 1], [0, 0, 8]]) / 8,
]


def every(ways: int):
    """Every sequence of uniform numbers, each as likely as another."""
    return itertools.product(UNIFORMS, repeat=ways)


def exact(targets: np.ndarray) -> dict[tuple[int, ...], Fraction]:
    """What three symbols ought to be, at these positions whatever came before."""
    eighths = (targets * 8).astype(int)
    return {
        s: chance
        for s in itertools.product(range(3), repeat=3)
        if (chance := Fraction(int(np.prod([eighths[i][y] for i, y in enumerate(s)])), 8**3))
    }


def completed(given: list[int], targets: np.ndarray):
    """Go on after a block as the next ones would: by the exact distribution of what is left."""
    eighths = (targets * 8).astype(int)
    for rest in itertools.product(range(3), repeat=3 - len(given)):
        chance = Fraction(1)
        for i, y in enumerate(rest, start=len(given)):
            chance *= Fraction(int(eighths[i][y]), 8)
        if chance:
            yield (*given, *rest), chance


@pytest.mark.parametrize("targets", TARGETS)
def test_accepted_drafts_and_what_replaces_them_are_distributed_exactly_as_without_drafts(targets):
    found: Counter[tuple[int, ...]] = Counter()
    for drafts in itertools.product(range(3), repeat=2):
        chance = Fraction(int(np.prod([8 * PROPOSALS[i][d] for i, d in enumerate(drafts)])), 64)
        for numbers in every(3):  # at most two acceptances and one draw
            given = accepted(targets, PROPOSALS, drafts, iter(numbers).__next__)
            for symbols, rest in completed(given, targets):
                found[symbols] += chance * Fraction(1, GRID**3) * rest
    assert {s: c for s, c in found.items() if c} == exact(targets)


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("draft", range(3))
def test_a_fixed_guess_stands_as_often_as_it_is_right_and_else_the_others_share_what_is_left(targets, draft):
    fine = 840  # a multiple of every sum of eighths that a residual can have
    found: Counter[int] = Counter()
    for first in UNIFORMS:
        for second in range(fine):
            numbers = iter([first, (second + 0.5) / fine])
            found[accepted(targets[:2], np.eye(3)[[draft]], [draft], numbers.__next__)[0]] += 1
    assert [Fraction(found[y], GRID * fine) for y in range(3)] == [Fraction(int(8 * q), 8) for q in targets[0]]


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("drafts", list(itertools.product(range(3), repeat=2)))
def test_samples_that_are_matched_are_distributed_exactly_whatever_the_drafts(targets, drafts):
    found: Counter[tuple[int, ...]] = Counter()
    for numbers in every(3):
        given = matched(targets, drafts, iter(numbers).__next__)
        for symbols, rest in completed(given, targets):
            found[symbols] += Fraction(1, GRID**3) * rest
    assert {s: c for s, c in found.items() if c} == exact(targets)


@pytest.mark.parametrize("targets", TARGETS)
def test_whether_a_matched_block_goes_on_says_nothing_that_its_symbols_do_not(targets):
    """The mark of sample and match: how many symbols a block gave is a function of them and of the public drafts."""
    drafts = (2, 0)
    for numbers in every(3):
        given = matched(targets, drafts, iter(numbers).__next__)
        right = [y == d for y, d in zip(given, drafts, strict=False)]
        assert len(given) == (right.index(False) + 1 if False in right else 3)


def test_a_symbol_that_cannot_be_is_never_picked_at_whatever_number():
    row = np.array([0.0, 0.1, 0.0, 0.2, 0.7 - 2**-52, 0.0])
    for number in (0.0, 2**-60, 0.1, 0.5, 1 - 2**-53):
        assert row[pick(row, number)] > 0


def test_a_draft_that_stands_by_rounding_alone_breaks_nothing():
    same = np.array([[0.1, 0.2, 0.7]])
    assert accepted(np.concatenate([same * (1 - 2**-53)] * 2), same, [2], iter([1 - 2**-53, 0.5]).__next__)


def test_votes_elect_the_symbol_with_most_of_them():
    asked = question(sends=Sends.VOTES, noise_multiplier=1.0, support=2)
    public, where = bigram(3).logs[:2], np.array([[1, 4], [0, 5]], np.uint32)
    got = combined(asked, public, np.array([[2.2, -1.0], [0.4, 0.5]]), where)
    assert got.argmax(1).tolist() == [1, 5]
    assert got.sum(1).tolist() == [1, 1]


def test_mixed_distributions_are_averaged_over_those_who_sent_one():
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    public, total = np.log(np.full((1, 3), 1 / 3)), np.array([[*p.sum(0), 2.0]])
    asked = question(sends=Sends.MIXED, central=True, experts=2)
    assert np.allclose(mixed(asked, public, total, np.arange(3)[None]), p.mean(0))


def test_the_likeliest_symbols_are_named_in_order_and_ties_go_to_the_first():
    rows = np.log([[0.1, 0.3, 0.3, 0.3], [0.25, 0.25, 0.25, 0.25]])
    assert likeliest(rows, 2).tolist() == [[1, 2], [0, 1]]
    assert likeliest(rows, 0).shape == (0, 0)
