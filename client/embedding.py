"""Place texts by their character n-grams: learned from public texts alone, so that every member places alike.

Each n-gram is hashed to a weight (how rare it is in the public texts) and to a coordinate with a sign: a random
projection of the vector of all n-grams. Of that, the directions count in which the public texts differ most: texts
about the same things lie near each other.
Cites:   Weinberger et al. 2009 (feature hashing, signs); Deerwester et al. 1990 (latent semantic analysis).
"""

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float32]

AXES = 32
_DIMENSIONS = 1024  # of the random projection
_LEAST = 4 * AXES  # public texts; of fewer the axes would say little
_SAMPLE = 2048  # of the public texts, from which weights and axes are found
_TRIED, _STEPS = AXES + 16, 4  # axes that are looked for, and how often
_SIZES = (3, 4, 5)  # bytes
_BASE, _MIX, _SPREAD = (np.uint64(x) for x in (0x100000001B3, 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93))
_BUCKETS = 18  # bits by which n-grams are told apart for their weights
_AT_ONCE = 256  # texts
_CHUNK = 2**15  # bytes whose n-grams stay in the cache


class Embedding:
    """Place texts by what tells the `public` ones apart; `places` are the public ones' own, as `place` says them."""

    def __init__(self, public: Sequence[str]) -> None:
        pieces = list(map(_folded, public))
        count = min(_SAMPLE, len(pieces))
        some = [i * len(pieces) // count for i in range(count)]
        self._weights = _weights([pieces[i] for i in some])
        self._middle, self._axes = np.zeros(_DIMENSIONS, np.float32), np.eye(_DIMENSIONS, dtype=np.float32)
        spread = self._spread(pieces)
        if count >= _LEAST:
            self._middle = spread[some].mean(axis=0)
            self._axes = _widest(spread[some] - self._middle)
        self.places = self._along(spread)

    def place(self, texts: Sequence[str]) -> Places:
        """Return unit vectors, shape (texts, axes) float32; zeros for a text without any letter."""
        return self._along(self._spread(list(map(_folded, texts))))

    def _along(self, spread: Places) -> Places:
        """Return where projections lie along the axes, at length 1."""
        known = spread.any(axis=1, keepdims=True)
        return normalised(np.where(known, (spread - self._middle) @ self._axes, 0))

    def _spread(self, pieces: Sequence[bytes]) -> Places:
        """Return the random projection of each text's n-grams, at length 1."""
        places = np.zeros((len(pieces), _DIMENSIONS), np.float32)
        for rows, grams in _grams(pieces):
            weights = self._weights[grams >> np.uint64(64 - _BUCKETS)]
            spread = grams * _SPREAD
            at = (spread >> np.uint64(40)).astype(np.intp) & (_DIMENSIONS - 1)
            signed = np.where(spread & np.uint64(1 << 39), weights, -weights)
            first, end = int(rows.min()), int(rows.max()) + 1
            sums = np.bincount((rows - first) * _DIMENSIONS + at, signed, (end - first) * _DIMENSIONS)
            places[first:end] += sums.reshape(-1, _DIMENSIONS).astype(np.float32)
        return normalised(places)


def normalised(places: Places) -> Places:
    """Return each row at length 1; zeros stay."""
    lengths = np.linalg.norm(places, axis=1, keepdims=True)
    return np.asarray(places / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def nearest(places: Places, among: Places) -> NDArray[np.intp]:
    """Return, for each place, the index of the nearest of `among`, the first of equals; -1 for one that is zeros."""
    found = np.full(len(places), -1, np.intp)
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        found[start : start + _AT_ONCE] = np.where(part.any(axis=1), (part @ among.T).argmax(axis=1), -1)
    return found


def _weights(pieces: Sequence[bytes]) -> Places:
    """Return what each bucket of n-grams counts, the more the rarer it is in these texts: shape (buckets,)."""
    found = np.zeros(2**_BUCKETS, np.intp)
    for _, grams in _grams(pieces):
        found += np.bincount(grams >> np.uint64(64 - _BUCKETS), minlength=2**_BUCKETS)
    return np.asarray(np.log((1 + found.sum()) / (1 + found)) / 8, np.float32)


def _widest(off: Places) -> Places:
    """Return orthonormal axes (dimensions, axes) along which the rows differ most, as far as a few steps find them.

    Always from the same start, so that members find the same; what the steps leave over matters to no neighbour.
    Cites:   Halko, Martinsson and Tropp 2011, algorithm 4.4 (subspace iteration).
    """
    start = np.random.default_rng(0).standard_normal((off.shape[0], _TRIED), dtype=np.float32)
    for _ in range(_STEPS):
        start = off @ np.linalg.qr(off.T @ start)[0]
    basis = np.linalg.qr(off.T @ start)[0]
    _, _, along = np.linalg.svd(off @ basis, full_matrices=False)
    return np.asarray(basis @ along[:AXES].T, np.float32)


def _grams(pieces: Sequence[bytes]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint64]]]:
    """Yield 64-bit hashes of the texts' n-grams and whose they are, in order, several texts at a time."""
    rows: list[int] = []
    size = 0
    for row, piece in enumerate(pieces):
        if piece:
            rows.append(row)
            size += len(piece)
        if size >= _CHUNK:
            yield _hashed(rows, [pieces[r] for r in rows])
            rows, size = [], 0
    if rows:
        yield _hashed(rows, [pieces[r] for r in rows])


def _hashed(rows: Sequence[int], pieces: Sequence[bytes]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """Return the hashes of all n-grams within each piece, and the row of each."""
    owner = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
    data = np.frombuffer(b"".join(pieces), np.uint8).astype(np.uint64)
    value, whose, grams = np.zeros(data.size, np.uint64), [], []
    for size in range(1, max(_SIZES) + 1):
        value = value[: data.size - size + 1] * _BASE + data[size - 1 :] + np.uint64(1)
        if size in _SIZES:
            within = owner[: value.size] == owner[size - 1 :]
            mixed = (value ^ (value >> np.uint64(29))) * _MIX
            grams.append(((mixed ^ (mixed >> np.uint64(32))) * _MIX)[within])
            whose.append(owner[: value.size][within])
    order = np.asarray(rows, np.intp)
    return order[np.concatenate(whose)], np.concatenate(grams)


def _folded(text: str) -> bytes:
    """Return the text's bytes, folded in case, form and space; nothing if it has neither letter nor digit."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return f" {folded} ".encode(errors="replace") if any(map(str.isalnum, folded)) else b""
