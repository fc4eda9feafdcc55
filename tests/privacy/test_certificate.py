"""A certificate is never below a fine PLD of the same plan nor a closed form, and close to it."""

import math

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.dp_event import RandomizedResponseDpEvent
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from dp_accounting.pld import privacy_loss_distribution as pld

from privacy.accounting import events as ev
from privacy.accounting.certificate import ASSUMPTION, _dominating, _totals, certify
from privacy.accounting.events import from_json, to_json
from privacy.refusal import Incomparable
from privacy.units import Relation
from simulations.benches.accounting import mixed


@pytest.mark.parametrize(("rate", "sigma", "steps", "delta"), [(0.01, 0.8, 2000, 1e-5), (0.1, 4.0, 100, 1e-5)])
def test_a_run_of_dp_sgd_is_certified_within_half_a_percent_of_a_fine_distribution_and_never_below(
    rate, sigma, steps, delta
):
    fine = pld.from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=5e-5)
    fine = fine.self_compose(steps).get_epsilon_for_delta(delta)
    ours = certify([ev.DpSgdDpEvent(rate, sigma, steps)], delta)
    assert fine <= ours.epsilon <= 1.005 * fine
    assert ours.assumption == ASSUMPTION
    assert "PLD" in ours.accountant


def test_opacus_says_the_same_within_its_own_error():
    from opacus.accountants import PRVAccountant

    theirs = PRVAccountant()
    theirs.history = [(0.8, 0.01, 500)]
    ours = certify([ev.DpSgdDpEvent(0.01, 0.8, 500)], 1e-5).epsilon
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), abs=0.02)


@pytest.mark.parametrize("count", [1, 7, 400])
def test_gaussians_have_their_closed_form(count):
    exact = get_epsilon_gaussian(5.0 / math.sqrt(count), 1e-5)
    assert exact * (1 - 1e-9) <= certify({to_json(GaussianDpEvent(5.0)): count}, 1e-5).epsilon <= exact * 1.002


def test_ten_randomised_responses_are_ten():
    """That the package in use counts a repeated one once is not ours."""
    event = RandomizedResponseDpEvent(0.5, 2)
    ten = certify([SelfComposedDpEvent(event, 10)], 1e-9, Relation.ZERO_OUT).epsilon
    assert 10 * math.log(3) * 0.999 <= ten <= 10 * math.log(3) + 0.03
    assert certify([event] * 10, 1e-9, Relation.ZERO_OUT).epsilon == ten


@pytest.mark.parametrize("relation", list(Relation))
def test_both_relations_agree_where_a_record_is_there_or_adds_nothing(relation):
    assert certify([LaplaceDpEvent(2.0)], 1e-6, relation).epsilon == pytest.approx(0.5, abs=5e-3)
    assert certify([GaussianDpEvent(5.0)], 1e-5, relation) == certify([GaussianDpEvent(5.0)], 1e-5)


def test_what_the_relation_does_not_define_is_not_certified():
    with pytest.raises(Incomparable):
        certify([RandomizedResponseDpEvent(0.5, 2)], 1e-5, Relation.ADD_OR_REMOVE)


def test_many_kinds_together_cost_less_than_at_any_one_order_and_no_less_than_the_tightest_of_them():
    whole = certify(mixed(), 1e-5, Relation.ZERO_OUT).epsilon
    assert all(certify([event], 1e-5, Relation.ZERO_OUT).epsilon <= whole for event in mixed())
    assert whole < 3.8


@pytest.mark.parametrize("rho", [1e-3, 0.1, 3.0])
def test_what_has_a_curve_alone_is_dominated_never_below_the_gaussian_that_has_it_too(rho):
    dominating = _dominating(_totals({to_json(ZCDpEvent(rho)): 1}, Relation.ADD_OR_REMOVE), 1e-3)
    gaussian = pld.from_gaussian_mechanism(1 / math.sqrt(2 * rho), value_discretization_interval=1e-3)
    epsilons = np.linspace(0, 8, 100)
    assert np.all(
        dominating.get_delta_for_epsilon(epsilons) >= gaussian.get_delta_for_epsilon(epsilons) * (1 - 1e-6) - 1e-12
    )
    both, real = dominating.compose(gaussian), gaussian.compose(gaussian)
    assert both.get_epsilon_for_delta(1e-6) >= real.get_epsilon_for_delta(1e-6) * (1 - 1e-6)
    assert dominating.get_delta_for_epsilon(-1.0) >= 1 - math.exp(-1) - 1e-9


def test_a_curve_and_distributions_are_added_up_together():
    gaussian = GaussianDpEvent(3.0)
    pair = certify([ev.DiscreteGaussianDpEvent(3.0, 1.0), gaussian], 1e-5).epsilon
    assert certify([gaussian, gaussian], 1e-5).epsilon * (1 - 1e-6) <= pair
    assert pair <= certify([ev.DiscreteGaussianDpEvent(3.0, 1.0)] * 2, 1e-5).epsilon * 1.001


def test_the_leak_of_an_approximate_event_is_paid_from_delta():
    leak = ev.ApproximateDpEvent(0.5, 1e-6)
    assert certify([leak], 1e-5).epsilon == pytest.approx(0.5, abs=5e-3)
    assert certify([leak, GaussianDpEvent(2.0)], 1.1e-5).epsilon >= certify([GaussianDpEvent(2.0)], 1e-5).epsilon
    with pytest.raises(ValueError, match="no finite"):
        certify([SelfComposedDpEvent(leak, 11)], 1e-5)


@pytest.mark.parametrize(
    "event",
    [
        PoissonSampledDpEvent(0.05, LaplaceDpEvent(1.0)),
        PoissonSampledDpEvent(0.05, ev.PureDpEvent(1.0)),
        PoissonSampledDpEvent(1.0, GaussianDpEvent(2.0)),
        ev.sampled_group(0.05, 3, 2.0),
        ev.ParallelDpEvent((GaussianDpEvent(2.0), ev.PureDpEvent(0.1)), "operator"),
        ev.HistogramDpEvent(10.0, 3),
        ev.SkellamDpEvent(100.0, 2.0, 2.0),
        ev.PMixedDpEvent(20, 8.0, 0.01),
        ev.RenyiDpEvent(8.0, 0.1),
        ev.AboveThresholdDpEvent(0.5),
        ComposedDpEvent([ev.ReportNoisyMaxDpEvent(0.2, "gumbel"), ev.PermuteAndFlipDpEvent(0.1)]),
    ],
)
def test_every_kind_is_certified_and_more_of_it_costs_more(event):
    once = certify([event], 1e-5, Relation.ZERO_OUT).epsilon
    twice = certify({to_json(event): 2}, 1e-5, Relation.ZERO_OUT).epsilon
    assert 0 < once < twice < math.inf
    assert from_json(to_json(event)) == event


def test_nothing_costs_nothing():
    assert certify([], 1e-5).epsilon == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_no_delta_is_an_error(delta):
    with pytest.raises(ValueError, match="delta"):
        certify([GaussianDpEvent(1.0)], delta)
