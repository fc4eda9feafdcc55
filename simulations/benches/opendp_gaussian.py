"""Draw opendp's discrete Gaussian, a vector of integers at a time: the peer of our sampler."""

from collections.abc import Callable

from simulations.benches.rows import PeerMissing

try:
    import opendp.prelude as dp
except ModuleNotFoundError as missing:
    raise PeerMissing("opendp") from missing


def sampler(sigma: float) -> Callable[[int], list[int]]:
    """Return what draws so many integers of deviation `sigma`: opendp's Gaussian mechanism on a vector of zeros."""
    dp.enable_features("contrib")
    domain = dp.vector_domain(dp.atom_domain(T="i32"))
    mechanism = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), sigma)
    return lambda count: list(mechanism([0] * count))
