"""Homes that think together with real models: adapters on a base model, real mailboxes, a real secure sum."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from client.declared import Declared
from client.experts.opening import Experts
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.home import House
from client.model import Base, layout_of, load_base
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
from protocols.faults import Abort
from protocols.keys import Identity
from protocols.logits.asking import NO_SUPPORT, Reading
from protocols.logits.question import Alphabet, Question, Sends
from protocols.logits.sampling import combined
from protocols.logits.speaking import likeliest, speak
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive

TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)
BUDGET = Budget(epsilon=20.0, delta=1e-5, record_tokens=16, disclosures=50)
TEXT = tuple(int(t) for t in np.random.default_rng(4).integers(3, 200, 24))
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
    """Three homes, each with its own adapter on its own copy of one base model."""

    houses: dict[MemberId, House]
    ends: dict[MemberId, Callable[[bytes], bytes]]
    keys: dict[MemberId, object]
    base: Base

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


def vector(base: Base, seed: int) -> Artefact:
    layout = layout_of(base, rank=2, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Artefact(layout.to_json(), np.random.default_rng(seed).normal(0, 0.5, layout.size).astype(np.float32))


@pytest.fixture(scope="module")
def bases(model_folder: Path) -> list[Base]:
    return [load_base(str(model_folder)) for _ in (*NAMES, "public")]


@pytest.fixture
def town(bases: list[Base], tmp_path: Path) -> Iterator[Callable[..., Town]]:
    made: list[House] = []

    def build(*names: str, charged: bool = False, shards: int = 1, **changes: object) -> Town:
        permission = Permission(str(COORDINATOR.public), Level.LOGITS, names, smallest_crowd=3)
        policy = Policy(1, BUDGET, (replace(permission, **changes),))  # type: ignore[arg-type]
        identities = {name: Identity.generate() for name in NAMES}
        roster, houses, ends = Roster(tuple((m, i.public) for m, i in identities.items())), {}, {}
        for n, (name, identity) in enumerate(identities.items()):
            adapters = {f"a{s}": vector(bases[n], 10 * n + s) for s in range(shards)}
            house = House(
                name, bases[n], list, Declared(40, 1500), lambda: policy, Ledger(tmp_path / f"{name}{len(made)}.db"),
                "notes", adapters=adapters.__getitem__, expert=ExpertSettings(tuple(adapters)), roster=lambda: roster,
                sums=Sums(identity, time.time), identity=str(identity.public),
            )  # fmt: skip
            if charged:
                trained = Occasion(f"train-{name}", 0, "train", Level.WEIGHTS, "own", 1)
                own = Permission("own", Level.WEIGHTS, ("train",), 1, unsafe_plain_sum=True)
                gate = Gate(Policy(1, BUDGET, (own,)), house.ledger, SystemRandomness())
                gate.keep(Drawn(adapters["a0"].values), adapters["a0"].shape, house.account(BUDGET), trained)
            evidence = house.evidence(identity)
            mailbox = Mailbox(name, identity, COORDINATOR.public, CATALOG, house.open, MemoryShelf(), evidence)
            made.append(house)
            houses[name], ends[name] = house, mailbox.deliver
        return Town(houses, ends, {m: i.public for m, i in identities.items()}, bases[-1])

    yield build
    for house in made:
        house._undress()
        house.ledger.close()


def asked(base: Base, **changes: object) -> Question:
    symbols = View(base).vocabulary
    given = {"base": base.digest, "alphabet": Alphabet.TOKENS, "symbols": symbols, "support": 0, "block": 6,
             "most": 200, "sends": Sends.WEIGHTED, "experts": 3}  # fmt: skip
    return Question(**(given | changes))  # type: ignore[arg-type]


def reading(question: Question, base: Base, text: Sequence[int] = TEXT) -> tuple[Reading, NDArray[np.float64]]:
    """Return the task, and the public model's rows at each of its positions."""
    public = TokenExpert(View(base))
    told = public.block(text, ()).told.astype(np.float32)
    rows = np.concatenate([public.block(text[:n], ()).next for n in range(1, len(text))])
    support = NO_SUPPORT
    if question.support:
        support = np.concatenate([likeliest(rows[:1], question.support), likeliest(rows, question.support)])
    tokens = np.array(text, np.int32)
    return Reading(question, 2, TERMS, tokens, (len(text),), 1, told, support), rows


def test_real_models_are_mixed_as_the_definition_says(town: Callable[..., Town]) -> None:
    there = town("mixture", unsafe_without_noise=True)
    question = asked(there.base)
    task, public = reading(question, there.base)
    done = there.run(task, "mixture")
    got = combined(question, public, done.sums, NO_SUPPORT)  # type: ignore[attr-defined]
    said = [there.rows(name, TEXT) for name in NAMES]
    for at in range(len(TEXT) - 1):
        total, weights = np.exp(public[at]), 1.0
        for rows in said:
            score = 0.0
            for before in range(at):
                score = 0.9 * score + rows[before, TEXT[before + 1]] - float(task.told[before + 1])
            weight = np.exp(np.clip(score, -2, 2))
            total, weights = total + weight * np.exp(rows[at]), weights + weight
        assert np.abs(got[at] - total / weights).max() < 1e-5
    assert there.lines("disclosed") == [4, 4, 4]


def test_what_adapters_say_that_were_charged_in_training_is_derived_and_costs_nothing(
    town: Callable[..., Town],
) -> None:
    there = town("mixture", charged=True)
    before = [h.ledger.statement(h.account(BUDGET)).spent for h in there.houses.values()]
    assert all(spent.epsilon > 0 for spent in before)
    task, _ = reading(asked(there.base, support=32), there.base)
    there.run(task, "mixture")
    assert there.lines("derived") == [4, 4, 4]
    assert there.lines("charged") == there.lines("disclosed") == [0, 0, 0]
    assert [h.ledger.statement(h.account(BUDGET)).spent for h in there.houses.values()] == before


def test_what_uncharged_adapters_say_leaves_only_where_the_policy_lets_it_without_noise(
    town: Callable[..., Town],
) -> None:
    there = town("mixture")
    task, _ = reading(asked(there.base), there.base)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")
    assert there.lines("disclosed") == there.lines("derived") == there.lines("charged") == [0, 0, 0]


def test_shards_predict_privately_and_a_session_is_charged_once(town: Callable[..., Town]) -> None:
    there = town("private_predict", shards=2, trusts_coordinator=True)
    question = asked(there.base, sends=Sends.RATIOS, clip=1.0, central=True, experts=6, most=40)
    task, public = reading(question, there.base)
    done = there.run(task, "private_predict")
    assert (there.lines("charged"), there.lines("continued")) == ([1, 1, 1], [3, 3, 3])
    got = combined(question, public, done.sums, NO_SUPPORT)  # type: ignore[attr-defined]
    shift = np.zeros_like(public)
    for name in NAMES:
        for expert in there.houses[name].experts(by_bytes=False).own:
            rows = np.concatenate([expert.block(TEXT[:n], ()).next for n in range(1, len(TEXT))])
            shift += np.clip(np.rint((rows - public) * 32) / 32, -1, 1)
    expected = np.exp(public + shift / 6)
    assert np.abs(got - expected / expected.sum(1, keepdims=True)).max() < 2e-4  # a grain, at a tie


def test_a_budget_that_was_spent_on_one_session_ends_the_next(town: Callable[..., Town]) -> None:
    there = town("private_predict", shards=1, trusts_coordinator=True)
    question = asked(there.base, sends=Sends.RATIOS, clip=1.0, central=True, experts=5, most=40)
    task, _ = reading(question, there.base, TEXT[:5])  # 40 symbols at 2 (1/5)^2 zCDP: epsilon 15 of 20
    there.run(task, "private_predict")
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "private_predict", "6e66")
    assert there.lines("charged") == [1, 1, 1]


def test_a_prompt_over_the_models_window_is_refused_and_not_charged(town: Callable[..., Town]) -> None:
    there = town("mixture", unsafe_without_noise=True)
    long = np.tile(np.array(TEXT, np.int32), 4)
    question = asked(there.base, most=100, block=70)
    task = Reading(question, 2, TERMS, long, (long.size,), 60, np.zeros(long.size, np.float32), NO_SUPPORT)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")
    assert there.lines("disclosed") == [0, 0, 0]
    assert (
        sum(json.loads(line).get("why") == "PeerError" for h in there.houses.values() for line in h.ledger.lines())
        == 3
    )


def test_a_home_without_an_expert_says_so_to_itself_alone(town: Callable[..., Town]) -> None:
    there = town("mixture", unsafe_without_noise=True)
    for house in there.houses.values():
        house.expert = None
    task, _ = reading(asked(there.base), there.base)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")


@dataclass
class Speaker:
    """Be the coordinator's side with a real public model."""

    base: Base
    ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.model, self.numbers = TokenExpert(View(self.base)), np.random.default_rng(3)

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


def test_real_models_speak_together_and_forward_what_is_new_alone(town: Callable[..., Town]) -> None:
    there = town("mixture", charged=True)
    question = asked(there.base, most=12, block=4, support=64)
    running = speak("mixture", NAMES, question, TERMS, 3, TEXT[:8], Speaker(there.base))  # type: ignore[arg-type]
    made = drive(running, there.outbox("mixture", "5e55"), CATALOG["mixture"].wire)
    assert len(made.symbols) == sum(made.given) == 12
    for house in there.houses.values():
        experts: Experts = house.experts(by_bytes=False)
        (own,) = experts.own
        count = own.view.count  # type: ignore[attr-defined]
        assert count.forwards == len(made.given)  # one for each block
        assert count.tokens <= 8 + 3 + 8 * (len(made.given) - 1)  # the prompt once; then what is new, and the drafts
