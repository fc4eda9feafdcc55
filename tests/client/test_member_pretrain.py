"""A home that trains between synchronisations does what the recipe asks for, or refuses before it writes anything."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from client.data import Records
from client.declared import Declared
from client.documents import Document, Turn
from client.home import House
from client.model import Base, layout_of
from client.training.clipping import record_losses
from client.training.objectives import log_probabilities
from client.training.running import Running
from client.training.ways import Checkpointing, Precision
from client.training.whole import Whole
from privacy.gate import Disclosed
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.units import Level, Unit
from protocols.faults import PeerError
from protocols.weights.pretrain import EVERYTHING
from protocols.weights.recipe import Objective, Recipe

PARTNER = "ed25519:" + "A" * 43
BARE = Permission(PARTNER, Level.WEIGHTS, ("pretrain",), unsafe_plain_sum=True, unsafe_without_noise=True)
MakeHouse = Callable[..., House]


def talk(question: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", question), Turn("assistant", answer)


TEXTS = [Document(f"note {n} of a user who writes notes", group=f"user {n % 20}") for n in range(80)]
CHATS = [Document(f"q{n} a{n}", talk(f"q{n}", f"a{n}")) for n in range(80)]
PAIRS = [Document(f"q{n}", talk(f"q{n}", "yes"), talk(f"q{n}", "never")) for n in range(80)]


@pytest.fixture
def make_house(housed: MakeHouse) -> MakeHouse:
    def make(documents: list[Document], unit: Unit = Unit.RECORD) -> House:
        policy = Policy(1, Budget(epsilon=8.0, delta=1e-5, record_tokens=48, unit=unit), (BARE,))
        return housed(policy, documents, Declared(80, 3000, 20))

    return make


@pytest.fixture(scope="module")
def recipe(base: Base) -> Recipe:
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=("q_proj", "v_proj"),
        adapter_seed=3, record_tokens=48, rounds=2, steps=12, batch_size=8, optimizer="adamw", learning_rate=0.01,
        clipping_norm=1.0, unit=Unit.RECORD, epsilon=None, delta=1e-5,
    )  # fmt: skip


def everything(recipe: Recipe, base: Base, **changes: object) -> Recipe:
    whole = Whole(base)
    return replace(recipe, layout=whole.digest, length=whole.size, targets=EVERYTHING, rank=1, **changes)  # type: ignore[arg-type]


def occasion() -> Occasion:
    return Occasion("5e55", 0, "pretrain", Level.WEIGHTS, PARTNER, 3)


def way(house: House, recipe: Recipe) -> np.ndarray:
    visit = house.open(occasion())
    said = visit.contribution(recipe, 0, np.zeros(recipe.length, np.float32))  # type: ignore[attr-defined]
    assert isinstance(said, Disclosed)
    return np.asarray(said.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_quantile": 0.5}, "a clipping norm to be sought"),
        ({"share": 0.5}, "of other entries than all"),
        ({"optimizer": "sgd"}, "not AdamW's"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_what_cannot_be_honoured_is_refused_before_anything_is_written(
    make_house: MakeHouse, recipe: Recipe, base: Base, changes: dict[str, object], words: str, whole: bool
) -> None:
    house, asked = make_house(TEXTS), everything(recipe, base) if whole else recipe
    with pytest.raises(PeerError, match=words):
        way(house, replace(asked, **changes))  # type: ignore[arg-type]
    assert not list(house.ledger.entries())


def test_a_whole_model_is_not_trained_for_preferences_under_a_name_that_says_so(
    make_house: MakeHouse, recipe: Recipe, base: Base
) -> None:
    house = make_house(PAIRS)
    with pytest.raises(PeerError, match="preferences are trained for by an adapter"):
        way(house, everything(recipe, base, objective=Objective.PREFERENCE))
    assert not list(house.ledger.entries())


def test_an_adapter_that_is_pretrained_for_preferences_prefers_them(make_house: MakeHouse, recipe: Recipe) -> None:
    house, asked = make_house(PAIRS), replace(recipe, objective=Objective.PREFERENCE)

    def margin(point: np.ndarray) -> float:
        fitted = house.fit(asked)
        fitted.adapted.set(point)
        chosen, rejected = log_probabilities(fitted.adapted, fitted.records).reshape(-1, 2).T
        return float((chosen - rejected).mean())

    assert margin(way(house, asked)) > margin(np.zeros(recipe.length, np.float32)) + 0.1


def test_the_pull_to_the_start_keeps_a_way_short(make_house: MakeHouse, recipe: Recipe) -> None:
    free = way(make_house(TEXTS), recipe)
    pulled = way(make_house(TEXTS), replace(recipe, proximal=1e4))
    assert 0 < np.linalg.norm(pulled) < 0.5 * np.linalg.norm(free)


@pytest.mark.parametrize("whole", [False, True])
def test_of_conversations_only_the_answers_are_trained_for(
    make_house: MakeHouse, recipe: Recipe, base: Base, whole: bool
) -> None:
    asked = replace(everything(recipe, base) if whole else recipe, objective=Objective.ANSWERS)
    silent = [replace(d, turns=talk(d.turns[0].content, " ")) for d in CHATS]
    assert way(make_house(CHATS), asked).any()
    assert not way(make_house(silent), asked).any()  # questions alone are nothing to train on


def test_the_gradient_of_all_parameters_counts_the_counted_tokens_and_each_group_once(base: Base) -> None:
    whole, rng = Whole(base), np.random.default_rng(1)
    tokens = rng.integers(1, 256, (4, 12)).astype(np.int32)
    counted = rng.random((4, 12)) < 0.5
    counted[:, 1] = True
    owner = np.array([0, 0, 0, 1], np.int32)
    records = Records(tokens, np.full(4, 12, np.int32), owner, counted)
    zero = np.zeros(whole.size)
    found = whole.gradient(records, zero, np.array([0, 1]), at_once=3)
    whole.set(zero)
    whole.model.zero_grad()
    losses = record_losses(
        whole.model, torch.from_numpy(tokens).long(), torch.full((4,), 12), torch.from_numpy(counted)
    )
    (losses[:3].mean() / 2 + losses[3] / 2).backward()
    named = dict(sorted(whole.model.named_parameters()))
    assert np.allclose(found, np.concatenate([p.grad.flatten().numpy() for p in named.values()]), atol=1e-6)


@pytest.mark.parametrize("whole", [False, True])
def test_groups_are_sampled_as_groups(make_house: MakeHouse, recipe: Recipe, base: Base, whole: bool) -> None:
    asked = replace(everything(recipe, base) if whole else recipe, unit=Unit.GROUP)
    assert way(make_house(TEXTS, Unit.GROUP), asked).any()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("how", list(Checkpointing)[1:], ids=lambda how: how.value)
def test_layers_are_run_again_where_the_home_says_so_and_the_gradient_is_the_same(
    make_house: MakeHouse, recipe: Recipe, base: Base, whole: bool, how: Checkpointing
) -> None:
    asked = everything(recipe, base) if whole else recipe
    house, zero, runs, found = make_house(TEXTS), np.zeros(asked.length, np.float32), [0, 0], []
    for turn, running in enumerate((Running(), Running(how))):
        house.running = running
        task = house.open(occasion())._task(asked, 0, zero)  # type: ignore[attr-defined]
        model = house.base.model if house.whole is None else house.whole.model
        counting = partial(count, runs, turn)
        hook = model.model.layers[1].self_attn.register_forward_hook(counting)
        found.append(task.gradient(zero.astype(np.float64), np.arange(20)))
        hook.remove()
        assert not [m for m in model.modules() if "forward" in m.__dict__]
    assert runs[1] == 2 * runs[0] > 0
    assert np.allclose(*found, atol=1e-6)


def count(runs: list[int], turn: int, *_: object) -> None:
    runs[turn] += 1


def test_in_lower_precision_a_whole_models_way_is_nearly_the_same(
    make_house: MakeHouse, recipe: Recipe, base: Base
) -> None:
    whole, records = Whole(base), make_house(TEXTS).records(recipe)[0]
    zero, chosen = np.zeros(whole.size), np.arange(8)
    plain = whole.gradient(records, zero, chosen)
    for precision in (Precision.BFLOAT16, Precision.FLOAT16):
        found = whole.gradient(records, zero, chosen, running=Running(precision=precision))
        assert 0 < np.linalg.norm(found - plain) < 0.05 * np.linalg.norm(plain)
