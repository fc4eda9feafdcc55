"""Homes that think together with real models: adapters on a base model, real mailboxes, a real secure sum."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from town import BUDGET, NAMES, TERMS, Speaker, Town, raise_town

from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base, layout_of, load_base
from client.settings import ExpertSettings
from privacy.artefact import Artefact
from protocols.catalog import CATALOG
from protocols.faults import Abort
from protocols.logits.asking import NO_SUPPORT, Reading
from protocols.logits.question import Alphabet, Question, Sends
from protocols.logits.sampling import combined
from protocols.logits.speaking import likeliest, speak
from protocols.session import drive

TEXT = tuple(int(t) for t in np.random.default_rng(4).integers(3, 200, 24))


def vector(base: Base, seed: int) -> Artefact:
    layout = layout_of(base, rank=2, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Artefact(layout.to_json(), np.random.default_rng(seed).normal(0, 0.5, layout.size).astype(np.float32))


@pytest.fixture(scope="module")
def bases(model_folder: Path) -> list[Base]:
    return [load_base(str(model_folder)) for _ in NAMES]  # each home's own copy: adapters are written into it


@pytest.fixture
def town(bases: list[Base], tmp_path: Path) -> Iterator[Callable[..., Town]]:
    made: list[Town] = []

    def build(*names: str, charged: bool = False, shards: int = 1, **changes: object) -> Town:
        adapters = {
            name: {f"a{s}": vector(base, 10 * n + s) for s in range(shards)}
            for n, (name, base) in enumerate(zip(NAMES, bases, strict=True))
        }
        settings = {name: ExpertSettings(tuple(mine)) for name, mine in adapters.items()}
        by_name = dict(zip(NAMES, bases, strict=True))
        made.append(raise_town(tmp_path, by_name, settings, adapters, *names, charged=charged, **changes))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def public(model_folder: Path) -> Base:
    """Return the coordinator's copy."""
    return load_base(str(model_folder))


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


def test_real_models_are_mixed_as_the_definition_says(town: Callable[..., Town], public: Base) -> None:
    there = town("mixture", unsafe_without_noise=True)
    question = asked(public)
    task, p0 = reading(question, public)
    done = there.run(task, "mixture")
    got = combined(question, p0, done.sums, NO_SUPPORT)  # type: ignore[attr-defined]
    said = [there.rows(name, TEXT) for name in NAMES]
    for at in range(len(TEXT) - 1):
        total, weights = np.exp(p0[at]), 1.0
        for rows in said:
            score = 0.0
            for before in range(at):
                score = 0.9 * score + rows[before, TEXT[before + 1]] - float(task.told[before + 1])
            weight = np.exp(np.clip(score, -2, 2))
            total, weights = total + weight * np.exp(rows[at]), weights + weight
        assert np.abs(got[at] - total / weights).max() < 1e-5
    assert there.lines("disclosed") == [4, 4, 4]


def test_what_adapters_say_that_were_charged_in_training_is_derived_and_costs_nothing(
    town: Callable[..., Town], public: Base
) -> None:
    there = town("mixture", charged=True)
    before = [h.ledger.statement(h.account(BUDGET)).spent for h in there.houses.values()]
    assert all(spent.epsilon > 0 for spent in before)
    task, _ = reading(asked(public, support=32), public)
    there.run(task, "mixture")
    assert there.lines("derived") == [4, 4, 4]
    assert there.lines("charged") == there.lines("disclosed") == [0, 0, 0]
    assert [h.ledger.statement(h.account(BUDGET)).spent for h in there.houses.values()] == before


def test_what_uncharged_adapters_say_leaves_only_where_the_policy_lets_it_without_noise(
    town: Callable[..., Town], public: Base
) -> None:
    there = town("mixture")
    task, _ = reading(asked(public), public)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")
    assert there.lines("disclosed") == there.lines("derived") == there.lines("charged") == [0, 0, 0]


def test_shards_predict_privately_and_a_session_is_charged_once(town: Callable[..., Town], public: Base) -> None:
    there = town("private_predict", shards=2, trusts_coordinator=True)
    question = asked(public, sends=Sends.RATIOS, clip=1.0, central=True, experts=6, most=40)
    task, p0 = reading(question, public)
    done = there.run(task, "private_predict")
    assert (there.lines("charged"), there.lines("continued")) == ([1, 1, 1], [3, 3, 3])
    got = combined(question, p0, done.sums, NO_SUPPORT)  # type: ignore[attr-defined]
    shift = np.zeros_like(p0)
    for name in NAMES:
        for expert in there.houses[name].experts(by_bytes=False).own:
            rows = np.concatenate([expert.block(TEXT[:n], ()).next for n in range(1, len(TEXT))])
            shift += np.clip(np.rint((rows - p0) * 32) / 32, -1, 1)
    expected = np.exp(p0 + shift / 6)
    assert np.abs(got - expected / expected.sum(1, keepdims=True)).max() < 2e-4  # a grain, at a tie


def test_a_budget_that_was_spent_on_one_session_ends_the_next(town: Callable[..., Town], public: Base) -> None:
    there = town("private_predict", shards=1, trusts_coordinator=True)
    question = asked(public, sends=Sends.RATIOS, clip=1.0, central=True, experts=5, most=40)
    task, _ = reading(question, public, TEXT[:5])  # 40 symbols at 2 (1/5)^2 zCDP: epsilon 15 of 20
    there.run(task, "private_predict")
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "private_predict", "6e66")
    assert there.lines("charged") == [1, 1, 1]


def test_a_prompt_over_the_models_window_is_refused_and_not_charged(town: Callable[..., Town], public: Base) -> None:
    there = town("mixture", unsafe_without_noise=True)
    long = np.tile(np.array(TEXT, np.int32), 4)
    question = asked(public, most=100, block=70)
    task = Reading(question, 2, TERMS, long, (long.size,), 60, np.zeros(long.size, np.float32), NO_SUPPORT)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")
    assert there.lines("disclosed") == [0, 0, 0]
    assert (
        sum(json.loads(line).get("why") == "PeerError" for h in there.houses.values() for line in h.ledger.lines())
        == 3
    )


def test_a_home_without_an_expert_says_so_to_itself_alone(town: Callable[..., Town], public: Base) -> None:
    there = town("mixture", unsafe_without_noise=True)
    for house in there.houses.values():
        house.expert = None
    task, _ = reading(asked(public), public)
    with pytest.raises(Abort, match="0 of 3"):
        there.run(task, "mixture")


def test_real_models_speak_together_and_forward_what_is_new_alone(town: Callable[..., Town], public: Base) -> None:
    there = town("mixture", charged=True)
    question = asked(public, most=12, block=4, support=64)
    running = speak("mixture", NAMES, question, TERMS, 3, TEXT[:8], Speaker(TokenExpert(View(public))))  # type: ignore[arg-type]
    made = drive(running, there.outbox("mixture", "5e55"), CATALOG["mixture"].wire)
    assert len(made.symbols) == sum(made.given) == 12
    for house in there.houses.values():
        experts = house.experts(by_bytes=False)
        (own,) = experts.own
        count = own.view.count  # type: ignore[attr-defined]
        assert count.forwards == len(made.given)  # one for each block
        assert count.tokens <= 8 + 3 + 8 * (len(made.given) - 1)  # the prompt once; then what is new, and the drafts
