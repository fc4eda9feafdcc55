"""Find the noise that makes a whole run keep its recipe's promise, and fit into the budget, from public numbers."""

from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from privacy.accounting.accountant import Cost, Filter, calibrate_best, default_orders, price
from privacy.ledger import Account, Ledger
from privacy.policy import Budget
from privacy.units import Relation, Unit
from protocols.faults import PeerError
from protocols.weights.recipe import Recipe

PROMISED = tuple(float(order) for order in range(2, 65))  # at these a sampled sum may keep its recipe's promise
_ORDERS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)


def noise_multiplier(recipe: Recipe, epsilon: float, rate: float, budget: Budget) -> float:
    """Return the smallest noise multiplier by which all rounds of `recipe` stay within `epsilon` and the budget.

    Every member calibrates for itself: its rate is its own. `budget.orders` are those of its account. The promise to
    the recipe may be kept at any order that is fixed beforehand; the account is charged at its own, and a run must
    fit into a fresh one, or its last rounds would be refused.
    Raises: PeerError if no noise does.
    """
    steps = recipe.steps * recipe.rounds
    fits = _least(budget.epsilon, budget.delta - budget.approximate_delta, rate, steps, (budget.orders,))
    promised = _least(epsilon, recipe.delta, rate, steps, (budget.orders, *((order,) for order in _ORDERS)))
    return max(fits, promised)


class Promise(Protocol):
    """Be what a recipe promises: at most `epsilon` at `delta`, over so many rounds."""

    @property
    def rounds(self) -> int:
        """Return how often the event happens."""

    @property
    def unit(self) -> Unit:
        """Return what is protected."""

    @property
    def epsilon(self) -> float | None:
        """Return the promise, or None for none."""

    @property
    def delta(self) -> float:
        """Return the delta that it holds at."""


def require_promise(recipe: Promise, event: DpEvent) -> None:
    """Return if `event`, once in every round, keeps the recipe's own promise. Raises: PeerError.

    It is kept if it is at any one order: a promise is about a run whose every number is fixed beforehand.
    """
    if recipe.epsilon is None:
        raise PeerError("a recipe that promises nothing")
    relation = Relation.ZERO_OUT if recipe.unit is Unit.MEMBER else Relation.ADD_OR_REMOVE
    if recipe.unit is not Unit.MEMBER:  # sampled: best at an order far from that of a fresh account
        _require_at_some(SelfComposedDpEvent(event, recipe.rounds), recipe.epsilon, recipe.delta, relation)
        return
    require_kept(SelfComposedDpEvent(event, recipe.rounds), recipe.epsilon, recipe.delta, relation)


def require_kept(event: DpEvent, epsilon: float, delta: float, relation: Relation) -> None:
    """Return if `event` stays within what is promised, at the orders of a fresh account. Raises: PeerError."""
    orders = default_orders(epsilon, delta)
    if not Filter(orders, delta).fits(price(event, orders, relation), epsilon):
        raise PeerError("a recipe whose noise does not keep its own promise")


def _require_at_some(event: DpEvent, epsilon: float, delta: float, relation: Relation) -> None:
    """Return if it does at any one order: a promise is about a run whose every number is fixed beforehand."""
    try:
        cost = price(event, orders := (*default_orders(epsilon, delta), *PROMISED), relation)
    except ValueError:
        raise PeerError("a recipe whose noise is none to speak of") from None
    if not any(
        Filter((order,), delta).fits(Cost((nats,), cost.delta), epsilon)
        for order, nats in zip(orders, cost.nats, strict=True)
    ):
        raise PeerError("a recipe whose noise does not keep its own promise")


def opened(ledger: Ledger, account: Account) -> Budget:
    """Return the account's budget with the orders at which it adds: as it was opened, or as it will be."""
    budget = account.budget
    for known in ledger.accounts():
        same = (known.dataset, known.budget.unit, known.budget.relation)
        if same == (account.dataset, budget.unit, budget.relation):
            return _with_orders(budget, known.budget.orders)
    return _with_orders(budget, budget.orders or default_orders(budget.epsilon, budget.delta))


def _with_orders(budget: Budget, orders: tuple[float, ...]) -> Budget:
    return replace(budget, orders=orders)


@lru_cache(maxsize=64)
def _least(epsilon: float, delta: float, rate: float, steps: int, choices: tuple[tuple[float, ...], ...]) -> float:
    """Return the least noise over the choices of orders. Raises: PeerError if none will do."""

    def event(noise: float) -> DpEvent:
        return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)

    try:
        return calibrate_best(event, epsilon, delta, choices)[0]
    except ValueError:
        raise PeerError("no noise keeps the promise of this recipe") from None
