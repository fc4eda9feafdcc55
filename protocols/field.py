"""Compute exactly in the field of 65,521 elements: each fits 16 bits, and thousands of products add up in a float64.

Shapes:  elements are uint16 below PRIME. Matrices are multiplied by float64 BLAS: every sum of up to 2**21 products
         is an integer below 2**53, so no order of adding and no fused multiplication ever rounds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError

Elements = NDArray[np.uint16]
PRIME = 65521  # the largest prime below 2**16: of 65,536 words 15 are no elements
_MOST_TERMS = 2**53 // (PRIME - 1) ** 2
_ONE_THREAD = 2**18  # products up to which BLAS starts no second thread, which may have to wait for a processor
_COLUMNS = 512  # multiplied at a time, so that floats in between stay in the cache: twice as fast


def matmul(a: Elements, b: Elements) -> Elements:
    """Return a @ b. Shapes: (r, k) and (k, m) -> (r, m)."""
    if a.shape[-1] > _MOST_TERMS:
        raise LocalError(f"sums of more than {_MOST_TERMS} products are not exact")
    left, result = a.astype(np.float64), np.empty((a.shape[0], b.shape[1]), np.uint16)
    step = min(_COLUMNS, max(8, _ONE_THREAD // max(1, a.size)))
    for start in range(0, b.shape[1], step):
        sums = (left @ b[:, start : start + step].astype(np.float64)).astype(np.uint64)
        sums -= sums // PRIME * PRIME  # numpy divides by a constant seven times faster than it takes remainders
        result[:, start : start + step] = sums
    return result


def inverse(a: Elements) -> Elements:
    """Return 1 / a, element by element, and 0 for 0: a to the power of PRIME - 2."""
    power, result = a.astype(np.uint64), np.ones(a.shape, np.uint64)
    for bit in reversed(f"{PRIME - 2:b}"):
        if bit == "1":
            result = result * power % PRIME
        power = power * power % PRIME
    return result.astype(np.uint16)


def product(a: Elements) -> Elements:
    """Return the product over the last axis. Shapes: (..., k) -> (...)."""
    result = np.ones(a.shape[:-1], np.uint64)
    for factor in np.moveaxis(a, -1, 0):
        result = result * factor % PRIME
    return result.astype(np.uint16)


def uniform(source: Callable[[int], bytes], count: int) -> Elements:
    """Return the first `count` elements of a stream: its 16-bit little-endian words but for those that are none.

    Exactly uniform if the stream's bits are. Nothing is read past the last word that is taken, so two who hold the
    same stream get the same elements, whatever else they read from it.
    Trusts:  that `source(n)` gives the stream's next n bytes, and that nobody else knows them.
    """
    if count < 0:
        raise LocalError("a negative number of elements")
    taken = np.empty(0, np.uint16)
    while missing := count - len(taken):
        data = source(2 * missing)
        if len(data) != 2 * missing:
            raise LocalError(f"{2 * missing} bytes were asked of a source, {len(data)} came")
        words = np.frombuffer(data, "<u2").astype(np.uint16)
        taken = np.concatenate([taken, words[words < PRIME]])
    return taken
