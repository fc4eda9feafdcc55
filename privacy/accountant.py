"""Add events up by Renyi differential privacy at orders fixed beforehand, in whole picunits that only round up.

Orders are fixed when an account is opened: that makes the sum a privacy filter, valid although later mechanisms are
chosen after looking at earlier answers (Feldman and Zrnic 2021, theorem 4.3). "Best order so far" is not.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from dp_accounting import DpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant, compute_epsilon

from privacy.events import from_json, to_json

PICO = 10**12  # costs are integers of 1e-12 nats: exact, associative sums on every machine
NAME = "RDP at a fixed order"


def default_orders(epsilon: float, delta: float) -> tuple[float, ...]:
    """Return the one order at which the budget holds the most zero-concentrated privacy loss rho.

    Maximises (epsilon - conversion(order, delta)) / order: the best choice for Gaussian-like releases, made
    from the budget alone, hence before any data is touched.
    """
    candidates = [1 + k / 20 for k in range(2, 2000)]
    return (max(candidates, key=lambda a: (epsilon - _conversion(a, delta)) / a),)


def cost(event: DpEvent, orders: Sequence[float]) -> tuple[int, ...]:
    """Return the event's Renyi divergence at every order, in 1e-12 nats, rounded up."""
    return _cost(to_json(event), tuple(orders))


@lru_cache(maxsize=4096)
def _cost(event: str, orders: tuple[float, ...]) -> tuple[int, ...]:
    accountant = RdpAccountant(list(orders), NeighboringRelation.ADD_OR_REMOVE_ONE)
    rdp = accountant.compose(from_json(event)).rdp
    if not all(math.isfinite(r) and r >= 0 for r in rdp):
        raise ValueError("the event has no finite divergence at this account's orders")
    return tuple(math.ceil(r * PICO) for r in rdp)


def epsilon(totals: Sequence[int], orders: Sequence[float], delta: float) -> float:
    """Return the epsilon that the `totals` at `orders` amount to; `delta` is shared equally by the orders.

    A union bound over the orders makes the smallest of them valid: each holds at delta / len(orders).
    """
    if not any(totals):
        return 0.0
    share = delta / len(orders)
    return min(float(compute_epsilon([a], [t / PICO], share)[0]) for a, t in zip(orders, totals, strict=True))


def calibrate(event_of: Callable[[float], DpEvent], budget: float, delta: float, orders: Sequence[float]) -> float:
    """Return the smallest noise multiplier (to 1e-4, rounded up) whose event costs at most `budget`.

    Raises: ValueError if no noise multiplier up to 10,000 does.
    """

    def fits(steps: int) -> bool:
        try:
            return epsilon(cost(event_of(steps / 10_000), orders), orders, delta) <= budget
        except (ValueError, OverflowError):
            return False  # so little noise that the divergence is not finite

    low, high = 0, 1
    while not fits(high):
        low, high = high, high * 2
        if high > 10**8:
            raise ValueError("no noise multiplier up to 10,000 meets the budget")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high / 10_000


def tight_epsilon(events: Sequence[DpEvent], delta: float) -> float:
    """Return the PLD accountant's epsilon of a plan whose events were all fixed beforehand.

    Tighter than the filter, and no filter: valid only where no event was chosen after seeing an answer.
    """
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-3)
    for event in events:
        accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def _conversion(order: float, delta: float) -> float:
    """Return what turning a Renyi divergence into (epsilon, delta) adds (Canonne et al. 2020, prop. 12)."""
    return math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
