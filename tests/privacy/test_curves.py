"""Every kind's Renyi curve is nowhere below what sums and integrals of real laws say, and tight where it can be."""

import math

import numpy as np
import pytest
from dp_accounting import ComposedDpEvent, GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting import NeighboringRelation as Theirs
from dp_accounting.dp_event import DiscreteLaplaceDpEvent, RandomizedResponseDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import divergences as of
from privacy.accounting import events as ev
from privacy.accounting.curves import additive, divergence, unamplified
from privacy.accounting.events import KINDS
from privacy.refusal import Incomparable
from privacy.units import Relation
from simulations.benches import crosschecks
from simulations.benches.crosschecks import CHECKS, coin, numeric

ORDERS = st.floats(1.05, 60)
TIGHT = sorted(
    {"gaussian", "discrete-gaussian", "laplace", "discrete-laplace", "randomised-response", "pure", "approximate"}
    | {"zcdp", "rdp", "histogram", "dp-sgd", "gaussian-mixture", "poisson", "repeat", "all", "parallel"}
    | {"distributed-gaussian-sum"}
)  # fmt: skip


def test_every_kind_is_cross_checked():
    assert set(CHECKS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_is_nowhere_below_the_divergence_of_real_laws(kind):
    assert CHECKS[kind]()


@pytest.mark.parametrize("kind", TIGHT)
def test_a_curve_that_is_a_hundredth_too_low_is_found_out(kind, monkeypatch):
    def low(event, order, relation):
        return 0.99 * divergence(event, order, relation)

    monkeypatch.setattr(crosschecks, "divergence", low)
    assert not CHECKS[kind]()


@pytest.mark.parametrize("kind", ["pmixed", "skellam", "exponential", "noisy-max"])
def test_a_bound_that_is_far_too_low_is_found_out(kind, monkeypatch):
    monkeypatch.setattr(crosschecks, "divergence", lambda e, a, r: 0.1 * divergence(e, a, r))
    assert not CHECKS[kind]()


@settings(deadline=None)
@given(
    st.sampled_from(
        [
            GaussianDpEvent(0.7),
            LaplaceDpEvent(0.3),
            PoissonSampledDpEvent(0.01, GaussianDpEvent(0.8)),
            PoissonSampledDpEvent(0.01, LaplaceDpEvent(1.0)),
            PoissonSampledDpEvent(0.2, ComposedDpEvent([GaussianDpEvent(2.0), ev.PureDpEvent(0.1)])),
            DiscreteLaplaceDpEvent(0.2, 4),
            RandomizedResponseDpEvent(0.01, 50),
            ev.PureDpEvent(2.5),
            ev.ExponentialMechanismDpEvent(3.0),
            ev.SkellamDpEvent(50.0, 3.0, 2.0),
            ev.sampled_group(0.05, 4, 1.5),
            ev.PMixedDpEvent(8, 61.0, 0.001),
        ]
    ),
    ORDERS,
    st.floats(0, 3),
)
def test_a_higher_order_never_diverges_less(event, order, more):
    try:
        low, high = (divergence(event, a, Relation.ZERO_OUT) for a in (order, order + more))
    except Incomparable:
        return
    assert 0 < low <= high * (1 + 1e-8)


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-5, 0.999), st.floats(0.15, 20), st.integers(2, 64))
def test_a_sampled_gaussian_is_what_dp_accounting_and_opacus_say_at_whole_orders(rate, sigma, order):
    from opacus.accountants.analysis.rdp import compute_rdp

    theirs = RdpAccountant([order]).compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma))).rdp[0]
    opacus = float(np.ravel(compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=[order]))[0])
    ours = of.sampled_gaussian(rate, sigma, order)
    for each in (theirs, opacus):
        assert each * (1 - 1e-7) - 1e-12 <= ours <= each * (1 + 1e-7) + 1e-12


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-3, 0.9), st.floats(0.3, 20), st.floats(1.2, 64))
def test_a_sampled_gaussian_is_nowhere_above_dp_accounting_between_whole_orders(rate, sigma, order):
    theirs = RdpAccountant([order]).compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma))).rdp[0]
    assert of.sampled_gaussian(rate, sigma, order) <= theirs * (1 + 1e-7) + 1e-12


@pytest.mark.parametrize(
    "event", [LaplaceDpEvent(0.7), GaussianDpEvent(2.0), SelfComposedDpEvent(LaplaceDpEvent(3.0), 9)]
)
def test_the_kinds_that_dp_accounting_knows_cost_the_same_there(event):
    orders = [1.3, 2.0, 7.5, 40.0]
    theirs = RdpAccountant(orders, Theirs.REPLACE_SPECIAL).compose(event).rdp
    assert [divergence(event, a, Relation.ZERO_OUT) for a in orders] == pytest.approx(list(theirs), rel=1e-9)


def test_randomised_response_is_what_dp_accounting_says_of_replacing_and_not_below_what_it_says_of_zeroing():
    event, orders = RandomizedResponseDpEvent(0.3, 7), [1.3, 2.0, 7.5, 40.0]
    ours = [divergence(event, a, Relation.ZERO_OUT) for a in orders]
    assert ours == pytest.approx(list(RdpAccountant(orders, Theirs.REPLACE_ONE).compose(event).rdp))
    assert all(
        a >= b for a, b in zip(ours, RdpAccountant(orders, Theirs.REPLACE_SPECIAL).compose(event).rdp, strict=True)
    )


def test_the_general_bound_for_sampling_is_never_below_the_gaussians_own():
    for rate in (0.001, 0.1, 0.9):
        for order in (1.5, 2.0, 3.3, 16.0):
            general = of.poisson(rate, lambda a: a / 2, order)
            assert of.sampled_gaussian(rate, 1.0, order) <= general * (1 + 1e-9) <= order / 2 * (1 + 1e-8)


def test_sampling_one_batch_for_several_gaussians_counts_them_as_one():
    both = ComposedDpEvent([GaussianDpEvent(2.0), SelfComposedDpEvent(GaussianDpEvent(2.0), 3)])
    assert divergence(PoissonSampledDpEvent(0.1, both), 5.0, Relation.ADD_OR_REMOVE) == pytest.approx(
        of.sampled_gaussian(0.1, 1.0, 5.0)
    )


@pytest.mark.parametrize(
    "event",
    [
        RandomizedResponseDpEvent(0.5, 2),
        ev.DistributedGaussianSumDpEvent(1.0, 4.0, 2, 10),
        SelfComposedDpEvent(RandomizedResponseDpEvent(0.5, 2), 3),
        ev.ParallelDpEvent((ev.PureDpEvent(1.0), RandomizedResponseDpEvent(0.5, 2)), "operator"),
    ],
)
def test_what_everybody_answers_is_charged_to_no_account_whose_neighbours_are_absent(event):
    assert divergence(event, 2.0, Relation.ZERO_OUT) > 0
    with pytest.raises(Incomparable):
        divergence(event, 2.0, Relation.ADD_OR_REMOVE)


@pytest.mark.parametrize(
    "event",
    [
        RandomizedResponseDpEvent(0.5, 2),
        ev.DistributedGaussianSumDpEvent(1.0, 4.0, 2, 10),
        ev.SampledSumDpEvent(0.5, 1.0, 4.0, 2, 10),
        SelfComposedDpEvent(ev.PMixedDpEvent(4, 3.0, 0.1), 2),
    ],
)
@pytest.mark.parametrize("relation", list(Relation))
def test_sampling_amplifies_nothing_where_it_changes_who_is_needed(event, relation):
    with pytest.raises(Incomparable):
        divergence(PoissonSampledDpEvent(0.1, event), 2.0, relation)


@pytest.mark.parametrize("order", [1.5, 2.0, 4.7, 16.0])
def test_a_sampled_sum_costs_no_less_than_the_sampled_gaussian_it_imitates_and_no_more_than_the_whole_sum(order):
    for rate in (0.001, 0.05, 0.9, 1.0):
        event = ev.SampledSumDpEvent(rate, 40.0, 20.0, 4, 100)  # in all, noise of one bound
        ours = divergence(event, order, Relation.ADD_OR_REMOVE)
        whole = divergence(ev.DistributedGaussianSumDpEvent(40.0, 20.0, 4, 100), order, Relation.ZERO_OUT)
        assert of.sampled_gaussian(rate, 1.0, order) <= ours * (1 + 1e-9) <= whole * (1 + 1e-8)
        assert rate > 0.1 or order > 4 or ours < whole / 5


def test_the_members_of_a_sampled_sum_that_are_not_honest_add_nothing_to_its_noise():
    def cost(honest: int) -> float:
        return divergence(ev.SampledSumDpEvent(0.1, 40.0, 20.0, honest, 100), 4.0, Relation.ADD_OR_REMOVE)

    assert cost(1) > cost(2) > cost(3) > 0


def test_a_bound_at_one_order_says_nothing_above_it():
    assert divergence(ev.RenyiDpEvent(4.0, 0.3), 3.9, Relation.ADD_OR_REMOVE) == 0.3
    assert divergence(ev.RenyiDpEvent(4.0, 0.3), 4.1, Relation.ADD_OR_REMOVE) == math.inf
    assert divergence(ev.PMixedDpEvent(8, 3.0, 0.1), 1.8, Relation.ADD_OR_REMOVE) < math.inf
    assert divergence(ev.PMixedDpEvent(8, 3.0, 0.1), 1.9, Relation.ADD_OR_REMOVE) == math.inf
    assert divergence(ev.PMixedDpEvent(8, 3.0, 0.1), 3.0, Relation.ZERO_OUT) < math.inf
    assert divergence(ev.PMixedDpEvent(8, 3.0, 0.1), 3.1, Relation.ZERO_OUT) == math.inf


def test_the_weak_triangle_needs_no_order_above_the_one_that_is_enforced():
    """Two laws that are each within a bound of a third, at one order, are within ours of one another."""
    drawn = np.random.default_rng(1).dirichlet(np.full(4, 0.5), size=(300, 3))
    for p, r, q in np.log(drawn + 1e-6):
        alpha = 3.0
        one = max(numeric(p, r, alpha), numeric(q, r, alpha))
        whole = of.pmixed(1, alpha, one / alpha, 1.8, Relation.ADD_OR_REMOVE)  # of one member: nothing dilutes it
        assert numeric(p, q, 1.8) <= whole * (1 + 1e-9)


def test_the_leak_of_what_is_made_of_parts_adds_up():
    leak = ev.ApproximateDpEvent(0.1, 1e-6)
    assert additive(SelfComposedDpEvent(ComposedDpEvent([leak, leak, GaussianDpEvent(1.0)]), 5)) == pytest.approx(
        1e-5
    )
    assert additive(PoissonSampledDpEvent(0.1, leak)) == 1e-6
    assert additive(ev.ParallelDpEvent((leak, ev.ApproximateDpEvent(0.1, 2e-6)), "operator")) == 2e-6


def test_the_noise_under_the_sampling_is_seen():
    run = SelfComposedDpEvent(PoissonSampledDpEvent(0.01, GaussianDpEvent(2.0)), 100)
    assert list(unamplified(ComposedDpEvent([run, LaplaceDpEvent(2.0)]))) == [1 / 8, 1 / 8]
    assert list(unamplified(ev.RenyiDpEvent(2.0, 0.1))) == [math.inf]
    assert list(unamplified(GaussianDpEvent(math.nan))) == [math.inf]


def test_a_coin_is_the_worst_of_what_is_purely_private():
    for seed in range(200):
        law = np.random.default_rng(seed).dirichlet(np.ones(3))
        tilt = np.random.default_rng(seed + 1000).uniform(-0.25, 0.25, 3)
        other = law * np.exp(tilt)
        p, q = np.log(law), np.log(other / other.sum())
        epsilon = float(np.max(np.abs(p - q)))
        assert numeric(p, q, 4.0) <= of.pure(epsilon, 4.0) * (1 + 1e-9)
    assert numeric(*coin(0.5), 4.0) == pytest.approx(of.pure(0.5, 4.0))
