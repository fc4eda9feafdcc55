"""Clipping bounds, noise has its scale, and the event says what was done."""

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privacy.mechanisms import GaussianMechanism, clip


class Ones:
    """Draw ones, so that a scale can be read off exactly."""

    def normal(self, size):
        return np.ones(size)

    def uniform(self, size):
        return np.zeros(size)


@given(
    arrays(np.float64, st.integers(0, 20), elements=st.floats(width=64)),
    st.floats(1e-6, 1e6),
)
def test_whatever_comes_in_the_norm_that_leaves_is_bounded(vector, norm):
    assert np.linalg.norm(clip(vector, norm).vector) <= norm


def test_a_short_vector_is_not_touched_and_a_long_one_keeps_its_direction():
    assert np.array_equal(clip(np.array([0.3, 0.4]), 1.0).vector, [0.3, 0.4])
    assert np.allclose(clip(np.array([3.0, 4.0]), 1.0).vector, [0.6, 0.8])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_contributes_nothing(poison):
    assert np.array_equal(clip(np.array([1.0, poison]), 1.0).vector, [0.0, 0.0])


def test_clipping_leaves_the_caller_its_array():
    mine = np.array([3.0, 4.0])
    clip(mine, 1.0)
    assert np.array_equal(mine, [3.0, 4.0])


@pytest.mark.parametrize("norm", [0.0, -1.0, np.nan, np.inf])
def test_a_norm_that_bounds_nothing_is_refused(norm):
    with pytest.raises(ValueError, match="clipping norm"):
        clip(np.zeros(2), norm)


def test_the_noise_is_the_multiplier_times_the_norm():
    mechanism = GaussianMechanism(clip(np.zeros(4), 2.5), 3.0)
    assert np.array_equal(mechanism.draw(Ones()), np.full(4, 7.5))
    assert mechanism.event == GaussianDpEvent(3.0)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, np.nan])
def test_a_gaussian_mechanism_without_noise_cannot_be_made(multiplier):
    with pytest.raises(ValueError, match="noise multiplier"):
        GaussianMechanism(clip(np.zeros(4), 1.0), multiplier)
