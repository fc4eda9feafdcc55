"""The private utility and what chooses by it: soup, search, extrapolation; and what nobody can make of it."""

import itertools
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from village import BUDGET, CORNERS, LENGTH, TERMS, trial, village

from privacy.accounting.accountant import Filter, price
from privacy.fixed_point import LEAST_DEVIATION
from privacy.units import Unit
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId
from protocols.weights.extrapolate import Extrapolate
from protocols.weights.search import Method, Search
from protocols.weights.soup import Soup
from protocols.weights.utility import Judging, Score, context_of

PLAIN = {"epsilon": None, "noise_multiplier": None, "clip": 10.0}


def heaped(*weights: float) -> np.ndarray:
    """Ingredients: each so much of the point (0.1, ..., 0.1), to which three members are nearest on average."""
    return np.array([np.full(LENGTH, 0.1 * w) for w in weights], dtype=np.float32)


def test_a_soup_keeps_what_helps_and_leaves_out_what_does_not(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)  # points 0, 0.1 and 0.2: the best adapter is 0.1
    task = Soup(trial(evaluations=3, **PLAIN), 2, TERMS, heaped(0.6, 9.0, 1.4))
    found = there.run(task, collaboration="soup")
    assert np.allclose(found.weights, [0.5, 0, 0.5])
    assert np.allclose(found.adapter, 0.1, atol=1e-6)
    assert [v.members for v in found.verdicts] == [3, 3, 3]
    assert [v.gains[0] >= 0 for v in found.verdicts[1:]] == [True, False]


def test_a_gain_is_the_mean_of_the_members_scores_to_seven_digits(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    found = there.run(Soup(trial(evaluations=1, **PLAIN), 2, TERMS, heaped(1.0)), collaboration="soup")
    points = [0.0, 0.1, 0.2]
    exact = sum(LENGTH * (p**2 - (p - 0.1) ** 2) for p in points) / 30  # the trial's declared records
    assert found.verdicts[0].gains == pytest.approx([exact], abs=1e-6)


@pytest.mark.parametrize("method", list(Method))
def test_a_search_finds_a_better_mix_than_any_ingredient(method, tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    ingredients = np.array([[0.3, 0.3, 0, 0, 0], [0, 0, 0.2, 0.2, 0.2]], dtype=np.float32)
    task = Search(trial(evaluations=12, candidates=6, **PLAIN), 2, TERMS, ingredients, method, 3)
    found = there.run(task, collaboration="search")

    def error(point):
        return float(np.sum((point - 0.1) ** 2))

    assert error(found.adapter) < 0.5 * min(error(i) for i in ingredients)
    assert np.allclose(found.weights @ ingredients, found.adapter, atol=1e-6)
    if method is Method.EVOLUTION:  # a swarm of two experts stays near their line
        assert error(found.adapter) < 1e-3


def test_extrapolation_goes_as_far_as_the_utility_rises(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    task = Extrapolate(trial(evaluations=1, **PLAIN), 2, TERMS, heaped(0.0, 0.5), (0.5, 1.0, 2.0))
    found = there.run(task, collaboration="extrapolate")
    assert np.allclose(found.weights, [-1, 2])
    assert np.allclose(found.adapter, 0.1, atol=1e-6)


def test_extrapolation_stays_where_it_is_if_nothing_helps(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    task = Extrapolate(trial(evaluations=1, **PLAIN), 2, TERMS, heaped(0.0, 1.0), (1.0, 3.0))
    assert there.run(task, collaboration="extrapolate").weights.tolist() == [0, 1]


def test_in_resilient_mode_an_evaluation_goes_on_without_who_drops_out(tmp_path):
    there = village(tmp_path, 4, 0.0, lost=lambda trip, member, way: (trip, member) == (2, "m2"))
    terms = Terms(Mode.RESILIENT, smallest_crowd=2, colluding=1)
    found = there.run(Soup(trial(evaluations=3, **PLAIN), 2, terms, heaped(0.6, 9.0, 1.4)), collaboration="soup")
    assert [v.members for v in found.verdicts] == [3, 4, 4]


def test_a_lost_evaluation_adds_no_ingredient_and_is_charged_but_not_asked_for_again(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member) == (3, "m2"))
    found = there.run(Soup(trial(evaluations=3, **PLAIN), 2, TERMS, heaped(1.0, 1.0, 1.0)), collaboration="soup")
    assert [v.members for v in found.verdicts] == [3, 0, 2]
    assert np.allclose(found.weights, [0.5, 0, 0.5])


def test_if_every_evaluation_is_lost_nothing_is_chosen(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member) == (2, "m2"))
    task = Soup(trial(evaluations=1, **PLAIN), 2, TERMS, heaped(1.0))
    with pytest.raises(Abort, match="not one of 1"):
        there.run(task, collaboration="soup")


def test_the_same_answers_lead_to_the_same_asks(tmp_path):
    asked = []
    for run in range(2):
        there = village(tmp_path / str(run), 3, noise_multiplier=0.0)
        task = Search(trial(evaluations=4, **PLAIN), 2, TERMS, CORNERS, Method.EVOLUTION, 7)
        asked.append([v.mixes for v in there.run(task, collaboration="search").verdicts])
    assert all(np.array_equal(a, b) for a, b in zip(*asked, strict=True))


@pytest.mark.parametrize(
    "task",
    [
        Soup(trial(evaluations=2), 2, TERMS, CORNERS),
        Soup(trial(), 2, TERMS, CORNERS[:0]),
        Search(trial(evaluations=1), 2, TERMS, CORNERS, Method.SWARM, 1),
        Extrapolate(trial(), 2, TERMS, CORNERS, (0.1,)),
        Extrapolate(trial(), 2, TERMS, CORNERS[:2], ()),
        Extrapolate(trial(candidates=1), 2, TERMS, CORNERS[:2], (0.1, 0.2)),
        Soup(trial(length=LENGTH + 1), 2, TERMS, CORNERS),
    ],
)
def test_a_task_that_was_not_planned_to_its_end_does_not_begin_to_score(task, tmp_path):
    there = village(tmp_path, 3)
    with pytest.raises(LocalError):
        there.run(task, collaboration=type(task).__name__.lower())
    assert [h.ledger.statement(h.account).charges for h in there.houses.values()] == [0, 0, 0]


ASK = {"number": 0, "reference": np.zeros(LENGTH, np.float32), "request": None, "slips": ()}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"number": 2}, "out of order"),
        ({"number": 9}, "out of order"),
        ({"candidates": np.zeros((5, LENGTH), np.float32)}, "5 candidates"),
        ({"candidates": np.zeros((0, LENGTH), np.float32)}, "0 candidates"),
        ({"candidates": np.zeros((2, LENGTH + 1), np.float32)}, "another length"),
        ({"candidates": np.zeros(LENGTH, np.float32)}, "another length"),
        ({"reference": np.zeros(LENGTH - 1, np.float32)}, "another length"),
        ({}, "secure sum alone"),
    ],
)
def test_a_member_refuses_an_evaluation_that_is_not_the_trials(changes, why, tmp_path):
    house = village(tmp_path, 1).houses[MemberId("m0")]
    ask = Score(**({"trial": trial(), "candidates": np.ones((4, LENGTH), np.float32)} | ASK | changes))
    with pytest.raises(PeerError, match=why):
        Judging(3 if changes == {"number": 2} else 0).answer(ask, house.open_home(None))
    assert list(house.ledger.entries()) == []


def test_the_digest_of_an_evaluation_changes_with_all_that_is_scored():
    reference, candidates = np.zeros(LENGTH, np.float32), np.ones((2, LENGTH), np.float32)
    made = [
        context_of("soup", trial(), 0, reference, candidates),
        context_of("search", trial(), 0, reference, candidates),
        context_of("soup", trial(clip=2.0), 0, reference, candidates),
        context_of("soup", trial(), 1, reference, candidates),
        context_of("soup", trial(), 0, reference + 1, candidates),
        context_of("soup", trial(), 0, reference, candidates[:1]),
    ]
    assert all(a != b for a, b in itertools.combinations(made, 2))


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize(("candidates", "unit"), [(1, Unit.RECORD), (64, Unit.RECORD), (8, Unit.MEMBER)])
def test_words_hold_the_declared_records_at_their_highest_scores_and_the_noise(bits, candidates, unit):
    terms = Terms(Mode.STRICT, 3, 1, bits)
    spec = trial(unit=unit, population=50, noise_multiplier=1.5).spec(terms, 5, candidates)
    most = 5 if unit is Unit.MEMBER else 50
    spread = 9 * math.sqrt(5) * spec.deviation  # nine deviations of five members' noise
    assert most * np.abs(spec.encode(np.ones(candidates))).max() + spread < 2 ** (bits - 1)
    assert spec.deviation >= LEAST_DEVIATION
    assert spec.norm == pytest.approx(math.sqrt(candidates))


def test_words_too_narrow_for_the_declared_records_are_refused():
    with pytest.raises(ValueError, match="too few"):
        trial(population=10**5).spec(Terms(Mode.STRICT, 3, 1, 16), 5, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip": 0.0}, {"clip": math.inf}, {"candidates": 0}, {"candidates": 65}, {"evaluations": 0},
        {"population": 0}, {"epsilon": None}, {"noise_multiplier": None}, {"noise_multiplier": -1.0}, {"delta": 0.0},
        {"targets": ()}, {"length": 0},
    ],
)  # fmt: skip
def test_a_trial_out_of_range_is_no_trial(wrong):
    with pytest.raises(ValueError, match=r"expected|out of range|not positive"):
        trial(**wrong)


def test_every_evaluation_of_a_soup_is_charged_at_the_noise_of_the_trial(tmp_path):
    there = village(tmp_path, 3)
    there.run(Soup(trial(evaluations=3, noise_multiplier=2.0), 2, TERMS, CORNERS), collaboration="soup")
    for house in there.houses.values():
        statement = house.ledger.statement(house.account)
        assert statement.charges == 3
        (account,) = house.ledger.accounts()
        orders = account.budget.orders
        exact = Filter(orders, BUDGET.delta).epsilon(price(SelfComposedDpEvent(GaussianDpEvent(2.0), 3), orders))
        assert statement.spent.epsilon == pytest.approx(exact, rel=1e-3)
