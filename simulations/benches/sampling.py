"""Measure the exact discrete Gaussian, beside opendp's."""

from privacy.discrete_gaussian import DiscreteGaussian
from privacy.randomness import SystemRandomness
from simulations.benches.rows import Row, at_least, in_turns, versus
from simulations.benches.sizes import Sizes

SIGMA = 1000.0


def rate(sizes: Sizes) -> list[Row]:
    """Count our samples in a second."""
    law = DiscreteGaussian(SIGMA)
    (took,) = in_turns(sizes.repeats, lambda: law.draw(sizes.samples, SystemRandomness()))
    return [at_least("sampler_samples_per_s", sizes.samples / took * 1e3, 30e6, "/s")]


def beside_opendp(sizes: Sizes) -> list[Row]:
    """Compare the time of one sample, both in a vector, of the same deviation."""
    from simulations.benches.opendp_gaussian import sampler

    law, theirs = DiscreteGaussian(SIGMA), sampler(SIGMA)
    ours, peer = in_turns(3, lambda: law.draw(sizes.samples, SystemRandomness()), lambda: theirs(sizes.peer_samples))
    each, theirs_each = ours / sizes.samples * 1e6, peer / sizes.peer_samples * 1e6
    return [versus("sampler_vs_opendp", each, theirs_each, f"opendp's Gaussian, sigma {SIGMA:g}, ns a sample", 350)]
