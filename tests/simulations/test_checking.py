"""A dry run names every reason for which a home would refuse an experiment, and they are the home's own reasons."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from dp_accounting import GaussianDpEvent
from typer.testing import CliRunner

from client.folder import Folder
from client.model import load_base
from client.settings import Settings
from client.settings_text import home_toml
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.refusal import NotApproved, Refused
from privacy.units import Level, Relation, Unit
from protocols.faults import PeerError
from protocols.session import MemberId
from simulations.checking import check_file
from simulations.cli import app
from simulations.collaborations.average import AverageRun
from simulations.experiment import load_experiment
from simulations.nodes import policy_toml, settle
from simulations.texts import lay_out, training
from simulations.village import raise_village


def parley(*words: object) -> Result:
    words = ("member", "policy", "check", *words)
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


@dataclass
class Scene:
    """An experiment file and the home of ash, whose policy is made for it."""

    file: Path
    home: Path

    @property
    def policy(self) -> Policy:
        return Policy.load(self.home / "policy.toml")

    def change(self, budget: dict[str, object] | None = None, **permission: object) -> Policy:
        (allowed,) = self.policy.allow
        changed = replace(
            self.policy,
            budget=replace(self.policy.budget, **(budget or {})),  # type: ignore[arg-type]
            allow=(replace(allowed, **permission),),  # type: ignore[arg-type]
        )
        (self.home / "policy.toml").write_text(policy_toml(changed), encoding="utf-8")
        return changed

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text(encoding="utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def check(self) -> str:
        """Return what `parley member policy check` prints; its status says the same as its words."""
        done = parley(self.home, self.file)
        assert done.exit_code == (0 if "would not refuse it" in done.output else 1), done.output
        return done.output


@pytest.fixture
def settled(experiment_file: Path, tmp_path: Path) -> Callable[[], Scene]:
    def make() -> Scene:
        experiment = load_experiment(experiment_file)
        nodes = settle(experiment, lay_out(experiment, experiment_file, tmp_path / "data"), tmp_path / "nodes")
        return Scene(experiment_file, nodes.homes["ash"])

    return make


@pytest.fixture
def scene(settled: Callable[[], Scene]) -> Scene:
    return settled()


def test_a_home_whose_policy_is_made_for_an_experiment_would_not_refuse_it(scene: Scene) -> None:
    shown = scene.check()
    assert "this home would not refuse it" in shown
    assert "average at level weights, 3 members, in secure sums, for no purpose that is given: 2 rounds" in shown
    assert "not judged" in shown


@pytest.mark.parametrize(
    ("permission", "reason"),
    [
        ({"partner": "ed25519:somebody"}, "LevelForbidden: no entry allows this collaboration at level weights"),
        ({"level": Level.LOGITS}, "LevelForbidden: no entry allows"),
        ({"collaborations": ("merge",)}, "LevelForbidden: no entry allows"),
        ({"smallest_crowd": 4}, "CrowdTooSmall: 3 members, the policy asks for 4"),
        ({"colluding": 2}, "LevelForbidden: terms for 1 colluding, the policy asks for 2"),
        ({"expires": date(2001, 2, 3)}, "Expired: allowed until 2001-02-03"),
        ({"purposes": ("care",)}, "LevelForbidden: no purpose is given"),
        ({"approval": True}, "NotApproved: it waits for you"),
        ({"least_noise": 500.0}, "LevelForbidden: less noise than the policy's least_noise, 500"),
        ({"releases_per_day": 1}, "RateExceeded: 2 rounds, the policy allows 1 releases a day"),
    ],
)
def test_each_rule_that_would_refuse_is_named(scene: Scene, permission: dict[str, object], reason: str) -> None:
    scene.change(**permission)
    assert f"  {reason}" in scene.check()


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"unit": Unit.GROUP}, "LevelForbidden: the budget is per group, the recipe per record"),
        (
            {"record_tokens": 99},
            "LevelForbidden: the budget is per 99 tokens, not 16: budget.record_tokens of policy.toml, and"
            " training.record_tokens of what is asked",
        ),
    ],
)
def test_a_budget_for_something_else_is_named(scene: Scene, budget: dict[str, object], reason: str) -> None:
    scene.change(budget)
    assert f"  {reason}" in scene.check()


def test_every_reason_is_told_and_not_only_the_first(scene: Scene) -> None:
    scene.change({"record_tokens": 99}, purposes=("care",), expires=date(2001, 2, 3), smallest_crowd=5, approval=True)
    shown = scene.check()
    for reason in ("no purpose", "allowed until", "asks for 5", "not 16", "waits for you"):
        assert reason in shown


def test_what_an_experiment_says_it_is_for_is_compared_with_the_policy(scene: Scene) -> None:
    scene.edit("seed = 7", 'seed = 7\npurpose = "care"')
    scene.change(purposes=("care",))
    shown = scene.check()
    assert "for 'care'" in shown
    assert "would not refuse it" in shown
    scene.change(purposes=("research",))
    assert "LevelForbidden: another purpose than those allowed" in scene.check()


def test_a_budget_that_is_spent_is_seen_and_asking_spends_nothing(scene: Scene) -> None:
    settings = Settings.load(scene.home / "home.toml")
    ledger = Ledger(settings.ledger_in(scene.home))
    account = Account(settings.data.account, scene.policy.budget)
    try:
        partner = settings.coordinator.key
        ledger.charge(account, GaussianDpEvent(1.0), Occasion("old", 0, "average", Level.WEIGHTS, partner, 3))
        before = ledger.statement(account)
        assert "BudgetExceeded" in scene.check()
        assert ledger.statement(account) == before
        assert len(list(ledger.entries())) == 1
    finally:
        ledger.close()


def test_a_partners_share_that_is_too_small_is_seen(scene: Scene) -> None:
    scene.change(epsilon=0.5)
    assert "BudgetExceeded" in scene.check()


def test_work_of_this_kind_that_was_approved_is_not_said_to_wait_and_asking_lists_nothing(scene: Scene) -> None:
    policy = scene.change(approval=True)
    settings = Settings.load(scene.home / "home.toml")
    ledger = Ledger(settings.ledger_in(scene.home))
    try:
        assert "NotApproved" in scene.check()
        assert ledger.approvals() == ()
        occasion = Occasion("s", 0, "average", Level.WEIGHTS, settings.coordinator.key, 3, summed=True, plan="{}")
        with pytest.raises(NotApproved):
            ledger.charge(
                Account(settings.data.account, policy.budget), GaussianDpEvent(99.0), occasion, Limits(approval=True)
            )
        assert "NotApproved" in scene.check()
        ledger.approve(ledger.pending()[0].id)
        assert "would not refuse it" in scene.check()
    finally:
        ledger.close()


def test_an_account_that_is_open_with_something_else_is_seen(scene: Scene) -> None:
    settings = Settings.load(scene.home / "home.toml")
    ledger = Ledger(settings.ledger_in(scene.home))
    budget = replace(scene.policy.budget, delta=1e-6)
    occasion = Occasion("old", 0, "average", Level.WEIGHTS, settings.coordinator.key, 3)
    ledger.charge(Account(settings.data.account, budget), GaussianDpEvent(50.0), occasion)
    ledger.close()
    shown = scene.check()
    assert "would refuse it" in shown
    assert "another delta" in shown


def test_a_roster_that_is_missing_or_lacks_somebody_is_seen(scene: Scene) -> None:
    scene.edit('name = "cedar"', 'name = "willow"')
    assert "RosterNotApproved: not in the approved roster: 'willow'" in scene.check()
    Folder(scene.home).roster.unlink()
    assert "RosterNotApproved: no roster is approved here" in scene.check()


def test_a_home_that_is_not_asked_is_told_so(scene: Scene) -> None:
    scene.edit('name = "ash"', 'name = "elm"')
    assert "this home is not among the members of the experiment" in scene.check()


def test_batches_larger_than_the_data_are_seen(scene: Scene) -> None:
    scene.edit("batch_size = 4", "batch_size = 400000")
    assert "batches of 400000 records, larger than this data" in scene.check()


def test_an_unsafe_experiment_is_refused_by_a_careful_policy_for_both_its_reasons(scene: Scene) -> None:
    scene.edit("quorum = 2", "quorum = 2\nunsafe_plain_sum = true")
    scene.edit("epsilon = 8.0", "unsafe_without_noise = true")
    shown = scene.check()
    assert "each member's values by themselves" in shown
    assert "unsafe_plain_sum is not set" in shown
    assert "unsafe_without_noise is not set" in shown


def test_more_disclosures_than_the_budget_has_left_are_seen(scene: Scene) -> None:
    scene.edit("epsilon = 8.0", "unsafe_without_noise = true")
    scene.change({"disclosures": 1}, unsafe_without_noise=True)
    assert "RateExceeded: 2 disclosures, the budget has 1 left" in scene.check()
    scene.change({"disclosures": 2}, disclosures=0)
    assert "RateExceeded: 2 disclosures, the permission has 0 left" in scene.check()
    scene.change(disclosures=2)
    assert "would not refuse it" in scene.check()


def test_a_seed_that_the_policy_does_not_allow_is_seen(scene: Scene) -> None:
    settings = replace(Settings.load(scene.home / "home.toml"), unsafe_seed=7)
    (scene.home / "home.toml").write_text(home_toml(settings), encoding="utf-8")
    policy = replace(scene.policy, unsafe_seeded_randomness=False)
    (scene.home / "policy.toml").write_text(policy_toml(policy), encoding="utf-8")
    assert "LevelForbidden: seeded randomness" in scene.check()


def test_whole_members_are_tried_with_the_noise_of_the_sum(
    experiment_file: Path, settled: Callable[[], Scene]
) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text.replace("[privacy]", '[privacy]\nunit = "member"'), encoding="utf-8")
    scene = settled()
    assert scene.policy.budget.relation is Relation.ZERO_OUT
    assert "would not refuse it" in scene.check()
    scene.change({"relation": Relation.ADD_OR_REMOVE}, least_noise=500.0)
    shown = scene.check()
    assert "the budget is for add-or-remove and not for zero-out" in shown
    assert "least_noise, 500" in shown


def test_what_cannot_be_read_is_one_line_and_another_status(scene: Scene, tmp_path: Path) -> None:
    assert parley(scene.home, tmp_path / "nowhere.toml").exit_code == 2
    ledger = Settings.load(scene.home / "home.toml").ledger_in(scene.home)
    ledger.write_bytes(os.urandom(4096))
    broken = parley(scene.home, scene.file)
    assert (broken.exit_code, "Traceback" in broken.output) == (2, False)
    ledger.unlink()
    gone = parley(scene.home, scene.file)
    assert (gone.exit_code, "the ledger is missing" in gone.output) == (2, True)
    (scene.home / "policy.toml").unlink()
    assert parley(scene.home, scene.file).exit_code == 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"smallest_crowd": 4},
        {"expires": date(2001, 2, 3)},
        {"purposes": ("care",)},
        {"unsafe_plain_sum": False},
        {"collaborations": ("merge",)},
        {"budget": {"record_tokens": 99}},
        {"budget": {"unit": Unit.MEMBER}},
        {"budget": {"epsilon": 0.001}},
    ],
    ids=str,
)
def test_the_reasons_are_those_for_which_the_home_itself_refuses(
    experiment_file: Path, settled: Callable[[], Scene], tmp_path: Path, tiny_model: Path, changes: dict[str, object]
) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text.replace("quorum = 2", "quorum = 2\nunsafe_plain_sum = true"), encoding="utf-8")
    scene, experiment = settled(), load_experiment(experiment_file)
    policy, partner = scene.change(**changes), Settings.load(scene.home / "home.toml").coordinator.key  # type: ignore[arg-type]
    base, texts = load_base(str(tiny_model)), training(lay_out(experiment, experiment_file, tmp_path / "texts"))
    village = raise_village(experiment, texts, base, tmp_path / "village")
    try:
        house = village.villagers[MemberId("ash")].house
        house.policy = lambda: policy
        recipe = AverageRun().recipe(experiment, base)
        occasion = Occasion("s", 0, "average", Level.WEIGHTS, partner, 3, ("ash", "birch", "cedar"))
        try:
            house.open(occasion).contribution(recipe, 0, np.zeros(recipe.length, np.float32))
            said = None
        except (Refused, PeerError) as refused:
            said = f"{type(refused).__name__}: {refused}"
    finally:
        village.close()
    checked = check_file(scene.home, scene.file)
    assert checked.allowed is (said is None)
    assert said is None or said in checked.objections


def test_a_home_that_allows_no_stream_would_refuse_to_have_its_letters_on_one(scene: Scene) -> None:
    scene.edit('name = "three small members"', 'name = "three small members"\ncarrier = "stream"')
    shown = scene.check()
    assert "would refuse it" in shown
    assert "for the stream: level logits, collaboration stream" in shown


def test_a_policy_that_is_made_for_streams_allows_them(settled: Callable[[], Scene], experiment_file: Path) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text.replace("seed = 7", 'seed = 7\ncarrier = "stream"', 1), encoding="utf-8")
    assert "this home would not refuse it" in settled().check()
