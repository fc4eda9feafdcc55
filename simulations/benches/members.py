"""Hold a crowd of real members of secure sums: real keys and states, and every ask and answer crosses the codec."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum import seat
from protocols.secure_sum.aggregation import Begun, Expected
from protocols.secure_sum.coordinate import Opened, Summed, finish, open_session
from protocols.secure_sum.messages import (
    KINDS,
    Acknowledge,
    Acknowledged,
    Agree,
    Agreed,
    Introduced,
    Request,
    Reveal,
    Revealed,
    Slip,
    Upload,
)
from protocols.secure_sum.session import Place
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import Answers, Asks, Coordinator, MemberId
from protocols.wire import Message, Wire
from simulations.benches.sizes import Vector, plain_spec

R = TypeVar("R")
_WIRE = Wire(*KINDS)
_PURPOSE, _CONTEXT, _COORDINATOR, _SESSION = "bench", bytes(32), "ed25519:bench", "5e55"


def encoded(message: Message) -> bytes:
    """Return a message's bytes."""
    return _WIRE.encode(message)


def decoded(data: bytes) -> Message:
    """Return the message in some bytes."""
    return _WIRE.decode(data)


@dataclass(frozen=True, slots=True)
class Member:
    """Be what a home is around a secure sum, without model and gate."""

    name: str
    everyone: tuple[str, ...]
    roster: Roster
    sums: Sums

    def introduce(self, terms: Terms) -> Introduced:
        """Make keys."""
        place = Place(MemberId(self.name), _COORDINATOR, _SESSION, self.everyone)
        return self.sums.introduce(_SESSION, place, terms, self.roster)

    def acknowledge(self, ask: Acknowledge) -> Acknowledged:
        """Check everybody's keys."""
        return self.sums.acknowledge(_SESSION, ask)

    def agree(self, ask: Agree) -> Agreed:
        """Sign who is in."""
        return self.sums.agree(_SESSION, ask)

    def reveal(self, ask: Reveal) -> Revealed:
        """Reveal shares."""
        return self.sums.reveal(_SESSION, ask)

    def begin(self, request: Request, slips: Sequence[Slip] = ()) -> Begun:
        """Check a request against what this member would ask for itself."""
        expected = Expected(_PURPOSE, request.spec, _CONTEXT, request.query)
        return self.sums.begin(_SESSION, request, slips, expected)

    def upload(self, request: Request, vector: Vector, noise: NDArray[np.signedinteger] | None = None) -> Upload:
        """Answer a request with the vector, masked, and under noise if there is any."""
        begun = self.begin(request)
        values = request.spec.encode(vector)
        if noise is not None:
            values += noise
        return self.sums.upload(_SESSION, begun, values)


@dataclass(slots=True)
class Crowd:
    """Drive members by hand, in an open session in which every pair has its keys.

    Units:  `spent` sums up, by member, milliseconds from ask bytes to answer bytes; `sent` the answers' bytes.
    """

    terms: Terms
    members: Mapping[str, Member]
    opened: Opened = field(init=False)
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _queries: int = 0

    def __post_init__(self) -> None:
        self.opened, _ = self._drive(open_session(sorted(map(MemberId, self.members)), self.terms))
        first = self.request(plain_spec(1, len(self.members), self.terms.bits))
        for name in self.opened.members:
            self._confirm(name, first)

    @property
    def first(self) -> Member:
        """Return a member: the one whose time is taken."""
        return self.members[self.opened.members[0]]

    def request(self, spec: FixedPoint) -> Request:
        """Return a request that nobody has answered yet, to all."""
        self._queries += 1
        return self.opened.request(_PURPOSE, spec, _CONTEXT, self._queries)

    def finish(self, request: Request, uploads: Mapping[str, Message]) -> list[Answers]:
        """Carry a sum from its uploads to its end, and return what the members answered on the way."""
        return self._drive(finish(self.opened, request, _named(uploads)))[1]

    def replay(self, request: Request, uploads: Mapping[str, Message], trips: Sequence[Answers] = ()) -> Summed:
        """Do the coordinator's part of a sum alone: what the members answered is at hand."""
        running = finish(self.opened, request, _named(uploads))
        try:
            next(running)
            for answers in trips:
                running.send(answers)
        except StopIteration as end:
            summed: Summed = end.value
            return summed
        raise AssertionError("a sum that needs more trips")

    def _drive(self, running: Coordinator[R]) -> tuple[R, list[Answers]]:
        trips: list[Answers] = []
        try:
            asks = next(running)
            while True:
                trips.append(self._carry(asks))
                asks = running.send(trips[-1])
        except StopIteration as end:
            return end.value, trips

    def _carry(self, asks: Asks) -> Answers:
        letters: dict[int, bytes] = {}
        answers: dict[MemberId, Message] = {}
        for name, ask in asks.items():
            if id(ask) not in letters:
                letters[id(ask)] = encoded(ask)
            began = time.perf_counter()
            answer = encoded(seat.answer(decoded(letters[id(ask)]), self.members[name]))
            self.spent[name] += (time.perf_counter() - began) * 1e3
            self.sent[name] += len(answer)
            answers[name] = decoded(answer)
        return answers

    def _confirm(self, name: str, request: Request) -> None:
        """Bring a member its peers' slips with a request, which it begins and never answers."""
        letter = encoded(Acknowledged(self.opened.slips(name)))
        began = time.perf_counter()
        slips = decoded(letter)
        self.members[name].begin(request, slips.slips if isinstance(slips, Acknowledged) else ())
        self.spent[name] += (time.perf_counter() - began) * 1e3
        self.opened.heard(name)


def crowd(count: int, mode: Mode, *, bits: int = 32, colluding: int = 1) -> Crowd:
    """Return `count` members of one roster, of whom so many may collude."""
    names = tuple(f"m{i:03d}" for i in range(count))
    identities = {n: Identity.generate() for n in names}
    roster = Roster(tuple((MemberId(n), i.public) for n, i in identities.items()))
    members = {n: Member(n, names, roster, Sums(i, time.time)) for n, i in identities.items()}
    return Crowd(Terms(mode, max(3, colluding + 1), colluding, bits), members)


def _named(uploads: Mapping[str, Message]) -> Answers:
    return {MemberId(m): u for m, u in uploads.items()}
