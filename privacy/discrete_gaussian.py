"""Draw from the discrete Gaussian exactly, a whole vector at once: integers in, integers out.

The law is P[x] ∝ exp(-x**2 / (2 sigma**2)) on the integers of [-limit, limit), limit >= 16 sigma: what is cut off
weighs less than 2**-183. It is written as a mixture, over blocks of `width` integers, a power of two:

    core      what lies under the block's lowest density, rounded down to whole slots of 2**16: uniform, no test
    rest      what is left, under whole slots of a second table of 2**16: proposed uniformly, then accepted if

                  U * span + below < height * exp(-x**2 / (2 sigma**2)),        U uniform in [0, 1)

              where `below` is the core's share and `span` the proposal's, integers in units of 2**-32.

The core is about 98 % of the draws: sixteen bits of a word choose the slot, its low bits the place in the block.
A refused proposal starts again. The tables keep a margin from the density far above the rounding of float64, and
float64 decides the test only where it is farther from a tie than WINDOW; exact rationals and more words decide a tie.
"""

import math
import os
import threading
import weakref
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from privacy.randomness import Randomness, UnsafeSeededRandomness

Noise = NDArray[np.int32 | np.int64]

REACH = 16  # deviations to the end of the support
WINDOW = 2.0**-40  # of the two sides' sum; float64 errs by less than 2**-43 of it (exponents to 170, four roundings)
_SLOT_BITS = 16
_SLOTS = 2**_SLOT_BITS
_MARGIN = 2.0**-30  # kept by the tables from every density that float64 computed
_CHUNK = 2**16  # samples whose words stay in the cache


@dataclass(frozen=True, slots=True)
class DiscreteGaussian:
    """Draw independent integers of standard deviation `sigma`, from 0.5 to 2**40.

    The time depends on how many draws of the whole vector came from the rest or were refused, and on which lines of
    the two tables are in the cache; no loop runs for one sample (Jin et al. 2022 time such loops).

    Trusts:  the words are uniform and unpredictable.
    Cites:   Canonne, Kamath and Steinke 2020, definition 1, for the law; the sampler is another.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0.5 <= self.sigma <= 2.0**40:
            raise ValueError("sigma: expected a number from 0.5 to 2**40")

    @property
    def limit(self) -> int:
        """Return where the support ends: it is the integers of [-limit, limit)."""
        return _tables(self.sigma).limit

    def draw(self, size: int, randomness: Randomness) -> Noise:
        """Return shape (size,), int32 where the support fits and int64 elsewhere."""
        tables = _tables(self.sigma)
        samples = np.empty(size, dtype=tables.starts.dtype)
        for start in range(0, size, _CHUNK):
            _fill(samples[start : start + _CHUNK], tables, randomness)
        return samples


class NoisePool:
    """Hold up to `capacity` samples of `law`, drawn beforehand; each is given out once and then erased here.

    `fill` fills it; `start` leaves that to a thread, whenever the pool is half empty, until `close`. A process that
    forks leaves its child an empty pool: of two releases with one noise, the difference is bare.
    """

    def __init__(self, law: DiscreteGaussian, randomness: Randomness, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity: expected at least 1")
        if isinstance(randomness, UnsafeSeededRandomness):  # the gate sees its own randomness only, not a pool's
            raise ValueError("a pool is filled from the system's randomness, never from a seed")
        self.law, self.capacity = law, capacity
        self._randomness = randomness
        self._filler: threading.Thread | None
        self._forget()
        if hasattr(os, "register_at_fork"):
            mine = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(mine))

    @property
    def ready(self) -> int:
        """Return how many samples wait."""
        return self._ready

    def take(self, size: int) -> Noise:
        """Return shape (size,): samples that wait, and where they are too few others drawn now."""
        if size < 0:
            raise ValueError("size: expected at least 0")
        with self._change:
            given = min(size, self._ready)
            waiting = self._samples[self._ready - given : self._ready]
            samples = waiting.copy()
            waiting.fill(0)
            self._ready -= given
            self._change.notify_all()
        if given == size:
            return samples
        return np.concatenate([samples, self.law.draw(size - given, self._randomness)])

    def fill(self) -> None:
        """Draw until the pool is full."""
        while self._add():
            pass

    def start(self) -> None:
        """Keep the pool filled, in a thread that does not keep the process alive."""
        if self._filler is None:
            self._filler = threading.Thread(target=self._keep_filled, name="noise pool", daemon=True)
            self._filler.start()

    def close(self) -> None:
        """Stop the thread, and erase what waits: the pool may be started again."""
        filler, self._filler = self._filler, None
        with self._change:
            self._change.notify_all()
        if filler is not None:
            filler.join()
        self.take(self._ready)

    def _add(self) -> bool:
        """Draw one piece, outside the lock so that `take` waits for a copy at most; say whether any was missing."""
        missing = self.capacity - self._ready
        piece = self.law.draw(min(missing, _CHUNK), self._randomness)
        with self._change:
            kept = min(piece.size, self.capacity - self._ready)  # another thread may have filled it meanwhile
            self._samples[self._ready : self._ready + kept] = piece[:kept]
            self._ready += kept
        return missing > 0

    def _keep_filled(self) -> None:
        while self._filler is not None:
            if not self._add():
                with self._change:
                    self._change.wait_for(lambda: self._filler is None or 2 * self._ready < self.capacity)

    def _forget(self) -> None:
        """Begin with no samples, no thread, and a lock that no thread of a parent process holds."""
        self._samples = np.zeros(self.capacity, dtype=self.law.draw(0, self._randomness).dtype)
        self._ready, self._filler = 0, None
        self._change = threading.Condition()


def _forget(pool: "weakref.ref[NoisePool]") -> None:
    if (mine := pool()) is not None:
        mine._forget()


@dataclass(frozen=True, slots=True)
class _Tables:
    """Hold what depends on sigma alone.

    Shapes:  starts (2**16,): a core block's first integer, or `nowhere`, below the support, in the slots of the rest;
             blocks (2**16,) int64: a block of the rest. below, span (blocks,) float64, whole numbers under 2**33.
    """

    sigma: float
    width: int
    limit: int
    height: int
    starts: Noise
    blocks: NDArray[np.int64]
    below: NDArray[np.float64]
    span: NDArray[np.float64]


def _fill(samples: Noise, tables: _Tables, randomness: Randomness) -> None:
    """Overwrite `samples` with independent draws."""
    _propose(samples, tables, randomness)
    rest = np.flatnonzero(samples < -tables.limit)
    while rest.size:
        values, accepted = _test(rest.size, tables, randomness)
        samples[rest[accepted]] = values[accepted]
        again = np.empty(rest.size - np.count_nonzero(accepted), dtype=samples.dtype)
        rest = rest[~accepted]
        _propose(again, tables, randomness)
        samples[rest] = again
        rest = rest[again < -tables.limit]


def _propose(samples: Noise, tables: _Tables, randomness: Randomness) -> None:
    """Overwrite `samples` with draws from the core; below the support where the rest was drawn."""
    words = randomness.words(samples.size)
    slots = (words >> np.uint64(64 - _SLOT_BITS)).view(np.int64)
    tables.starts.take(slots, out=samples, mode="clip")  # the slots are in range; "raise" would copy
    if tables.width > 1:
        samples += (words & np.uint64(tables.width - 1)).astype(samples.dtype)


def _test(size: int, tables: _Tables, randomness: Randomness) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return `size` proposals from the rest, and which of them are accepted."""
    words = randomness.words(2 * size).reshape(2, size)
    blocks = tables.blocks[(words[0] >> np.uint64(64 - _SLOT_BITS)).view(np.int64)]
    places = (words[0] & np.uint64(tables.width - 1)).view(np.int64)
    values = blocks * tables.width - tables.limit + places
    left = (words[1] >> np.uint64(11)) * 2.0**-53 * tables.span[blocks] + tables.below[blocks]
    right = tables.height * np.exp(-0.5 * (values / tables.sigma) ** 2)
    accepted = left < right
    for i in np.flatnonzero(np.abs(left - right) <= WINDOW * (left + right)):
        b, u = int(blocks[i]), int(words[1, i])
        accepted[i] = _decide(u, int(tables.span[b]), int(tables.below[b]), int(values[i]), tables, randomness)
    return values, accepted


def _decide(u: int, span: int, below: int, value: int, tables: _Tables, randomness: Randomness) -> bool:
    """Return the test's exact outcome, U being the bits of `u` and, while it is open, those of more words."""
    exponent = Fraction(value * value) / (2 * Fraction(tables.sigma) ** 2)
    bits, digits = 64, 40
    while True:
        low, high = _exp(exponent, digits)
        if below + Fraction((u + 1) * span, 2**bits) <= tables.height * low:
            return True
        if below + Fraction(u * span, 2**bits) >= tables.height * high:
            return False
        u = (u << 64) | int(randomness.words(1)[0])
        bits, digits = bits + 64, digits + 20


def _exp(exponent: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Return bounds on exp(-exponent), for exponents below 1,000: `Context.exp` is correctly rounded."""
    context = Context(prec=digits)
    quotient = context.divide(Decimal(-exponent.numerator), Decimal(exponent.denominator))
    value = Fraction(context.exp(quotient))
    error = value / 10 ** (digits - 5)  # the quotient's error, below 10**(3 - digits), and the result's
    return value - error, value + error


@lru_cache(maxsize=8)
def _tables(sigma: float) -> _Tables:
    """Return the tables of `sigma`: 64 to 128 blocks a deviation, or one block an integer."""
    width = 2 ** max(0, math.floor(math.log2(sigma / 64)))
    half = math.ceil(REACH * sigma / width)
    limit = half * width
    firsts = np.arange(-half, half, dtype=np.int64) * width
    height, core, rest = _slots(firsts, width, sigma)
    others = _SLOTS - int(core.sum())
    starts = np.append(np.repeat(firsts, core), np.full(others, -limit - width))  # any place added: still below
    return _Tables(
        sigma=sigma,
        width=width,
        limit=limit,
        height=height,
        starts=starts.astype(np.int32 if limit + width < 2**31 else np.int64),
        blocks=np.repeat(np.arange(2 * half), rest),
        below=(core * _SLOTS).astype(np.float64),
        span=(rest * others).astype(np.float64),
    )


def _slots(firsts: NDArray[np.int64], width: int, sigma: float) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return the height, and for every block its slots in the core and in the rest; the rest fills its table.

    The height is the greatest that fits, to a part in a thousand: it costs refusals, never exactness.
    """
    ends = np.abs(np.stack([firsts, firsts + (width - 1)]))  # a block lies on one side of zero
    lowest = np.exp(-0.5 * (ends.max(axis=0) / sigma) ** 2) * (1 - _MARGIN)
    highest = np.exp(-0.5 * (ends.min(axis=0) / sigma) ** 2) * (1 + _MARGIN)
    for thousandths in range(1000, 0, -1):
        height = int(_SLOTS**2 / highest.sum() * thousandths / 1000)
        core = np.floor(height * lowest / _SLOTS).astype(np.int64)
        others = _SLOTS - int(core.sum())
        rest = np.ceil((height * highest - core * float(_SLOTS)) / max(others, 1)).astype(np.int64)
        if others > 0 and rest.sum() <= _SLOTS:
            rest[0] += _SLOTS - rest.sum()  # proposals at the end of the support, nearly all refused
            return height, core, rest
    raise AssertionError("no height fits: sigma is in range, so this cannot be")
