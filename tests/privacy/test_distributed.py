"""The noise of the honest members alone carries the guarantee; its loss is charged, and before it is drawn."""

import math
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from privacy.accounting.accountant import Filter, calibrate, default_orders, price
from privacy.accounting.certificate import certify
from privacy.accounting.curves import unamplified
from privacy.accounting.events import to_json
from privacy.discrete_gaussian import DiscreteGaussian, NoisePool
from privacy.distributed import NoiseShare, least_noise_multiplier, rho
from privacy.fixed_point import FixedPoint, sized
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness
from privacy.refusal import BudgetExceeded, Incomparable, NotEncodable
from privacy.units import Level, Relation

ORDERS = (1.5, 2.0, 4.0, 8.0, 16.0)


def code(**changes) -> FixedPoint:
    given = {
        "length": 1000,
        "bits": 32,
        "members": 5,
        "coordinate": 1.0,
        "norm": 1.0,
        "noise_multiplier": 2.0,
        "honest": 4,
    }
    return sized(**(given | changes))


class Counting:
    """Draw from the system and count the words."""

    def __init__(self) -> None:
        self.drawn = 0

    def words(self, size):
        self.drawn += size
        return SystemRandomness().words(size)


def sum_of_gaussians(sigma: float, honest: int) -> np.ndarray:
    """The logarithms of the probabilities of the sum of `honest` discrete Gaussians, by exact convolution."""
    support = np.arange(-70, 71)
    one = -(support**2) / (2 * sigma**2)
    one = one - logsumexp(one)
    total = np.zeros(1)
    for _ in range(honest):
        shifted = np.full((one.size, total.size + one.size - 1), -np.inf)
        for k in range(one.size):
            shifted[k, k : k + total.size] = total + one[k]
        total = logsumexp(shifted, axis=0)
    return total


def divergence(logs: np.ndarray, shift: int, order: float) -> float:
    """The exact Renyi divergence between the distribution and itself shifted."""
    return float(logsumexp(order * logs[shift:] + (1 - order) * logs[:-shift])) / (order - 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("honest", [1, 2, 5])
@pytest.mark.parametrize(("sigma", "excess"), [(0.5, 0.12), (0.7, 0.02), (1.0, 1e-5), (1.5, 1e-6)])
def test_the_loss_of_a_sum_is_under_its_bound_and_that_of_a_gaussian_from_one_step_on(sigma, excess, honest, order):
    noise = sum_of_gaussians(sigma, honest)
    for shift in (1, 2, 3):
        exact = divergence(noise, shift, order)
        claimed = rho(bound=shift, deviation=sigma, honest=honest, length=1)
        assert exact <= order * claimed * (1 + 1e-9)
        gaussian = order * shift**2 / (2 * honest * sigma**2)
        assert exact <= gaussian * (1 + excess)
        if sigma >= 1:
            assert exact == pytest.approx(gaussian, rel=1e-5)


def test_the_loss_of_a_vector_is_that_of_its_norm():
    # two coordinates moved by one step each: independent noise, so the divergences add; the norm is sqrt(2)
    noise = sum_of_gaussians(1.0, 3)
    for order in ORDERS:
        claimed = rho(bound=math.sqrt(2), deviation=1.0, honest=3, length=2)
        assert 2 * divergence(noise, 1, order) <= order * claimed


def test_what_narrow_noise_costs_more_is_the_published_tau():
    # proposition 14 by hand: tau = 10 exp(-2 pi^2 sigma^2 / 2) for two, and a term with 2/3 for three
    half = math.pi**2 / 2
    two, three = 10 * math.exp(-half / 2), 10 * (math.exp(-half / 2) + math.exp(-half * 2 / 3))
    assert rho(bound=3, deviation=0.5, honest=1, length=7) == pytest.approx((3 / 0.5) ** 2 / 2)
    assert rho(bound=3, deviation=0.5, honest=2, length=7) == pytest.approx(
        (3 / (0.5 * 2**0.5) + 7**0.5 * two) ** 2 / 2
    )
    assert rho(bound=3, deviation=0.5, honest=3, length=7) == pytest.approx(
        (3 / (0.5 * 3**0.5) + 7**0.5 * three) ** 2 / 2
    )


def test_at_the_least_deviation_the_sum_is_charged_like_one_gaussian_at_any_size():
    assert rho(bound=4 * math.sqrt(700), deviation=4.0, honest=700, length=10**8) == 0.5


@given(st.floats(0.5, 1e8), st.floats(0.5, 1e9), st.integers(1, 1000), st.integers(1, 10**8))
def test_more_honest_members_never_cost_more_at_the_noise_we_allow(deviation, bound, honest, length):
    at = max(deviation, 4.0)
    more = rho(bound=bound, deviation=at, honest=honest + 1, length=length)
    assert more < rho(bound=bound, deviation=at, honest=honest, length=length)


@pytest.mark.parametrize("change", [{"honest": 0}, {"length": 0}, {"bound": 0.0}, {"deviation": 0.4}])
def test_a_loss_that_the_proposition_does_not_cover_is_not_stated(change):
    with pytest.raises(ValueError, match="expected"):
        rho(**({"bound": 1.0, "deviation": 4.0, "honest": 2, "length": 3} | change))


def test_the_renyi_accountant_counts_it_as_the_gaussian_of_its_noise_multiplier():
    event = NoiseShare(np.zeros(1000), code(), 4).event
    assert list(unamplified(event)) == [pytest.approx(1 / 8)]
    gaussian = RdpAccountant()
    gaussian.compose(GaussianDpEvent(2.0), 100)
    ours = certify([SelfComposedDpEvent(event, 100)], 1e-6, Relation.ZERO_OUT).epsilon
    assert ours == pytest.approx(gaussian.get_epsilon(1e-6), rel=1e-3)
    for mine, theirs in zip(
        price(event, ORDERS, Relation.ZERO_OUT).nats, price(GaussianDpEvent(2.0), ORDERS).nats, strict=True
    ):
        assert mine == pytest.approx(theirs, abs=20)


def test_it_is_charged_to_no_account_whose_neighbours_are_absent():
    with pytest.raises(Incomparable):
        price(NoiseShare(np.zeros(1000), code(), 4).event, ORDERS, Relation.ADD_OR_REMOVE)


def test_fewer_honest_members_than_sized_for_cost_more():
    costs = [next(unamplified(NoiseShare(np.zeros(1000), code(), honest).event)) for honest in (1, 2, 4)]
    assert costs == pytest.approx([4 / 8, 2 / 8, 1 / 8])


def test_the_share_is_the_encoded_vector_plus_this_members_noise():
    c = code()
    vector = np.linspace(-0.01, 0.02, 1000)
    share = NoiseShare(vector, c, 4)
    assert np.array_equal(share.encoded, c.encode(vector))
    noise = DiscreteGaussian(c.deviation).draw(1000, UnsafeSeededRandomness(9))
    assert np.array_equal(share.draw(UnsafeSeededRandomness(9)), noise + c.encode(vector))
    assert share.draw(SystemRandomness()).dtype == np.int32
    assert not np.array_equal(share.draw(SystemRandomness()), share.draw(SystemRandomness()))


def test_the_sum_of_the_shares_decodes_to_the_sum_with_the_noise_that_was_sized():
    c = code(length=20_000)
    vectors = [np.full(20_000, (m + 1) * 1e-3) for m in range(5)]
    total = sum(NoiseShare(v, c, 4).draw(SystemRandomness()).astype(np.int64) for v in vectors)
    errors = c.decode((total % 2**32).astype(np.uint32), 5) - sum(np.clip(v, -1, 1) for v in vectors)
    assert errors.std() == pytest.approx(math.sqrt(5 / 4) * 2.0, rel=0.05)  # z = 2 norms over 4 honest of 5
    assert abs(errors.mean()) < 7 * errors.std() / math.sqrt(20_000)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_noise_wider_than_32_bits_hold_is_added_modulo_2_to_the_32(members):
    c = sized(length=50_000, bits=32, members=members, coordinate=1e-3, norm=1.0, noise_multiplier=1000.0, honest=1)
    total = sum(NoiseShare(np.zeros(50_000), c, 1).draw(SystemRandomness()).astype(np.int64) for _ in range(members))
    decoded = c.decode((total % 2**32).astype(np.uint32), members)
    assert decoded.std() == pytest.approx(math.sqrt(members) * c.deviation / c.scale, rel=0.03)


def test_a_pool_gives_the_noise_and_never_twice():
    c = code(length=500)
    pool = NoisePool(DiscreteGaussian(c.deviation), SystemRandomness(), 1000)
    pool.fill()
    share = NoiseShare(np.zeros(500), c, 4, pool)
    own = Counting()
    first, second = share.draw(own), share.draw(own)
    assert own.drawn == 0
    assert pool.ready == 0
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="deviation"):
        NoiseShare(np.zeros(500), c, 4, NoisePool(DiscreteGaussian(4.0), SystemRandomness(), 10))


@pytest.mark.parametrize("honest", [0, -1, 6])
def test_a_share_that_counts_on_nobody_or_on_more_than_take_part_cannot_be_made(honest):
    with pytest.raises(ValueError, match="honest"):
        NoiseShare(np.zeros(1000), code(), honest)


def test_a_share_without_noise_or_with_too_narrow_noise_cannot_be_made():
    c = code()
    for deviation in (0.0, 3.99):
        narrow = FixedPoint(c.length, c.bits, c.scale, c.coordinate, c.norm, c.members, deviation)
        with pytest.raises(ValueError, match="deviation"):
            NoiseShare(np.zeros(1000), narrow, 4)


def test_a_share_shows_nobody_what_it_holds_and_does_not_change():
    share = NoiseShare(np.full(1000, 0.0123), code(), 4)
    assert str(int(share.encoded[0])) not in repr(share)
    assert "0.0123" not in repr(share)
    assert not hasattr(share, "vector")
    with pytest.raises(ValueError, match="read-only"):
        share.encoded[0] = 0


BUDGET = Budget(epsilon=4.0, delta=1e-6, relation=Relation.ZERO_OUT)
ACCOUNT = Account("data", BUDGET)
OCCASION = {"session": "s", "collaboration": "average", "level": Level.WEIGHTS, "partner": "p", "crowd": 5}


@pytest.fixture
def ledger(tmp_path: Path):
    return Ledger(tmp_path / "ledger.db", durable=False)


def gate(ledger: Ledger, randomness) -> Gate:
    permission = Permission("p", Level.WEIGHTS, ("average",), unsafe_plain_sum=True)
    return Gate(Policy(1, BUDGET, (permission,)), ledger, randomness)


def test_what_cannot_be_encoded_is_refused_before_anything_is_charged_or_drawn(ledger):
    randomness = Counting()
    for vector in (np.full(1000, np.nan), np.zeros(999)):
        with pytest.raises(NotEncodable):
            gate(ledger, randomness).release(NoiseShare(vector, code(), 4), ACCOUNT, Occasion(number=0, **OCCASION))
    assert list(ledger.entries()) == []
    assert randomness.drawn == 0


def test_a_released_share_is_charged_its_loss_and_a_refused_one_draws_no_noise(ledger):
    randomness = Counting()
    door = gate(ledger, randomness)
    released = door.release(NoiseShare(np.zeros(1000), code(), 4), ACCOUNT, Occasion(number=0, **OCCASION))
    assert released.value.shape == (1000,)
    assert [e.event for e in ledger.entries()] == [to_json(NoiseShare(np.zeros(1000), code(), 4).event)]
    drawn = randomness.drawn
    assert drawn >= 1000
    costly = NoiseShare(np.zeros(1000), code(noise_multiplier=0.1), 4)
    with pytest.raises(BudgetExceeded):
        door.release(costly, ACCOUNT, Occasion(number=1, **OCCASION))
    assert randomness.drawn == drawn


@pytest.mark.parametrize("sums", [1, 7, 300])
def test_the_least_noise_lets_so_many_sums_into_the_account_and_less_noise_does_not(ledger, sums):
    orders = default_orders(BUDGET.epsilon, BUDGET.delta)
    z = least_noise_multiplier(
        sums=sums, epsilon=BUDGET.epsilon, delta=BUDGET.delta, orders=orders, honest=4, length=1000
    )
    share = NoiseShare(np.zeros(1000), code(noise_multiplier=z), 4)
    door = gate(ledger, SystemRandomness())
    for number in range(sums):
        door.release(share, ACCOUNT, Occasion(number=number, **OCCASION))
    less = NoiseShare(np.zeros(1000), code(noise_multiplier=z - 2e-4), 4).event
    assert not Filter(orders, BUDGET.delta).fits(price(less, orders, Relation.ZERO_OUT) * sums, BUDGET.epsilon)


def test_a_million_sums_fit_although_each_charge_is_rounded_up():
    orders = default_orders(BUDGET.epsilon, BUDGET.delta)
    z = least_noise_multiplier(
        sums=10**6, epsilon=BUDGET.epsilon, delta=BUDGET.delta, orders=orders, honest=4, length=1000
    )
    each = price(NoiseShare(np.zeros(1000), code(noise_multiplier=z), 4).event, orders, Relation.ZERO_OUT)
    assert Filter(orders, BUDGET.delta).fits(each * 10**6, BUDGET.epsilon)


def test_the_least_noise_is_that_of_the_gaussian_with_the_same_budget():
    z = least_noise_multiplier(
        sums=100, epsilon=37.4293, delta=1e-6, orders=(1.8, 2.0, 3.0), honest=700, length=10**8
    )
    gaussian = calibrate(lambda s: SelfComposedDpEvent(GaussianDpEvent(s), 100), 37.4293, 1e-6, (1.8, 2.0, 3.0))
    assert z == pytest.approx(gaussian, abs=1.5e-4)


@pytest.mark.parametrize("change", [{"sums": 0}, {"epsilon": 1e-9}, {"sums": 10**15}])
def test_a_budget_that_no_noise_meets_is_said_to_be_none(change):
    wanted = {"sums": 10, "epsilon": 4.0, "delta": 1e-6, "orders": (4.0,), "honest": 4, "length": 1000}
    with pytest.raises(ValueError, match=r"sums|no noise multiplier"):
        least_noise_multiplier(**(wanted | change))
