"""Noise comes from the operating system and has the distribution it claims."""

import numpy as np
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
