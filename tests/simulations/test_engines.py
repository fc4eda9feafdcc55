"""The same seed gives the same adapter in every engine; without a seed, nothing repeats."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from client.model import load_base
from privacy.config import ConfigError
from privacy.refusal import LevelForbidden
from protocols.faults import Abort
from simulations.engine import run_in_process, settle, simulate
from simulations.experiment import PrivacyTable, load_experiment
from simulations.flower_engine import run_in_flower
from simulations.simulation import telling
from simulations.texts import lay_out, training


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    return experiment, texts, load_base(experiment.model_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.timeout(300)
def test_flowers_simulation_engine_gives_the_same_adapter_as_this_process(scene, tmp_path):
    experiment, texts, base = scene
    here, village = simulate(experiment, texts, base, tmp_path / "here")
    village.close()
    there = settle(experiment, texts, base, tmp_path / "there")
    outcome = run_in_flower(experiment, there, base, timeout_s=240)
    assert outcome.answered == here.answered == (3, 3)
    assert np.array_equal(outcome.adapter, here.adapter)
    assert np.abs(here.adapter).max() > 0
    spent = {m: v.statement for m, v in there.villagers.items()}
    there.close()
    assert all(s.charges == 2 and 0 < s.spent.epsilon <= 8.0 for s in spent.values())


def test_without_a_seed_no_two_runs_agree(scene, tmp_path):
    experiment, texts, base = scene
    private = replace(experiment, unsafe_seeded_randomness=False)
    adapters = []
    for name in ("one", "two"):
        outcome, village = simulate(private, texts, base, tmp_path / name)
        village.close()
        adapters.append(outcome.adapter)
    assert not np.array_equal(*adapters)


def test_another_seed_is_another_adapter(scene, tmp_path):
    experiment, texts, base = scene
    outcomes = []
    for seed in (7, 8):
        outcome, village = simulate(replace(experiment, seed=seed), texts, base, tmp_path / str(seed))
        village.close()
        outcomes.append(outcome.adapter)
    assert not np.array_equal(*outcomes)


def test_the_budget_ends_where_it_was_promised_and_a_second_run_is_refused(scene, tmp_path):
    experiment, texts, base = scene
    _, village = simulate(experiment, texts, base, tmp_path / "village")
    spent = [v.statement.spent.epsilon for v in village.villagers.values()]
    assert all(7.5 < s <= 8.0 for s in spent)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(Abort, match="0 of 3"), telling(village, console):
        run_in_process(experiment, village, base)
    told = console.file.getvalue().splitlines()
    assert told == [f"{member} refused: BudgetExceeded" for member in village.members]
    assert [v.statement.spent.epsilon for v in village.villagers.values()] == spent
    village.close()


def test_homes_with_another_base_model_refuse_by_that_name_and_are_charged_nothing(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(Abort, match="0 of 3"), telling(village, console):
        run_in_process(experiment, village, replace(base, digest="0" * 64))
    assert console.file.getvalue().splitlines() == [f"{member} refused: OtherBase" for member in village.members]
    assert [v.statement.charges for v in village.villagers.values()] == [0, 0, 0]
    village.close()


def test_a_run_without_noise_is_a_disclosure_and_has_no_epsilon(scene, tmp_path):
    experiment, texts, base = scene
    open_ = replace(experiment, privacy=PrivacyTable(epsilon=None, unsafe_without_noise=True))
    _, village = simulate(open_, texts, base, tmp_path / "village")
    for villager in village.villagers.values():
        assert (villager.statement.charges, villager.statement.disclosures) == (0, 2)
    village.close()


def test_seeded_noise_is_refused_by_a_policy_that_does_not_say_so(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    house = village.villagers[village.members[0]].house
    strict = replace(house.policy(), unsafe_seeded_randomness=False)
    house.policy = lambda: strict
    with pytest.raises(LevelForbidden, match="seeded"):
        house.open(_occasion(village))
    village.close()


def _occasion(village):
    from privacy.occasion import Occasion
    from privacy.units import Level

    return Occasion("5e55", 0, "average", Level.WEIGHTS, str(village.coordinator.public), 3)


def test_a_member_without_data_or_with_an_unknown_silo_is_named(experiment_file, tmp_path):
    text = experiment_file.read_text()
    for data, words in (("silo:networkin", "nearest known: networking"), ("", "silo:NAME or a path")):
        experiment_file.write_text(text.replace('data = "ash"', f'data = "{data}"'))
        with pytest.raises(ConfigError, match=words):
            lay_out(load_experiment(experiment_file), experiment_file, tmp_path / "data")


def test_held_out_text_is_not_in_the_training_text_and_has_equal_shares(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = lay_out(experiment, experiment_file, tmp_path / "data")
    assert len({len(t.held_out) for t in texts.values()}) == 1
    for name, documents in training(texts).items():
        assert f"{name} says 0 " in texts[name].held_out
        assert not any(f"{name} says 0 " in d for d in documents)


def test_training_lowers_the_loss_of_an_unnoised_run(scene, tmp_path):
    from client.model import Adapted, layout_of
    from client.training.evaluation import held_out_loss

    experiment, texts, base = scene
    longer = replace(
        experiment,
        privacy=PrivacyTable(epsilon=None, unsafe_without_noise=True),
        training=replace(experiment.training, steps=8, batch_size=16, optimizer="adam", learning_rate=0.02),
    )
    outcome, village = simulate(longer, texts, base, tmp_path / "village")
    village.close()
    sample = [texts["ash"][0]]
    before = held_out_loss(base.model, base.tokenizer, sample)
    lora = experiment.lora
    layout = layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=experiment.seed)
    adapted = Adapted(base, layout)
    adapted.set(outcome.adapter)
    after = held_out_loss(adapted.model, base.tokenizer, sample)
    assert math.isfinite(after)
    assert after < before
