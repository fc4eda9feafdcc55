"""Real homes keep what is theirs: purposes, approvals, one budget for one data, keys that end with their session."""

import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent

from client.declared import declare
from client.folder import Folder
from client.home import House
from client.mailbox import SqliteShelf
from client.model import load_base
from client.opening import _Notes, _require_newest, _require_totals
from client.settings import CoordinatorSettings, DataSettings, ModelSettings, Settings
from privacy.config import ConfigError
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded
from privacy.units import Level
from protocols.faults import Abort
from protocols.session import MemberId
from simulations.engine import run_in_process, settle
from simulations.experiment import load_experiment
from simulations.texts import lay_out, training
from simulations.village import policy_for


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    return replace(experiment, purpose="to plan beds"), texts, load_base(experiment.model_path)


@pytest.fixture
def village(scene, tmp_path):
    experiment, texts, base = scene
    there = settle(experiment, texts, base, tmp_path / "village")
    yield there
    there.close()


def lines(ledger: Ledger, *kinds: str) -> list[dict]:
    return [found for text in ledger.lines() if (found := json.loads(text))["kind"] in kinds]


def allow(house: House, **changes) -> None:
    policy = house.policy()
    changed = replace(policy, allow=tuple(replace(p, **changes) for p in policy.allow))
    house.policy = lambda: changed


def test_what_a_run_is_for_is_in_every_line_and_another_purpose_is_met_with_silence(scene, village):
    experiment, _, base = scene
    run_in_process(experiment, village, base)
    for villager in village.villagers.values():
        written = lines(villager.house.ledger, "charged", "said", "emitted")
        assert {line["purpose"] for line in written} == {"to plan beds"}
        charged = lines(villager.house.ledger, "charged")
        assert len({line["plan"] for line in charged}) == 1  # the digest of the recipe, which anyone can compute
    with pytest.raises(Abort):
        run_in_process(replace(experiment, purpose="to sell more"), village, base)
    for villager in village.villagers.values():
        assert {line["why"] for line in lines(villager.house.ledger, "refused")} == {"LevelForbidden"}
        assert len(lines(villager.house.ledger, "charged")) == experiment.collaboration.rounds


def test_what_waits_for_the_operator_leaves_nothing_and_runs_once_it_is_approved(scene, village):
    experiment, _, base = scene
    careful = village.villagers[MemberId("ash")].house
    allow(careful, approval=True)
    with pytest.raises(Abort):  # a strict sum needs all
        run_in_process(experiment, village, base)
    assert lines(careful.ledger, "charged") == []
    (waiting,) = careful.ledger.pending()
    assert json.loads(waiting.plan)["rounds"] == experiment.collaboration.rounds
    assert waiting.purpose == "to plan beds"
    careful.ledger.approve(waiting.id)
    for villager in village.villagers.values():  # the lost rounds were charged to those who had uploaded
        generous = villager.house.policy()
        villager.house.policy = lambda p=generous: replace(p, budget=replace(p.budget, epsilon=99.0))
    with pytest.raises(Abort):
        run_in_process(replace(experiment, purpose="to plan wards"), village, base)
    assert lines(careful.ledger, "charged") == [], "an approval for one purpose served another"


def test_the_same_documents_under_another_name_draw_on_the_same_budget(scene, tmp_path):
    experiment, texts, base = scene
    ledger = Ledger(tmp_path / "shared.db", durable=False)
    policy = policy_for(experiment, "ed25519:p")

    def house(name: str, documents) -> House:
        size = declare(documents, base.tokenizer)
        return House(MemberId("ash"), base, lambda: documents, size, lambda: policy, ledger, name)

    first = house("patients", texts["ash"]).account(policy.budget)
    same = house("a fresh start", [f"  {text.upper()}\n" for text in reversed(texts["ash"])]).account(policy.budget)
    other = house("others", texts["birch"]).account(policy.budget)
    both = house("merged", [*texts["birch"][:3], "and one of its own"]).account(policy.budget)
    assert same == first
    assert other.dataset == "others"
    assert "others" in (both.dataset, *both.also)
    ledger.close()


def test_who_is_over_budget_under_one_name_is_over_it_under_another(scene, tmp_path):
    experiment, texts, base = scene
    policy = policy_for(replace(experiment, privacy=replace(experiment.privacy, epsilon=0.5)), "ed25519:p")
    ledger = Ledger(tmp_path / "shared.db", durable=False)

    def charge(name: str, number: int) -> None:
        size = declare(texts["ash"], base.tokenizer)
        house = House(MemberId("ash"), base, lambda: texts["ash"], size, lambda: policy, ledger, name)
        at = Occasion("s", number, "average", Level.WEIGHTS, "ed25519:p", 3)
        ledger.charge(house.account(policy.budget), GaussianDpEvent(11.0), at)

    with pytest.raises(BudgetExceeded):
        for number in range(99):
            charge("patients", number)
    with pytest.raises(BudgetExceeded):
        charge("patients again", 99)
    assert 1 <= len(lines(ledger, "charged")) < 10
    ledger.close()


def test_keys_end_with_their_session(scene, village):
    experiment, _, base = scene
    run_in_process(experiment, village, base)
    assert [len(v.house.sums or ()) for v in village.villagers.values()] == [0, 0, 0]


def test_a_ledger_that_was_put_back_does_not_open(tmp_path):
    folder, file = Folder(tmp_path), tmp_path / "ledger.db"
    SqliteShelf.create(folder.mailbox)
    shelf, ledger = SqliteShelf(folder.mailbox), Ledger(file)
    shutil.copy(file, tmp_path / "old.db")
    at = Occasion("s", 0, "average", Level.WEIGHTS, "ed25519:p", 3)
    ledger.say(Account("notes", Budget(1.0, 1e-5)), at)
    shelf.remember(ledger.emit(at, bytes(32), bytes(32), 9, lambda _head: bytes(64), "ed25519:me").to_json())
    _require_newest(folder, shelf, ledger)
    ledger.close()
    for old in tmp_path.glob("ledger.db*"):
        old.unlink()
    shutil.copy(tmp_path / "old.db", file)
    older = Ledger(file)
    with pytest.raises(ConfigError, match="older than the last answer"):
        _require_newest(folder, shelf, older)
    older.close()
    stranger = Ledger(tmp_path / "another.db")
    with pytest.raises(ConfigError, match="or another"):
        _require_newest(folder, shelf, stranger)
    stranger.close()
    shelf.close()


@pytest.mark.parametrize("instead", ["0", "[0]"])
def test_a_ledger_whose_sum_was_lowered_does_not_open(tmp_path, instead):
    ledger = Ledger(tmp_path / "ledger.db")
    at = Occasion("s", 0, "average", Level.WEIGHTS, "ed25519:p", 3)
    ledger.charge(Account("notes", Budget(8.0, 1e-5)), GaussianDpEvent(5.0), at)
    settings = Settings(
        "ash", CoordinatorSettings("h:1", "ed25519:p"), ModelSettings("m"), DataSettings(tmp_path, "n", 1, 1)
    )
    _require_totals(Folder(tmp_path), settings, ledger)
    ledger.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("UPDATE accounts SET nats = ?", (instead,))
    db.commit()
    db.close()
    ledger = Ledger(tmp_path / "ledger.db")
    with pytest.raises(ConfigError, match="a total"):
        _require_totals(Folder(tmp_path), settings, ledger)
    ledger.close()


def test_an_edited_policy_leaves_a_line_with_its_digest_and_an_unchanged_one_none(tmp_path):
    policy = "version = 1\n[budget]\nepsilon = 1.0\ndelta = 1e-5\n"
    (tmp_path / "policy.toml").write_text(policy)
    ledger = Ledger(tmp_path / "ledger.db")
    notes = _Notes(ledger, "ash")
    for text in (policy, policy, policy.replace("1.0", "0.5")):
        (tmp_path / "policy.toml").write_text(text)
        notes.policy(Folder(tmp_path))
    digests = [line["digest"] for line in lines(ledger, "policy")]
    assert len(digests) == len(set(digests)) == 2
    ledger.close()
