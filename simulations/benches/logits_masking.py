"""Measure what masking one position costs a member: from its numbers to the bytes of its letter, four members."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.secure_sum.terms import Mode
from simulations.benches.members import crowd, encoded
from simulations.benches.rows import Row, at_most, batched
from simulations.benches.sizes import plain_spec, probabilities

MEMBERS, SYMBOLS = 4, 151_936  # the vocabulary of Qwen 2.5


@dataclass(frozen=True, slots=True)
class Masking:
    """Say how many symbols a position has, and how often its masking is timed."""

    symbols: int = SYMBOLS
    batches: int = 100
    batch: int = 2


def masking(size: Masking | None = None) -> Sequence[Row]:
    """Return the milliseconds of one position: fixed point, masks and letter, in words of 16 and of 32 bits."""
    size = size or Masking()
    values, rows = probabilities(size.symbols), []
    for bits, name in ((16, "mask_ms_152k"), (32, "mask_ms_152k_u32")):
        here, spec = crowd(MEMBERS, Mode.STRICT, bits=bits), plain_spec(size.symbols, MEMBERS, bits)
        requests = iter([here.request(spec) for _ in range(size.batches * size.batch)])
        first = here.first

        def position() -> bytes:
            return encoded(first.upload(next(requests), values))  # noqa: B023  called at once

        rows.append(at_most(name, batched(size.batches, size.batch, position), 1.0, "ms"))
    return rows
