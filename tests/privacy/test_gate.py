"""One door: permit, charge, then let go, in that order, and nothing else opens it."""

from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent

from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.mechanisms import GaussianMechanism, clip
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness
from privacy.refusal import BudgetExceeded, CrowdTooSmall, LevelForbidden
from privacy.units import Level

BUDGET = Budget(epsilon=4.0, delta=1e-5)
ACCOUNT = Account("data", BUDGET)


def policy(**changes) -> Policy:
    permission = Permission(partner="p", level=Level.WEIGHTS, collaborations=("average",), **changes)
    return Policy(1, BUDGET, (permission,))


def occasion(**changes) -> Occasion:
    given = {
        "session": "s",
        "number": 0,
        "collaboration": "average",
        "level": Level.WEIGHTS,
        "partner": "p",
        "crowd": 3,
        "summed": True,
    }
    return Occasion(**(given | changes))


class Watched:
    """A mechanism that writes down what the ledger held when it was asked to draw."""

    def __init__(self, ledger: Ledger, sigma: float = 4.0) -> None:
        self.ledger, self.sigma, self.seen = ledger, sigma, []

    @property
    def event(self):
        return GaussianDpEvent(self.sigma)

    def draw(self, randomness):
        self.seen.append(len(list(self.ledger.entries())))
        return float(randomness.normal(1)[0])


@pytest.fixture
def ledger(tmp_path: Path):
    return Ledger(tmp_path / "ledger.db")


def test_the_noise_is_drawn_only_after_the_charge(ledger):
    mechanism = Watched(ledger)
    released = Gate(policy(), ledger, SystemRandomness()).release(mechanism, ACCOUNT, occasion())
    assert mechanism.seen == [1]
    assert released.receipt.seq == 2  # the account's opening is the first


def test_a_refused_release_draws_nothing_and_charges_nothing(ledger):
    mechanism = Watched(ledger, sigma=0.2)
    with pytest.raises(BudgetExceeded):
        Gate(policy(), ledger, SystemRandomness()).release(mechanism, ACCOUNT, occasion())
    assert mechanism.seen == []
    assert list(ledger.entries()) == []


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"partner": "somebody else"}, LevelForbidden),
        ({"level": Level.LOGITS}, LevelForbidden),
        ({"collaboration": "other"}, LevelForbidden),
        ({"crowd": 1}, CrowdTooSmall),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_before_the_ledger_hears_of_it(ledger, change, refusal):
    mechanism = Watched(ledger)
    with pytest.raises(refusal):
        Gate(policy(), ledger, SystemRandomness()).release(mechanism, ACCOUNT, occasion(**change))
    assert mechanism.seen == []
    assert list(ledger.entries()) == []


def test_an_empty_policy_allows_nothing(ledger):
    with pytest.raises(LevelForbidden):
        Gate(Policy(1, BUDGET), ledger, SystemRandomness()).release(Watched(ledger), ACCOUNT, occasion())


def test_a_value_without_noise_leaves_only_by_an_unsafe_permission_and_gets_no_epsilon(ledger):
    with pytest.raises(LevelForbidden, match="without noise"):
        Gate(policy(), ledger, SystemRandomness()).disclose(Watched(ledger), ACCOUNT, occasion())
    gate = Gate(policy(unsafe_without_noise=True), ledger, SystemRandomness())
    assert gate.disclose(Watched(ledger), ACCOUNT, occasion()).receipt.event is None
    assert ledger.statement(ACCOUNT).spent.epsilon == 0
    assert ledger.statement(ACCOUNT).disclosures == 1


def test_seeded_noise_needs_the_operators_unsafe_word(ledger):
    with pytest.raises(LevelForbidden, match="seeded"):
        Gate(policy(), ledger, UnsafeSeededRandomness(1))


def test_a_released_vector_is_the_mechanisms(ledger):
    mechanism = GaussianMechanism(clip(np.zeros(1000), 1.0), 4.0)
    value = Gate(policy(), ledger, SystemRandomness()).release(mechanism, ACCOUNT, occasion()).value
    assert 3 < value.std() < 5
