"""Find the noise of secret counts: the least that keeps an epsilon, at the order that is best for it."""

from privacy.distributed import least_noise_multiplier
from protocols.secure_sum.terms import Terms

ORDERS = tuple(1.5 * 1.12**k for k in range(40))


def least_noise(terms: Terms, epsilon: float, delta: float, counts: int, choices: int) -> float:
    """Return the least noise multiplier of so many counts, as the ledger charges them.

    Raises: ValueError if no noise keeps epsilon at any order.
    """
    found = []
    for order in ORDERS:
        try:
            noise = least_noise_multiplier(
                sums=counts, epsilon=epsilon, delta=delta, orders=(order,), honest=terms.honest, length=choices
            )
        except ValueError:
            continue  # at this order no noise meets the budget
        found.append(noise)
    return min(found)
