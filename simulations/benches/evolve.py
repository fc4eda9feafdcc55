"""Measure private evolution's votes: what noise leaves of them, what the noise should be, and what a round costs.

A round is one of three of an evolution, each of nine tenths fresh candidates.

Selection: 400 candidates, a fifth of them from the members' own domain (what one installed package says in docstrings
and comments), are voted for by passages of other files of that package, which five members hold. What counts is the
share of that domain among the forty candidates with most votes, beside the same without noise.
"""

import importlib.metadata
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.homes.counting import Voters
from privacy.accounting.certificate import certify
from privacy.randomness import SystemRandomness
from privacy.sampled_sum import SampledShare
from privacy.units import Unit
from protocols.secure_sum.terms import Mode, Terms
from protocols.text.ballot import Ballot, Votes
from simulations.benches.counting_village import Clippings, Took, counts_of
from simulations.benches.rows import Row, at_least, at_most
from simulations.corpora import stdlib
from simulations.corpora.public import draw, lendable, prose
from simulations.corpora.silos import joined, silos
from simulations.counting_noise import least_noise

OWN, OTHERS = "sympy", ("networkx", "transformers", "flwr", "numpy")  # the project's own requirements bring them
MEMBERS, CANDIDATES, TOP = 5, 400, 40
TERMS = Terms(Mode.STRICT, smallest_crowd=5, colluding=1)
ONE_MAY_GO = Terms(Mode.RESILIENT, smallest_crowd=4, colluding=1)
PUBLISHED = {  # Xie et al. 2024, appendix: records, and the noise of ten votes for epsilon 1, 2 and 4
    1_939_290: (15.34, 8.03, 4.24),
    8_396: (11.60, 6.22, 3.38),
    75_316: (13.26, 7.01, 3.75),
}
_PASSAGE, _DRAWS, _DELTA = 500, 20, 1e-6
_ENOUGH = 2_500_000  # characters of one package
_CANDIDATES, _SHORT, _ROUNDS = 10_000, 250, 3  # candidates, and their characters, in the rounds that are timed


def evolve() -> list[Row]:
    """Return all rows."""
    rows = []
    for records, epsilon, least in ((3000, 1.0, 0.95), (1000, 2.0, 0.90)):
        clean, noised = selection(records, epsilon)
        spread = f"in-domain {clean:.3f} without noise, {noised.mean():.3f} +- {noised.std():.3f} with"
        name = f"selection_vs_noiseless_{records}_eps{epsilon:g}"
        rows.append(at_least(name, float(noised.mean()) / clean, least, "x"))
        rows.append(Row(f"in_domain_{records}", clean, "1", spread))
    rows.append(at_most("noise_table_error", noise_table_error(), 0.005, "1"))
    found = measured_rounds()
    rows.append(at_most("round_s_10000x5", found.seconds, 1.0, "s"))
    rows.append(Row("first_round_s_10000x5", found.first_seconds, "s", "in which each home reads its records"))
    rows.append(at_most("bytes_per_member_round", found.bytes_up, 100_000, "B"))
    rows.append(Row("bytes_of_the_candidates", found.bytes_down, "B", f"public texts of {_SHORT} characters"))
    return rows


def selection(records: int, epsilon: float) -> tuple[float, NDArray[np.float64]]:
    """Return the share of the domain among the best candidates: without noise, and in each of several draws."""
    texts, candidates, inside = _material(records)
    noise = noise_for(TERMS, epsilon, len(candidates))
    given = Ballot(Votes.NEAREST, len(candidates), 1, 1, 1, records, _PASSAGE, Unit.RECORD, epsilon, _DELTA, noise)
    code = given.spec(TERMS, MEMBERS, len(candidates))
    voters = [_voters(texts[m::MEMBERS], given, candidates) for m in range(MEMBERS)]
    votes = np.sum([np.sum(list(v.vectors(np.arange(len(v)), SystemRandomness())), axis=0) for v in voters], axis=0)

    def share(of: NDArray[np.float64]) -> float:
        return float(inside[np.argsort(-of, kind="stable")[:TOP]].mean())

    noised = []
    for _ in range(_DRAWS):
        words = np.zeros(len(candidates), np.uint32)
        for one in voters:
            words += SampledShare(one, code, 1.0, TERMS.honest).draw(SystemRandomness()).view(np.uint32)
        noised.append(share(code.decode(words, MEMBERS)))
    return share(votes), np.array(noised)


def noise_for(terms: Terms, epsilon: float, choices: int) -> float:
    """Return the least noise multiplier for one count, at the best order, as the ledger charges it."""
    return least_noise(terms, epsilon, _DELTA, counts=1, choices=choices)


def noise_table_error() -> float:
    """Return the largest relative difference between a published noise and ours for the same guarantee.

    Ten votes of norm 1 under Gaussian noise, delta = 1 / (N ln N), by privacy loss distributions.
    """
    worst = 0.0
    for records, published in PUBLISHED.items():
        delta = 1 / (records * math.log(records))
        for epsilon, noise in zip((1.0, 2.0, 4.0), published, strict=True):
            worst = max(worst, abs(_calibrated(epsilon, delta) / noise - 1))
    return worst


def measured_rounds() -> Took:
    """Return what a round of 10,000 candidates comes to in real homes, of an evolution; one home drops out."""
    whole = [joined(part.train) for part in silos()]
    texts = _cut(whole[0], _SHORT)[:3000]
    fresh = dict.fromkeys(
        text for shift in range(0, _SHORT, 50) for part in whole for text in _cut(part[shift:], _SHORT)
    )
    noise = least_noise(ONE_MAY_GO, 1.0, _DELTA, counts=_ROUNDS, choices=_CANDIDATES)
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        return counts_of(texts, Clippings(iter(fresh)), _CANDIDATES, _ROUNDS, ONE_MAY_GO, noise, Path(scratch))


def _calibrated(epsilon: float, delta: float) -> float:
    low, high = 0.5, 50.0
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        spent = certify([SelfComposedDpEvent(GaussianDpEvent(middle), 10)], delta).epsilon
        low, high = (middle, high) if spent > epsilon else (low, middle)
    return high


def _material(records: int) -> tuple[list[str], tuple[str, ...], NDArray[np.bool_]]:
    """Return the members' passages, and candidates, a fifth of them from files of the same package."""
    files = _said_by(OWN)
    held_back = max(1, len(files) // 4)
    inside = _spread("\n\n".join(files[:held_back]), CANDIDATES // 5)
    outside = [text for name in OTHERS for text in _spread("\n\n".join(_said_by(name)), CANDIDATES // 5)]
    return (
        _spread("\n\n".join(files[held_back:]), records),
        (*inside, *outside),
        np.arange(len(inside) + len(outside)) < len(inside),
    )


def _said_by(package: str) -> list[str]:
    """Return what each file of an installed package says in docstrings and comments, in a fixed, shuffled order."""
    distribution = importlib.metadata.distribution(package)
    names = sorted((str(f) for f in distribution.files or [] if str(f).endswith(".py")), key=draw)
    found: list[str] = []
    for path in (Path(str(distribution.locate_file(name))) for name in names if lendable(name)):
        text = prose(stdlib.read(path)) if path.exists() else ""
        found += [text] if len(text) > _PASSAGE else []
        if sum(map(len, found)) > _ENOUGH:
            break
    return found


def _cut(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text) - size, size)]


def _spread(text: str, count: int) -> list[str]:
    passages = _cut(text, _PASSAGE)
    return [passages[i * len(passages) // count] for i in range(count)]


def _voters(texts: Sequence[str], given: Ballot, candidates: tuple[str, ...]) -> Voters:
    rows = len(texts)
    records = Records(np.zeros((rows, 2), np.int32), np.full(rows, 2, np.int32))
    return Voters(records, tuple(texts), given, candidates)
