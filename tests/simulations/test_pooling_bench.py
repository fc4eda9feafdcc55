"""The benchmark of pooled steps trains all that it compares, for real and at one epsilon. No test asserts a time."""

import math
from dataclasses import replace

import pytest

from simulations.benches.pooling import (
    AVERAGED,
    BASE,
    CENTRAL,
    FILE,
    NONPRIVATE,
    POOLED,
    Averaging,
    Size,
    perplexity,
    pooling,
    rows_of,
    trials,
)
from simulations.benches.weights import GROUPS

TINY = Size(seeds=(7, 8), steps=2, batch=24, averaging=Averaging(rounds=1, steps=2), held_out=60)
COMPARED = ("pooled_vs_central_dpsgd_eps8", "local_average_vs_central_dpsgd_eps8")
SHARES = tuple(f"{how}_share_of_nonprivate_gain" for how in (CENTRAL, POOLED, AVERAGED))


@pytest.fixture
def real_noise(experiment_file):
    """Three small members whose noise is the system's, as the demo's is."""
    experiment_file.write_text(experiment_file.read_text().replace("unsafe_seeded_randomness = true\n", ""))
    return experiment_file


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promised_row_is_there_with_its_spread_and_is_a_number_of_real_runs(real_noise):
    rows = {row.measure: row for row in pooling(TINY, real_noise, processes=1)}
    promised = next(names for measure, names in GROUPS if measure is pooling)
    assert set(promised) == {*COMPARED, *SHARES}
    assert set(rows) == {*promised, *(f"{name}_spread" for name in promised)}
    assert all(math.isfinite(row.value) for row in rows.values())
    assert all(rows[f"{name}_spread"].value > 0 for name in promised)  # the seeds' runs are not one run
    for name in COMPARED:
        assert 0.5 < rows[name].value < 2.0
        assert rows[name].ours != rows[name].peer_value
        assert rows[name].met is not None


def test_all_runs_of_a_seed_have_one_epsilon_and_as_many_steps_on_as_many_records(real_noise, tmp_path):
    found = trials(TINY, real_noise, tmp_path / "data")
    assert [(t.how, t.seed) for t in found] == [
        *((how, seed) for how in (POOLED, CENTRAL, AVERAGED) for seed in (7, 8)),
        (NONPRIVATE, 7),
        (BASE, 7),
    ]
    for trial in found[:-2]:
        experiment, parts = trial.experiment, 3 if trial.how == AVERAGED else 1
        assert (experiment.seed, experiment.privacy.epsilon) == (trial.seed, 8.0)
        assert not experiment.unsafe_seeded_randomness
        assert experiment.training.batch_size * parts == TINY.batch
        assert experiment.collaboration.rounds * experiment.training.steps == 2
        assert all(len(text.held_out) <= TINY.held_out for text in trial.texts.values())


def test_a_run_that_learns_nothing_is_judged_as_the_base_is(real_noise, tmp_path):
    pooled, *_, bare = trials(replace(TINY, seeds=(7,)), real_noise, tmp_path / "data")
    still = replace(pooled.experiment, training=replace(pooled.experiment.training, learning_rate=1e-12))
    assert perplexity(replace(pooled, experiment=still)) == pytest.approx(perplexity(bare), rel=1e-6)


def test_the_twelve_silos_of_the_bench_are_those_of_its_file_and_its_own_recipes_hold_one_epsilon(tmp_path):
    found = trials(Size(seeds=(7,)), FILE, tmp_path)
    assert [len(t.experiment.members) for t in found] == [12] * 5
    assert {t.experiment.privacy.delta for t in found[:3]} == {1e-5}
    assert all(len(text.held_out) == Size().held_out for text in found[0].texts.values())
    used = [e.collaboration.rounds * e.training.steps * e.training.batch_size for e in (t.experiment for t in found)]
    assert used[0] == used[1] == 12 * used[2]  # a batch of averaging is each member's own


def test_a_figure_is_the_mean_over_seeds_and_its_spread_the_largest_less_the_smallest():
    by_seed = {POOLED: (3.0, 3.3), AVERAGED: (3.6, 3.3), CENTRAL: (3.0, 3.0)}
    found = {row.measure: row for row in rows_of(by_seed, 2.0, 4.0)}
    value = {name: row.value for name, row in found.items()}
    assert value[COMPARED[0]] == pytest.approx(1.05)
    assert value[f"{COMPARED[0]}_spread"] == pytest.approx(0.1)
    assert value[COMPARED[1]] == pytest.approx(1.15)
    assert [value[name] for name in SHARES] == pytest.approx([0.5, 0.425, 0.275])
    assert value[f"{SHARES[2]}_spread"] == pytest.approx(0.15)
    assert [found[name].met for name in COMPARED] == [False, False]  # above 1.03, and 3.3 is not above 3.3


def test_pooled_is_clearly_better_only_if_its_worst_seed_beats_the_others_best():
    by_seed = {POOLED: (3.0, 3.01), AVERAGED: (3.3, 3.2), CENTRAL: (3.0, 3.0)}
    met = {row.measure: row.met for row in rows_of(by_seed, 2.0, 4.0)}
    assert [met[name] for name in COMPARED] == [True, True]
