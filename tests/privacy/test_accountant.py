"""The filter's sum agrees with closed forms and never falls below what is spent."""

import math

import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accountant import PICO, calibrate, cost, default_orders, epsilon, tight_epsilon
from privacy.events import from_json, to_json


def run(rate: float, sigma: float, steps: int):
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)


@given(st.floats(0.3, 100), st.floats(1.1, 64))
def test_a_gaussian_costs_order_over_two_sigma_squared(sigma, order):
    (paid,) = cost(GaussianDpEvent(sigma), [order])
    exact = order / (2 * sigma**2) * PICO
    assert exact * (1 - 1e-9) <= paid <= exact * (1 + 1e-9) + 2


def test_a_sampled_gaussian_at_order_two_has_its_closed_form():
    q, sigma = 0.05, 1.3
    exact = math.log(1 + q * q * (math.exp(1 / sigma**2) - 1))
    assert cost(run(q, sigma, 1), [2.0])[0] == pytest.approx(exact * PICO, rel=1e-9)


def test_rounding_goes_up_so_repeating_never_costs_less_than_the_whole():
    orders = [3.85]
    one, many = cost(run(0.01, 0.8, 1), orders)[0], cost(run(0.01, 0.8, 1000), orders)[0]
    assert 1000 * one >= many


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.5), st.floats(0.7, 4), st.integers(1, 200))
def test_the_filter_never_claims_less_than_the_tight_accountant(rate, sigma, steps):
    orders = default_orders(8.0, 1e-5)
    assert epsilon(cost(run(rate, sigma, steps), orders), orders, 1e-5) >= tight_epsilon(
        [run(rate, sigma, steps)], 1e-5
    ) * (1 - 1e-6)


def test_several_orders_share_the_delta():
    event = GaussianDpEvent(1.0)
    single = epsilon(cost(event, [4.0]), [4.0], 1e-5)
    shared = epsilon(cost(event, [4.0, 4.0]), [4.0, 4.0], 1e-5)
    assert shared == pytest.approx(single + math.log(2) / 3)


def test_nothing_spent_is_zero():
    assert epsilon((0,), (4.0,), 1e-5) == 0.0


@pytest.mark.parametrize("budget", [0.5, 2.0, 8.0])
def test_calibration_meets_the_budget_and_wastes_none_of_it(budget):
    orders = default_orders(budget, 1e-5)
    sigma = calibrate(lambda s: run(0.02, s, 40), budget, 1e-5, orders)
    assert epsilon(cost(run(0.02, sigma, 40), orders), orders, 1e-5) <= budget
    assert epsilon(cost(run(0.02, sigma - 2e-4, 40), orders), orders, 1e-5) > budget


def test_a_budget_that_no_noise_meets_is_an_error():
    with pytest.raises(ValueError, match="no noise multiplier"):
        calibrate(lambda s: run(0.5, s, 10), 0.1, 1e-5, (1.2,))


@pytest.mark.parametrize(
    "event",
    [
        GaussianDpEvent(1.5),
        ZCDpEvent(0.1, 0.0),
        run(0.01, 0.9, 30),
        ComposedDpEvent([GaussianDpEvent(1.0), run(0.1, 2.0, 3)]),
    ],
)
def test_an_event_survives_the_ledger(event):
    assert from_json(to_json(event)) == event
    assert to_json(from_json(to_json(event))) == to_json(event)


@pytest.mark.parametrize(
    "event",
    [
        NonPrivateDpEvent(),
        GaussianDpEvent(0.0),
        GaussianDpEvent(math.inf),
        GaussianDpEvent(math.nan),
        PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)),
    ],
)
def test_an_event_that_no_account_can_add_is_refused(event):
    with pytest.raises(ValueError, match=r"event|probability|adds"):
        to_json(event)
