"""The personal adapter learns at home, comes back after a restart, and is in nothing that leaves."""

import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from client.adapter import load, save
from client.card import Card
from client.cli import app
from client.daemon import Desk
from client.data import cut
from client.declared import Declared
from client.fitted import Fitted
from client.home import House
from client.model import Adapted, Base, layout_of, load_base
from client.personal import Personal, beside, export, personal_lines
from client.settings import PersonalSettings
from client.training.clipping import record_losses
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.units import Level, Unit
from protocols.session import MemberId
from protocols.weights.recipe import Recipe

PARTNER = "ed25519:" + "A" * 43
ALLOWED = Permission(PARTNER, Level.WEIGHTS, ("average",), unsafe_plain_sum=True)
POLICY = Policy(1, Budget(epsilon=8.0, delta=1e-5, record_tokens=16), (ALLOWED,), unsafe_seeded_randomness=True)
OWN = PersonalSettings(4, 8.0, ("q_proj", "up_proj", "down_proj"), 30, 0.05, 8)
TEXTS = [f"note {n}: the patient came at {n} o'clock" for n in range(40)]
MakeHouse = Callable[..., House]


@pytest.fixture
def personal(tmp_path: Path) -> Personal:
    return Personal(OWN, tmp_path / "personal", "clinic")


@pytest.fixture
def fitted(base: Base) -> Iterator[Fitted]:
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    made = Fitted(Adapted(base, layout), cut(TEXTS, base.tokenizer, 16))
    yield made
    made.adapted.remove()


@pytest.fixture
def shared(fitted: Fitted) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=fitted.adapted.layout.size) * 0.1).astype(np.float32)


def recipe_of(base: Base) -> Recipe:
    targets = ("q_proj", "v_proj")
    layout = layout_of(base, rank=2, alpha=4.0, targets=targets, adapter_seed=3)
    return Recipe(
        base=base.digest, layout=layout.digest, length=layout.size, rank=2, alpha=4.0, targets=targets,
        adapter_seed=3, record_tokens=16, rounds=3, steps=2, batch_size=8, optimizer="sgd", learning_rate=0.1,
        clipping_norm=1.0, unit=Unit.RECORD, epsilon=8.0, delta=1e-5,
    )  # fmt: skip


def rounds(base: Base, ledger: Path, personal: Personal | None) -> list[bytes]:
    """Return what leaves in three rounds, the personal adapter being trained between them if there is one."""
    house = House(
        MemberId("clinic"), base, lambda: TEXTS, Declared(40, 1500), lambda: POLICY, Ledger(ledger), "notes",
        unsafe_seed=7, personal=personal,
    )  # fmt: skip
    recipe, adapter, left = recipe_of(base), np.zeros(0, np.float32), []
    adapter = np.zeros(recipe.length, np.float32)
    try:
        for number in range(3):
            occasion = Occasion("5e55", number, "average", Level.WEIGHTS, PARTNER, 3)
            delta = house.open(occasion).contribution(recipe, number, adapter).value  # type: ignore[attr-defined]
            left.append(delta.tobytes())
            adapter = adapter + delta
            house.rest()
    finally:
        house.close()
    return left


def test_what_leaves_has_the_same_bits_with_a_personal_adapter_and_without(
    base: Base, tmp_path: Path, personal: Personal
) -> None:
    assert rounds(base, tmp_path / "with.db", personal) == rounds(base, tmp_path / "without.db", None)
    assert np.abs(personal.vector(personal.layout(base))).max() > 0  # and it was trained in between


def test_a_personal_adapter_costs_the_ledger_nothing(base: Base, tmp_path: Path, personal: Personal) -> None:
    rounds(base, tmp_path / "ledger.db", personal)
    assert len(list(Ledger(tmp_path / "ledger.db").entries())) == 3


def loss(fitted: Fitted, shared: np.ndarray, personal: Personal) -> float:
    fitted.adapted.set(shared)
    layout = personal.layout(fitted.adapted.base)
    tokens = torch.from_numpy(fitted.records.tokens.astype(np.int64))
    from client.personal import _pairs

    with torch.no_grad(), beside(fitted.adapted.base, layout, _pairs(layout, personal.vector(layout), "cpu")):
        return float(
            record_losses(fitted.adapted.base.model, tokens, torch.from_numpy(fitted.records.lengths)).mean()
        )


def test_it_learns_the_members_own_text_on_top_of_the_shared_adapter(
    fitted: Fitted, shared: np.ndarray, personal: Personal
) -> None:
    before = loss(fitted, shared, personal)
    personal.train(fitted, shared, 1)
    once = loss(fitted, shared, personal)
    assert once < before - 0.2
    replace(personal).train(fitted, shared, 1)  # as another process would: it goes on from the folder
    assert loss(fitted, shared, personal) < once


def test_the_model_is_given_back_without_a_trace(fitted: Fitted, shared: np.ndarray, personal: Personal) -> None:
    adapted, ids = fitted.adapted, torch.arange(3, 13)[None]
    adapted.set(shared * 2)
    with torch.no_grad():
        before = adapted.model(input_ids=ids).logits
    personal.train(fitted, shared, 1)
    assert np.array_equal(adapted.get(), shared * 2)
    assert not any(m._forward_hooks for m in adapted.model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in adapted.model.parameters())
    with torch.no_grad():
        assert torch.equal(before, adapted.model(input_ids=ids).logits)


def test_peft_loads_it_beside_the_shared_one(
    base: Base, model_folder: Path, fitted: Fitted, shared: np.ndarray, personal: Personal, tmp_path: Path
) -> None:
    from peft import PeftModel

    from client.personal import _pairs

    personal.train(fitted, shared, 1)
    layout, ids = personal.layout(base), torch.arange(3, 13)[None]
    fitted.adapted.set(shared)
    with torch.no_grad(), beside(base, layout, _pairs(layout, personal.vector(layout), "cpu")):
        ours = fitted.adapted.model(input_ids=ids).logits
    save(tmp_path / "shared", fitted.adapted.layout, shared, Card("t", "b", "0" * 64, (), ()))
    theirs = PeftModel.from_pretrained(load_base(str(model_folder)).model, str(tmp_path / "shared"), "shared").eval()
    theirs.load_adapter(str(personal.folder), "personal")
    theirs.base_model.set_adapter(["shared", "personal"])
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=ids).logits, ours, atol=1e-5)
        theirs.base_model.set_adapter(["shared"])
        assert not torch.allclose(theirs(input_ids=ids).logits, ours, atol=1e-3)


def test_only_the_owner_can_read_it_and_its_card_says_that_no_epsilon_describes_it(
    fitted: Fitted, shared: np.ndarray, personal: Personal
) -> None:
    for _ in range(2):
        personal.train(fitted, shared, 1)
    assert stat.S_IMODE(personal.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in personal.folder.iterdir()} == {0o600}
    assert [p.name for p in personal.folder.parent.iterdir()] == ["personal"]
    assert "this is a disclosure, and no epsilon" in (personal.folder / "README.md").read_text()


def test_an_adapter_of_another_shape_is_not_written_over(
    fitted: Fitted, shared: np.ndarray, personal: Personal
) -> None:
    personal.train(fitted, shared, 1)
    kept = (personal.folder / "adapter_model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="another layout"):
        replace(personal, settings=replace(OWN, rank=2)).train(fitted, shared, 1)
    assert (personal.folder / "adapter_model.safetensors").read_bytes() == kept


def test_a_record_that_breaks_the_model_does_not_break_what_was_learnt(
    fitted: Fitted, shared: np.ndarray, personal: Personal
) -> None:
    embedding = fitted.adapted.base.model.get_input_embeddings().weight
    held = embedding[104].clone()  # a letter that is in every text
    try:
        with torch.no_grad():
            embedding[104] = float("nan")
        personal.train(fitted, shared, 1)
    finally:
        with torch.no_grad():
            embedding[104] = held
    assert np.isfinite(load(personal.folder)[1]).all()


class Failing:
    """A mailbox whose rest always goes wrong, and that notes in which order things happened."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def deliver(self, sealed: bytes, /) -> bytes:
        self.done.append("letter")
        return sealed

    def rest(self) -> None:
        self.done.append("rest")
        raise RuntimeError("canary-7f3a")


def test_a_daemon_answers_first_trains_afterwards_and_outlives_what_goes_wrong_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mailbox = Failing()
    desk = Desk(lambda: mailbox, lambda _: None)
    desk.start()
    for letter in (b"one", b"two"):
        assert desk.submit(letter).result(30) == letter
    desk.submit(b"three").result(30)  # so that the second rest is over
    assert mailbox.done[:5] == ["letter", "rest", "letter", "rest", "letter"]
    assert "between letters: RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_the_operator_sees_it_and_may_export_it(fitted: Fitted, shared: np.ndarray, tmp_path: Path) -> None:
    personal = Personal(OWN, tmp_path / "home" / "personal", "clinic")
    (tmp_path / "home").mkdir()
    told = CliRunner().invoke(app, ["personal", str(tmp_path / "home")])
    assert (told.exit_code, "no personal adapter here yet: with [personal] in home.toml" in told.output) == (2, True)
    personal.train(fitted, shared, 1)
    assert "rank 4" in personal_lines(personal.folder)[0]
    out = tmp_path / "out"
    told = CliRunner().invoke(app, ["personal", str(tmp_path / "home"), "--out", str(out)])
    assert told.exit_code == 0
    assert "never sent" in told.output
    assert np.array_equal(load(out)[1], load(personal.folder)[1])
    with pytest.raises(ConfigError, match="exists already"):
        export(personal.folder, out)
