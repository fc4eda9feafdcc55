"""What a coordinator tries against a home's training by a recipe's numbers, and what the home's own data may do."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.data import Records
from client.declared import Declared
from client.documents import Document, Turn
from client.home import House
from client.homes.local import MOST_ROWS
from client.homes.pooled import PooledVisit
from client.model import Base, layout_of
from client.quiet import LOG
from client.training.clipping import Clipper
from client.training.unit_gradients import Gradients
from privacy.gate import Released
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import LevelForbidden
from privacy.units import Level, Unit
from protocols.weights.recipe import Objective, Recipe

PARTNER = "ed25519:" + "A" * 43
ALLOWED = Permission(PARTNER, Level.WEIGHTS, ("average", "pooled"))
BUDGET = Budget(epsilon=8.0, delta=1e-5, record_tokens=48, unit=Unit.GROUP)
MakeHouse = Callable[..., House]


@pytest.fixture
def make_house(housed: MakeHouse) -> MakeHouse:
    policy = Policy(1, BUDGET, (replace(ALLOWED, unsafe_plain_sum=True),))
    return lambda documents: housed(policy, documents, Declared(80, 3000, 20))


@pytest.fixture(scope="module")
def recipe(base: Base) -> Recipe:
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=("q_proj", "v_proj"),
        adapter_seed=3, record_tokens=48, rounds=1, steps=1, batch_size=4, optimizer="sgd", learning_rate=0.1,
        clipping_norm=1.0, unit=Unit.GROUP, epsilon=8.0, delta=1e-5,
    )  # fmt: skip


def chat(n: int, words: int = 1) -> Document:
    answer = f"a{n}" * words
    return Document(f"q{n} {answer}", (Turn("user", f"q{n}"), Turn("assistant", answer)), group=f"user {n % 20}")


def contribute(house: House, recipe: Recipe) -> object:
    occasion = Occasion("5e55", 0, "average", Level.WEIGHTS, PARTNER, 3)
    return house.open(occasion).contribution(recipe, 0, np.zeros(recipe.length, np.float32))  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [8, 36, 48])
def test_whether_a_conversation_is_longer_than_a_record_shows_in_no_refusal(
    make_house: MakeHouse, recipe: Recipe, width: int
) -> None:
    # For other units than records a partner chooses the width: by refusals it could search for the longest, for free.
    asked = replace(recipe, objective=Objective.ANSWERS, record_tokens=width)
    chats = [chat(n) for n in range(40)]  # of 25 tokens
    for documents in (chats, [*chats, chat(40, 12)]):
        house = make_house(documents)
        assert isinstance(contribute(house, asked), Released)
        assert len(list(house.ledger.entries())) == 1
        assert house.left_out == (len(documents) if width == 8 else len(documents) - 40)
        house.close()


def test_records_wider_than_the_operator_said_are_refused_before_any_is_cut(
    make_house: MakeHouse, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of long contexts, a row for each short note would fill the memory; so would one forward.
    monkeypatch.setattr(House, "records", lambda *_: pytest.fail("records were cut"))
    house = make_house([Document(f"note {n}", group=f"user {n % 20}") for n in range(80)])
    with pytest.raises(LevelForbidden, match="records of 64 tokens, the policy says 48 at most"):
        contribute(house, replace(recipe, record_tokens=64))
    assert not list(house.ledger.entries())


def pooled_step(house: House, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Gradients:
    """Return what a pooled step draws its gradients from, at the point where training begins."""
    asked = replace(recipe, noise_multiplier=1.0, population=80)
    visit = house.open(Occasion("5e55", 0, "pooled", Level.WEIGHTS, PARTNER, 3, summed=True))
    assert isinstance(visit, PooledVisit)
    return visit._units(asked, 0, np.zeros(recipe.length, np.float32))


def test_of_a_huge_group_no_more_rows_are_in_a_pooled_step_than_of_any_other_training(
    make_house: MakeHouse, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = [Document(f"note {n} of one who writes all day", group="one") for n in range(3 * MOST_ROWS)]
    units = pooled_step(make_house([*huge, Document("a note", group="two")]), recipe, monkeypatch)
    gradients, seen = Clipper._gradients, []

    def counted(self: Clipper, tape: object, records: Records) -> object:
        seen.append(len(records))
        return gradients(self, tape, records)  # type: ignore[arg-type]

    monkeypatch.setattr(Clipper, "_gradients", counted)
    assert len(list(units.vectors(np.arange(2), SystemRandomness()))) == 2
    assert sum(seen) == MOST_ROWS + 1


def test_gradients_that_are_no_numbers_are_told_to_the_operator_and_to_nobody_else(
    make_house: MakeHouse, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [Document(f"note {n}", group=f"user {n % 20}") for n in range(80)]
    units = pooled_step(make_house(documents), recipe, monkeypatch)
    gradients = Clipper._gradients

    def broken(self: Clipper, tape: object, records: Records) -> object:
        made = gradients(self, tape, records)  # type: ignore[arg-type]
        made[0][0, 0] = np.nan
        return made

    monkeypatch.setattr(Clipper, "_gradients", broken)
    with caplog.at_level("WARNING", LOG.name):
        found = list(units.vectors(np.arange(20), SystemRandomness()))
    silent = sum(not vector.any() for vector in found)
    assert silent > 0
    assert all(np.isfinite(vector).all() for vector in found)
    assert f"{silent} gradients were not finite" in caplog.text
