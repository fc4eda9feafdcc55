"""Measure the sums of single tokens: five members, STRICT, from float32 probabilities to the encoded upload."""

import math

from privacy.discrete_gaussian import DiscreteGaussian, NoisePool
from privacy.fixed_point import FixedPoint, sized
from privacy.randomness import SystemRandomness
from protocols.secure_sum.terms import Mode
from simulations.benches.members import Crowd, crowd, decoded, encoded
from simulations.benches.rows import Row, at_most, batched
from simulations.benches.sizes import Sizes, Vector, plain_spec, probabilities

MEMBERS = 5


def of_a_member(sizes: Sizes) -> list[Row]:
    """Take the time and the bytes of a token at one member, in words of 32 and of 16 bits."""
    rows, values = [], probabilities(sizes.vocabulary)
    for bits, most, share in ((32, 0.8, 1.001), (16, 0.6, 0.501)):
        here, spec = crowd(MEMBERS, Mode.STRICT, bits=bits), plain_spec(sizes.vocabulary, MEMBERS, bits)
        took = _token_ms(sizes, here, spec, values)
        sent = len(encoded(here.first.upload(here.request(spec), values))) / sizes.vocabulary
        rows.append(at_most(f"token_ms_u{bits}_128256_n5", took, most, "ms"))
        rows.append(at_most(f"bytes_per_entry_strict_u{bits}_128256_n5", sent, 4 * share, "B"))
    return rows


def of_the_coordinator(sizes: Sizes) -> list[Row]:
    """Take the time of checking and adding one token's uploads; and from bytes to floats."""
    here, values = crowd(MEMBERS, Mode.STRICT), probabilities(sizes.vocabulary)
    spec = plain_spec(sizes.vocabulary, MEMBERS)
    request = here.request(spec)
    letters = {n: encoded(m.upload(request, values)) for n, m in here.members.items()}
    uploads = {n: decoded(letter) for n, letter in letters.items()}

    def whole() -> object:
        return spec.decode(here.replay(request, {n: decoded(data) for n, data in letters.items()}).words, MEMBERS)

    took = batched(sizes.batches, sizes.batch, lambda: here.replay(request, uploads))
    return [
        at_most("server_sum_ms_128256_n5", took, 0.25, "ms"),
        Row("server_bytes_to_floats_ms_128256_n5", batched(sizes.batches, sizes.batch, whole), "ms"),
    ]


def of_noise(sizes: Sizes) -> list[Row]:
    """Take the difference that noise makes. Its pool is full: a thread fills it while the model computes."""
    here, values = crowd(MEMBERS, Mode.STRICT), probabilities(sizes.vocabulary)
    clipped = sized(
        length=sizes.vocabulary,
        bits=32,
        members=MEMBERS,
        coordinate=1.0,
        norm=math.sqrt(2),
        noise_multiplier=0.5,
        honest=here.terms.honest,
    )
    pool = NoisePool(
        DiscreteGaussian(clipped.deviation), SystemRandomness(), sizes.batches * sizes.batch * sizes.vocabulary
    )
    pool.fill()
    without = _token_ms(sizes, here, plain_spec(sizes.vocabulary, MEMBERS), values)
    unnoised = _token_ms(sizes, here, clipped, values)
    noised = _token_ms(sizes, here, clipped, values, pool)
    return [
        at_most("noise_ms_added_per_token", noised - without, 0.2, "ms"),
        Row("norm_check_ms_per_token", unnoised - without, "ms", "part of noise_ms_added_per_token"),
    ]


def _token_ms(sizes: Sizes, here: Crowd, spec: FixedPoint, values: Vector, pool: NoisePool | None = None) -> float:
    """Return the milliseconds of one token at one member. Its requests are made before: not its work."""
    requests = iter([here.request(spec) for _ in range(sizes.batches * sizes.batch)])

    def token() -> bytes:
        noise = None if pool is None else pool.take(spec.length)
        return encoded(here.first.upload(next(requests), values, noise))

    return batched(sizes.batches, sizes.batch, token)
