"""Real members in one process for the tests: mailboxes, homes with a gate, and a road between them."""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent
from thinkers import Thinkers, bigram

from client.answered import Answered
from client.homes.logits import LogitsVisit
from client.homes.talking import TalkingVisit
from client.masking import Masked, MaskedRelease, MaskedSample
from client.speaking.mouth import Mouth
from privacy.evidence import Evidence
from privacy.gate import Disclosed, Gate, Released
from privacy.ledger import Account, Ledger
from privacy.mechanisms import GaussianMechanism, clip
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import Randomness, SystemRandomness
from privacy.redaction.redactor import Redactor
from privacy.sampled_sum import SampledShare
from privacy.trail import HEAD_LABEL
from privacy.units import Level, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.roster import Roster
from protocols.secure_sum.aggregation import Expected
from protocols.secure_sum.session import Place
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive
from protocols.stream import Dialling
from protocols.text import ballot as count
from protocols.text.ballot import Ballot, Votes
from protocols.text.poll import Mark, Poll
from protocols.text.talk import Brief
from protocols.weights import average, merge, pooled, utility
from protocols.weights.average import Average
from protocols.weights.blending import agreeing, trimmed
from protocols.weights.recipe import Recipe
from protocols.weights.utility import Trial

BUDGET = Budget(epsilon=50.0, delta=1e-5)
REDACTOR = Redactor()  # one for all: it remembers nothing, and its patterns take long to compile
COORDINATOR = Identity.generate()
LENGTH = 5


def recipe(**changes) -> Recipe:
    given = {
        "base": "b" * 64, "layout": "l" * 64, "length": LENGTH, "rank": 4, "alpha": 8.0, "targets": ("q_proj",),
        "adapter_seed": 1, "record_tokens": 16, "rounds": 3, "steps": 2, "batch_size": 8, "optimizer": "sgd",
        "learning_rate": 0.1, "clipping_norm": 1.0, "unit": Unit.RECORD, "epsilon": 8.0, "delta": 1e-5,
    }  # fmt: skip
    return Recipe(**(given | changes))


def task(plain: bool = False, mode: Mode = Mode.STRICT, **changes) -> Average:
    terms = None if plain else Terms(mode, smallest_crowd=2, colluding=1)
    return Average(recipe(**changes), 2, np.zeros(LENGTH, np.float32), terms)


def trial(**changes) -> Trial:
    given = {
        "base": "b" * 64, "layout": "l" * 64, "length": LENGTH, "rank": 4, "alpha": 8.0, "targets": ("q_proj",),
        "adapter_seed": 1, "record_tokens": 16, "clip": 1.0, "candidates": 4, "evaluations": 4, "population": 30,
        "unit": Unit.RECORD, "epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 2.0,
    }  # fmt: skip
    return Trial(**(given | changes))


TERMS = Terms(Mode.STRICT, smallest_crowd=2, colluding=1)
CORNERS = np.eye(3, LENGTH, dtype=np.float32)


@dataclass
class Nearer:
    """Score how much nearer to a private point each candidate is than the reference: a house with one record."""

    point: np.ndarray
    points: list[np.ndarray]
    clip: float

    def __len__(self) -> int:
        return 1

    def vectors(self, _chosen, _randomness):
        yield self.draw(None)

    def draw(self, _randomness) -> np.ndarray:
        before, *after = (float(np.sum((self.point - p.astype(np.float64)) ** 2)) for p in self.points)
        return np.clip(before - np.array(after), -self.clip, self.clip).astype(np.float32)


def ballot(**changes) -> Ballot:
    given = {
        "by": Votes.NEAREST, "choices": 5, "counts": 1, "votes": 1, "looks": 1, "population": 12, "record_tokens": 16,
        "unit": Unit.RECORD, "epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 0.5,
    }  # fmt: skip
    return Ballot(**(given | changes))


@dataclass
class Crowd:
    """Be four records that all vote for the choice that ten times their private point says."""

    point: np.ndarray
    choices: int

    def __len__(self) -> int:
        return 4

    def vectors(self, chosen, _randomness):
        one = np.eye(self.choices)[round(10 * abs(self.point[0])) % self.choices]
        yield from np.tile(one, (chosen.size, 1))

    def draw(self, _randomness) -> np.ndarray:
        return np.sum(list(self.vectors(np.arange(4), None)), axis=0).astype(np.float32)


def poll(**changes) -> Poll:
    given = {
        "mark": Mark.BEST, "options": 4, "polls": 1, "voters": 100, "lead": 0.0, "unit": Unit.RECORD,
        "epsilon": None, "delta": 1e-5, "noise_multiplier": None,
    }  # fmt: skip
    return Poll(**(given | changes))


BRIEF = Brief(turns=4, longest=200, heard=6)


def pool_task(mode: Mode = Mode.STRICT, **changes) -> pooled.Pool:
    given = {"steps": 1, "population": 12, "batch_size": 6, "noise_multiplier": 4.0} | changes
    return pooled.Pool(recipe(**given), 2, np.zeros(LENGTH, np.float32), Terms(mode, smallest_crowd=2, colluding=1))


@dataclass
class Points:
    """Be four records at a private point: the gradient of half the squared distance to it."""

    point: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return 4

    def vectors(self, chosen, _randomness):
        yield from np.tile(self.at - self.point, (chosen.size, 1))


@dataclass
class Pull:
    """Pull the adapter towards a private point, by a Gaussian mechanism on the way there."""

    point: np.ndarray
    adapter: np.ndarray
    noise_multiplier: float

    @property
    def event(self) -> DpEvent:
        return GaussianDpEvent(self.noise_multiplier)

    def draw(self, randomness: Randomness) -> np.ndarray:
        way = clip((self.point - self.adapter) / 2, 1.0)
        if self.noise_multiplier == 0:
            return way.vector.astype(np.float32)
        return GaussianMechanism(way, self.noise_multiplier).draw(randomness).astype(np.float32)


@dataclass
class Parrot:
    """Write what its private point makes of the question, and weigh options by it: a small private model."""

    point: np.ndarray
    name: str

    def say(self, prompt) -> str:
        words = ("yes", "no", "perhaps", f"ask {PLANTED}")
        heard = f", and {len(prompt.heard)} others spoke" if prompt.heard else ""
        return f"{words[(round(10 * abs(self.point[0])) + ord(self.name[-1])) % 4]}{heard}"

    def weigh(self, _prompt, options) -> np.ndarray:
        shares = np.arange(len(options)) + 1.0 + np.abs(self.point[0])
        return shares / shares.sum()


PLANTED = "maria.kowalska@clinic.example"


def mouth(point: np.ndarray, name: str) -> Mouth:
    parrot = Parrot(point, name)
    return Mouth(lambda: parrot, lambda: (parrot,) * 20, REDACTOR, list, lambda: None)


@dataclass
class House:
    """One member: private point, gate, mailbox. `homes` counts how often a home was opened."""

    name: MemberId
    folder: Path
    point: np.ndarray
    noise_multiplier: float = 4.0
    identity: Identity = field(default_factory=Identity.generate)
    shelf: MemoryShelf = field(default_factory=MemoryShelf)
    opened: list[Occasion] = field(default_factory=list)
    dial: Callable[[str, bytes, int], None] = lambda *_: None
    answered: Answered = field(default_factory=Answered)
    rank: int | None = None

    def __post_init__(self) -> None:
        permissions = tuple(
            Permission(
                str(COORDINATOR.public),
                level,
                tuple(c.name for c in CATALOG.values() if c.level is level),
                2,
                self.noise_multiplier == 0,
                unsafe_plain_sum=True,
            )
            for level in {c.level for c in CATALOG.values()}
        )
        thinking = replace(
            next(p for p in permissions if p.level is Level.LOGITS),
            unsafe_without_noise=True,
            trusts_coordinator=True,
        )
        talking = replace(
            next(p for p in permissions if p.level is Level.TEXT), unsafe_without_noise=True, redaction="default"
        )
        changed = {Level.LOGITS: thinking, Level.TEXT: talking}
        permissions = tuple(changed.get(p.level, p) for p in permissions)
        mine = bigram(zlib.crc32(self.name.encode()))
        mine.table += np.outer(self.point, np.ones(len(mine.table)))[0]  # something of its private point
        self.thinkers = Thinkers(own=(mine,))
        self.mouth = mouth(self.point, self.name)
        self.sums = Sums(self.identity, time.time)
        self.roster = Roster(((self.name, self.identity.public),))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.folder / "ledger.db", durable=False)
        self.gate = Gate(Policy(1, BUDGET, permissions), self.ledger, SystemRandomness())
        self.account = Account(f"data of {self.name}", BUDGET)

    @property
    def mailbox(self) -> Mailbox:
        """A mailbox as after a restart: only the shelf remembers."""
        evidence = Evidence(self.ledger, lambda head: self.identity.sign(HEAD_LABEL, head), str(self.identity.public))
        return Mailbox(self.name, self.identity, COORDINATOR.public, CATALOG, self.open_home, self.shelf, evidence)

    def open_home(self, occasion: Occasion) -> "Room":
        self.opened.append(occasion)
        self.gate = replace(self.gate)  # one for each letter
        return Room(self, occasion)


@dataclass
class Room:
    house: House
    occasion: Occasion

    def say(self, make):
        return self.house.gate.say(make, self.house.account, self.occasion)

    def close(self):
        self.house.sums.leave(self.occasion.session)
        return self.say(lambda: b"")

    def dial(self, stream: str, ticket: bytes, expires: int):
        self.house.dial(stream, ticket, expires)
        return self.say(lambda: Dialling(stream))

    def introduce(self, terms: Terms):
        house, occasion = self.house, self.occasion
        place = Place(house.name, occasion.partner, occasion.session, occasion.members)
        return house.sums.introduce(occasion.session, place, terms, house.roster)

    def acknowledge(self, ask):
        return self.house.sums.acknowledge(self.occasion.session, ask)

    def agree(self, ask):
        return self.house.sums.agree(self.occasion.session, ask)

    def reveal(self, ask):
        return self.house.sums.reveal(self.occasion.session, ask)

    def rank(self, _recipe: Recipe) -> int | None:
        return self.house.rank

    def masked(self, recipe: Recipe, round_: int, adapter: np.ndarray, request, slips) -> Released | Disclosed:
        house, name = self.house, self.occasion.session
        spec = recipe.spec(house.sums.terms(name, house.roster), len(request.members), round_)
        collaboration = self.occasion.collaboration
        context = average.context_of(recipe, round_, adapter, collaboration)
        expected = Expected(collaboration, spec, context, round_)
        begun = house.sums.begin(name, request, slips, expected)
        pull = Pull(house.point, adapter, house.noise_multiplier)
        occasion = replace(self.occasion, summed=True)

        def mask(values: np.ndarray):
            return house.sums.upload(name, begun, values)

        if house.noise_multiplier == 0:
            return house.gate.disclose(Masked(pull, spec, mask), house.account, occasion)
        return house.gate.release(MaskedRelease(pull, spec, mask), house.account, occasion)

    def combined(self, plan, step: int, known: np.ndarray, request, slips) -> Released | Disclosed:
        """Be a home whose point is its adapter: of two products of rank one, where there is a sketch."""
        house, name = self.house, self.occasion.session
        spec = plan.spec(house.sums.terms(name, house.roster), len(request.members), step)
        expected = Expected(merge.NAME, spec, merge.context_of(plan, step, known), step)
        begun = house.sums.begin(name, request, slips, expected)
        value = _Combined(house.point, plan, step, known, plan.weight(house.name))
        masked = Masked(value, spec, lambda values: house.sums.upload(name, begun, values))
        if house.noise_multiplier == 0:
            return house.gate.disclose(masked, house.account, replace(self.occasion, summed=True))
        pull = MaskedRelease(Pull(value.draw(None), np.zeros(spec.length), house.noise_multiplier), spec, masked.mask)
        return house.gate.release(pull, house.account, replace(self.occasion, summed=True))

    def scored(self, trial: Trial, number: int, points, request, slips) -> Released | Disclosed:
        house, session, name = self.house, self.occasion.session, self.occasion.collaboration
        terms = house.sums.terms(session, house.roster)
        spec = trial.spec(terms, len(request.members), len(points) - 1)
        context = utility.context_of(name, trial, number, points[0], np.stack(points[1:]))
        begun = house.sums.begin(session, request, slips, Expected(name, spec, context, number))
        occasion, scores = replace(self.occasion, summed=True), Nearer(house.point, points, trial.clip)

        def mask(values: np.ndarray):
            return house.sums.upload(session, begun, values)

        if trial.noise_multiplier is None:
            return house.gate.disclose(Masked(scores, spec, mask), house.account, occasion)
        tally = MaskedSample(SampledShare(scores, spec, 1.0, terms.honest), mask)
        return house.gate.release(tally, house.account, occasion)

    def thought(self, asked, number: int, request, slips) -> Released | Disclosed:
        """Be a real visit, with bigrams for models."""
        visit = LogitsVisit(self.around, self.house.gate, self.occasion, self.place)
        return visit.thought(asked, number, request, slips)

    @property
    def around(self) -> SimpleNamespace:
        """What a real visit needs of a house, to which bigrams and a parrot belong."""
        house = self.house
        return SimpleNamespace(
            base=SimpleNamespace(digest="b" * 64),
            experts=lambda by_bytes: house.thinkers,
            answered=house.answered,
            sums=house.sums,
            roster=lambda: house.roster,
            threads=1,
            account=lambda _budget: house.account,
            ledger=house.ledger,
            mouth=house.mouth,
        )

    @property
    def place(self) -> Place:
        at = self.occasion
        return Place(self.house.name, at.partner, at.session, at.members)

    def replied(self, consult) -> Disclosed:
        return TalkingVisit(self.around, self.house.gate, self.occasion, self.place).replied(consult)

    def judged(self, ask, request, slips) -> Released | Disclosed:
        return TalkingVisit(self.around, self.house.gate, self.occasion, self.place).judged(ask, request, slips)

    def counted(self, ballot: Ballot, number: int, choices, request, slips) -> Released | Disclosed:
        house, session, name = self.house, self.occasion.session, self.occasion.collaboration
        terms = house.sums.terms(session, house.roster)
        spec = ballot.spec(terms, len(request.members), len(choices) // ballot.looks)
        context = count.context_of(name, ballot, number, choices)
        begun = house.sums.begin(session, request, slips, Expected(name, spec, context, number))
        occasion, voters = replace(self.occasion, summed=True), Crowd(house.point, spec.length)

        def mask(values: np.ndarray):
            return house.sums.upload(session, begun, values)

        if ballot.noise_multiplier is None:
            return house.gate.disclose(Masked(voters, spec, mask), house.account, occasion)
        tally = MaskedSample(SampledShare(voters, spec, 1.0, terms.honest), mask)
        return house.gate.release(tally, house.account, occasion)

    def stepped(self, recipe: Recipe, step: int, point: np.ndarray, request, slips) -> Released | Disclosed:
        house, name = self.house, self.occasion.session
        terms = house.sums.terms(name, house.roster)
        spec = pooled.spec_of(recipe, terms, len(request.members), step)
        expected = Expected(pooled.NAME, spec, pooled.context_of(recipe, step, point), step)
        begun = house.sums.begin(name, request, slips, expected)
        share = SampledShare(Points(house.point, point), spec, pooled.rate_of(recipe), terms.honest)
        sample = MaskedSample(share, lambda values: house.sums.upload(name, begun, values))
        occasion = replace(self.occasion, summed=True)
        if recipe.epsilon is None:
            return house.gate.disclose(sample, house.account, occasion)
        return house.gate.release(sample, house.account, occasion)

    def contribution(self, recipe: Recipe, round_: int, adapter: np.ndarray) -> Released | Disclosed:
        house = self.house
        pull = Pull(house.point, adapter, house.noise_multiplier)
        if house.noise_multiplier == 0:
            return house.gate.disclose(pull, house.account, self.occasion)
        return house.gate.release(pull, house.account, self.occasion)


@dataclass
class _Combined:
    point: np.ndarray
    plan: merge.MergePlan
    step: int
    known: np.ndarray
    weight: float

    def draw(self, randomness) -> np.ndarray:
        if self.plan.method is merge.Method.SKETCH:
            pairs = [[(self.point[:2, None], self.point[None, 2:])]]
            sketch = self.plan.sketch
            return sketch.projected(pairs, self.known) if self.step else sketch.ranges(pairs)
        if self.plan.method is merge.Method.TIES:
            kept = trimmed(self.point, self.plan.density)
            return agreeing(kept, self.known) if self.step else kept
        return self.weight * self.point


@dataclass
class Village:
    houses: dict[MemberId, House]
    road: MemoryRoad

    def outbox(self, session: str = "5e55", collaboration: str = "average", road=None) -> Outbox:
        keys = {m: h.identity.public for m, h in self.houses.items()}
        return Outbox(road or self.road, COORDINATOR, "coordinator", session, collaboration, keys)

    def run(self, the_task, session: str = "5e55", collaboration: str = "average", road=None):
        """Drive a collaboration from its catalog entry to its result."""
        entry = CATALOG[collaboration]
        outbox = self.outbox(session, collaboration, road)
        result = drive(entry.coordinate(sorted(self.houses), the_task), outbox, entry.wire)
        outbox.close()
        return result


def village(folder: Path, members: int = 3, noise_multiplier: float = 4.0, **road) -> Village:
    """Build `members` houses whose points are 0, 1, 2, ... in every coordinate."""
    houses = {
        MemberId(f"m{i}"): House(MemberId(f"m{i}"), folder / f"m{i}", np.full(LENGTH, 0.1 * i), noise_multiplier)
        for i in range(members)
    }
    roster = Roster(tuple((m, h.identity.public) for m, h in houses.items()))
    for house in houses.values():
        house.roster = roster
    ends = {m: h.mailbox.deliver for m, h in houses.items()}
    return Village(houses, MemoryRoad(ends, **road))
