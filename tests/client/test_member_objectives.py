"""A home of conversations, preferred answers or users' texts takes part, and protects what it says it protects."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import PoissonSampledDpEvent
from numpy.typing import NDArray

from client.data import Records
from client.declared import Declared
from client.documents import Document, Turn
from client.dp_training import DpSgd
from client.home import House
from client.homes.local import MOST_ROWS, training
from client.model import Adapted, Base, layout_of
from client.quiet import LOG
from client.training.clipping import Clipper
from client.training.objectives import Preference
from privacy.gate import Released
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import LevelForbidden
from privacy.units import Level, Unit
from protocols.faults import LocalError, PeerError
from protocols.weights.recipe import Objective, Recipe

PARTNER = "ed25519:" + "A" * 43
ALLOWED = Permission(PARTNER, Level.WEIGHTS, ("average",), unsafe_plain_sum=True)
MakeHouse = Callable[..., House]


def policy(unit: Unit) -> Policy:
    return Policy(1, Budget(epsilon=8.0, delta=1e-5, record_tokens=48, unit=unit), (ALLOWED,))


def talk(question: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", question), Turn("assistant", answer)


TEXTS = [Document(f"note {n} of a user who writes notes", group=f"user {n % 20}") for n in range(80)]
CHATS = [Document(f"q{n} a{n}", talk(f"q{n}", f"a{n}"), group=f"user {n % 20}") for n in range(80)]
PAIRS = [Document(f"q{n}", talk(f"q{n}", "yes"), talk(f"q{n}", "never"), f"user {n % 20}") for n in range(80)]


@pytest.fixture
def make_house(housed: MakeHouse) -> MakeHouse:
    def make(documents: list[Document], unit: Unit, groups: int = 20) -> House:
        return housed(policy(unit), documents, Declared(80, 3000, groups))

    return make


@pytest.fixture(scope="module")
def recipe(base: Base) -> Recipe:
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    return Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=("q_proj", "v_proj"),
        adapter_seed=3, record_tokens=48, rounds=2, steps=2, batch_size=8, optimizer="sgd", learning_rate=0.1,
        clipping_norm=1.0, unit=Unit.RECORD, epsilon=8.0, delta=1e-5,
    )  # fmt: skip


def occasion(number: int = 0) -> Occasion:
    return Occasion("5e55", number, "average", Level.WEIGHTS, PARTNER, 3)


def zeros(recipe: Recipe) -> np.ndarray:
    return np.zeros(recipe.length, np.float32)


def contribute(house: House, recipe: Recipe) -> object:
    return house.open(occasion()).contribution(recipe, 0, zeros(recipe))  # type: ignore[attr-defined]


@pytest.mark.parametrize("unit", [Unit.RECORD, Unit.GROUP])
@pytest.mark.parametrize(
    ("objective", "documents"),
    [(Objective.TEXT, TEXTS), (Objective.ANSWERS, CHATS), (Objective.PREFERENCE, PAIRS)],
)
def test_a_home_trains_for_what_its_data_is_per_record_or_per_group(
    make_house: MakeHouse, recipe: Recipe, objective: Objective, documents: list[Document], unit: Unit
) -> None:
    house, asked = make_house(documents, unit), replace(recipe, objective=objective, unit=unit)
    released = contribute(house, asked)
    assert isinstance(released, Released)
    assert np.isfinite(released.value).all()
    assert released.value.any()
    assert len(list(house.ledger.entries())) == 1


@pytest.mark.parametrize(
    ("objective", "unit", "units"),
    [
        (Objective.TEXT, Unit.RECORD, 3000 // 48 + 40),
        (Objective.ANSWERS, Unit.RECORD, 80),
        (Objective.PREFERENCE, Unit.RECORD, 80),
        (Objective.TEXT, Unit.GROUP, 20),
        (Objective.PREFERENCE, Unit.GROUP, 20),
    ],
)
def test_the_rate_that_is_charged_is_the_share_of_the_declared_units(
    make_house: MakeHouse, recipe: Recipe, objective: Objective, unit: Unit, units: int
) -> None:
    documents = {Objective.TEXT: TEXTS, Objective.ANSWERS: CHATS, Objective.PREFERENCE: PAIRS}[objective]
    house, asked = make_house(documents, unit), replace(recipe, objective=objective, unit=unit)
    task = training(house, house.account(policy(unit).budget), asked, 0, zeros(recipe))
    assert isinstance(task, DpSgd)
    step = task.event.event  # type: ignore[attr-defined]
    assert isinstance(step, PoissonSampledDpEvent)
    assert step.sampling_probability == 8 / units
    assert (task.schedule.most_rows == MOST_ROWS) is (unit is Unit.GROUP)
    assert isinstance(task.loss, Preference) is (objective is Objective.PREFERENCE)


@pytest.mark.parametrize(
    ("objective", "documents", "unit"),
    [(Objective.PREFERENCE, PAIRS, Unit.RECORD), (Objective.TEXT, TEXTS, Unit.GROUP)],
)
def test_one_pair_or_one_group_moves_a_step_by_no_more_than_the_clipping_norm(
    make_house: MakeHouse, recipe: Recipe, objective: Objective, documents: list[Document], unit: Unit
) -> None:
    house, asked = make_house(documents, unit), replace(recipe, objective=objective, unit=unit)
    fitted = house.fit(asked)
    point = np.random.default_rng(0).normal(size=recipe.length) * 0.1
    norm = 1e-3  # below every gradient's: all are clipped
    task = training(house, house.account(policy(unit).budget), asked, 0, zeros(recipe))
    clipper = Clipper(fitted.adapted, norm, 4, task.loss)  # type: ignore[union-attr]
    everyone = np.arange(fitted.records.units)[:6]
    whole = clipper.sum(point, fitted.records, everyone)
    for gone in everyone:
        moved = np.linalg.norm(whole - clipper.sum(point, fitted.records, np.delete(everyone, gone)))
        assert 0.5 * norm < moved <= norm * 1.000001


def test_one_huge_group_is_capped_and_its_influence_is_that_of_any_other(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    huge = [Document(f"note {n} of one who writes all day", group="one") for n in range(3 * MOST_ROWS)]
    house, asked = make_house([*TEXTS, *huge], Unit.GROUP), replace(recipe, unit=Unit.GROUP)
    records = house.fit(asked).records
    assert records.units == 21
    assert np.bincount(records.owner).max() == 3 * MOST_ROWS
    assert isinstance(contribute(house, asked), Released)


@pytest.mark.parametrize(
    ("objective", "documents", "unit", "groups", "words"),
    [
        (Objective.ANSWERS, TEXTS, Unit.RECORD, 20, "a recipe for chat, and data that is text"),
        (Objective.TEXT, PAIRS, Unit.RECORD, 20, "a recipe for text, and data that is preference"),
        (
            Objective.TEXT,
            [Document("some note")] * 9,
            Unit.GROUP,
            20,
            "a recipe for groups, and data that names none",
        ),
        (Objective.TEXT, TEXTS, Unit.GROUP, 0, "larger than this data"),
    ],
)
def test_a_recipe_for_other_data_is_refused_and_costs_nothing(
    make_house: MakeHouse,
    recipe: Recipe,
    objective: Objective,
    documents: list[Document],
    unit: Unit,
    groups: int,
    words: str,
) -> None:
    house, asked = make_house(documents, unit, groups), replace(recipe, objective=objective, unit=unit)
    with pytest.raises(PeerError, match=words):
        contribute(house, asked)
    assert not list(house.ledger.entries())


def test_a_loss_of_pairs_that_mixes_records_is_found_before_anything_is_charged(
    make_house: MakeHouse, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Preference.prepared

    def coupled(self: Preference, adapted: Adapted, records: Records, rows: NDArray[np.intp]) -> Records:
        known = honest(self, adapted, records, rows)
        assert known.weights is not None
        return replace(known, weights=known.weights / len(records))  # as a mean over the batch

    monkeypatch.setattr(Preference, "prepared", coupled)
    house, asked = make_house(PAIRS, Unit.RECORD), replace(recipe, objective=Objective.PREFERENCE)
    with pytest.raises(LocalError, match="mixes the records"):
        contribute(house, asked)
    assert not list(house.ledger.entries())


def test_each_loss_is_tested_once_as_long_as_the_adapter_stays(
    make_house: MakeHouse, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested, check = [], Clipper.check_isolation

    def counting(self: Clipper, point: NDArray[np.float64], tokens: int, *, paired: bool = False) -> None:
        tested.append(paired)
        check(self, point, tokens, paired=paired)

    monkeypatch.setattr(Clipper, "check_isolation", counting)
    house, asked = make_house(PAIRS, Unit.RECORD), replace(recipe, objective=Objective.PREFERENCE)
    ready = house.fit(asked)
    assert house.fit(asked) is ready
    assert house.fit(replace(asked, beta=0.5)) is ready
    assert house.fit(asked) is ready
    assert tested == [True, True]  # one for each beta


def test_how_many_documents_are_left_out_is_known_at_home_by_number_and_in_no_word_of_theirs(
    make_house: MakeHouse, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    silent = [Document("canary", talk("canary", " "), group="canary") for _ in range(3)]
    house, asked = make_house([*CHATS, *silent], Unit.RECORD), replace(recipe, objective=Objective.ANSWERS)
    assert house.left_out is None
    with caplog.at_level("INFO", LOG.name):
        said = contribute(house, asked)
        house.fit(asked)
    assert house.left_out == 3
    assert [r.getMessage() for r in caplog.records if "left out" in r.getMessage()] == [
        "the data is read: 3 documents are left out: too long, or nothing to train on"
    ]
    assert "canary" not in caplog.text
    assert isinstance(said, Released)
    assert said.value.shape == (recipe.length,)  # no number of documents is in an answer


def test_what_protects_a_record_is_not_charged_to_a_budget_per_group(make_house: MakeHouse, recipe: Recipe) -> None:
    house = make_house(TEXTS, Unit.GROUP)
    with pytest.raises(LevelForbidden, match="the budget is per group, the recipe per record"):
        contribute(house, recipe)
    assert not list(house.ledger.entries())


def test_a_ledger_knows_conversations_again_by_their_words(make_house: MakeHouse, recipe: Recipe) -> None:
    house = make_house(CHATS, Unit.RECORD)
    contribute(house, replace(recipe, objective=Objective.ANSWERS))
    renamed = replace(house, dataset="other name")
    assert renamed.account(policy(Unit.RECORD).budget).dataset == "notes"
