"""What seeks mixing weights by noisy gains: it gets there, says the same twice, and stays within bounds."""

import numpy as np
import pytest

from protocols.weights.search import Method, seeker_for
from protocols.weights.seekers import WIDEST, Dice


def gains(mixes: np.ndarray, best: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
    return -np.sum((mixes - best) ** 2, axis=1) + noise


def sought(
    method: Method, best: np.ndarray, generations: int, spread: float = 0.0, candidates: int = 8
) -> np.ndarray:
    seeker, dice = seeker_for(method, best.size, candidates, 3), Dice(1, "test")
    for _ in range(generations):
        seeker.tell(gains(seeker.ask(), best, spread * dice.normal(candidates)))
    return seeker.answer


def test_evolution_finds_a_quadratics_top_to_three_digits():
    best = np.array([0.7, -0.2, 0.4])
    assert np.allclose(sought(Method.EVOLUTION, best, 40), best, atol=2e-3)


def test_evolution_comes_near_the_top_under_noise_as_large_as_the_gains():
    best = np.array([0.7, -0.2, 0.4])
    even = np.full(3, 1 / 3)
    found = sought(Method.EVOLUTION, best, 40, spread=0.1)
    assert np.sum((found - best) ** 2) < 0.25 * np.sum((even - best) ** 2)


def test_a_swarm_ends_nearer_to_the_top_than_every_ingredient():
    best = np.array([0.5, 0.4, 0.1])
    found = sought(Method.SWARM, best, 30)
    assert np.sum((found - best) ** 2) < 0.5 * np.sum((np.eye(3) - best) ** 2, axis=1).min()


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize(("ingredients", "candidates"), [(1, 2), (2, 2), (5, 3), (3, 20)])
def test_what_is_asked_has_the_right_shape_and_stays_within_bounds_whatever_the_gains(
    method, ingredients, candidates
):
    seeker, dice = seeker_for(method, ingredients, candidates, 5), Dice(2, "test")
    for _ in range(30):
        mixes = seeker.ask()
        assert mixes.shape == (candidates, ingredients)
        assert np.isfinite(mixes).all()
        assert np.abs(mixes).max() <= WIDEST
        seeker.tell(1e6 * dice.normal(candidates))
    assert np.abs(seeker.answer).max() <= WIDEST


@pytest.mark.parametrize("method", list(Method))
def test_the_same_seed_asks_the_same_and_another_something_else(method):
    best = np.array([0.2, 0.3, 0.5, 0.0])
    runs = []
    for seed in (1, 1, 2):
        seeker = seeker_for(method, 4, 6, seed)
        seeker.tell(gains(seeker.ask(), best))
        runs.append(seeker.ask().copy())
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_the_dice_are_normal_and_never_fall_the_same_way_twice():
    dice = Dice(9, "test")
    drawn = dice.normal(50, 200)
    assert abs(drawn.mean()) < 0.05
    assert drawn.std() == pytest.approx(1, abs=0.03)
    assert not np.array_equal(dice.normal(5), dice.normal(5))
