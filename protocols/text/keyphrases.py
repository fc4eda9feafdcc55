"""Key phrases: how many of the members' records hold each phrase of a public vocabulary, and which pairs of them.

    coordinator                                          member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Count(ballot, 0, the vocabulary) ────────────────▶ each record votes for phrases that it holds, at most
                                                         ballot.votes of them
      keeps what stands out of the noise             ◀── Upload(masked votes and a share of the noise)
      Count(ballot, 1, pairs of what was kept) ────────▶ the same, for phrases that nobody has to know beforehand
      returns both                                   ◀── Upload(...)

A phrase of the vocabulary is public, so that it is named tells nothing; how often it is held is noised. Phrases that
are in no vocabulary are found as pairs of words that stood out: they are made of public words and of noised counts.
What is unknown and no such pair is not found: it would have to leave a home to be asked for.

Learns:  the coordinator: the noised number of records that hold each phrase. Members: the phrases.
Trusts:  that no more than terms.colluding members work with the coordinator: the noise is theirs together.
Cites:   Kairouz, Liu and Steinke 2021; Zhu et al. 2020 (growing what is frequent, one private count at a time).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import ballot as count
from protocols.text.ballot import Ballot, Votes, open_urn
from protocols.wire import Message, Wire

_SURE = 4.0  # a phrase is named if its count is above so many standard deviations of the noise


@dataclass(frozen=True, slots=True)
class Keyphrases(Message):
    """Be the task: count the `vocabulary`; if the ballot has two counts, then the pairs of its best phrases."""

    ballot: Ballot
    quorum: int
    terms: Terms
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrases(Message):
    """Be the result: phrases that stood out of the noise, the most frequent first, and how many records hold each.

    `deviation` is the noise's standard deviation of a count, 0 where there was none.
    """

    phrases: tuple[str, ...]
    records: NDArray[np.float64]
    deviation: float
    members: tuple[int, ...]
    trips: tuple[int, ...]


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the `Phrases`. Raises: Abort below the quorum, or if every count was lost."""
    if not isinstance(task, Keyphrases) or task.ballot.by is not Votes.HELD or task.ballot.counts > 2:
        raise LocalError("this collaboration runs Keyphrases, which are held, in one or two counts")
    ballot = task.ballot
    urn = yield from open_urn(NAME, members, ballot, task.quorum, task.terms)
    made = yield from urn.count(task.vocabulary)
    deviation = deviation_of(ballot, task.terms, made.members, len(task.vocabulary))
    found = _standing_out(task.vocabulary, made.votes, deviation)
    if ballot.counts == 2:
        most = int((1 + math.isqrt(1 + 4 * ballot.choices)) // 2)  # n (n - 1) ordered pairs
        words = [phrase for phrase, _ in found[:most]]
        pairs = tuple(f"{a} {b}" for a in words for b in words if a != b)
        fresh = tuple(p for p in pairs if p not in set(task.vocabulary))
        if fresh:
            made = yield from urn.count(fresh)
            found += _standing_out(fresh, made.votes, deviation_of(ballot, task.terms, made.members, len(fresh)))
            found.sort(key=lambda pair: -pair[1])
    urn.require_any()
    counts = np.array([records for _, records in found])
    of = tuple(c.members for c in urn.counted)
    return Phrases(tuple(p for p, _ in found), counts, deviation, of, tuple(c.trips for c in urn.counted))


def deviation_of(ballot: Ballot, terms: Terms, members: int, choices: int) -> float:
    """Return the standard deviation, in records, of the noise in a count that so many members added to."""
    if ballot.noise_multiplier is None or not members:
        return 0.0
    code = ballot.spec(terms, members, choices)
    return code.deviation / code.scale * math.sqrt(members)


def _standing_out(phrases: Sequence[str], votes: NDArray[np.float64], deviation: float) -> list[tuple[str, float]]:
    """Return the phrases above the noise with their counts, the most frequent first; at least half a record."""
    order = np.argsort(-votes, kind="stable")
    least = max(0.5, _SURE * deviation)
    return [(phrases[i], float(votes[i])) for i in order if votes[i] > least]


NAME = "keyphrases"
BEGIN = count.BEGIN
STATES = count.STATES
WIRE = Wire(Keyphrases, Phrases, *count.KINDS)
