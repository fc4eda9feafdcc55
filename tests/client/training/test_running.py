"""Layers that are run again, and lower precision: every record's gradient stays its own, and is counted once."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from naive import by_vmap, one_by_one, relative

from client.dp_training import DpSgd, Schedule
from client.training.clipping import Clipper, clipped_sum
from client.training.running import Running
from client.training.ways import Checkpointing, Precision
from privacy.randomness import UnsafeSeededRandomness
from protocols.faults import LocalError

AGAIN = (Checkpointing.REENTRANT, Checkpointing.NON_REENTRANT)
EVERYWAY = pytest.mark.parametrize("way", Checkpointing, ids=lambda way: way.value)
RAGGED = [20, 7, 2, 20, 13]


@EVERYWAY
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_clipped_sums_are_those_of_vmap_and_of_a_plain_loop(folders, family, way):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records = tiny.records(RAGGED, seed=2)
    clipper, point, everyone = Clipper(adapted, 0.05, 3, running=Running(way)), adapted.get(), np.arange(5)
    found = clipper.sum(point, records, everyone)
    for wanted in (one_by_one(adapted, records), by_vmap(adapted, records)):
        naive = clipped_sum(wanted, 0.05)
        assert np.linalg.norm(found - naive) <= 1e-5 * np.linalg.norm(naive)
    assert not clipper.sum(point, records, everyone[:0]).any()
    for gone in everyone:
        moved = np.linalg.norm(found - clipper.sum(point, records, np.delete(everyone, gone)))
        assert moved <= 0.05 * 1.000001


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_checkpointing_of_transformers_itself_gives_the_same(folders, family, reentrant):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records, clipper = tiny.records(RAGGED), Clipper(adapted, None, 8)
    plain = clipper.each(adapted.get(), records)
    model = adapted.base.model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    assert relative(clipper.each(adapted.get(), records), plain) < 1e-5


def test_layers_are_really_run_again_and_given_back(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    runs = []
    adapted.base.model.model.layers[1].self_attn.register_forward_hook(lambda *_: runs.append(1))
    for way, expected in [(Checkpointing.OFF, 1), (Checkpointing.REENTRANT, 2), (Checkpointing.NON_REENTRANT, 2)]:
        runs.clear()
        Clipper(adapted, 1.0, 8, running=Running(way)).sum(adapted.get(), tiny.records([6, 9]), np.arange(2))
        assert len(runs) == expected
        assert not [m for m in adapted.base.model.modules() if "forward" in m.__dict__]


@EVERYWAY
def test_a_module_that_is_used_twice_in_a_forward_counts_twice_and_once_each(folders, way):
    base = tiny.load_base(str(folders("llama")))
    base.model.model.layers[1].mlp = base.model.model.layers[0].mlp  # tied: one module, two places
    layout = tiny.layout_of(base, rank=4, alpha=8.0, targets=("up_proj", "q_proj"), adapter_seed=1, half_a=True)
    adapted = tiny.Adapted(base, layout)
    adapted.set(np.random.default_rng(1).normal(size=layout.size) * 0.05)
    names = [slot.name for slot in layout.slots if "up_proj" in slot.name]
    assert names == ["model.layers.0.mlp.up_proj"]
    records = tiny.records([12, 5, 9])
    found = Clipper(adapted, None, 8, running=Running(way)).each(adapted.get(), records)
    assert relative(found, one_by_one(adapted, records)) < 1e-5


@EVERYWAY
def test_an_exception_in_the_middle_leaves_nothing_behind(folders, way):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records, point = tiny.records([12, 5, 9]), adapted.get()
    clipper = Clipper(adapted, 1.0, 2, running=Running(way))
    before = clipper.sum(point, records, np.arange(3))
    norm, seen = adapted.base.model.model.norm, []

    def fail(gradient):
        seen.append(gradient)
        raise KeyboardInterrupt

    def fails_in_backward(_module, _inputs, output):
        output.register_hook(fail)

    hook = norm.register_forward_hook(fails_in_backward)
    with pytest.raises(KeyboardInterrupt):
        clipper.sum(point, records, np.arange(3))
    hook.remove()
    assert seen
    assert not [m for m in adapted.base.model.modules() if "forward" in m.__dict__]
    assert not any(p.requires_grad or p.grad is not None for p in adapted.base.model.parameters())
    assert np.array_equal(clipper.sum(point, records, np.arange(3)), before)


def test_a_model_without_layers_to_run_again_is_refused(folders, monkeypatch):
    adapted = tiny.adapted(folders("llama"), "llama")
    for layer in adapted.base.model.model.layers:
        layer.__class__ = type("Plain", (torch.nn.Module,), {"forward": type(layer).forward})
    running = Running(Checkpointing.REENTRANT)
    with pytest.raises(LocalError, match="switch checkpointing off"):
        Clipper(adapted, 1.0, 8, running=running).sum(adapted.get(), tiny.records([5]), np.arange(1))


LOWER = pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("llama", Precision.BFLOAT16),
        ("gpt2", Precision.BFLOAT16),
        ("llama", Precision.FLOAT16),
        ("half", Precision.OWN),
    ],
    ids=lambda value: getattr(value, "value", value),
)


@LOWER
def test_in_lower_precision_gradients_are_right_to_its_digits_and_float32(folders, family, precision):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records, running = tiny.records(RAGGED), Running(precision=precision)
    found = Clipper(adapted, None, 8, running=running).each(adapted.get(), records)
    wanted = one_by_one(adapted, records)
    assert found.dtype == torch.float32
    assert relative(found, wanted) < (0.05 if precision is not Precision.FLOAT16 else 0.01)


@LOWER
@pytest.mark.parametrize("way", AGAIN, ids=lambda way: way.value)
def test_lower_precision_and_layers_run_again_go_together(folders, family, precision, way):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records = tiny.records(RAGGED)
    plain = Clipper(adapted, None, 8, running=Running(precision=precision)).each(adapted.get(), records)
    again = Clipper(adapted, None, 8, running=Running(way, precision)).each(adapted.get(), records)
    assert torch.equal(plain, again)


@LOWER
@pytest.mark.parametrize(("norm", "micro_batch"), [(1e-3, 1), (0.1, 1), (0.1, 4)])
def test_in_lower_precision_a_record_moves_the_sum_by_no_more_than_the_norm(
    folders, family, precision, norm, micro_batch
):
    """Rounding follows the shape of a batch: were that the sample's, one record would move the others'."""
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records, everyone = tiny.records([2, 2, 40, 2, 17]), np.arange(5)
    clipper, point = Clipper(adapted, norm, micro_batch, running=Running(precision=precision)), adapted.get()
    whole = clipper.sum(point, records, everyone)
    for gone in everyone:
        moved = np.linalg.norm(whole - clipper.sum(point, records, np.delete(everyone, gone)))
        assert moved <= norm * 1.000001


def test_small_updates_survive_lower_precision(folders):
    adapted = tiny.adapted(folders("llama"), "llama", b_scale=1e-6)
    records = tiny.records([16, 9])
    clipper = Clipper(adapted, None, 8, running=Running(precision=Precision.BFLOAT16))
    assert relative(clipper.each(adapted.get(), records), one_by_one(adapted, records)) < 0.05


def test_a_draw_with_layers_run_again_in_lower_precision_learns_and_repeats(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    running = Running(Checkpointing.NON_REENTRANT, Precision.BFLOAT16)
    schedule = Schedule(2, 4, 8, 0.1, 1.0, running=running)
    start, records = np.zeros(adapted.layout.size, np.float32), tiny.records([9] * 8)
    mechanism = DpSgd(adapted, records, start, schedule, 1.0)
    first = mechanism.draw(UnsafeSeededRandomness(3))
    assert first.tobytes() == mechanism.draw(UnsafeSeededRandomness(3)).tobytes()
    plain = replace(mechanism, schedule=replace(schedule, running=Running())).draw(UnsafeSeededRandomness(3))
    assert 0 < np.linalg.norm(first - plain) < 0.1 * np.linalg.norm(plain)


@LOWER
def test_in_lower_precision_a_records_gradient_has_the_same_bits_whoever_else_is_in_the_sample(
    folders, family, precision
):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records = tiny.records([2, 5, 9, 12, 17, 25, 31, 40])  # one less, and all others are in other batches
    clipper = Clipper(adapted, 1e-3, 4, running=Running(precision=precision))
    among, without = (
        np.concatenate(list(clipper.one_by_one(adapted.get(), records, units)))
        for units in (np.arange(8), np.arange(1, 8))
    )
    assert np.array_equal(among[1:], without)
