"""Find how much of something a budget allows: what the ledger's own filter just admits."""

from collections.abc import Callable
from functools import lru_cache

from dp_accounting import DpEvent, SelfComposedDpEvent, ZCDpEvent

from privacy.accounting.accountant import Filter, default_orders, price
from privacy.units import Relation


def largest(
    event_of: Callable[[float], DpEvent],
    epsilon: float,
    delta: float,
    orders: tuple[float, ...] = (),
    relation: Relation = Relation.ADD_OR_REMOVE,
) -> float:
    """Return the largest parameter, to one part in 10,000, whose event fits the budget at orders fixed beforehand."""
    orders = orders or default_orders(epsilon, delta)
    judge = Filter(orders, delta)

    def fits(value: float) -> bool:
        return judge.fits(price(event_of(value), orders, relation), epsilon)

    low, high = 0.0, 1e-6
    while fits(high):
        low, high = high, high * 2
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@lru_cache
def rho_of(epsilon: float, delta: float, count: int) -> float:
    """Return the most zero-concentrated loss that each of so many releases may have."""
    return largest(lambda rho: SelfComposedDpEvent(ZCDpEvent(rho), count), epsilon, delta)
