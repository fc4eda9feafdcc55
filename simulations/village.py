"""Raise every member of an experiment inside one process: real homes with real gates, ledgers and mailboxes.

What a village runs is what an organisation runs, but for the walls between the members.
"""

import copy
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.declared import declare
from client.documents import Document
from client.home import House
from client.model import Base
from client.wardrobe import Wardrobe
from privacy.ledger import Ledger, Statement
from privacy.policy import Budget, Permission, Policy
from privacy.units import Level, Relation, Unit
from protocols import stream
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity, PublicKey
from protocols.post import Deliver, Mailbox, MemoryShelf, Outbox, Shelved
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.session import Carrier, MemberId
from server.orders import Road
from simulations.experiment import Experiment

Texts = Sequence[str | Document]
_LONG, _IN_A_FILE = 2**16, b"in a file"  # an answer's bytes; no answer is shorter than its signature
_MOST_AWAKE = 32  # ledgers that are open: each takes half a megabyte, and six of the files that a process may open


@dataclass
class Turns:
    """Let one member of a village work at a time, and close the ledgers of those that worked longest ago."""

    _one: threading.RLock = field(default_factory=threading.RLock, repr=False)  # who is at work may look at the books
    _awake: OrderedDict[int, Ledger] = field(default_factory=OrderedDict, repr=False)

    @contextmanager
    def of(self, ledger: Ledger) -> Iterator[None]:
        """Let the owner of `ledger` work within, when nobody else does."""
        with self._one:
            self._awake[id(ledger)] = ledger
            self._awake.move_to_end(id(ledger))
            while len(self._awake) > _MOST_AWAKE:
                self._awake.popitem(last=False)[1].rest()
            yield


@dataclass
class Villager:
    """Be one member: its house, its identity, its mailbox, and how many bytes its letters had.

    It works when it is its turn: members share one model in memory, and few of them keep their ledgers open.
    """

    house: House
    identity: Identity
    mailbox: Mailbox
    turns: Turns = field(default_factory=Turns)
    bytes_received: int = 0
    bytes_sent: int = 0

    def deliver(self, sealed: bytes) -> bytes:
        """Answer a letter, and count the bytes both ways."""
        with self.turns.of(self.house.ledger):
            self.bytes_received += len(sealed)
            answer = self.mailbox.deliver(sealed)
            self.bytes_sent += len(answer)
            return answer

    @property
    def statement(self) -> Statement:
        """Return what the member's ledger says of its data."""
        with self.turns.of(self.house.ledger):
            return self.house.ledger.statement(self.house.account(self.house.policy().budget))

    @property
    def refusals(self) -> tuple[str, ...]:
        """Return for what its ledger says that it refused, each reason by its class, once."""
        with self.turns.of(self.house.ledger):
            found = [each for each in map(json.loads, self.house.ledger.lines()) if each["kind"] == "refused"]
        return tuple(dict.fromkeys(str(each["why"]) for each in found))


@dataclass
class Village:
    """Hold the members and the coordinator's identity, which in a simulation is made anew each time."""

    villagers: Mapping[MemberId, Villager]
    coordinator: Identity = field(default_factory=Identity.generate)

    @property
    def members(self) -> tuple[MemberId, ...]:
        """Return the members in the order in which they are asked."""
        return tuple(sorted(self.villagers))

    @property
    def keys(self) -> dict[MemberId, PublicKey]:
        """Return the members' public keys."""
        return {m: v.identity.public for m, v in self.villagers.items()}

    @property
    def ends(self) -> dict[MemberId, Deliver]:
        """Return where the letters to each member go."""
        return {m: v.deliver for m, v in self.villagers.items()}

    def outbox(self, session: str, collaboration: str, road: Carrier | None = None, purpose: str = "") -> Outbox:
        """Return a carrier to the members: in memory, or over `road`; `purpose` is what they are told."""
        road = road or MemoryRoad(self.ends)
        return Outbox(road, self.coordinator, "coordinator", session, collaboration, self.keys, purpose)

    def close(self) -> None:
        """Close the ledgers."""
        for villager in self.villagers.values():
            villager.house.ledger.close()


def raise_village(
    experiment: Experiment, texts: Mapping[str, Texts], base: Base, folder: Path, orders: tuple[float, ...] = ()
) -> Village:
    """Build a member for every entry of `texts` (name -> training documents), with fresh ledgers in `folder`.

    Each member's policy allows exactly what the experiment asks for, `orders` being those of the plan. They work in
    turn on one model, whose modules are not those of `base`, since training writes adapters into them, but whose
    weights are: a thousand members take little more memory than their own data.
    """
    coordinator = Identity.generate()
    policy = policy_for(experiment, str(coordinator.public), orders)
    houses, wardrobe = {}, Wardrobe(_of_its_own(base))
    for member in map(MemberId, sorted(texts)):
        (folder / member).mkdir(parents=True)
        ledger = Ledger(folder / member / "ledger.db", durable=False)
        houses[member] = house = _house(experiment, member, texts[member], wardrobe, policy, ledger)
        ledger.rest()
        house.most_rank = next((m.rank for m in experiment.members if m.name == member), None)
    return moved_in(houses, coordinator, folder)


def moved_in(houses: Mapping[MemberId, House], coordinator: Identity, folder: Path) -> Village:
    """Give each house a mailbox for the coordinator's letters, kept in its own folder, and all of them one roster."""
    identities = {member: Identity.generate() for member in houses}
    roster, villagers = Roster(tuple((m, i.public) for m, i in identities.items())), {}
    turns = Turns()
    for member, house in houses.items():
        identity = identities[member]
        house.roster, house.sums = lambda: roster, Sums(identity, time.time)
        shelf = LeanShelf(folder=folder / member)
        mailbox = Mailbox(member, identity, coordinator.public, CATALOG, house.open, shelf, house.evidence(identity))
        villagers[member] = Villager(house, identity, mailbox, turns)
    return Village(villagers, coordinator)


@dataclass
class LeanShelf(MemoryShelf):
    """Keep sessions as long as the process lives, and their long answers in a file of `folder`.

    An answer is read again only if its letter comes again; a thousand members' would fill the memory in between.
    """

    folder: Path = field(kw_only=True)

    def fetch(self, session: str) -> Shelved | None:
        """Return what is kept of `session`."""
        shelved = super().fetch(session)
        if shelved is None or shelved.answer != _IN_A_FILE:
            return shelved
        return replace(shelved, answer=self._file(session).read_bytes())

    def keep(self, session: str, shelved: Shelved) -> None:
        """Replace what is kept of `session`."""
        if shelved.answer is not None and len(shelved.answer) > _LONG:
            self._file(session).write_bytes(shelved.answer)
            shelved = replace(shelved, answer=_IN_A_FILE)
        super().keep(session, shelved)

    def _file(self, session: str) -> Path:
        return self.folder / f"{hashlib.sha256(session.encode()).hexdigest()[:32]}.answer"


def data_of(member: str) -> str:
    """Return how a member's ledger calls its data, here and on nodes: which records it holds back hangs on it."""
    return f"data of {member}"


def policy_for(experiment: Experiment, partner: str, orders: tuple[float, ...] = ()) -> Policy:
    """Return a policy that allows `partner` exactly what the experiment asks for."""
    privacy = experiment.privacy
    name = experiment.collaboration.name
    plain, terms = experiment.collaboration.unsafe_plain_sum, experiment.secure_sum
    permission = Permission(
        partner,
        CATALOG[name].level,
        (name,),
        smallest_crowd=1 if plain else terms.smallest_crowd,
        unsafe_without_noise=privacy.unsafe_without_noise,
        colluding=terms.colluding,
        unsafe_plain_sum=plain,
        purposes=(experiment.purpose,) if experiment.purpose else None,
    )
    budget = Budget(
        privacy.epsilon or 1.0,
        privacy.delta,
        privacy.unit,
        Relation.ZERO_OUT if privacy.unit is Unit.MEMBER else Relation.ADD_OR_REMOVE,
        orders,
        experiment.training.record_tokens,
        disclosures=max(1000, experiment.collaboration.rounds * experiment.training.steps),
    )
    allow = [permission]
    if experiment.carrier is Road.STREAM:
        crowd = permission.smallest_crowd
        allow.append(Permission(partner, Level.LOGITS, (stream.NAME,), crowd, purposes=permission.purposes))
    return Policy(1, budget, tuple(allow), experiment.unsafe_seeded_randomness)


def _house(
    experiment: Experiment, member: MemberId, texts: Texts, wardrobe: Wardrobe, policy: Policy, ledger: Ledger
) -> House:
    return House(
        member=member,
        base=wardrobe.base,
        wardrobe=wardrobe,
        documents=lambda: texts,
        declared=declare(texts, wardrobe.base.tokenizer),
        policy=lambda: policy,
        ledger=ledger,
        dataset=data_of(member),
        unsafe_seed=experiment.seed if experiment.unsafe_seeded_randomness else None,
        validation=experiment.utility.validation if experiment.utility else 0.0,
    )


def _of_its_own(base: Base) -> Base:
    """Return the base with modules of its own, into which training writes adapters, on the same frozen weights."""
    tensors = (*base.model.parameters(), *base.model.buffers())
    return replace(base, model=copy.deepcopy(base.model, {id(t): t for t in tensors}))
