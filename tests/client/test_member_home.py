"""A member's home: a real tiny model, real records, a real gate; a letter gets what the policy allows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.data import documents, edition
from client.declared import Declared
from client.home import House, unsafe_seed
from client.homes.local import training
from client.model import Base, layout_of
from privacy.accounting.accountant import Filter, price
from privacy.gate import Disclosed, Released
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import BudgetExceeded, CrowdTooSmall, LevelForbidden, Refused
from privacy.units import Level, Unit
from protocols.faults import PeerError
from protocols.session import MemberId
from protocols.weights.recipe import Recipe

PARTNER = "ed25519:" + "A" * 43
TARGETS = ("q_proj", "v_proj")
BUDGET = Budget(epsilon=8.0, delta=1e-5, record_tokens=16)
ALLOWED = Permission(PARTNER, Level.WEIGHTS, ("average",), unsafe_plain_sum=True)
POLICY = Policy(1, BUDGET, (ALLOWED,))
MakeHouse = Callable[..., House]


NOTES = [f"note {n}: the patient came at {n} o'clock" for n in range(40)]


@pytest.fixture
def make_house(housed: MakeHouse, tmp_path: Path) -> MakeHouse:
    """Return a function that makes homes on one ledger, with what it is told to change."""

    def make(policy: Policy = POLICY, **changes: object) -> House:
        return replace(housed(policy, NOTES, Declared(40, 1500), ledger=Ledger(tmp_path / "ledger.db")), **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def recipe(base: Base) -> Recipe:
    layout = layout_of(base, rank=2, alpha=4.0, targets=TARGETS, adapter_seed=3)
    return Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=TARGETS,
        adapter_seed=3, record_tokens=16, rounds=3, steps=2, batch_size=8, optimizer="sgd", learning_rate=0.1,
        clipping_norm=1.0, unit=Unit.RECORD, epsilon=8.0, delta=1e-5,
    )  # fmt: skip


def occasion(number: int = 0, session: str = "5e55", **changes: object) -> Occasion:
    made = Occasion(session, number, "average", Level.WEIGHTS, PARTNER, 3)
    return replace(made, **changes)  # type: ignore[arg-type]


def zeros(recipe: Recipe) -> np.ndarray:
    return np.zeros(recipe.length, np.float32)


def contribute(house: House, recipe: Recipe, at: Occasion | None = None) -> Released | Disclosed:
    at = at or occasion()
    return house.open(at).contribution(recipe, at.number, zeros(recipe))


def charges(house: House) -> int:
    return len(list(house.ledger.entries()))


def test_a_contribution_leaves_with_noise_and_a_receipt(make_house: MakeHouse, recipe: Recipe) -> None:
    house = make_house()
    first, second = contribute(house, recipe), contribute(house, recipe, occasion(1))
    assert isinstance(first, Released)
    assert first.value.shape == (recipe.length,)
    assert not np.array_equal(first.value, second.value)  # the same data and start: the noise is fresh
    assert charges(house) == 2


def test_all_rounds_of_a_recipe_for_the_whole_budget_fit_and_one_more_does_not(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    house = make_house()
    for number in range(recipe.rounds):
        contribute(house, recipe, occasion(number))
    spent = house.ledger.statement(Account("notes", BUDGET)).spent.epsilon
    assert 7.9 < spent <= 8.0
    with pytest.raises(BudgetExceeded):
        contribute(house, recipe, occasion(recipe.rounds))
    assert charges(house) == recipe.rounds


def test_a_run_that_cannot_be_finished_is_refused_before_its_first_round_costs_anything(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    house = make_house()
    contribute(house, recipe)
    with pytest.raises(BudgetExceeded):
        contribute(house, recipe, occasion(session="another"))
    assert charges(house) == 1
    contribute(house, recipe)  # the same letter again, as after a crash: it has begun, and goes on
    contribute(house, recipe, occasion(1))
    assert charges(house) == 2


def test_a_recipe_for_less_than_the_budget_costs_less_and_gets_no_absurd_noise(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    house, modest = make_house(), replace(recipe, epsilon=2.0)
    for number in range(modest.rounds):
        contribute(house, modest, occasion(number))
    assert 0 < house.ledger.statement(Account("notes", BUDGET)).spent.epsilon < 8.0
    event = next(iter(house.ledger.entries())).event or ""
    noise = float(event.split('"noise_multiplier":')[1].split("}")[0])
    assert noise < 20


def test_the_promise_of_a_modest_recipe_is_kept_at_some_fixed_order(make_house: MakeHouse, recipe: Recipe) -> None:
    from client.training.noise import _ORDERS
    from privacy.accounting.events import from_json

    house, modest = make_house(), replace(recipe, epsilon=2.0)
    contribute(house, modest)
    event = from_json(next(iter(house.ledger.entries())).event or "")
    assert any(Filter((order,), 1e-5).fits(price(event, (order,)) * 3, 2.0) for order in _ORDERS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": "0" * 64}, "another base model"),
        ({"layout": "0" * 64}, "another layout"),
        ({"length": 7}, "another layout"),
        ({"rank": 3}, "another layout"),
        ({"targets": ("no_such_module",)}, "targets"),
        ({"record_tokens": 4096}, "tokens"),
        ({"optimizer": "no-such"}, "optimizer"),
        ({"batch_size": 10_000}, "batches"),
        ({"steps": 10**9}, "steps"),
        ({"unit": Unit.GROUP}, "the budget is per record, the recipe per group"),
        ({"unit": Unit.MEMBER, "noise_multiplier": 1.0}, "the budget is per record"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_charged(
    make_house: MakeHouse, recipe: Recipe, change: dict[str, object], words: str
) -> None:
    house = make_house()
    with pytest.raises((PeerError, Refused), match=words):
        contribute(house, replace(recipe, **change))  # type: ignore[arg-type]
    assert charges(house) == 0


def test_a_rank_that_would_fill_the_memory_is_refused_before_anything_is_made_of_it(
    make_house: MakeHouse, base: Base, recipe: Recipe
) -> None:
    layout = layout_of(base, rank=33, alpha=4.0, targets=TARGETS, adapter_seed=3)  # the model is 32 wide
    house, huge = make_house(), replace(recipe, rank=33, layout=layout.digest, length=layout.size)
    with pytest.raises(PeerError, match="rank"):
        contribute(house, huge)
    assert charges(house) == 0


def test_what_an_operator_deletes_is_trained_on_no_more(
    make_house: MakeHouse, recipe: Recipe, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("kept", "deleted"):
        (notes / f"{name}.txt").write_text(f"the note that is {name}, of forty letters or more")
    house = make_house(documents=lambda: documents(notes), edition=lambda: edition(notes))
    before, (_, said) = house.fit(recipe), house.read(recipe)
    assert house.fit(recipe) is before
    assert house.read(recipe)[1] is said
    assert "deleted" in "".join(said)
    (notes / "deleted.txt").unlink()
    after = house.fit(recipe)
    assert 0 < len(after.records) < len(before.records)
    assert "deleted" not in "".join(house.read(recipe)[1])


def test_a_run_that_a_partners_share_cannot_finish_costs_nothing(make_house: MakeHouse, recipe: Recipe) -> None:
    house = make_house(Policy(1, BUDGET, (replace(ALLOWED, epsilon=6.0),)))
    with pytest.raises(BudgetExceeded, match="share"):  # the first round alone would fit
        contribute(house, recipe)
    assert charges(house) == 0


def test_all_rounds_fit_although_a_part_of_delta_is_set_aside(make_house: MakeHouse, recipe: Recipe) -> None:
    budget = replace(BUDGET, approximate_delta=9e-6)
    house = make_house(Policy(1, budget, (ALLOWED,)))
    for number in range(recipe.rounds):
        contribute(house, recipe, occasion(number))
    assert charges(house) == recipe.rounds


def test_a_partner_cannot_redefine_what_a_record_is(make_house: MakeHouse, recipe: Recipe) -> None:
    with pytest.raises(LevelForbidden, match="16 tokens, not 2"):
        contribute(make_house(), replace(recipe, record_tokens=2))


def test_what_protects_a_record_is_not_charged_to_a_promise_for_the_whole_member(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    policy = Policy(1, replace(BUDGET, unit=Unit.MEMBER), (ALLOWED,))
    with pytest.raises(LevelForbidden, match="per member"):
        contribute(make_house(policy), recipe)


def test_without_noise_nothing_leaves_unless_the_policy_says_so(make_house: MakeHouse, recipe: Recipe) -> None:
    bare = replace(recipe, epsilon=None)
    house = make_house()
    with pytest.raises(LevelForbidden, match="without noise"):
        contribute(house, bare)
    assert charges(house) == 0
    unsafe = Policy(1, BUDGET, (replace(ALLOWED, unsafe_without_noise=True),))
    disclosed = contribute(make_house(unsafe), bare)
    assert isinstance(disclosed, Disclosed)
    assert np.any(disclosed.value != 0)


def test_a_crowd_below_the_policys_is_refused(make_house: MakeHouse, recipe: Recipe) -> None:
    with pytest.raises(CrowdTooSmall):
        contribute(make_house(), recipe, occasion(crowd=1))


def test_an_edit_of_the_policy_counts_from_the_next_letter_on(make_house: MakeHouse, recipe: Recipe) -> None:
    policies = [POLICY, Policy(1, BUDGET, ())]
    house = make_house()
    house = replace(house, policy=lambda: policies.pop(0))
    contribute(house, recipe)
    with pytest.raises(LevelForbidden):
        contribute(house, recipe, occasion(1))


def test_the_same_seed_gives_the_same_contribution_in_any_session_and_another_for_another_letter(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    house = make_house(Policy(1, replace(BUDGET, epsilon=50.0), (ALLOWED,), True), unsafe_seed=7)
    first = contribute(house, recipe, occasion(0, "a")).value
    assert np.array_equal(first, contribute(house, recipe, occasion(0, "b")).value)
    assert not np.array_equal(first, contribute(house, recipe, occasion(1, "b")).value)
    other = replace(house, member=MemberId("bank"))
    assert not np.array_equal(first, contribute(other, recipe, occasion(0, "c")).value)


def test_a_seed_that_the_policy_does_not_allow_is_refused(make_house: MakeHouse, recipe: Recipe) -> None:
    with pytest.raises(LevelForbidden, match="seed"):
        contribute(make_house(unsafe_seed=7), recipe)


def test_a_session_of_the_same_name_with_another_partner_or_member_pays_for_itself(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    stranger = "ed25519:" + "B" * 43
    house = make_house(Policy(1, BUDGET, (ALLOWED, replace(ALLOWED, partner=stranger))))
    recipe = replace(recipe, epsilon=1.0)  # three such runs fit
    contribute(house, recipe)
    contribute(house, recipe, occasion(partner=stranger))
    contribute(replace(house, member=MemberId("bank")), recipe)
    assert charges(house) == 3


def test_a_second_home_that_was_invited_under_the_same_name_pays_for_itself(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    first, second = make_house(identity="ed25519:" + "C" * 43), make_house(identity="ed25519:" + "D" * 43)
    recipe = replace(recipe, epsilon=1.0)
    contribute(first, recipe)
    contribute(second, recipe)  # the same letter, on the same data and ledger: another draw
    assert charges(first) == 2


def test_the_model_is_given_back_when_the_next_recipe_has_another_adapter(
    make_house: MakeHouse, recipe: Recipe, base: Base
) -> None:
    house = make_house()
    contribute(house, recipe)
    assert house.fit(recipe) is house.fit(recipe)
    layout = layout_of(base, rank=4, alpha=4.0, targets=("o_proj",), adapter_seed=3)
    other = replace(recipe, rank=4, targets=("o_proj",), layout=layout.digest, length=layout.size)
    assert contribute(house, other, occasion(1)).value.shape == (layout.size,)
    assert contribute(house, recipe, occasion(2)).value.shape == (recipe.length,)


def test_a_letters_seed_is_fixed_for_ever() -> None:
    assert unsafe_seed(7, MemberId("clinic"), 0) == 7_749_894_380_029_742_191


def test_a_clipping_norm_that_is_sought_goes_on_where_the_last_letter_left_it(
    make_house: MakeHouse, recipe: Recipe
) -> None:
    house, seeking = make_house(), replace(recipe, target_quantile=0.5)
    session = house.open(occasion()).occasion.session
    left = []
    for number in range(2):
        contribute(house, seeking, occasion(number))
        left.append(house.states.before(session, number + 1))
    assert [set(state) for state in left] == [{"norm"}] * 2
    first, second = (float(state["norm"][0]) for state in left)
    assert len({first, second, recipe.clipping_norm}) == 3
    assert charges(house) == 2
    assert not house.states.before(session, 0)
    with pytest.raises(Refused):  # the policy's, before the trainer's own
        contribute(house, replace(seeking, epsilon=None), occasion(2))


def test_no_norm_is_sought_where_no_gradient_is_clipped(make_house: MakeHouse, recipe: Recipe) -> None:
    house = make_house()
    without = replace(recipe, target_quantile=0.5, epsilon=None)
    with pytest.raises(PeerError, match="no gradients that are clipped"):
        training(house, house.account(house.policy().budget), without, 0, zeros(recipe))


def test_a_home_whose_policy_allows_no_stream_dials_none(make_house: MakeHouse) -> None:
    dialled: list[str] = []
    stream = occasion(collaboration="stream", level=Level.LOGITS)
    streams = Permission(PARTNER, Level.LOGITS, ("stream",), smallest_crowd=3)
    house = make_house(dial=lambda name, *_: dialled.append(name))
    with pytest.raises(LevelForbidden):
        house.open(stream).dial("5" * 32, bytes(32), 2**32)
    allowed = make_house(Policy(1, BUDGET, (ALLOWED, streams)), dial=lambda name, *_: dialled.append(name))
    with pytest.raises(CrowdTooSmall):
        allowed.open(replace(stream, crowd=2)).dial("5" * 32, bytes(32), 2**32)
    assert dialled == []
    assert allowed.open(stream).dial("5" * 32, bytes(32), 2**32).value.stream == "5" * 32
    assert dialled == ["5" * 32]
    assert charges(allowed) == 0
    with pytest.raises(PeerError):  # a house without a road
        make_house(Policy(1, BUDGET, (streams,))).open(stream).dial("5" * 32, bytes(32), 2**32)
