"""The sampler's law is the discrete Gaussian, exactly; a tie is decided exactly; no sample is given out twice."""

import hashlib
import itertools
import os
import signal
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy import discrete_gaussian
from privacy.discrete_gaussian import DiscreteGaussian, NoisePool
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness

SIGMAS = st.one_of(st.floats(0.5, 200), st.floats(0.5, 2.0**40), st.integers(0, 40).map(lambda k: 2.0**k))


class Stream:
    """Give words from SHAKE-128: the same everywhere, whatever the versions of numpy and OpenSSL."""

    def __init__(self, name: bytes) -> None:
        self._name, self._calls = name, 0

    def words(self, size):
        self._calls += 1
        digest = hashlib.shake_128(self._name + self._calls.to_bytes(8, "big")).digest(8 * size)
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


class Script:
    """Give the words that were written down, and fail when they are used up."""

    def __init__(self, *words: int) -> None:
        self.left = list(words)

    def words(self, size):
        assert len(self.left) >= size, "more words were asked for than written"
        given, self.left = self.left[:size], self.left[size:]
        return np.array(given, dtype=np.uint64)


def exp(exponent: Fraction, terms: int = 200) -> Fraction:
    """exp(-exponent) for exponents below 20, by its series, to far below 2**-300: the reference."""
    total, term = Fraction(1), Fraction(1)
    for k in range(1, terms):
        term *= exponent / k
        total += term
    return 1 / total


def pmf(sigma: float, limit: int) -> tuple[np.ndarray, np.ndarray]:
    support = np.arange(-limit, limit)
    weights = np.exp(-0.5 * (support / sigma) ** 2)
    return support, weights / weights.sum()


def goodness(observed: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of Pearson's chi-square, with the cells joined that expect less than ten."""
    order = np.argsort(-expected)
    observed, expected = observed[order], expected[order]
    whole = max(1, int(np.count_nonzero(expected >= 10)))
    observed = np.append(observed[:whole], observed[whole:].sum())
    expected = np.append(expected[:whole], expected[whole:].sum())
    if expected[-1] < 1e-9:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("sigma", [0.5, 1.1, 2.3, 20.0, 63.9, 150.0])
def test_samples_have_the_probabilities_of_the_discrete_gaussian(sigma):
    law = DiscreteGaussian(sigma)
    samples = law.draw(4_000_000, SystemRandomness())
    _, expected = pmf(sigma, law.limit)
    observed = np.bincount(samples + law.limit, minlength=2 * law.limit)
    assert goodness(observed, expected * samples.size) > 1e-7


@pytest.mark.parametrize("sigma", [1000.0, 32768.0, 1e6, 6e7, 1.2e8, 1e9, 2.0**40])
def test_wide_samples_have_them_too_and_their_low_bits_are_uniform(sigma):
    # Phi((k + 1/2) / sigma) is the distribution function at k up to exp(-2 pi**2 sigma**2).
    samples = DiscreteGaussian(sigma).draw(2_000_000, SystemRandomness())
    edges = np.floor(stats.norm.ppf(np.arange(1, 1000) / 1000) * sigma)
    expected = np.diff(stats.norm.cdf((edges + 0.5) / sigma), prepend=0.0, append=1.0)
    observed = np.bincount(np.searchsorted(edges, samples, side="left"), minlength=1000)
    assert goodness(observed, expected * samples.size) > 1e-7
    low = np.bincount(samples & 255, minlength=256)
    assert goodness(low, np.full(256, samples.size / 256)) > 1e-7


@pytest.mark.parametrize("sigma", [2.3, 20.0, 1e6, 6e7, 2.0**36])
def test_the_variance_is_sigma_squared_the_mean_zero_and_neighbours_independent(sigma):
    n = 4_000_000
    x = DiscreteGaussian(sigma).draw(n, SystemRandomness()) / sigma
    assert abs(x.var() - 1) < 7 * np.sqrt(2 / n)
    assert abs(x.mean()) < 7 / np.sqrt(n)
    assert abs(np.mean(x[1:] * x[:-1])) < 7 / np.sqrt(n)


def test_the_law_is_that_of_an_independent_exact_sampler():
    opendp = pytest.importorskip("opendp.prelude")
    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=float)
    peer = np.array(opendp.m.make_gaussian(*space, scale=2.3)([0] * 200_000))
    ours = DiscreteGaussian(2.3).draw(200_000, SystemRandomness())
    counts = [np.bincount(np.clip(x, -9, 9) + 9, minlength=19) for x in (peer, ours)]
    assert stats.chi2_contingency(counts).pvalue > 1e-7


@settings(deadline=None, max_examples=60)
@given(SIGMAS)
def test_in_every_block_the_core_lies_under_the_law_and_the_proposal_above_it(sigma):
    """With the exact test between them this is the proof that the law is exact: below <= density <= below + span."""
    t = discrete_gaussian._tables(sigma)
    blocks = len(t.below)
    firsts = np.arange(blocks) * t.width - t.limit
    assert t.below.sum() + t.span.sum() == 2.0**32  # all slots are used, none twice
    picked = range(blocks) if blocks < 40 else [0, 1, *range(blocks // 2 - 9, blocks // 2 + 9), *range(0, blocks, 97)]
    for b in picked:
        ends = sorted(abs(int(firsts[b]) + k) for k in (0, t.width - 1))
        near, far = (Fraction(x * x) / (2 * Fraction(sigma) ** 2) for x in ends)
        assert int(t.below[b]) <= t.height * discrete_gaussian._exp(far, 60)[0]
        assert int(t.below[b]) + int(t.span[b]) >= t.height * discrete_gaussian._exp(near, 60)[1]


@settings(deadline=None, max_examples=60)
@given(SIGMAS)
def test_every_slot_leads_to_its_block(sigma):
    t = discrete_gaussian._tables(sigma)
    blocks = len(t.below)
    core = t.starts[t.starts >= -t.limit]
    others = 2**16 - core.size
    assert t.starts.size == t.blocks.size == 2**16
    assert np.array_equal(
        np.bincount((core.astype(np.int64) + t.limit) // t.width, minlength=blocks), t.below / 2**16
    )
    assert np.array_equal(np.bincount(t.blocks, minlength=blocks) * others, t.span)
    assert not np.any((core.astype(np.int64) + t.limit) % t.width)
    assert np.all(t.starts[t.starts < -t.limit].astype(np.int64) + t.width - 1 < -t.limit)
    assert discrete_gaussian.REACH * sigma <= t.limit


def test_the_bounds_on_the_exponential_hold_it_and_are_narrow():
    for exponent in (Fraction(0), Fraction(1, 3), Fraction(7, 2), Fraction(2**60 + 1, 2**58)):
        for digits in (40, 60):
            low, high = discrete_gaussian._exp(exponent, digits)
            assert low <= exp(exponent) <= high
            assert high - low <= high / 10 ** (digits - 6)


def tie(sigma: float) -> tuple[int, int, list[int]]:
    """A value in the rest, its place in a word, and the first four words of the U at which its test ties."""
    t = discrete_gaussian._tables(sigma)
    slot = int(np.flatnonzero(t.blocks == len(t.below) // 2 + int(1.5 * sigma / t.width))[0])
    block = int(t.blocks[slot])
    value = block * t.width - t.limit
    side = t.height * exp(Fraction(value * value) / (2 * Fraction(sigma) ** 2)) - int(t.below[block])
    scaled = int(side / int(t.span[block]) * 2**256)
    assert 0 < scaled < 2**256
    return value, slot << 48, [(scaled >> (192 - 64 * k)) % 2**64 for k in range(4)]


def core_word(sigma: float) -> tuple[int, int]:
    t = discrete_gaussian._tables(sigma)
    slot = int(np.flatnonzero(t.starts >= -t.limit)[0])
    return int(t.starts[slot]), slot << 48


REST = (2**16 - 1) << 48  # the last slots of the first table lead to the rest


@pytest.mark.parametrize("sigma", [2.3, 20.0, 1000.0, 1e6])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_tie_is_decided_by_the_first_word_that_differs_however_late(sigma, depth):
    value, place, tied = tie(sigma)
    other, core = core_word(sigma)
    assert value != other
    under = Script(REST, place, *tied[:depth], tied[depth] - 1, core)
    assert DiscreteGaussian(sigma).draw(1, under) == [value]
    assert under.left == [core]  # nothing was drawn again
    over = Script(REST, place, *tied[:depth], tied[depth] + 1, core)
    assert DiscreteGaussian(sigma).draw(1, over) == [other]
    assert over.left == []


@pytest.mark.parametrize("sigma", [2.3, 1e6])
def test_at_a_tie_no_float_decides(sigma):
    _, place, tied = tie(sigma)
    with pytest.raises(AssertionError, match="more words"):
        DiscreteGaussian(sigma).draw(1, Script(REST, place, *tied[:3]))


@pytest.mark.parametrize("sigma", [0.5, 2.3, 20.0, 1000.0, 1e6, 2.0**40])
def test_deciding_every_test_exactly_changes_no_sample(sigma, monkeypatch):
    quick = DiscreteGaussian(sigma).draw(20_000, Stream(b"ties"))
    decided = []
    exact = discrete_gaussian._decide
    monkeypatch.setattr(discrete_gaussian, "WINDOW", 1.0)
    monkeypatch.setattr(discrete_gaussian, "_decide", lambda *a: decided.append(a) or exact(*a))
    assert np.array_equal(DiscreteGaussian(sigma).draw(20_000, Stream(b"ties")), quick)
    assert len(decided) >= 10


def naive(sigma: float, size: int, stream: Stream) -> list[int]:
    """The reference: the same words, one sample at a time, in whole numbers."""
    t = discrete_gaussian._tables(sigma)
    samples, pending = [0] * size, list(range(size))
    while pending:
        rest = []
        for i, word in zip(pending, map(int, stream.words(len(pending))), strict=True):
            start = int(t.starts[word >> 48])
            samples[i] = start + word % t.width
            if start < -t.limit:
                rest.append(i)
        pending = []
        if rest:
            words = [int(w) for w in stream.words(2 * len(rest))]
            for k, i in enumerate(rest):
                block = int(t.blocks[words[k] >> 48])
                value = block * t.width - t.limit + words[k] % t.width
                side = Fraction(words[len(rest) + k], 2**64) * int(t.span[block]) + int(t.below[block])
                exponent = Fraction(value * value) / (2 * Fraction(sigma) ** 2)
                if side < t.height * discrete_gaussian._exp(exponent, 50)[0]:
                    samples[i] = value
                else:
                    pending.append(i)
    return samples


@settings(deadline=None, max_examples=25)
@given(SIGMAS, st.integers(0, 3000), st.binary(max_size=4))
def test_the_fast_sampler_equals_the_naive_one_on_the_same_words(sigma, size, name):
    assert DiscreteGaussian(sigma).draw(size, Stream(name)).tolist() == naive(sigma, size, Stream(name))


KNOWN = {
    0.5: ([0, 0, 0, 0, -1, 0], "939dc6f203c588a19b0650c3f955072f"),
    2.3: ([2, 2, 0, -1, -4, 2], "858885c016158b9aee8e85bc75a4e2b5"),
    20.0: ([14, 13, 0, -12, -35, 20], "0e40bdb5a4ee864751e809db79536da4"),
    1000.0: ([742, 680, 29, -598, -1726, 1030], "1e742f6da8b84119f5d05ae278ffa04b"),
    1e6: ([741910, 684720, 25341, -604822, -1722246, 1032486], "b27737138c1342b233671e815186e18d"),
    6e7: ([44298774, 41333424, 1671933, -35789462, -103647110, 61890854], "20287823069ffe777517636763dcac7b"),
    2.0**40: (
        [810479251990, 762306802352, 34271757053, -658882828950, -1899193796486, 1148606505254],
        "eadd0898b220d67203d5ec232a704c6d",
    ),
}


@pytest.mark.parametrize("sigma", KNOWN)
def test_known_words_give_known_samples(sigma):
    samples = DiscreteGaussian(sigma).draw(100_000, Stream(b"known answers"))
    first, digest = KNOWN[sigma]
    assert samples[:6].tolist() == first
    assert hashlib.sha256(samples.astype("<i8").tobytes()).hexdigest()[:32] == digest


@pytest.mark.parametrize("sigma", [0.0, 0.49, -3.0, float("nan"), float("inf"), 2.0**40 + 1])
def test_a_deviation_out_of_range_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma"):
        DiscreteGaussian(sigma)


def test_samples_are_32_bits_wide_while_the_support_fits():
    for sigma, kind in ((1.3e8, np.int32), (1.4e8, np.int64)):
        law = DiscreteGaussian(sigma)
        assert law.draw(10, SystemRandomness()).dtype == kind
        assert (law.limit < 2**31) == (kind == np.int32)


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**16 + 1])
def test_as_many_samples_come_as_were_asked_for(size):
    assert DiscreteGaussian(1e6).draw(size, SystemRandomness()).shape == (size,)


def test_no_sample_of_a_pool_is_given_out_twice():
    law = DiscreteGaussian(2.0**40)  # two equal samples would be a wonder
    pool = NoisePool(law, SystemRandomness(), 5000)
    pool.fill()
    assert pool.ready == 5000
    taken = [pool.take(n) for n in (0, 1, 1999, 3000, 7)]
    assert [x.size for x in taken] == [0, 1, 1999, 3000, 7]
    assert pool.ready == 0
    assert len(set(np.concatenate(taken).tolist())) == 5007


def test_a_pool_that_runs_out_draws_the_others_now_and_a_negative_size_is_refused():
    pool = NoisePool(DiscreteGaussian(2.0**40), SystemRandomness(), 10)
    pool.fill()
    assert np.unique(pool.take(30)).size == 30
    with pytest.raises(ValueError, match="size"):
        pool.take(-1)


def test_a_sample_that_was_given_out_is_erased():
    pool = NoisePool(DiscreteGaussian(2.0**40), SystemRandomness(), 100)
    pool.fill()
    assert np.count_nonzero(pool._samples) == 100
    kept = pool.take(60)
    assert np.count_nonzero(pool._samples) == 40
    assert np.all(kept != 0)
    pool.close()
    assert np.count_nonzero(pool._samples) == 0


def test_the_pool_has_the_law_of_its_sampler():
    law = DiscreteGaussian(2.3)
    pool = NoisePool(law, SystemRandomness(), 300_000)
    pool.fill()
    _, expected = pmf(2.3, law.limit)
    samples = pool.take(300_000)
    assert samples.dtype == np.int32
    assert goodness(np.bincount(samples + law.limit, minlength=2 * law.limit), expected * samples.size) > 1e-7


def test_a_thread_refills_a_pool_that_is_half_empty():
    pool = NoisePool(DiscreteGaussian(2.0**40), SystemRandomness(), 200_000)
    pool.start()
    pool.start()  # one thread, however often
    try:
        taken = []
        for _ in range(4):
            wait_until(lambda: pool.ready == 200_000)
            taken.append(pool.take(150_000))
    finally:
        pool.close()
    assert np.unique(np.concatenate(taken)).size > 600_000 - 10  # two may be equal by chance: a twentieth of a pair
    assert pool.ready == 0
    assert "noise pool" not in {t.name for t in threading.enumerate()}


def test_threads_that_take_at_once_never_share_a_sample():
    pool = NoisePool(DiscreteGaussian(2.0**40), SystemRandomness(), 50_000)
    pool.start()
    taken: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: taken.extend(pool.take(997) for _ in range(60))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    pool.close()
    assert np.unique(np.concatenate(taken)).size > 4 * 60 * 997 - 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_parent_and_child_add_different_noise():
    pool = NoisePool(DiscreteGaussian(2.0**40), SystemRandomness(), 64)
    pool.fill()
    reading, writing = os.pipe()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._change:
            held.set()
            done.wait(30)

    other = threading.Thread(target=hold)  # holds the lock while the process forks, and is not in the child
    other.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for that thread ends here, with nothing written
        os.write(writing, pool.take(8).astype("<i8").tobytes())
        os._exit(0)
    os.close(writing)
    done.set()
    other.join()
    os.waitpid(child, 0)
    theirs = np.frombuffer(os.read(reading, 64), dtype="<i8")
    mine = pool.take(64)
    assert theirs.size == 8
    assert not set(theirs.tolist()) & set(mine.tolist())


def test_two_fills_at_once_fill_the_pool_once():
    class Meddling:
        """Let another fill come between, in the middle of the first draw."""

        calls = 0

        def words(self, size):
            self.calls += 1
            if self.calls == 1:
                pool.fill()
            return SystemRandomness().words(size)

    pool = NoisePool(DiscreteGaussian(2.0**40), Meddling(), 1000)
    pool.fill()
    assert pool.ready == 1000
    assert np.unique(pool.take(1000)).size == 1000


def test_a_pool_that_holds_nothing_cannot_be_made():
    with pytest.raises(ValueError, match="capacity"):
        NoisePool(DiscreteGaussian(4.0), SystemRandomness(), 0)


def test_a_pool_is_never_filled_from_a_seed():
    with pytest.raises(ValueError, match="seed"):
        NoisePool(DiscreteGaussian(4.0), UnsafeSeededRandomness(1), 10)


def test_a_seed_repeats_its_noise():
    first, again = (DiscreteGaussian(4.0).draw(100, UnsafeSeededRandomness(3)) for _ in range(2))
    assert np.array_equal(first, again)


def wait_until(true, attempts: int = 2000) -> None:
    for _ in itertools.islice(itertools.count(), attempts):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("waited in vain")
