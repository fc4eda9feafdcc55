"""Soup, search and extrapolation from an experiment file to a result, and what a coordinator tries on the way."""

import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from client.adapter import Layout, load, save
from client.card import Card
from client.data import cut
from client.dp_training import Schedule, UnsafePlainSgd
from client.model import Adapted, layout_of, load_base
from client.training.scoring import Scorer
from privacy.config import ConfigError
from privacy.policy import Policy
from privacy.randomness import UnsafeSeededRandomness
from privacy.refusal import LevelForbidden, Refused
from privacy.units import Relation, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError, PeerError, WireError
from protocols.session import MemberId, drive
from protocols.weights.recipe import Recipe
from protocols.weights.utility import Found, Score
from simulations.collaborations import run_of
from simulations.engine import complete, settle, simulate
from simulations.experiment import Experiment, load_experiment
from simulations.planning import plan_file
from simulations.texts import lay_out, training

UTILITY = """
[utility]
ingredients = ["good", "base", "bad"]
validation = 0.3
clip = 1.0
candidates = 4
alphas = [0.5, 1.0]
"""
EPSILON = "epsilon = 8.0"
QUIET = Console(file=open(os.devnull, "w"))  # noqa: SIM115


@pytest.fixture(scope="module")
def learned(tiny_model) -> tuple[Layout, np.ndarray]:
    """An adapter trained, without noise, on text like that of all three members."""
    base = load_base(str(tiny_model))
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj", "v_proj"), adapter_seed=7)
    texts = [f"{name} says {i} " * 12 for name in ("ash", "birch", "cedar") for i in range(20)]
    records = cut(texts, base.tokenizer, 16)
    schedule = Schedule(steps=30, batch_size=32, declared_records=len(records), learning_rate=0.5, clipping_norm=1.0)
    adapted = Adapted(base, layout)
    start = np.zeros(layout.size, np.float32)
    return layout, UnsafePlainSgd(adapted, records, start, schedule).draw(UnsafeSeededRandomness(1))


@pytest.fixture
def soup_file(experiment_file, learned) -> Path:
    """The three small members, and two adapters: one trained on text like theirs, and its opposite."""
    layout, vector = learned
    for name, factor in (("good", 1.0), ("bad", -3.0)):
        save(experiment_file.parent / name, layout, vector * factor, Card(name, "tiny", "d" * 64, (), ()))
    soup = experiment_file.read_text().replace('"average"', '"soup"').replace("rounds = 2", "rounds = 3") + UTILITY
    experiment_file.write_text(soup, encoding="utf-8")
    return experiment_file


def changed(file: Path, *changes: tuple[str, str]) -> Path:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")
    return file


UNNOISED = (EPSILON, "unsafe_without_noise = true")


def ran(file: Path, folder: Path) -> tuple:
    experiment = load_experiment(file)
    texts = training(lay_out(experiment, file, folder / "data"))
    base = load_base(experiment.model_path)
    outcome, village = simulate(experiment, texts, base, folder / "village")
    village.close()
    return outcome, village


def test_a_soup_of_real_adapters_keeps_the_one_that_learned_from_such_text(soup_file, tmp_path):
    changed(soup_file, UNNOISED)
    outcome, _ = ran(soup_file, tmp_path / "run")
    good = load(soup_file.parent / "good")[1]
    assert np.allclose(outcome.adapter, good, atol=1e-6)
    assert outcome.answered == (3, 3, 3)
    assert outcome.notes[0] == "weights: 1.000, 0.000, 0.000"


@pytest.mark.parametrize("method", ["evolution", pytest.param("swarm", marks=pytest.mark.slow)])
def test_a_search_does_no_worse_than_the_best_ingredient(soup_file, tmp_path, method):
    changed(soup_file, UNNOISED, ('"soup"', '"search"'), ("candidates = 4", f'candidates = 4\nmethod = "{method}"'))
    outcome, _ = ran(soup_file, tmp_path / "run")
    assert len(outcome.seconds) == 3
    best = max(float(x) for x in outcome.notes[-1].split(":")[1].split("(")[0].split(","))
    assert best >= float(outcome.notes[-1].split(":")[1].split(",")[1]) - 1e-9


def test_an_extrapolation_takes_two_ingredients_and_one_evaluation(soup_file, tmp_path):
    changed(
        soup_file, UNNOISED, ('"soup"', '"extrapolate"'), ("rounds = 3", "rounds = 1"),
        ('["good", "base", "bad"]', '["base", "good"]'),
    )  # fmt: skip
    outcome, _ = ran(soup_file, tmp_path / "run")
    weak, strong = (float(w) for w in outcome.notes[0].split(":")[1].split(","))
    assert weak + strong == pytest.approx(1)
    assert strong >= 1


def test_with_noise_every_member_pays_what_was_planned_and_no_more(soup_file, tmp_path):
    plan = plan_file(soup_file, QUIET, None)
    _, village = ran(soup_file, tmp_path / "run")
    for member, villager in village.villagers.items():
        (planned,) = [m for m in plan.members if m.name == member]
        assert planned.guarantee.epsilon <= 8.0
        assert planned.guarantee.epsilon == pytest.approx(8.0, rel=1e-3)
        assert planned.rate == 1.0
        budget = villager.house.policy().budget
        assert (budget.unit, budget.relation) == (Unit.RECORD, Relation.ADD_OR_REMOVE)


def test_whole_members_can_judge_too_at_their_own_unit(soup_file, tmp_path):
    changed(soup_file, (EPSILON, 'epsilon = 8.0\nunit = "member"'))
    outcome, village = ran(soup_file, tmp_path / "run")
    assert outcome.answered == (3, 3, 3)
    relations = {v.house.policy().budget.relation for v in village.villagers.values()}
    assert relations == {Relation.ZERO_OUT}


def test_training_never_sees_a_record_that_candidates_are_judged_on(soup_file, tmp_path):
    experiment = load_experiment(soup_file)
    texts = training(lay_out(experiment, soup_file, tmp_path / "data"))
    base = load_base(experiment.model_path)
    village = settle(complete(experiment, texts, base), texts, base, tmp_path / "village")
    house = village.villagers[MemberId("ash")].house
    lora = experiment.lora
    layout = layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=experiment.seed)
    recipe: Recipe = experiment.recipe(base.digest, layout.digest, layout.size, 1.0)
    fitted = house.fit(recipe)

    def rows(records):
        return {r[:n].tobytes() for r, n in zip(records.tokens, records.lengths, strict=True)}

    assert rows(fitted.records) & rows(fitted.held_back) == set()
    assert len(fitted.held_back) > 0
    house.validation = 0.0
    house._fitted = None
    assert rows(house.fit(recipe).records) >= rows(fitted.records) | rows(fitted.held_back)
    village.close()


# What a malicious coordinator tries.


class Scene:
    """A village for the soup, driven by a coordinator whose asks are changed on the way."""

    def __init__(self, file: Path, folder: Path) -> None:
        experiment = load_experiment(file)
        texts = training(lay_out(experiment, file, folder / "data"))
        base = load_base(experiment.model_path)
        self.experiment: Experiment = complete(experiment, texts, base)
        self.village = settle(self.experiment, texts, base, folder / "village")
        self.task = run_of(self.experiment).task(self.experiment, base)
        self.why: dict[str, Exception] = {}

    def run(self, change: Callable[[Score], Score] = lambda ask: ask) -> Found:
        entry = CATALOG["soup"]
        road = MemoryRoad({m: self._witness(m, end) for m, end in self.village.ends.items()})
        outbox = self.village.outbox(secrets.token_hex(8), "soup", road)
        return drive(self._changed(entry.coordinate(self.village.members, self.task), change), outbox, entry.wire)

    @property
    def charges(self) -> int:
        statements = [v.statement for v in self.village.villagers.values()]
        return sum(s.charges + s.disclosures for s in statements)

    def _witness(self, name, deliver):
        def end(sealed: bytes) -> bytes:
            try:
                return deliver(sealed)
            except (Refused, PeerError) as fault:
                self.why[name] = fault
                raise

        return end

    @staticmethod
    def _changed(running, change):
        asks = next(running)
        while True:
            answers = yield {m: change(a) if isinstance(a, Score) else a for m, a in asks.items()}
            try:
                asks = running.send(answers)
            except StopIteration as end:
                return end.value


@pytest.fixture
def scene(soup_file, tmp_path):
    made = Scene(soup_file, tmp_path / "scene")
    yield made
    made.village.close()


def refused(scene: Scene, change: Callable[[Score], Score], why: str) -> None:
    """Hold that no member answers, and that nobody was charged."""
    with pytest.raises(Abort):
        scene.run(change)
    assert scene.charges == 0
    assert len(scene.why) == 3
    assert all(why in str(fault) for fault in scene.why.values()), scene.why


def test_more_candidates_than_planned_are_refused(scene):
    def more(ask: Score) -> Score:
        return replace(ask, candidates=np.vstack([ask.candidates, ask.candidates]))

    refused(scene, more, "6 candidates")


def test_other_candidates_than_the_masks_are_for_are_refused(scene):
    refused(scene, lambda ask: replace(ask, candidates=ask.candidates[::-1].copy()), "request")


def test_candidates_of_another_layout_are_refused(scene):
    scene.task = replace(scene.task, trial=replace(scene.task.trial, layout="0" * 64))
    refused(scene, lambda ask: ask, "another layout")


def test_candidates_of_another_length_are_refused(scene):
    refused(scene, lambda ask: replace(ask, candidates=ask.candidates[:, 1:].copy()), "another length")


def test_less_noise_than_the_trial_promises_is_refused(scene):
    scene.task = replace(
        scene.task, trial=replace(scene.task.trial, noise_multiplier=scene.task.trial.noise_multiplier / 2)
    )
    refused(scene, lambda ask: ask, "promise")


def test_a_larger_promise_than_the_budget_holds_is_refused_before_it_has_cost_anything(scene):
    trial = scene.task.trial
    scene.task = replace(scene.task, trial=replace(trial, epsilon=80.0, noise_multiplier=trial.noise_multiplier / 5))
    refused(scene, lambda ask: ask, "")
    assert all(isinstance(fault, Refused) for fault in scene.why.values())


def test_no_noise_at_all_is_refused_by_a_policy_that_wants_some(scene):
    trial = replace(scene.task.trial, epsilon=None, noise_multiplier=None)
    scene.task = replace(scene.task, trial=trial)
    refused(scene, lambda ask: ask, "")


def test_an_evaluation_that_was_answered_is_not_scored_again_under_another_letter(scene):
    with pytest.raises(Abort):
        scene.run(lambda ask: replace(ask, number=0))
    assert all("out of order" in str(fault) for fault in scene.why.values())
    assert scene.charges == 3  # the first one, once at each member


def test_more_evaluations_than_planned_are_refused(scene):
    scene.run()
    assert scene.charges == 9
    with pytest.raises((Abort, LocalError)):
        scene.run()  # another session of the same partner: the budget is what it is
    assert scene.charges == 9


def test_candidates_that_are_no_numbers_never_leave_the_coordinator_and_never_enter_a_home(scene):
    broken = scene.task.ingredients.copy()
    broken[0, 0] = np.nan
    scene.task = replace(scene.task, ingredients=broken)
    with pytest.raises(LocalError):
        scene.run()
    ask = Score(scene.task.trial, 0, broken[1], broken[2:], None, ())
    packed = CATALOG["soup"].wire.encode(ask)
    there = broken[2].tobytes()
    with pytest.raises(WireError):
        CATALOG["soup"].wire.decode(packed.replace(there, np.full_like(broken[2], np.nan).tobytes()))
    assert scene.charges == 0


def test_candidates_that_break_the_model_get_the_lowest_score_and_the_run_goes_on(scene):
    broken = scene.task.ingredients.copy()
    broken[0] = 3e38
    scene.task = replace(scene.task, ingredients=broken)
    found = scene.run()
    assert found.verdicts[0].members == 3
    assert np.isfinite(found.verdicts[0].gains).all()


def test_a_member_that_holds_nothing_back_refuses_and_says_which_key_to_set(scene):
    for villager in scene.village.villagers.values():
        villager.house.validation = 0.0
    refused(scene, lambda ask: ask, "data.validation")


def test_a_member_whose_validation_set_is_empty_answers_like_any_other(scene):
    house = scene.village.villagers[MemberId("ash")].house
    house.validation = 1e-12  # a share by which no record is held back
    found = scene.run()
    assert [v.members for v in found.verdicts] == [3, 3, 3]
    assert len(house._fitted[1].held_back) == 0


def test_nothing_is_scored_before_it_is_charged(scene, monkeypatch):
    seen, each = [], Scorer.each

    def noted(self, records):
        seen.append(scene.charges)
        return each(self, records)

    monkeypatch.setattr(Scorer, "each", noted)
    scene.run()
    assert seen == list(range(1, 10))


def test_a_budget_for_whole_members_is_not_charged_for_records(scene):
    for villager in scene.village.villagers.values():
        policy = villager.house.policy()
        budget = replace(policy.budget, unit=Unit.MEMBER, relation=Relation.ZERO_OUT)
        other = Policy(1, budget, policy.allow, policy.unsafe_seeded_randomness)
        villager.house.policy = lambda other=other: other
    refused(scene, lambda ask: ask, "the recipe per record")
    assert all(isinstance(fault, LevelForbidden) for fault in scene.why.values())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("rounds = 3", "rounds = 2"), "collaboration.rounds"),
        (("quorum = 2", "quorum = 2\nunsafe_plain_sum = true"), "unsafe_plain_sum"),
        (('"soup"', '"extrapolate"'), "collaboration.rounds"),
        (('"bad"]', '"nowhere"]'), "nowhere"),
        (("rank = 2", "rank = 3"), "good"),
        (("rank = 2", 'rank = 2\nhalf = "alternate"'), "lora.half"),
        (("validation = 0.3", "validation = 1.0"), "utility"),
        (("ingredients", "ingredient"), "utility.ingredient"),
    ],
)
def test_an_experiment_that_cannot_work_is_refused_by_key(soup_file, tmp_path, change, key):
    changed(soup_file, change)
    with pytest.raises(ConfigError) as wrong:
        ran(soup_file, tmp_path / "run")
    assert key in str(wrong.value)


def test_without_ingredients_there_is_no_soup(soup_file, tmp_path):
    changed(soup_file, (UTILITY, ""))
    with pytest.raises(ConfigError, match="ingredients"):
        ran(soup_file, tmp_path / "run")
