"""Members of a secure sum in one process: real keys, real state machines, a road that can lose anything."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from privacy.fixed_point import FixedPoint, sized
from protocols.faults import PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum import seat
from protocols.secure_sum.aggregation import Expected
from protocols.secure_sum.coordinate import Opened, Summed, finish, open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.session import Place
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import Coordinator, MemberId

COORDINATOR, SESSION, PURPOSE, CONTEXT = "ed25519:coordinator", "5e55", "test", bytes(32)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@dataclass
class One:
    """One member: what the home around a secure sum does, without model and gate."""

    name: str
    identity: Identity
    everyone: tuple[str, ...]
    values: np.ndarray
    roster: Roster | None = None
    clock: Clock = field(default_factory=Clock)
    session: str = SESSION
    uploads: int = 0

    def __post_init__(self) -> None:
        self.sums = Sums(self.identity, self.clock)

    def introduce(self, terms: Terms):
        place = Place(MemberId(self.name), COORDINATOR, self.session, self.everyone)
        return self.sums.introduce(self.session, place, terms, self.roster)

    def acknowledge(self, ask):
        return self.sums.acknowledge(self.session, ask)

    def agree(self, ask):
        return self.sums.agree(self.session, ask)

    def reveal(self, ask):
        return self.sums.reveal(self.session, ask)

    def upload(self, request: Request, slips: tuple[Slip, ...], spec: FixedPoint, query: int | None = None) -> Upload:
        """Answer a request that this member would make itself, for `spec` and this query."""
        expected = Expected(PURPOSE, spec, CONTEXT, request.query if query is None else query)
        begun = self.sums.begin(self.session, request, slips, expected)
        self.uploads += 1
        return self.sums.upload(self.session, begun, spec.encode(self.values))


@dataclass
class Crowd:
    """All members, and a coordinator's side that drives generators by hand. Each trip can lose and alter answers."""

    members: dict[str, One]
    terms: Terms
    length: int
    lost: Callable[[str, int, str], bool] = lambda _stage, _round, _member: False
    alter: Callable[[str, str, object], object] = lambda _stage, _member, answer: answer
    shown: list[object] = field(default_factory=list)

    def drive(self, running: Coordinator, round_: int = 0):
        """Run a coordinator whose asks are those of the secure sum itself."""
        try:
            asks = next(running)
            while True:
                asks = running.send(self.carry(asks, round_))
        except StopIteration as end:
            return end.value

    def carry(self, asks, round_: int = 0):
        answers = {}
        for name, ask in asks.items():
            self.shown.append(ask)
            if self.lost(type(ask).__name__, round_, name):
                continue
            try:
                answer = seat.answer(ask, self.members[name])
            except PeerError:
                continue
            answers[name] = self.alter(type(ask).__name__, name, answer)
        return answers

    def open(self) -> Opened:
        return self.drive(open_session(sorted(self.members), self.terms))

    def spec(self, members: int, **changes) -> FixedPoint:
        given = {"length": self.length, "bits": self.terms.bits, "members": members, "coordinate": 8.0}
        return sized(**(given | changes))

    def sum(self, opened: Opened, query: int = 0, members=(), attempt: int = 0, spec=None) -> Summed:
        """One whole sum, to its result or its fault."""
        asked = tuple(sorted(members)) or opened.members
        spec = spec or self.spec(len(asked))
        request = opened.request(PURPOSE, spec, CONTEXT, query, asked, attempt)
        answers = {}
        for name in asked:
            if not self.lost("Request", query, name):
                answer = self.members[name].upload(request, opened.slips(name), spec)
                answers[name] = self.alter("Request", name, answer)
        return self.drive(finish(opened, request, answers), query)

    def decoded(self, summed: Summed) -> np.ndarray:
        return self.spec(len(summed.members)).decode(summed.words, len(summed.members))


def crowd(count: int, mode: Mode = Mode.STRICT, length: int = 7, seed: int = 1, **terms) -> Crowd:
    """`count` members with values in [-4, 4], who have all approved one roster."""
    names = tuple(f"m{i:03d}" for i in range(count))
    random = np.random.default_rng(seed)
    clock = Clock()
    people = {
        n: One(n, Identity.generate(), names, random.uniform(-4, 4, length).astype(np.float32), clock=clock)
        for n in names
    }
    roster = Roster(tuple((MemberId(n), p.identity.public) for n, p in people.items()))
    for person in people.values():
        person.roster = roster
    given = {"smallest_crowd": min(3, count), "colluding": 1 if count > 1 else 0, "bits": 32}
    return Crowd(people, Terms(mode, **(given | terms)), length)


def integers(there: Crowd, spec: FixedPoint, members) -> np.ndarray:
    """The sum that must come out, in Python's own integers, modulo 2**bits."""
    rows = [spec.encode(there.members[m].values).tolist() for m in members]
    return np.array([sum(column) % 2**spec.bits for column in zip(*rows, strict=True)], dtype=np.uint64)
