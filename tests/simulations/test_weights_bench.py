"""The benchmark of the weight level runs real collaborations, and gives the rows it promises. No test has a clock."""

import pytest

from simulations.benches import ranks
from simulations.benches.quantile import adaptive_clipping
from simulations.benches.ranks import Size, aggregation_error
from simulations.benches.weights import GROUPS

PROMISED = {
    "pooled_vs_central_dpsgd_eps8",
    "local_average_vs_central_dpsgd_eps8",
    "mixed_ranks_vs_uniform",
    "aggregation_error",
    "adaptive_clip_quantile_error",
    "span_attack_recall_over_base",
}
SMALL = Size(1, 2, 4, learning_rate=5.0)  # at which a few steps move something


def test_every_promised_row_belongs_to_a_group():
    assert {name for _, names in GROUPS for name in names} >= PROMISED


@pytest.fixture
def small(experiment_file, monkeypatch):
    """Three small members at ranks that fit their model."""
    monkeypatch.setattr(ranks, "RANKS", (1, 2, 4))
    return experiment_file


def test_mixed_ranks_are_run_beside_a_uniform_one_and_their_products_are_averaged_exactly(small):
    mixed, learnt, error = ranks.ranks(SMALL, small)
    assert (mixed.measure, error.measure) == ("mixed_ranks_vs_uniform", "aggregation_error")
    assert learnt.measure == "uniform_rank_vs_base"
    assert learnt.value != 1.0
    assert 0.5 < mixed.value < 2.0
    assert mixed.ours != mixed.peer_value
    assert error.met is True


def test_a_member_that_is_left_out_of_the_mean_is_an_aggregation_error(small, tmp_path, monkeypatch):
    """The measured error is of the products, not of nothing: with another first round it is large."""
    monkeypatch.setattr(ranks, "_FIRST_ROUND", 3)
    scene = ranks._of_ranks(ranks._scene(small, SMALL, tmp_path), (1, 2, 4))
    assert aggregation_error(scene, tmp_path / "error") > 0.01


def test_a_norm_that_had_no_time_to_move_is_far_from_its_quantile():
    (row,) = adaptive_clipping(rounds=2)
    assert row.value > 0.5
    assert row.met is False
