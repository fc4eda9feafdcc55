"""Give the models of `parley bench logits` real homes: mailboxes, gates, ledgers and secure sums, in one process.

    silos     each home thinks with its own model, as `[expert] model` says
    shards    each home thinks with one model for each disjoint shard of its records

The coordinator's side is the product's own too: it reads given texts, or speaks with the public model as its draft.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.declared import declare
from client.experts.expert import Expert
from client.experts.opening import Experts
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.home import House
from client.model import Base
from privacy.ledger import Ledger
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.units import Level, Relation, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity, PublicKey
from protocols.logits.asking import NO_SUPPORT, Read, Reading
from protocols.logits.question import BITS, Alphabet, Question, Sends
from protocols.logits.speaking import Spoken, Thought, speak
from protocols.post import Mailbox, MemoryShelf
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive
from simulations.village import Village, Villager

TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1, bits=BITS)
BUDGET = Budget(epsilon=100.0, delta=1e-5, unit=Unit.RECORD, relation=Relation.ADD_OR_REMOVE, disclosures=10**6)
_THINKING = ("mixture", "product", "private_predict")


@dataclass
class ExpertHouse(House):
    """Be a home that thinks with models that are loaded already."""

    models: tuple[Base, ...] = ()
    made: Experts | None = field(default=None, init=False, repr=False)

    def experts(self, *, by_bytes: bool) -> Experts:  # noqa: ARG002
        """Return the experts of its models, over tokens."""
        if self.made is None:
            own = tuple(TokenExpert(View(model)) for model in self.models)
            self.made = Experts(TokenExpert(View(self.base)), own)
        return self.made


@contextmanager
def homes(base: Base, models: Mapping[str, Sequence[Base]], folder: Path) -> Iterator[Village]:
    """Raise one home for each silo, with its models, all in this process."""
    coordinator = Identity.generate()
    identities = {MemberId(name): Identity.generate() for name in sorted(models)}
    roster = Roster(tuple((m, i.public) for m, i in identities.items()))
    villagers = {}
    for member, identity in identities.items():
        ledger = Ledger(folder / f"{member}.db", durable=False)
        house = home_of(member, identity, base, models[member], coordinator.public, roster, ledger)
        mailbox = Mailbox(
            member, identity, coordinator.public, CATALOG, house.open, MemoryShelf(), house.evidence(identity)
        )
        villagers[member] = Villager(house, identity, mailbox)
    village = Village(villagers, coordinator)
    try:
        yield village
    finally:
        village.close()


def home_of(
    member: MemberId,
    identity: Identity,
    base: Base,
    models: Sequence[Base],
    partner: PublicKey,
    roster: Roster,
    ledger: Ledger,
) -> ExpertHouse:
    """Return a home that thinks with these models; its policy trusts the coordinator, and allows exact sums."""
    texts = [f"what {member} has"]
    allowed = Permission(str(partner), Level.LOGITS, _THINKING, 3, unsafe_without_noise=True, trusts_coordinator=True)
    house = ExpertHouse(
        member=member,
        base=base,
        documents=lambda: texts,
        declared=declare(texts, base.tokenizer),
        policy=lambda: Policy(1, BUDGET, (allowed,)),
        ledger=ledger,
        dataset=f"data of {member}",
        models=tuple(models),
    )
    house.roster, house.sums = lambda: roster, Sums(identity, time.time)
    return house


def question(base: Base, sends: Sends, **terms: object) -> Question:
    """Return a question over all tokens of the public model."""
    symbols = int(base.model.config.vocab_size)
    return Question(base.digest, Alphabet.TOKENS, symbols, 0, sends=sends, **terms)  # type: ignore[arg-type]


def read(
    village: Village, asked: Question, rows: NDArray[np.int32], told: NDArray[np.float64], road: MemoryRoad
) -> Read:
    """Have the members read windows of text in one session, and return the sums of all positions but each first.

    Shapes:  rows (windows, length); told (windows, length - 1), log p0 of each token but the first.
    """
    known = np.concatenate([np.zeros((len(rows), 1)), told], axis=1).astype(np.float32)
    task = Reading(
        asked, len(village.members), TERMS, rows.ravel(), (rows.shape[1],) * len(rows), 1, known.ravel(), NO_SUPPORT
    )
    entry, outbox = CATALOG["mixture"], village.outbox("00" * 16, "mixture", road)
    done = drive(entry.coordinate(village.members, task), outbox, entry.wire)
    outbox.close()
    assert isinstance(done, Read)  # noqa: S101  it is what this coordinator returns
    return done


class Speaker:
    """Be the coordinator's own side: the public model, which drafts too if nobody else does, and randomness."""

    def __init__(self, base: Base, drafter: Expert | None = None) -> None:
        self.expert = TokenExpert(View(base))
        self.drafter = drafter or self.expert
        self.ends: frozenset[int] = frozenset()
        self.randomness = SystemRandomness()

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what the public model says."""
        return self.expert.block(context, drafts)

    def draft(self, context: Sequence[int], count: int, *, greedy: bool) -> tuple[list[int], NDArray[np.float64]]:
        """Return guesses, one after the other, and the distributions that they were drawn from."""
        guesses: list[int] = []
        rows = np.zeros((count, self.expert.symbols))
        for i in range(count):
            rows[i] = np.exp(self.drafter.block([*context, *guesses], ()).next[0])
            sums = np.cumsum(rows[i])
            at = int(rows[i].argmax()) if greedy else int(np.searchsorted(sums, self.uniform() * sums[-1], "right"))
            guesses.append(min(at, self.expert.symbols - 1))
        return guesses, rows

    def uniform(self) -> float:
        """Return a number from 0 to below 1."""
        return float(self.randomness.uniform(1)[0])

    def emit(self, symbols: Sequence[int]) -> None:
        """Show nobody."""


def answer(
    village: Village,
    name: str,
    asked: Question,
    prompt: Sequence[int],
    base: Base,
    session: str,
    drafter: Expert | None = None,
) -> Spoken:
    """Have the members go on from a prompt, in a session of its own."""
    outbox = village.outbox(session, name)
    coordinator = speak(name, village.members, asked, TERMS, len(village.members), prompt, Speaker(base, drafter))
    spoken = drive(coordinator, outbox, CATALOG[name].wire)
    outbox.close()
    return spoken
