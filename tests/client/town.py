"""Three homes in one process that think together: real experts, gates, mailboxes and secure sums."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.declared import Declared
from client.experts.tokens import TokenExpert
from client.home import House
from client.model import Base
from client.settings import ExpertSettings
from privacy.artefact import Artefact
from privacy.gate import Gate
from privacy.ledger import Ledger
from privacy.mechanisms import GaussianMechanism, clip
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import Randomness, SystemRandomness
from privacy.units import Level
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.logits.asking import Reading
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive

TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)
BUDGET = Budget(epsilon=20.0, delta=1e-5, record_tokens=16, disclosures=50)
NAMES = tuple(MemberId(n) for n in ("clinic", "depot", "forge"))
COORDINATOR = Identity.generate()


@dataclass
class Drawn:
    """Be an adapter that a Gaussian mechanism drew."""

    vector: NDArray[np.float32]

    @property
    def event(self) -> object:
        return GaussianMechanism(clip(self.vector, 9.0), 4.0).event

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:
        return self.vector


@dataclass
class Town:
    """Three homes, each with experts of its own."""

    houses: dict[MemberId, House]
    ends: dict[MemberId, Callable[[bytes], bytes]]
    keys: dict[MemberId, object]

    def close(self) -> None:
        for house in self.houses.values():
            house._undress()
            house.ledger.close()

    def run(self, task: Reading, name: str, session: str = "5e55") -> object:
        outbox = self.outbox(name, session)
        return drive(CATALOG[name].coordinate(NAMES, task), outbox, CATALOG[name].wire)

    def outbox(self, name: str, session: str) -> Outbox:
        return Outbox(MemoryRoad(self.ends), COORDINATOR, "coordinator", session, name, self.keys)  # type: ignore[arg-type]

    def lines(self, kind: str) -> list[int]:
        return [
            sum(json.loads(line)["kind"] == kind and json.loads(line)["number"] >= 2 for line in h.ledger.lines())
            for h in self.houses.values()
        ]

    def rows(self, name: MemberId, text: Sequence[int]) -> NDArray[np.float64]:
        """What a home's own model says at each position of a text after its first symbol, without any cache."""
        expert = self.houses[name].experts(by_bytes=False).own[0]
        return np.concatenate([expert.block(text[:n], ()).next for n in range(1, len(text))])


@dataclass
class Speaker:
    """Be the coordinator's side with a real public model."""

    model: TokenExpert
    ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(3)

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> object:
        return self.model.block(context, drafts)

    def draft(self, context: Sequence[int], count: int, *, greedy: bool) -> tuple[list[int], NDArray[np.float64]]:
        drafts, rows = [], np.zeros((count, self.model.symbols))
        for i in range(count):
            rows[i] = np.exp(self.model.block([*context, *drafts], ()).next[0])
            drafts.append(int(rows[i].argmax()) if greedy else int(self.numbers.choice(len(rows[i]), p=rows[i])))
        return drafts, rows

    def uniform(self) -> float:
        return float(self.numbers.random())

    def emit(self, symbols: Sequence[int]) -> None:
        pass


def raise_town(
    folder: Path,
    bases: Mapping[MemberId, Base],
    settings: Mapping[MemberId, ExpertSettings],
    adapters: Mapping[MemberId, Mapping[str, Artefact]],
    *names: str,
    charged: bool = False,
    **changes: object,
) -> Town:
    """Raise a home for each name; with `charged` each one's first adapter was drawn under a charge."""
    permission = Permission(str(COORDINATOR.public), Level.LOGITS, names, smallest_crowd=3)
    policy = Policy(1, BUDGET, (replace(permission, **changes),))  # type: ignore[arg-type]
    identities = {name: Identity.generate() for name in NAMES}
    roster, houses, ends = Roster(tuple((m, i.public) for m, i in identities.items())), {}, {}
    for name, identity in identities.items():
        house = House(
            name, bases[name], list, Declared(40, 1500), lambda: policy, Ledger(folder / f"{name}.db"), "notes",
            adapters=adapters[name].__getitem__, expert=settings[name], roster=lambda: roster,
            sums=Sums(identity, time.time), identity=str(identity.public),
        )  # fmt: skip
        if charged:
            trained = Occasion(f"train-{name}", 0, "train", Level.WEIGHTS, "own", 1)
            own = Permission("own", Level.WEIGHTS, ("train",), 1, unsafe_plain_sum=True)
            gate = Gate(Policy(1, BUDGET, (own,)), house.ledger, SystemRandomness())
            first = next(iter(adapters[name].values()))
            gate.keep(Drawn(first.values), first.shape, house.account(BUDGET), trained)
        evidence = house.evidence(identity)
        mailbox = Mailbox(name, identity, COORDINATOR.public, CATALOG, house.open, MemoryShelf(), evidence)
        houses[name], ends[name] = house, mailbox.deliver
    return Town(houses, ends, {m: i.public for m, i in identities.items()})
