"""Share secrets so that any `threshold` holders find them again, and fewer learn nothing. Many secrets at once.

A secret is what a polynomial of degree below the threshold takes at point 0; a share is what it takes at the holder's
point, 1 to 65,520. All is one operation: from what polynomials take at some points, find what they take at others.

Shapes:  each of the m columns is a polynomial of its own; a row holds what all of them take at one point.
Learns:  fewer than `threshold` holders: nothing, whatever they can compute. Any `threshold` of them: the secrets.
Trusts:  that shares are true. A wrong share gives wrong secrets, unnoticed here: commit to the secrets.
Cites:   Shamir 1979.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.faults import LocalError, PeerError
from protocols.field import PRIME, Elements, inverse, matmul, product, uniform

LIMBS = 16  # of a secret that becomes a seed: 16 elements have 255.99 bits
_SEED = b"parley/v1/secure-sum/seed"
_SECRET = 0


def extend(at: Sequence[int], values: Elements, to: Sequence[int]) -> Elements:
    """Return what the polynomials of degree below len(at) through (at, values) take at `to`.

    Point 0, that of the secrets, may be in `at` or `to`. A point may be in both.

    Shapes:  values (len(at), m) -> (len(to), m).
    Raises:  PeerError for a point out of range or twice on one side, for another number of values, or for a value
             that is no element.
    """
    _check(at, least=_SECRET)
    if to:
        _check(to, least=_SECRET)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise LocalError("values are rows of uint16")
    if len(values) != len(at):
        raise PeerError(f"{len(values)} rows of shares for {len(at)} points")
    if values.size and values.max() >= PRIME:
        raise PeerError("a share that is no element of the field")
    return matmul(_lagrange(tuple(at), tuple(to)), values)


def share(secrets: Elements, points: Sequence[int], threshold: int, source: Callable[[int], bytes]) -> Elements:
    """Return shares of the secrets for the holders at `points`, of whom any `threshold` find them again.

    The first threshold - 1 holders' shares are drawn from `source`; the others follow from those and the secrets.

    Shapes:  secrets (m,) -> (len(points), m).
    Trusts:  that `source` is uniform and nobody else knows what it gives.
    Raises:  PeerError for a point that is no holder's or comes twice, or for a threshold that no holders can reach.
    """
    _check(points, least=_SECRET + 1)
    if not 1 <= threshold <= len(points):
        raise PeerError(f"a threshold of {threshold} among {len(points)} holders")
    drawn = uniform(source, (threshold - 1) * len(secrets)).reshape(threshold - 1, len(secrets))
    known = np.concatenate([secrets[np.newaxis], drawn])
    return np.concatenate([drawn, extend((_SECRET, *points[: threshold - 1]), known, points[threshold - 1 :])])


def reconstruct(points: Sequence[int], shares: Elements) -> Elements:
    """Return the secrets whose shares at `points` are `shares`: wrong ones, if the holders are too few or one lies.

    Shapes:  shares (len(points), m) -> (m,).
    Raises:  PeerError for a point that is no holder's or comes twice, or as `extend` does.
    """
    _check(points, least=_SECRET + 1)
    secrets: Elements = extend(points, shares, (_SECRET,))[0]
    return secrets


def seed(limbs: Elements) -> bytes:
    """Return the key (32 bytes) that a secret of 16 uniform elements stands for."""
    if limbs.shape != (LIMBS,) or limbs.dtype != np.uint16:
        raise LocalError(f"a seed is made of {LIMBS} elements")
    return HKDF(SHA256(), 32, salt=None, info=_SEED).derive(limbs.astype("<u2").tobytes())


def _check(points: Sequence[int], least: int) -> None:
    if not points:
        raise PeerError("no points")
    if min(points) < least or max(points) >= PRIME:
        raise PeerError(f"a point that is not between {least} and {PRIME - 1}")
    if len(set(points)) != len(points):
        raise PeerError("a point comes twice")


@lru_cache(maxsize=64)
def _lagrange(at: tuple[int, ...], to: tuple[int, ...]) -> Elements:
    """Return the matrix (len(to), len(at)) that takes values at `at` to values at `to`, both distinct.

    Row t, column a: the product over all b but a in `at` of (t - b) / (a - b).
    """
    here, there = np.array(at, np.int64), np.array(to, np.int64)
    between = _differences(here, here)
    np.fill_diagonal(between, 1)
    across = _differences(there, here)
    whole = product(across).astype(np.uint64)[:, np.newaxis] * inverse(product(between)) % PRIME
    matrix = (whole * inverse(across) % PRIME).astype(np.uint16)
    matrix[across == 0] = 1  # where t is the point a, the row is all of a's value; `whole` has made the others 0
    matrix.setflags(write=False)
    return matrix


def _differences(a: NDArray[np.int64], b: NDArray[np.int64]) -> Elements:
    return ((a[:, np.newaxis] - b) % PRIME).astype(np.uint16)
