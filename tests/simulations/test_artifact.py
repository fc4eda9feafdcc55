"""The card of an adapter says what was promised, also where no member's ledger could be asked."""

from dataclasses import replace

import numpy as np
import pytest

from client.model import layout_of, load_base
from privacy.units import Unit
from simulations.artifact import save_adapter
from simulations.experiment import Experiment, load_experiment


def card(experiment: Experiment, folder) -> str:
    base, lora = load_base(experiment.model_path), experiment.lora
    layout = layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=experiment.seed)
    save_adapter(experiment, base, np.zeros(layout.size, np.float32), {}, (3, 3), folder)
    return (folder / "README.md").read_text()


@pytest.fixture
def experiment(experiment_file) -> Experiment:
    return load_experiment(experiment_file)


def test_the_card_of_a_run_states_the_orders_promise_and_who_accounts_for_it(experiment, tmp_path):
    text = card(experiment, tmp_path / "adapter")
    assert "at most epsilon 8 at delta 1e-05 over all 2 rounds, per record (16 tokens of one document)" in text
    for words in ("add-or-remove", "calibrated and charged by each member's own accountant", "noise added at home"):
        assert words in text
    assert "no epsilon" not in text


def test_the_card_of_a_run_for_whole_members_says_that_only_the_sum_has_all_the_noise(experiment, tmp_path):
    whole = replace(experiment, privacy=replace(experiment.privacy, unit=Unit.MEMBER))
    text = card(whole, tmp_path / "adapter")
    assert "per member, zero-out" in text
    assert "only the sum has all of it" in text


def test_the_card_of_a_merge_claims_no_epsilon_for_what_was_trained_by_other_plans(experiment, tmp_path):
    merge = replace(experiment, collaboration=replace(experiment.collaboration, name="merge", rounds=1))
    text = card(merge, tmp_path / "adapter")
    assert "promises no epsilon of its own" in text
    assert "by each member apart and beforehand" in text
    for words in ("at most epsilon", "steps a round", "calibrated"):
        assert words not in text
    whole = replace(merge, privacy=replace(merge.privacy, unit=Unit.MEMBER))
    assert "at most epsilon 8" in card(whole, tmp_path / "whole")


def test_the_card_of_a_run_whose_noise_is_in_the_sum_says_so_whatever_the_unit(experiment, tmp_path):
    pooled = replace(experiment, collaboration=replace(experiment.collaboration, name="pooled"))
    text = card(pooled, tmp_path / "adapter")
    assert "per record" in text
    assert "only the sum has all of it" in text


def test_the_card_of_a_run_without_noise_has_no_epsilon_and_says_so(experiment, tmp_path):
    plain = replace(experiment.privacy, epsilon=None, unsafe_without_noise=True)
    text = card(replace(experiment, privacy=plain), tmp_path / "adapter")
    assert "a sum without noise has no epsilon" in text
    assert "no epsilon describes it" in text
    assert "at most epsilon" not in text
