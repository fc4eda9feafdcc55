"""The filter's sum agrees with closed forms, only rounds up, and holds against whoever chooses by the answers."""

import math
from contextlib import suppress

import pytest
from dp_accounting import ComposedDpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import compute_epsilon
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting.accountant import (
    ENDLESS,
    PICO,
    ZERO,
    Cost,
    Filter,
    calibrate,
    calibrate_best,
    default_orders,
    price,
)
from privacy.accounting.certificate import certify
from privacy.accounting.events import ApproximateDpEvent, DpSgdDpEvent, ParallelDpEvent, PureDpEvent
from simulations.benches.accounting import adaptive_delta_ratio, filter_allows, natural_pld_allows

COSTS = st.builds(Cost, st.tuples(st.integers(0, 10**14), st.integers(0, 10**14)), st.integers(0, 10**12))
JUDGE = Filter((3.0, 7.5), 1e-5, 1e-6)


def run(rate: float, sigma: float, steps: int):
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)


@given(st.floats(0.3, 100), st.floats(1.1, 64))
def test_a_gaussian_costs_order_over_two_sigma_squared(sigma, order):
    (paid,) = price(GaussianDpEvent(sigma), [order]).nats
    exact = order / (2 * sigma**2) * PICO
    assert exact <= paid <= exact * (1 + 1e-9) + 2


def test_a_sampled_gaussian_at_order_two_has_its_closed_form():
    q, sigma = 0.05, 1.3
    exact = math.log(1 + q * q * (math.exp(1 / sigma**2) - 1)) * PICO
    assert exact <= price(run(q, sigma, 1), [2.0]).nats[0] == pytest.approx(exact, rel=1e-9)


def test_a_run_costs_exactly_what_its_parts_cost_one_by_one():
    orders = (3.85, 12.0)
    step, laplace = run(0.01, 0.8, 1), PureDpEvent(0.1)
    whole = price(ComposedDpEvent([run(0.01, 0.8, 1000), SelfComposedDpEvent(laplace, 7)]), orders)
    assert whole == price(step, orders) * 1000 + price(laplace, orders) * 7
    assert price(DpSgdDpEvent(0.01, 0.8, 1000), orders) == price(step, orders) * 1000


def test_parts_that_share_no_unit_cost_what_the_dearest_costs():
    orders = (2.0, 30.0)
    parts = (GaussianDpEvent(2.0), PureDpEvent(0.9), ApproximateDpEvent(0.01, 1e-9))
    costs = [price(p, orders) for p in parts]
    together = price(ParallelDpEvent(parts, "the operator"), orders)
    assert together == Cost(tuple(max(c.nats[i] for c in costs) for i in range(2)), max(c.delta for c in costs))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.5), st.floats(0.7, 4), st.integers(1, 200))
def test_the_filter_never_claims_less_than_a_certificate_of_the_same_plan(rate, sigma, steps):
    judge = Filter(default_orders(8.0, 1e-5), 1e-5)
    assert (
        judge.epsilon(price(run(rate, sigma, steps), judge.orders))
        >= certify([run(rate, sigma, steps)], 1e-5).epsilon
    )


@given(st.floats(1.02, 200), st.floats(1e-4, 50), st.floats(1e-12, 0.1))
def test_the_conversion_is_that_of_the_paper_rounded_up(order, nats, delta):
    exact = compute_epsilon([order], [nats], delta)[0]
    ours = Filter((order,), delta).epsilon(Cost((math.ceil(nats * PICO),)))
    if delta**2 + math.expm1(-nats) <= 0:  # there dp-accounting knows another bound as well
        assert (
            max(0.0, exact) - 1e-11 <= ours <= exact + 1e-9 * max(1, abs(exact)) + 1e-9 or ours == 0.0 >= exact - 1e-9
        )


def test_several_orders_share_what_the_reserve_leaves_of_delta():
    cost = price(GaussianDpEvent(1.0), [4.0])
    single = Filter((4.0,), 1e-5).epsilon(cost)
    shared = Filter((4.0, 4.0), 1e-5).epsilon(Cost(cost.nats * 2))
    reserved = Filter((4.0,), 1e-5, 0.9e-5).epsilon(cost)
    assert shared == pytest.approx(single + math.log(2) / 3)
    assert reserved == pytest.approx(single + math.log(10) / 3)


def test_nothing_spent_is_zero_and_always_fits():
    assert JUDGE.epsilon(ZERO(JUDGE.orders)) == 0.0
    assert JUDGE.fits(ZERO(JUDGE.orders), 0.0)
    assert not JUDGE.fits(Cost((1, 1)), 0.0)


@given(COSTS)
def test_a_total_fits_its_own_epsilon_and_nothing_clearly_less(total):
    said = JUDGE.epsilon(total)
    if math.isinf(said):
        assert total.delta >= 10**12 - 1
        assert not JUDGE.fits(total, 1e6)
    else:
        assert JUDGE.fits(total, said)
        assert said == 0.0 or not JUDGE.fits(total, said * (1 - 1e-9) - 1e-11)


@given(COSTS, COSTS, st.floats(0.1, 300))
def test_to_spend_more_never_makes_room(total, more, epsilon):
    assert JUDGE.epsilon(total + more) >= JUDGE.epsilon(total)
    assert JUDGE.fits(total, epsilon) or not JUDGE.fits(total + more, epsilon)


@given(COSTS, COSTS, st.floats(0.1, 300))
def test_as_many_fit_as_there_is_room_for_and_not_one_more(total, each, epsilon):
    room = JUDGE.room(total, epsilon, each)
    if room == ENDLESS:
        return
    assert room == 0 or JUDGE.fits(total + each * room, epsilon)
    assert not JUDGE.fits(total + each * (room + 1), epsilon)


@given(COSTS, COSTS, COSTS, st.integers(0, 1000))
def test_sums_are_exact_in_any_order(a, b, c, n):
    assert (a + b) + c == c + (b + a)
    assert (a + b) * n == a * n + b * n


def test_additive_deltas_overdraw_their_reserve_whatever_epsilon_is_left():
    one = price(ApproximateDpEvent(1e-3, 1e-7), JUDGE.orders)
    assert one.delta >= 10**11
    assert JUDGE.fits(one * 9, 8.0)
    assert not JUDGE.fits(one * 11, 8.0)
    assert JUDGE.epsilon(one * 11) == math.inf
    assert JUDGE.room(ZERO(JUDGE.orders), 8.0, one) in (9, 10)
    assert not Filter((3.0,), 1e-5).fits(price(ApproximateDpEvent(1e-3, 1e-18), (3.0,)), 8.0)


@pytest.mark.parametrize(
    "wrong",
    [
        ((), 1e-5, 0.0),
        ((1.0,), 1e-5, 0.0),
        ((math.nan,), 1e-5, 0.0),
        ((2.0,), 1.0, 0.0),
        ((2.0,), math.nan, 0.0),
        ((2.0,), 1e-5, 1e-5),
        ((2.0,), 1e-5, -1e-9),
    ],
)
def test_a_filter_that_promises_nothing_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="expected"):
        Filter(*wrong)


@pytest.mark.parametrize("epsilon", [math.inf, math.nan])
def test_no_limit_is_not_a_limit(epsilon):
    with pytest.raises(ValueError, match="finite"):
        JUDGE.fits(Cost((1, 1)), epsilon)


@pytest.mark.parametrize("budget", [0.5, 2.0, 8.0])
def test_calibration_meets_the_budget_and_wastes_none_of_it(budget):
    judge = Filter(default_orders(budget, 1e-5), 1e-5)
    sigma = calibrate(lambda s: run(0.02, s, 40), budget, 1e-5, judge.orders)
    assert judge.fits(price(run(0.02, sigma, 40), judge.orders), budget)
    assert not judge.fits(price(run(0.02, sigma - 2e-4, 40), judge.orders), budget)


def test_a_budget_that_no_noise_meets_is_an_error():
    with pytest.raises(ValueError, match="no noise multiplier"):
        calibrate(lambda s: run(0.5, s, 10), 0.1, 1e-5, (1.2,))


@pytest.mark.slow
def test_who_chooses_by_the_answers_gains_nothing_against_the_filter_and_much_against_composed_distributions():
    assert adaptive_delta_ratio(filter_allows) <= 1
    assert adaptive_delta_ratio(natural_pld_allows) > 1.3


def test_the_best_of_several_orders_is_the_one_that_needs_the_least_noise_and_the_first_of_equals():
    def event(noise: float):
        return run(0.02, noise, 40)

    choices = [(1.2,), (4.0,), (16.0,), (9.0,), (4.0, 30.0), (64.0,)]
    alone = {}
    for orders in choices:
        with suppress(ValueError):  # at 1.2 and at 4 no noise is enough
            alone[orders] = calibrate(event, 2.0, 1e-5, orders)
    assert len(alone) == 4
    noise, best = calibrate_best(event, 2.0, 1e-5, choices)
    assert noise == min(alone.values()) == alone[best]
    assert calibrate_best(event, 2.0, 1e-5, [best, *choices, best])[1] is best
    with pytest.raises(ValueError, match="no noise multiplier"):
        calibrate_best(event, 2.0, 1e-5, [(1.2,)])
