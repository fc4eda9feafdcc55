"""Time one secret count in real homes, as if each had a machine of its own; one of them drops out in the middle."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from client.model import load_base
from privacy.units import Unit
from protocols.carriers.memory import MemoryRoad, Way
from protocols.post import Deliver
from protocols.secure_sum.terms import Terms
from protocols.session import MemberId, drive
from protocols.text import evolve
from protocols.text.ballot import Ballot, Votes
from protocols.text.evolve import Evolve
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
class Round:
    """Hold what a round took: seconds with every member on a machine of its own, bytes of the largest letters."""

    seconds: float
    bytes_up: int
    bytes_down: int
    members: int


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


def one_round(texts: list[str], candidates: tuple[str, ...], terms: Terms, noise: float, folder: Path) -> Round:
    """Return what one count of the candidates comes to; the last of five members is silent after the opening."""
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
    given = Ballot(Votes.NEAREST, len(candidates), 1, 1, 1, len(texts), _TOKENS, Unit.RECORD, 1.0, 1e-6, noise)
    outbox = village.outbox("5e55", "evolve", road)
    try:
        run = evolve.coordinate(village.members, Evolve(given, terms.smallest_crowd, terms, candidates))
        began = time.perf_counter()
        found = drive(run, outbox, evolve.WIRE)
        took = time.perf_counter() - began
    finally:
        village.close()
    assert isinstance(found, evolve.Elected)  # noqa: S101  what it returns
    waited = sum(sum(of) for of in clock.trips.values())
    answered = sum(max(of) for trip, of in clock.trips.items() if trip > _OPENING)
    return Round(took - waited + answered, max(clock.up.values()), max(clock.down.values()), found.members[0])
