"""Noise comes from the operating system and has the distribution it claims."""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import SystemRandomness, UnsafeSeededRandomness


def test_normals_are_standard_normal_and_uniforms_uniform():
    source = SystemRandomness()
    normals, uniforms = source.normal(200_001), source.uniform(200_000)
    assert normals.shape == (200_001,)
    assert stats.kstest(normals, "norm").pvalue > 1e-6
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-6
    assert uniforms.min() >= 0
    assert uniforms.max() < 1


def test_the_two_halves_of_box_and_muller_are_independent():
    normals = SystemRandomness().normal(200_000)
    assert abs(np.corrcoef(normals[:100_000], normals[100_000:])[0, 1]) < 0.02
    assert abs(np.corrcoef(normals[:100_000] ** 2, normals[100_000:] ** 2)[0, 1]) < 0.02


def test_every_byte_comes_from_the_entropy_source():
    asked = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return b"\xff" * size

    uniforms = SystemRandomness(entropy).uniform(3)
    assert asked == [24]
    assert np.all(uniforms == 1 - 2.0**-53)


def test_the_extreme_words_give_finite_normals():
    for byte in (b"\x00", b"\xff"):
        assert np.isfinite(SystemRandomness(lambda n, b=byte: b * n).normal(5)).all()


def test_two_calls_never_repeat_and_a_seed_always_does():
    assert not np.array_equal(SystemRandomness().normal(8), SystemRandomness().normal(8))
    assert np.array_equal(UnsafeSeededRandomness(7).normal(8), UnsafeSeededRandomness(7).normal(8))
    assert not np.array_equal(UnsafeSeededRandomness(7).normal(8), UnsafeSeededRandomness(8).normal(8))


FEW = 512  # up to here every word is the kernel's own


def key_stream(key: bytes, size: int) -> bytes:
    """The reference: one plain call of the cipher on a counter from zero."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def test_few_words_are_the_bytes_of_the_entropy_source():
    words = SystemRandomness(lambda n: bytes(range(n))).words(2)
    assert words.dtype == np.uint64
    assert [hex(w) for w in words] == ["0x706050403020100", "0xf0e0d0c0b0a0908"]


def test_many_words_are_the_key_stream_of_aes_under_a_key_of_32_bytes():
    # The first block is FIPS 197's AES-256 under the zero key of the zero block.
    asked = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    words = SystemRandomness(entropy).words(FEW + 1)
    assert asked == [32]
    SystemRandomness(entropy).words(FEW)
    assert asked == [32, 8 * FEW]
    assert words[:2].astype("<u8").tobytes().hex() == "dc95c078a2408989ad48a21492842087"


@given(st.integers(FEW + 1, 150_000), st.binary(min_size=32, max_size=32))
def test_the_words_are_the_same_however_the_stream_is_cut(size, key):
    assert SystemRandomness(lambda n: key).words(size).astype("<u8").tobytes() == key_stream(key, 8 * size)


@pytest.mark.parametrize("size", [1, FEW, FEW + 1, 70_000])
def test_two_calls_share_no_word(size):
    source = SystemRandomness()
    first, second = source.words(size), source.words(size)
    assert first.shape == second.shape == (size,)
    assert not set(first.tolist()) & set(second.tolist())


def test_every_bit_of_a_word_is_set_half_the_time():
    for source in (SystemRandomness(), UnsafeSeededRandomness(3)):
        bits = np.unpackbits(source.words(200_000).view(np.uint8).reshape(-1, 8), axis=1)
        assert abs(bits.mean(axis=0) - 0.5).max() < 0.008  # 7 deviations


def test_no_word_is_an_empty_answer():
    assert SystemRandomness().words(0).shape == (0,)


def test_a_seed_repeats_its_words():
    assert np.array_equal(UnsafeSeededRandomness(7).words(9), UnsafeSeededRandomness(7).words(9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_after_a_fork_draw_different_words():
    source = SystemRandomness()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, source.words(FEW + 1)[:8].tobytes())
        os._exit(0)
    os.wait()
    assert os.read(reading, 64) != source.words(FEW + 1)[:8].tobytes()
