"""Time an evolution in real homes, as if each had a machine of its own; one of them drops out in its first count."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from client.model import load_base
from privacy.units import Unit
from protocols.carriers.memory import MemoryRoad, Way
from protocols.post import Deliver
from protocols.secure_sum.terms import Terms
from protocols.session import MemberId, drive
from protocols.text import evolve
from protocols.text.ballot import Ballot, Votes
from simulations.experiment import (
    SHIPPED,
    CollaborationTable,
    Experiment,
    LoraTable,
    MemberTable,
    PrivacyTable,
    SecureSumTable,
    TrainingTable,
)
from simulations.village import raise_village

_OPENING = 2  # trips in which the members agree on keys
_TOKENS = 250


@dataclass(frozen=True, slots=True)
class Took:
    """Hold what one count took, with every member on a machine of its own: seconds, and the largest letters' bytes.

    They are means over all counts; `first_seconds` is the first one's, in which a home reads its records.
    """

    seconds: float
    first_seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class Clippings:
    """Be an author who has written everything beforehand: fresh texts, one after the other."""

    fresh: Iterator[str]

    def begin(self, count: int) -> list[str]:
        """Return so many texts."""
        return list(islice(self.fresh, count))

    def vary(self, texts: Sequence[str]) -> list[str]:
        """Return as many texts, which have nothing to do with these."""
        return self.begin(len(texts))


@dataclass
class _Clock:
    """Note how long each member took in each trip, and how large the letters were."""

    trips: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    up: dict[MemberId, int] = field(default_factory=lambda: defaultdict(int))
    down: dict[MemberId, int] = field(default_factory=lambda: defaultdict(int))
    road: MemoryRoad | None = None

    def timed(self, member: MemberId, end: Deliver) -> Deliver:
        """Return an end that is timed."""

        def deliver(sealed: bytes) -> bytes:
            assert self.road is not None  # noqa: S101  set before the first letter
            began = time.perf_counter()
            answer = end(sealed)
            self.trips[self.road.trip].append(time.perf_counter() - began)
            if self.road.trip > _OPENING:
                self.up[member] += len(answer)
                self.down[member] += len(sealed)
            return answer

        return deliver


def counts_of(
    texts: list[str], author: Clippings, candidates: int, counts: int, terms: Terms, noise: float, folder: Path
) -> Took:
    """Return what the counts of an evolution come to; the last of five members is silent after the opening."""
    names = tuple(f"m{i}" for i in range(5))
    experiment = Experiment(
        1, "a round", 1, CollaborationTable("evolve", 1, terms.smallest_crowd), LoraTable(1, 1.0, ("q_proj",)),
        TrainingTable(_TOKENS, 1, 1, "sgd", 0.1, 1.0), PrivacyTable(epsilon=1.0, delta=1e-6),
        tuple(MemberTable(name) for name in names),
        secure_sum=SecureSumTable(terms.smallest_crowd, terms.colluding, terms.bits, terms.mode),
    )  # fmt: skip
    each = {name: texts[i :: len(names)] for i, name in enumerate(names)}
    village = raise_village(experiment, each, load_base(str(SHIPPED)), folder)
    clock = _Clock()
    ends = {m: clock.timed(m, end) for m, end in village.ends.items()}
    gone = MemberId(names[-1])
    road = clock.road = MemoryRoad(ends, lost=lambda trip, m, way: trip >= _OPENING and m == gone and way is Way.OUT)
    given = Ballot(
        Votes.NEAREST, candidates, counts, 1, 1, len(texts), _TOKENS, Unit.RECORD, 1.0, 1e-6, noise
    )  # fmt: skip
    outbox = village.outbox("5e55", "evolve", road)
    try:
        run = evolve.evolved(village.members, given, terms.smallest_crowd, terms, author, candidates // 10)
        began = time.perf_counter()
        found = drive(run, outbox, evolve.WIRE)
        took = time.perf_counter() - began
    finally:
        village.close()
    assert found.members == (len(names) - 1,) * counts  # noqa: S101  the lost one is in none
    slowest = [max(of) for trip, of in sorted(clock.trips.items()) if trip > _OPENING]
    of_one = len(slowest) // counts
    coordinators = (took - sum(map(sum, clock.trips.values()))) / counts
    return Took(
        coordinators + sum(slowest) / counts,
        coordinators + sum(slowest[:of_one]),
        max(clock.up.values()) // counts,
        max(clock.down.values()) // counts,
    )
