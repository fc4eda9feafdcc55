"""The benchmark of training does real private steps, with peers that clip as ours do. No test asserts a time."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.training.clipping import torch_threads
from simulations.benches import dp_exactness, dp_memory, dp_peers, dp_training
from simulations.benches.dp_models import LARGE, SMALL, TINY, Ours, adapted_of, lora_of, model_of, trained
from simulations.benches.dp_training import PLANS, REMEMBERED, STEPS, Plan, in_pairs, steps

PROMISED = {
    "step_vs_nonprivate_120m",
    "memory_vs_nonprivate_120m",
    "step_vs_nonprivate_10m",
    "opacus_hooks_120m",
    "opacus_ghost_120m",
    "opacus_functorch_10m",
    "vmap_10m",
    "noise_share_of_step_120m",
    "sensitivity_over_c",
    "clipped_sum_rel_error",
    "fast_differential_privacy",
}
PEERS = ("opacus_hooks", "opacus_functorch", "opacus_ghost", "vmap")


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


def small(plan: Plan) -> Plan:
    """Return the plan at a size that takes no time, under its own name."""
    return replace(plan, shape=replace(TINY, name=plan.shape.name), turns=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_promised_rows_are_measured(monkeypatch):
    monkeypatch.setattr(
        dp_training, "peak", lambda method, shape, count: {"plain": 2.0, "ours": 1.0}.get(method, 4.0)
    )
    rows = {row.measure: row for row in dp_training.dp_training([small(plan) for plan in PLANS], small(REMEMBERED))}
    assert set(rows) >= PROMISED
    assert all(row.value == row.value and row.unit for row in rows.values())
    assert rows["memory_vs_nonprivate_120m"].value == 0.5
    assert rows["memory_vs_nonprivate_120m"].met is True
    assert rows["opacus_ghost_memory_120m"].value == 2.0
    assert rows["sensitivity_over_c"].met is True
    assert rows["clipped_sum_rel_error"].met is True


@pytest.mark.parametrize(
    ("shape", "parameters", "trainable"), [(SMALL, 10.5e6, 312_320), (LARGE, 118.7e6, 1_400_832)]
)
def test_the_sizes_are_what_their_names_say(shape, parameters, trainable):
    with torch.device("meta"):
        model = model_of(shape)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    per_layer = 4 * 2 * shape.hidden + 3 * (shape.hidden + shape.inner)
    assert 8 * per_layer * shape.layers == trainable


def test_ours_trains_as_many_parameters_as_the_step_without_privacy():
    assert adapted_of(TINY).layout.size == sum(p.numel() for p in trained(lora_of(TINY)))


def test_a_measured_step_of_ours_moves_the_adapter_by_noised_clipped_gradients(monkeypatch):
    monkeypatch.setattr("simulations.benches.dp_models.NOISE", 0.0)
    ours = Ours(adapted_of(TINY), TINY)
    before = ours.point.copy()
    wanted = ours.clipper.sum(before, ours.records, np.arange(TINY.batch))
    ours.step()
    moved = ours.point - before
    assert np.array_equal(np.sign(moved), -np.sign(wanted))  # the first step of Adam
    monkeypatch.undo()
    assert ours.noise().std() == pytest.approx(0.8, rel=0.2)


@pytest.mark.parametrize("method", PEERS)
def test_every_peer_sums_the_same_clipped_gradients(method, monkeypatch):
    """With plain SGD and no noise, one step is minus the rate times the mean of the clipped gradients."""
    if method != "vmap":
        pytest.importorskip("opacus")
    made = []
    monkeypatch.setattr(dp_peers, "NOISE", 0.0)
    monkeypatch.setattr(dp_peers, "NORM", 0.05)
    monkeypatch.setattr(dp_peers, "lora_of", lambda shape: made.append(lora_of(shape)) or made[-1])
    monkeypatch.setattr(torch.optim, "AdamW", lambda parameters, lr: torch.optim.SGD(parameters, lr=1.0))
    step = STEPS[method](TINY)
    _, tokens, lengths = dp_peers._learner(TINY)
    (theirs, apart) = made  # the same model twice: vmap does not go with Opacus's hooks
    named = {name: p for name, p in apart.named_parameters() if p.requires_grad}
    gradients = dp_peers.by_vmap(apart, named, tokens, lengths)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).norm(dim=1)
    assert (norms > 0.05).any()
    factors = (0.05 / norms).clamp(max=1.0)
    step()
    for (name, before), after in zip(named.items(), trained(theirs), strict=True):
        wanted = before - torch.einsum("i,i...->...", factors, gradients[name]) / TINY.batch
        torch.testing.assert_close(after.detach(), wanted.detach(), rtol=1e-3, atol=1e-6)


def test_one_loss_for_a_whole_batch_is_measured_to_be_what_it_is():
    pytest.importorskip("opacus")
    assert dp_exactness.moved_by_builtin_loss() > 2.0


def test_without_clipping_the_measured_sensitivity_would_say_so(monkeypatch):
    class Unclipped(dp_exactness.Clipper):
        def __init__(self, adapted, norm, micro_batch):
            super().__init__(adapted, 10 * norm, micro_batch)

    monkeypatch.setattr(dp_exactness, "Clipper", Unclipped)
    assert dp_exactness.moved_by_ours() > 5.0
    assert dp_exactness.error_of("llama") > 0.01


def test_the_first_turn_is_not_counted_and_every_other_one_runs_backwards():
    turns = []
    took = in_pairs({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 3)
    assert turns == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(took[name]) for name in "ab"] == [3, 3]


def test_a_ratio_is_the_median_of_pairs_and_a_peers_is_its_own_to_the_step_without_privacy():
    row = dp_training._beside("a", [2.0, 3.0, 8.0], [2.0, 2.0, 4.0], 1.05)
    assert (row.value, row.ours, row.peer_value, row.met) == (1.5, 3.0, 2.0, False)
    assert "3 pairs, 1.00 to 2.00 x" in row.peer
    assert dp_training._peer("b", [4.0], [2.0]).value == 2.0


def test_a_peer_that_is_missing_is_named_and_the_rest_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(dp_peers, "find_spec", lambda name: None)
    rows = steps(Plan(TINY, ("opacus_hooks", "vmap"), 1, 1.1))
    names = {row.measure for row in rows}
    assert {"step_vs_nonprivate_tiny", "vmap_tiny"} <= names
    assert "opacus_hooks_tiny" not in names
    assert "left out opacus_hooks_tiny: opacus is not installed" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own count of pages")
def test_memory_is_the_kernels_peak_over_the_loaded_model(monkeypatch, capsys):
    def hold() -> None:
        np.ones(2**23)  # 64 MiB, touched and freed

    monkeypatch.setattr(dp_training, "STEPS", {"held": lambda shape: hold})
    dp_memory.main(["held", "tiny", "2"])
    assert 60 < json.loads(capsys.readouterr().out)["megabytes"] < 80


@pytest.mark.slow
def test_memory_is_taken_in_a_process_of_its_own():
    assert dp_training.peak("ours", TINY, 1) >= 0.0
