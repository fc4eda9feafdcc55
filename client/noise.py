"""Find the noise that makes a whole run keep its recipe's promise, by the very sum that the ledger will make."""

from functools import lru_cache

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from privacy.accountant import calibrate, default_orders
from privacy.ledger import Account, Ledger
from protocols.faults import PeerError
from protocols.weights.average import Recipe


def noise_multiplier(recipe: Recipe, epsilon: float, rate: float, at: tuple[float, ...]) -> float:
    """Return the smallest noise multiplier by which all rounds of `recipe` together stay within `epsilon`.

    Every member calibrates for itself, from public numbers: its rate is its own. `at` are the Renyi orders of the
    account, so that a run for the whole of a fresh budget fits into it.
    Raises: PeerError if no noise does.
    """
    try:
        return _calibrated(epsilon, recipe.delta, rate, recipe.steps * recipe.rounds, at)
    except ValueError:
        raise PeerError("no noise keeps the promise of this recipe") from None


def orders(ledger: Ledger, account: Account) -> tuple[float, ...]:
    """Return the orders at which the account adds: as it was opened, or as it will be."""
    for known in ledger.accounts():
        same = (known.dataset, known.budget.unit, known.budget.relation)
        if same == (account.dataset, account.budget.unit, account.budget.relation):
            return known.budget.orders
    return account.budget.orders or default_orders(account.budget.epsilon, account.budget.delta)


@lru_cache(maxsize=64)
def _calibrated(epsilon: float, delta: float, rate: float, steps: int, at: tuple[float, ...]) -> float:
    def event(noise: float) -> DpEvent:
        return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)

    return calibrate(event, epsilon, delta, at)
