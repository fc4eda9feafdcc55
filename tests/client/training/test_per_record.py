"""Every record's own gradient, held against a loop of plain autograd and against vmap."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from naive import by_vmap, one_by_one, relative

from client.data import Records
from client.dp_training import SMALLEST_NORM
from client.model import Adapted
from client.training import lora
from client.training.clipping import MEAN_LOSS, Clipper, clipped_sum
from client.training.objectives import Preference
from client.training.parts import Side, entries_of, parts_of
from protocols.faults import LocalError

HALVES = pytest.mark.parametrize("half_a", [False, True], ids=["b", "both"])


@HALVES
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_records_gradient_is_the_one_it_has_alone_in_plain_autograd(folders, family, half_a):
    adapted = tiny.adapted(folders(family), family, half_a=half_a)
    records = tiny.records([20, 7, 2, 20, 13])
    found = Clipper(adapted, None, 8).each(adapted.get(), records)
    wanted = one_by_one(adapted, records)
    assert found.shape == wanted.shape == (5, adapted.layout.size)
    assert max(relative(f, w) for f, w in zip(found, wanted, strict=True)) < 1e-5


@HALVES
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_records_gradient_is_the_one_of_vmap(folders, family, half_a):
    adapted = tiny.adapted(folders(family), family, half_a=half_a)
    records = tiny.records([16, 9, 3, 16])
    found = Clipper(adapted, None, 8).each(adapted.get(), records)
    assert relative(found, by_vmap(adapted, records)) < 1e-5


@HALVES
def test_a_large_base_is_not_merged_and_gives_the_same(folders, half_a, monkeypatch):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=half_a)
    records, clipper = tiny.records([20, 7, 2, 13]), Clipper(adapted, None, 8)
    merged = clipper.each(adapted.get(), records)
    monkeypatch.setattr(lora, "_MOST_MERGED", 0)
    assert relative(clipper.each(adapted.get(), records), merged) < 1e-5


@HALVES
def test_a_base_layer_that_has_no_plain_weights_is_asked_itself(folders, half_a):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=half_a)
    records, clipper = tiny.records([20, 7, 2, 13]), Clipper(adapted, None, 8)
    plain = clipper.each(adapted.get(), records)

    class Quantised(torch.nn.Linear):
        """Be a layer of another class, as those with 4 or 8 bits are."""

    for module in adapted.modules.values():
        module.base_layer.__class__ = Quantised
    assert relative(clipper.each(adapted.get(), records), plain) < 1e-5


def chosen_entries(layout):
    """What a round may train: B alone, A alone, some of both, one entry."""
    middle, some = layout.b_entries, np.random.default_rng(5).random(layout.size) < 0.1
    return [slice(0, middle), slice(middle, layout.size), np.flatnonzero(some), slice(middle - 1, middle)]


@pytest.mark.parametrize("which", range(4), ids=["b", "a", "some", "one"])
def test_what_is_chosen_has_the_gradient_it_has_in_the_whole(folders, which):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records, point = tiny.records([20, 7, 2, 13]), adapted.get()
    chosen = chosen_entries(adapted.layout)[which]
    whole = Clipper(adapted, None, 8).each(point, records)
    part = Clipper(adapted, None, 8, chosen=chosen).each(point, records)
    assert torch.equal(part, whole[:, chosen])
    total = Clipper(adapted, 0.01, 2, chosen=chosen).sum(point, records, np.arange(4))
    assert total.shape == (part.shape[1],)
    np.testing.assert_allclose(total, clipped_sum(part, 0.01), rtol=1e-4, atol=1e-8)


def test_what_is_not_chosen_is_not_computed(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    tape = lora.Tape(parts_of(adapted.layout, slice(adapted.layout.b_entries, adapted.layout.size)))
    assert {part.side for part in tape.parts} == {Side.A}
    saved = []
    with lora.per_record(adapted, tape), torch.autograd.graph.saved_tensors_hooks(saved.append, lambda t: t):
        module = adapted.modules[adapted.layout.slots[0].name]
        x = torch.ones(2, 3, adapted.layout.slots[0].inputs)
        module(x)
    assert [tuple(t.shape) for t in saved] == [tuple(x.shape)]  # x for A's gradient; nothing for B's


@pytest.mark.parametrize(
    "chosen",
    [
        slice(0, 0),
        slice(0, 10**9),
        slice(0, 10, 2),
        slice(-1, 0),
        np.array([3, 2]),
        np.array([2, 2]),
        np.array([], dtype=np.intp),
        np.array([-1, 0]),
        np.array([10**9]),
    ],
)
def test_a_choice_that_is_not_of_the_vector_is_refused(folders, chosen):
    layout = tiny.adapted(folders("llama"), "llama").layout
    with pytest.raises(ValueError, match="chosen"):
        parts_of(layout, chosen)
    with pytest.raises(ValueError, match="chosen"):
        entries_of(layout, chosen)


def test_a_low_precision_base_is_not_merged_and_keeps_small_updates(folders):
    adapted = tiny.adapted(folders("half"), "half", b_scale=1e-5)
    records = tiny.records([16, 9])
    found = Clipper(adapted, None, 8).each(adapted.get(), records)
    assert relative(found, one_by_one(adapted, records)) < 0.05  # bfloat16 has three digits
    assert found.dtype == torch.float32


def test_the_model_is_given_back_as_it_was(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    ids = torch.arange(10)[None]
    with torch.no_grad():
        before = adapted.model(input_ids=ids).logits
    Clipper(adapted, 1.0, 2).sum(adapted.get(), tiny.records([8, 5]), np.arange(2))
    with torch.no_grad():
        assert torch.equal(before, adapted.model(input_ids=ids).logits)
    assert not any(p.requires_grad for p in adapted.model.parameters())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_sum_does_not_depend_on_the_size_of_the_micro_batches(folders, family):
    adapted = tiny.adapted(folders(family), family)
    records = tiny.records([20, 7, 2, 20, 13, 20, 4], seed=3)
    sums = [Clipper(adapted, 0.5, size).sum(adapted.get(), records, np.arange(7)) for size in (1, 3, 64)]
    for total in sums[1:]:
        np.testing.assert_allclose(total, sums[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("lengths", [[2] * 8 + [40], [40] * 8 + [2], [3, 40, 17]])
@HALVES
def test_a_record_moves_the_sum_by_no_more_than_the_clipping_norm(folders, norm, lengths, half_a):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=half_a)
    records = tiny.records(lengths, seed=5)
    clipper, point, everyone = Clipper(adapted, norm, 4), adapted.get(), np.arange(len(lengths))
    whole = clipper.sum(point, records, everyone)
    for gone in everyone:
        moved = float(np.linalg.norm(whole - clipper.sum(point, records, np.delete(everyone, gone))))
        assert moved <= norm * 1.000001


def test_no_records_make_a_zero_without_running_the_model(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    adapted.base.model.forward = None  # whoever runs it fails
    total = Clipper(adapted, 1.0, 4).sum(adapted.get(), tiny.records([5, 5]), np.arange(0))
    assert total.shape == (adapted.layout.size,)
    assert not total.any()


def test_a_gradient_that_is_not_finite_counts_as_zero():
    gradients = torch.tensor([[3.0, 4.0], [float("nan"), 1.0], [float("inf"), 0.0], [0.3, 0.4]])
    np.testing.assert_allclose(clipped_sum(gradients, 1.0), [0.9, 1.2], rtol=1e-5)
    np.testing.assert_allclose(clipped_sum(gradients, None), [3.3, 4.4], rtol=1e-6)


@pytest.mark.parametrize("size", [1.2e30, 1.4e30, 1.5e38, 0.9e30, 1.3e20, 1.0])
def test_a_gradient_blown_up_against_a_tiny_clipping_norm_does_not_pass_it(size):
    """A coordinator chooses alpha, the adapter and the norm: together they could leave a factor without digits."""
    with np.errstate(over="ignore"):
        gradients = torch.full((1, 64), size / 8.0)
    assert np.linalg.norm(clipped_sum(gradients, SMALLEST_NORM)) <= SMALLEST_NORM


def test_a_record_that_breaks_the_forward_pass_changes_nothing_for_the_others(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    with torch.no_grad():
        adapted.base.model.get_input_embeddings().weight[255] = float("nan")
        head = torch.nn.Linear(32, 256, bias=False)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
        adapted.base.model.lm_head = head.requires_grad_(False)  # untied: the others' logits stay finite
    records = tiny.records([9, 9, 9], seed=1)
    tokens = records.tokens % 255
    tokens[1, 4] = 255
    poisoned = Records(tokens, records.lengths)
    clipper, point = Clipper(adapted, 1.0, 8), adapted.get()
    total = clipper.sum(point, poisoned, np.arange(3))
    assert np.isfinite(total).all()
    np.testing.assert_allclose(total, clipper.sum(point, poisoned, np.array([0, 2])), rtol=1e-5, atol=1e-7)


def test_padding_is_not_trained_on(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    short = tiny.records([6, 6], width=30)
    other = short.tokens.copy()
    other[:, 6:] = 99
    clipper, point = Clipper(adapted, None, 8), adapted.get()
    mixed = Records(np.concatenate([other, tiny.records([30]).tokens]), np.array([6, 6, 30], dtype=np.int32))
    np.testing.assert_allclose(clipper.each(point, short), clipper.each(point, mixed)[:2], rtol=1e-4, atol=1e-6)


def test_a_model_that_mixes_records_is_refused(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    layer = adapted.base.model.model.layers[1]
    plain = layer.mlp.forward
    layer.mlp.forward = lambda x: plain(x - x.mean(dim=0, keepdim=True))  # as a batch norm would
    with pytest.raises(LocalError, match="mixes the records"):
        Clipper(adapted, 1.0, 8).check_isolation(adapted.get(), 16)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "half"])
def test_an_honest_model_passes_the_isolation_check(folders, family):
    adapted = tiny.adapted(folders(family), family)
    Clipper(adapted, 1.0, 8).check_isolation(adapted.get(), 24)


class BuiltIn:
    """Be the loss that transformers computes itself: it divides by the tokens of the whole batch."""

    def prepared(self, adapted, records, rows):
        return records

    def losses(self, model, tokens, lengths, counted, weights):
        inside = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        return model(input_ids=tokens, labels=tokens.masked_fill(~inside, -100), use_cache=False).loss * len(tokens)


def worst(adapted, records, loss, norms):
    """Return by how many clipping norms the sum moves at most when the long record goes."""
    everyone, found = np.arange(len(records)), []
    for norm in norms:
        clipper = Clipper(adapted, norm, len(records), loss)
        whole = clipper.sum(adapted.get(), records, everyone)
        without = clipper.sum(adapted.get(), records, everyone[:-1])
        found.append(float(np.linalg.norm(whole - without)) / norm)
    return max(found)


def test_the_loss_of_transformers_itself_moves_the_sum_by_far_more_than_the_norm_and_is_refused(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records, norms = tiny.records([3] * 32 + [63], seed=5), np.geomspace(1e-3, 30, 16)
    records.tokens[:32] = records.tokens[0]  # all short ones alike: what moves them moves the sum 32 times
    assert worst(adapted, records, BuiltIn(), norms) > 2.8
    assert worst(adapted, records, MEAN_LOSS, norms) <= 1.000001
    with pytest.raises(LocalError, match="mixes the records"):
        Clipper(adapted, 1.0, 8, BuiltIn()).check_isolation(adapted.get(), 63)


def test_the_isolation_check_looks_at_the_loss_of_pairs_too(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    honest = Preference(0.5, adapted.get())
    Clipper(adapted, 1.0, 8, honest).check_isolation(adapted.get(), 24, paired=True)
    assert not honest._known.size  # what it remembers of the made-up pairs is not there for the real ones

    class Coupled(Preference):
        def prepared(self, adapted, records, rows):
            known = super().prepared(adapted, records, rows)
            return replace(known, weights=known.weights / len(records))  # as a mean over the batch

    with pytest.raises(LocalError, match="mixes the records"):
        Clipper(adapted, 1.0, 8, Coupled(0.5, adapted.get())).check_isolation(adapted.get(), 24, paired=True)


def test_a_model_that_mixes_records_is_refused_where_only_a_is_trained_and_b_is_zero(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    layer, zero = adapted.base.model.model.layers[1], np.zeros(adapted.layout.size)
    clipper = Clipper(adapted, 1.0, 8, chosen=slice(adapted.layout.b_entries, adapted.layout.size))
    clipper.check_isolation(zero, 16)
    plain = layer.mlp.forward
    layer.mlp.forward = lambda x: plain(x - x.mean(dim=0, keepdim=True))
    with pytest.raises(LocalError, match="mixes the records"):
        clipper.check_isolation(zero, 16)


def test_a_module_that_was_wrapped_or_replaced_after_it_was_adapted_is_refused(folders):
    """Its records would go past the tape: a missing gradient is no zero gradient."""
    for disturb in (wrapped, replaced, another_adapter, merged_in, switched_off):
        adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
        disturb(adapted)
        for act in (
            lambda a: Clipper(a, 1.0, 4).sum(a.get(), tiny.records([5, 9]), np.arange(2)),
            lambda a: Clipper(a, 1.0, 4).check_isolation(a.get(), 16),
        ):
            with pytest.raises(LocalError, match=r"would not be clipped|more than its own"):
                act(adapted)
        assert not [m for m in adapted.base.model.modules() if "forward" in m.__dict__]


def wrapped(adapted):
    adapted.base.model.model.layers[0].mlp.up_proj = torch.nn.Sequential(
        adapted.base.model.model.layers[0].mlp.up_proj
    )


def replaced(adapted):
    attention = adapted.base.model.model.layers[0].self_attn
    attention.q_proj = attention.q_proj.base_layer


def another_adapter(adapted):
    from peft import LoraConfig

    adapted.model.add_adapter("another", LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.model.base_model.set_adapter(["default", "another"])


def merged_in(adapted):
    adapted.model.merge_adapter()


def switched_off(adapted):
    adapted.model.base_model.disable_adapter_layers()


def test_a_module_that_no_record_goes_through_is_refused(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    layer = adapted.base.model.model.layers[1]
    layer.mlp.forward = lambda x: x  # around the adapted modules
    with pytest.raises(LocalError, match="saw no record"):
        Clipper(adapted, 1.0, 4).sum(adapted.get(), tiny.records([5, 9]), np.arange(2))


def test_a_forward_that_somebody_else_put_on_a_module_is_there_again_afterwards(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    module = adapted.modules[adapted.layout.slots[0].name]
    theirs = module.forward
    module.forward = theirs
    Clipper(adapted, 1.0, 4).sum(adapted.get(), tiny.records([5, 9]), np.arange(2))
    assert module.__dict__["forward"] is theirs


def test_matrices_that_are_tied_are_adapted_each_by_itself(folders):
    base = tiny.load_base(str(folders("llama")))
    first, second = (layer.mlp for layer in base.model.model.layers)
    second.up_proj.weight = first.up_proj.weight  # one parameter, two modules; and the embeddings are the output
    assert base.model.config.tie_word_embeddings
    layout = tiny.layout_of(base, rank=4, alpha=8.0, targets=("up_proj", "down_proj"), adapter_seed=1, half_a=True)
    adapted = Adapted(base, layout)
    adapted.set(np.random.default_rng(1).normal(size=layout.size) * 0.05)
    records = tiny.records([12, 5, 9])
    found = Clipper(adapted, None, 8).each(adapted.get(), records)
    assert relative(found, one_by_one(adapted, records)) < 1e-5
    assert relative(found, by_vmap(adapted, records)) < 1e-5


def test_a_model_that_flattens_its_records_gives_the_same_gradients(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records, clipper = tiny.records([12, 5, 9]), Clipper(adapted, None, 8)
    plain = clipper.each(adapted.get(), records)
    layer = adapted.base.model.model.layers[0]
    theirs = layer.mlp.forward
    layer.mlp.forward = lambda x: theirs(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    assert relative(clipper.each(adapted.get(), records), plain) < 1e-5
    layer.mlp.forward = lambda x: theirs(x.flatten(0, 1)[:-1])  # as an expert that sees some of the tokens
    with pytest.raises((LocalError, RuntimeError)):
        clipper.each(adapted.get(), records)
