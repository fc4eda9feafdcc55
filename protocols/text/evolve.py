"""Private evolution: the members' records vote for a public model's texts, and the texts with most votes go on.

    coordinator                                          member
      (a secure sum is opened: protocols/secure_sum/session.py)
      has its author write a first population
      Count(ballot, 0, the population's texts) ────────▶ each record votes for the text nearest to it
      keeps what has most votes, has it varied       ◀── Upload(masked votes and a share of the noise)
      Count(ballot, 1, the next population) ───────────▶ ...
      returns the last population's best             ◀── Upload(...)

The texts come from a public model and from the noised votes alone: they are as public as those, for ever. Every count
is charged, its noise planned beforehand for all of them. With `looks`, a choice stands for several texts (a text and
variations of it, as it would be rewritten next), and its place is their mean: Aug-PE's look-ahead, computed at the
member from public texts.

Learns:  the coordinator: the noised votes for each text. Members: the texts. No record, no distance to one.
Trusts:  that no more than terms.colluding members work with the coordinator: the noise is theirs together.
Cites:   Lin et al. 2024 (private evolution); Xie et al. 2024, Aug-PE, algorithm 1; Hou et al. 2024, PrE-Text.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Answers, Asks, Coordinator, MemberId
from protocols.text import ballot as count
from protocols.text.ballot import Ballot, Counted, Urn, Votes, open_urn
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Evolve(Message):
    """Be the task: have one population of texts voted on, by at least `quorum` members.

    `texts` are `ballot.looks` for each of the candidates, one candidate after the other.
    """

    ballot: Ballot
    quorum: int
    terms: Terms
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Elected(Message):
    """Be the result: the candidates, the one with most noised votes first, their votes, and every count's members."""

    texts: tuple[str, ...]
    votes: NDArray[np.float64]
    members: tuple[int, ...]
    trips: tuple[int, ...]


class Author(Protocol):
    """Write texts from public knowledge: a public model at the coordinator, or a person."""

    def begin(self, count: int) -> Sequence[str]:
        """Return so many texts."""

    def vary(self, texts: Sequence[str]) -> Sequence[str]:
        """Return one variation of each text."""


def evolved(
    members: Sequence[MemberId], ballot: Ballot, quorum: int, terms: Terms, author: Author, keep: int
) -> Generator[Asks, Answers, Elected]:
    """Return the last population, best first; each generation's best `keep` and their variations are the next.

    A count that is lost changes nothing but the population's variations.
    Raises: Abort below the quorum, or if every count was lost; LocalError for an author that writes another
            number of texts than asked for.
    """
    _require_nearest(ballot)
    if not 1 <= keep <= ballot.choices:
        raise LocalError("keep: expected at least one candidate, and no more than there are")
    urn = yield from open_urn(NAME, members, ballot, quorum, terms)
    population = _of(author.begin(ballot.choices), ballot.choices)
    for generation in range(ballot.counts):
        made = yield from urn.count(_looked_at(population, ballot.looks, author))
        order = _ranked(made)
        if generation + 1 < ballot.counts:
            best = [population[i] for i in order[:keep]]
            copies = -(-ballot.choices // keep)
            varied = [text for _ in range(copies - 1) for text in _of(author.vary(best), len(best))]
            population = (best + varied)[: ballot.choices]
    return _elected(population, order, urn)


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return the population that is `Elected`. Raises: Abort below the quorum, or if the count was lost."""
    if not isinstance(task, Evolve):
        raise LocalError("this collaboration runs an Evolve")
    _require_nearest(task.ballot)
    urn = yield from open_urn(NAME, members, task.ballot, task.quorum, task.terms)
    made = yield from urn.count(task.texts)
    return _elected(task.texts[:: task.ballot.looks], _ranked(made), urn)


def _require_nearest(ballot: Ballot) -> None:
    if ballot.by is not Votes.NEAREST:
        raise LocalError("candidates are voted for by the nearest of them")


def _looked_at(population: Sequence[str], looks: int, author: Author) -> tuple[str, ...]:
    """Return each candidate, and as many variations of it as make its looks."""
    views = [population] + [_of(author.vary(population), len(population)) for _ in range(looks - 1)]
    return tuple(text for views_of_one in zip(*views, strict=True) for text in views_of_one)


def _of(texts: Sequence[str], wanted: int) -> list[str]:
    if len(texts) != wanted:
        raise LocalError(f"the author wrote {len(texts)} texts, {wanted} were asked for")
    return list(texts)


def _ranked(made: Counted) -> NDArray[np.intp]:
    """Return the choices by their noised votes; those of equal votes, and of a lost count, as they were."""
    return np.argsort(-made.votes, kind="stable")


def _elected(population: Sequence[str], order: NDArray[np.intp], urn: Urn) -> Elected:
    urn.require_any()
    members, trips = tuple(c.members for c in urn.counted), tuple(c.trips for c in urn.counted)
    return Elected(tuple(population[i] for i in order), urn.counted[-1].votes[order], members, trips)


NAME = "evolve"
BEGIN = count.BEGIN
STATES = count.STATES
WIRE = Wire(Evolve, Elected, *count.KINDS)
