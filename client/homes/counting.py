"""Be the home in which the records' votes are counted: for the nearest candidate, or for the phrases they hold."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.embedding import Embedding, nearest, normalised
from client.masking import Masked, MaskedSample, MaskedShare, masked_units
from client.visit import Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released
from privacy.randomness import Randomness
from privacy.units import Unit
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.text.ballot import Ballot, Votes, context_of
from protocols.weights.recipe import Objective

Reals = NDArray[np.float64]
_UNITS = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)
_WORDS = re.compile(r"\w+").findall


@dataclass(frozen=True, slots=True)
class _Cut:
    """Say how texts become records."""

    record_tokens: int
    unit: Unit
    objective: Objective = Objective.TEXT


@dataclass(frozen=True, slots=True)
class CountingVisit(Visit):
    """Count the records' votes, and let their noised sum go."""

    def counted(
        self, ballot: Ballot, number: int, choices: tuple[str, ...], request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Let every unit vote, and return the votes' sum masked for `request`, through the gate.

        No record at all, and the votes are zeros with the same noise: nobody can tell.
        Learns:  the caller: nothing but sizes, until all others' words are added; then the noised counts.
        Raises:  PeerError for a ballot or a request that does not fit this home; Refused: nothing was charged.
        """
        name, of = self.occasion.collaboration, len(choices) // ballot.looks
        noise = Noise.NONE if ballot.noise_multiplier is None else Noise.SHARED
        self.consider(self.summed(ballot.plan, request), noisy=noise is not Noise.NONE)
        self.require_unit(ballot.unit, ballot.record_tokens, _UNITS)
        summand = Summand(
            purpose=name,
            plan=ballot.plan,
            context=context_of(name, ballot, number, choices),
            query=number,
            noise=noise,
            spec=lambda terms, members: ballot.spec(terms, members, of),
            make=lambda begun: self._mechanism(ballot, choices, begun),
            times=ballot.counts if number == 0 else 0,
        )
        return self.add(summand, request, slips)

    def _mechanism(
        self, ballot: Ballot, choices: tuple[str, ...], begun: Begun
    ) -> "Masked | MaskedShare | MaskedSample":
        records, texts = self.house.read(_Cut(ballot.record_tokens, ballot.unit))
        voters = Voters(records, texts, ballot, choices)
        whole = _Whole(voters, ballot.norm if ballot.unit is Unit.MEMBER else None)
        return masked_units(voters, whole, ballot, begun)


@dataclass(frozen=True, slots=True)
class Voters:
    """Be the units that vote: each one's votes depend on its own texts and the public choices alone.

    `texts` are the records', in order.
    """

    records: Records
    texts: tuple[str, ...]
    ballot: Ballot
    choices: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many units there are."""
        return self.records.units

    def vectors(self, chosen: NDArray[np.intp], randomness: Randomness) -> Iterator[Reals]:  # noqa: ARG002
        """Yield the votes (choices,) of each unit, of norm at most the ballot's."""
        if not chosen.size:
            return
        of = self.votes()
        for unit in chosen:
            votes = of[self.records.rows_of(np.array([unit]))].sum(axis=0, dtype=np.float64)
            length = float(np.linalg.norm(votes))
            yield votes * (self.ballot.norm / length) if length > self.ballot.norm else votes

    def votes(self) -> NDArray[np.bool_]:
        """Return which choices each record votes for, shape (records, choices)."""
        found = np.zeros((len(self.texts), len(self.choices) // self.ballot.looks), np.bool_)
        if self.ballot.by is Votes.HELD:
            phrases = _by_words(self.choices)
            longest = max(map(len, phrases), default=0)
            for row, text in enumerate(self.texts):
                found[row, _held(text, phrases, longest, self.ballot.votes)] = True
            return found
        embedding = Embedding(self.choices)
        looks = embedding.places.reshape(found.shape[1], self.ballot.looks, -1)
        at = nearest(embedding.place(self.texts), normalised(looks.mean(axis=1)))
        rows = np.flatnonzero(at >= 0)
        found[rows, at[rows]] = True
        return found


@dataclass(frozen=True, slots=True)
class _Whole:
    """Draw the sum of all units' votes, without noise, scaled to `norm` if there is one: (choices,) float32."""

    voters: Voters
    norm: float | None

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:
        """Return it; zeros where there is no record."""
        if self.norm is None:
            total = np.zeros(len(self.voters.choices) // self.voters.ballot.looks)
            for votes in self.voters.vectors(np.arange(len(self.voters)), randomness):
                total += votes
            return total.astype(np.float32)
        total = self.voters.votes().sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(total))
        return np.asarray(total * (self.norm / length) if length else total, np.float32)


def _by_words(phrases: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Return where each phrase stands, by its folded words; of two that fold alike the first."""
    found: dict[tuple[str, ...], int] = {}
    for i, phrase in enumerate(phrases):
        found.setdefault(_folded(phrase), i)
    found.pop((), None)
    return found


def _held(text: str, phrases: dict[tuple[str, ...], int], longest: int, most: int) -> list[int]:
    """Return the phrases that a text holds, at most so many: those whose digest with the text comes first."""
    words = _folded(text)
    spans = (words[i : i + n] for n in range(1, longest + 1) for i in range(len(words) - n + 1))
    held = sorted({phrases[span] for span in spans if span in phrases})
    if len(held) <= most:
        return held
    salt = hashlib.sha256(text.encode(errors="replace")).digest()
    return sorted(held, key=lambda i: hashlib.blake2b(i.to_bytes(4, "big"), key=salt).digest())[:most]


def _folded(text: str) -> tuple[str, ...]:
    return tuple(_WORDS(unicodedata.normalize("NFKC", text).casefold()))
