"""Write a clipped vector as integers whose sum over the members never wraps, and read the sum back.

A coordinate x becomes the integer nearest to scale * x, between -scale * coordinate and scale * coordinate; sums are
taken modulo 2**bits and read as signed. The noise is calibrated to the integers themselves: their L2 norm is checked
in whole numbers, so that no rounding of floating point enters the guarantee.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.refusal import NotEncodable

Integers = NDArray[np.int32]
Reals = NDArray[np.float32] | NDArray[np.float64]

WIDTHS = (16, 24, 32)
LEAST_DEVIATION = 4.0  # from here on a sum of discrete Gaussians costs what one Gaussian does
_WRAP_BITS = 60  # a coordinate of the noised sum wraps with probability below 2**-60
_ROW = 2**9  # squares that float32 adds with an error below _ROW * 2**-24
_CHUNK = 2**16  # values whose temporaries stay in the cache


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Encode one member's vector of shape (length,), and decode the sum over at most `members` of them.

    Units:  scale in steps per unit; coordinate and norm in units, norm in L2; deviation in steps: of the discrete
            Gaussian that every member adds, 0 for none.
    """

    length: int
    bits: int
    scale: float
    coordinate: float
    norm: float | None
    members: int
    deviation: float

    def __post_init__(self) -> None:
        _check(self.length, self.bits, self.members, self.coordinate, self.norm)
        if not 0 < self.scale < math.inf:
            raise ValueError("scale: expected a positive, finite number")
        if not 0 <= self.deviation < math.inf:
            raise ValueError("deviation: expected a finite number, at least 0")
        if self.members * (self.scale * _reach(self.coordinate, self.norm) + 0.5) >= 2 ** (self.bits - 1):
            raise ValueError(f"{self.bits} bits are too few for the sum of {self.members} members at this scale")

    @property
    def bound(self) -> float:
        """Return what the integers' L2 norm never exceeds: the scaled norm, and half a step a coordinate."""
        if self.norm is None:
            raise ValueError("without a clipping norm the integers have no L2 bound")
        return self.scale * self.norm + math.sqrt(self.length) / 2

    def encode(self, vector: NDArray[np.floating]) -> Integers:
        """Clip the coordinates, then the L2 norm if there is one, and return the nearest integers, (length,) int32.

        A float32 vector is scaled in float32: half a unit in its own last place is added to the rounding.

        Raises:  NotEncodable if a value is not finite or the vector of another kind or length.
        """
        values = self._checked(vector)
        if self.norm is None:
            return self._rounded(values, 1.0)[0]
        about = math.sqrt(_square(values)) * 1.001  # a float32 estimate decides only who need not look closely
        length = 0.0 if about <= self.norm else _clipped_norm(values, self.coordinate)
        shrink = min(1.0, self.norm / length) if length > 0 else 1.0
        integers, squares = self._rounded(values, shrink)
        if squares * (1 + 2.0**-14) <= self.bound**2:  # float32 errs by less: within, without a closer look
            return integers
        while (squares := sum_of_squares(integers)) > Fraction(self.bound) ** 2:
            shrink *= min(self.bound / math.sqrt(squares), 1 - 2.0**-20)  # the rounding above went over: once more
            integers, _ = self._rounded(values, shrink)
        return integers

    def decode(self, words: NDArray[np.unsignedinteger], members: int) -> NDArray[np.float64]:
        """Return the sum over `members` in units, shape (length,) float64, from words modulo 2**bits."""
        if not 1 <= members <= self.members:
            raise ValueError(f"a sum over {members} members, sized for {self.members}")
        kinds = (np.uint16, np.uint32) if self.bits == 16 else (np.uint32,)
        if words.shape != (self.length,) or words.dtype not in kinds:
            raise ValueError(f"expected {self.length} words of {self.bits} bits")
        values = np.empty(self.length)
        for start in range(0, self.length, _CHUNK):
            part = values[start : start + _CHUNK]
            np.copyto(part, self._signed(words[start : start + _CHUNK]))
            part *= 1 / self.scale  # a third of the time of a division, for a unit in the last place
        return values

    def _signed(self, words: NDArray[np.unsignedinteger]) -> NDArray[np.signedinteger]:
        if words.dtype == np.uint16:
            return words.view(np.int16)
        if self.bits == 32:
            return words.view(np.int32)
        free = np.uint32(32 - self.bits)
        return (words << free).view(np.int32) >> free.astype(np.int32)

    def _checked(self, vector: NDArray[np.floating]) -> Reals:
        """Return the vector as float32 or float64, or refuse it without saying what is in it."""
        if not isinstance(vector, np.ndarray) or vector.dtype not in (np.float16, np.float32, np.float64):
            raise NotEncodable("expected an array of float16, float32 or float64")
        if vector.shape != (self.length,):
            raise NotEncodable(f"expected shape ({self.length},), got {vector.shape}")
        values: Reals = vector if vector.dtype == np.float64 else vector.astype(np.float32, copy=False)
        if not math.isfinite(_square(values)) and not np.isfinite(values).all():
            raise NotEncodable("a value is not finite")
        return values

    def _rounded(self, values: Reals, shrink: float) -> tuple[Integers, float]:
        """Return the integers nearest to scale * shrink * values, the coordinates clipped before the shrinking.

        And the sum of their squares, to one part in 2**14, if there is a norm for it to be held against.
        """
        kind = values.dtype.type
        largest = min(self.coordinate * shrink, _reach(self.coordinate, self.norm))
        scale, edge = (_toward_zero(self.scale * x, kind) for x in (shrink, largest))
        raw = np.empty(4 * self.length + 64, dtype=np.uint8)
        first = -raw.ctypes.data % 64
        integers = raw[first : first + 4 * self.length].view(np.int32)  # on a cache line, for who adds to it
        work, squares = np.empty(min(self.length, _CHUNK), dtype=kind), 0.0
        with np.errstate(over="ignore"):  # what overflows is clipped
            for start in range(0, self.length, _CHUNK):
                part = values[start : start + _CHUNK]
                scaled = np.multiply(part, scale, out=work[: part.size])
                np.clip(scaled, -edge, edge, out=scaled)
                np.rint(scaled, out=scaled)
                np.copyto(integers[start : start + _CHUNK], scaled, casting="unsafe")
                if self.norm is not None:
                    squares += _square(scaled)
        return integers, squares


def sized(
    *,
    length: int,
    bits: int,
    members: int,
    coordinate: float,
    norm: float | None = None,
    noise_multiplier: float = 0.0,
    honest: int = 1,
    vectors: int = 0,
) -> FixedPoint:
    """Return the encoding of the largest scale at which a coordinate of the sum wraps with probability below 2**-60.

    Units:   noise_multiplier in units of the L2 bound; `honest` members' noise is enough for it; `vectors` of this
             norm are in the sum, where members add several each (then the noise wraps it with half that probability).
    Raises:  ValueError where nothing fits.
    Cites:   Canonne, Kamath and Steinke 2020: a discrete Gaussian is sub-Gaussian with its own sigma.
    """
    _check(length, bits, members, coordinate, norm)
    if not 1 <= honest <= members:
        raise ValueError("honest: expected from 1 to the number of members")
    if noise_multiplier and norm is None:
        raise ValueError("noise needs a clipping norm: it is measured in it")
    if not 0 <= noise_multiplier < math.inf:
        raise ValueError("noise_multiplier: expected a finite number, at least 0")
    # n (scale L + 1/2) + t sqrt(n) sigma < 2**(bits - 1), where sigma = z (scale norm + sqrt(length) / 2) / sqrt(h)
    tail = math.sqrt(2 * math.log(2 * length) + 2 * (_WRAP_BITS + bool(vectors)) * math.log(2))
    share = noise_multiplier / math.sqrt(honest)
    spread = tail * math.sqrt(members) * share
    most = max(members, vectors)
    room = 2 ** (bits - 1) - most / 2 - spread * math.sqrt(length) / 2
    reach = _reach(coordinate, norm)
    scale = float(_toward_zero(room / (most * reach + spread * (norm or 0.0)) * (1 - 2.0**-40), np.float32))
    if not scale * reach >= 1:
        raise ValueError(f"{bits} bits are too few for {most} vectors, {length} coordinates and this noise")
    code = FixedPoint(length, bits, scale, coordinate, norm, members, 0.0)
    if not noise_multiplier:
        return code
    deviation = share * code.bound
    if deviation < LEAST_DEVIATION:
        raise ValueError(f"a member's noise would have deviation {deviation:.2g}, and needs {LEAST_DEVIATION}")
    return FixedPoint(length, bits, scale, coordinate, norm, members, deviation)


def largest_sample(expected: float, units: int) -> int:
    """Return a size that a Poisson sample of `units` exceeds with probability below 2**-61.

    What is beyond would wrap the sum's words: that costs a step's use, and no privacy.
    Cites:   Chernoff's bound, exp(-m h(x / m - 1)) with h(u) = (1 + u) log(1 + u) - u, for the mean m.
    """
    if not 0 < expected <= units:
        raise ValueError("expected: between 0 and the number of units")

    def rare(size: int) -> bool:
        over = size / expected
        return expected * (over * math.log(over) - over + 1) > (_WRAP_BITS + 1) * math.log(2)

    low, high = math.ceil(expected), 2 * math.ceil(expected) + 1
    while not rare(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rare(middle) else (middle, high)
    return min(high, units)


def sum_of_squares(integers: Integers) -> int:
    """Return the exact sum of the squares: float64 adds them, or those of 16-bit limbs, without rounding."""
    total = 0
    for start in range(0, integers.size, _CHUNK):
        part = integers[start : start + _CHUNK]
        if max(int(part.max()), -int(part.min())) < 2**18:  # 2**16 squares below 2**36: integers below 2**52
            whole = part.astype(np.float64)
            total += int(whole @ whole)
            continue
        high, low = (part >> 16).astype(np.float64), (part & 0xFFFF).astype(np.float64)
        # 2**16 products below 2**32: every partial sum is an integer below 2**48
        total += (int(high @ high) << 32) + (int(high @ low) << 17) + int(low @ low)
    return total


def _check(length: int, bits: int, members: int, coordinate: float, norm: float | None) -> None:
    if length < 1 or members < 1:
        raise ValueError("length and members: expected at least 1")
    if bits not in WIDTHS:
        raise ValueError(f"bits: expected one of {WIDTHS}")
    if not 0 < coordinate < math.inf or not (norm is None or 0 < norm < math.inf):
        raise ValueError("coordinate and norm: expected positive, finite numbers")


def _square(values: Reals) -> float:
    """Return the sum of the squares to one part in 2**14, infinite if one overflows: short rows, added in float64."""
    whole = values.size - values.size % _ROW
    rows, rest = values[:whole].reshape(-1, _ROW), values[whole:]
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.vecdot(rows, rows).sum(dtype=np.float64)) + float(rest.dot(rest))


def _reach(coordinate: float, norm: float | None) -> float:
    return coordinate if norm is None else min(coordinate, norm)


def _clipped_norm(values: Reals, coordinate: float) -> float:
    """Return the L2 norm, in float64, of the values clipped to [-coordinate, coordinate]."""
    total = 0.0
    for start in range(0, values.size, _CHUNK):
        part = np.clip(values[start : start + _CHUNK], -coordinate, coordinate).astype(np.float64)
        total += float(part @ part)
    return math.sqrt(total)


def _toward_zero(value: float, kind: type[np.floating]) -> np.floating:
    """Return the number of this kind nearest to a positive `value` that is not above it."""
    nearest = kind(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, kind(0))
