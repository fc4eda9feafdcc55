"""Objectives: one loss a row, whose gradients are those of the papers' formulas, and which couples no two units."""

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional

from client.data import Records
from client.training.clipping import MEAN_LOSS, Clipper
from client.training.objectives import Preference, log_probabilities, loss_of
from protocols.weights.recipe import Objective

BETA = 0.3


def pairs(lengths, prompt=3, seed=0):
    """Return records of pairs that share a prompt; what follows it is counted."""
    made = tiny.records(lengths, seed=seed)
    tokens = made.tokens.copy()
    tokens[1::2, :prompt] = tokens[::2, :prompt]
    counted = np.arange(tokens.shape[1])[None] < made.lengths[:, None]
    counted[:, :prompt] = False
    owner = np.repeat(np.arange(len(lengths) // 2, dtype=np.int32), 2)
    return Records(tokens, made.lengths, owner, counted, paired=True)


def trained(adapted):
    """Return the B matrices, ready for autograd."""
    bs = [adapted.b(slot.name) for slot in adapted.layout.slots]
    for b in bs:
        b.requires_grad_(True)
    return bs


def log_probability(adapted, records, i):
    """Return one row's log-probability by plain autograd, unpadded."""
    ids = torch.from_numpy(records.tokens[i : i + 1, : records.lengths[i]].astype(np.int64))
    logs = functional.log_softmax(adapted.model(input_ids=ids).logits[0, :-1].float(), dim=-1)
    each = logs[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    return each[torch.from_numpy(records.counted[i, 1 : records.lengths[i]])].sum()


def naive_dpo(adapted, records, start, point):
    """Return each pair's gradient by the formula of the paper, shape (pairs, size), one pair at a time."""
    adapted.set(start)
    with torch.no_grad():
        before = [log_probability(adapted, records, i) for i in range(len(records))]
    adapted.set(point)
    rows = []
    for k in range(0, len(records), 2):
        bs = trained(adapted)
        chosen = log_probability(adapted, records, k) - before[k]
        rejected = log_probability(adapted, records, k + 1) - before[k + 1]
        loss = -functional.logsigmoid(BETA * (chosen - rejected))
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, bs)]))
        for b in bs:
            b.requires_grad_(False)
    return torch.stack(rows)


@pytest.fixture
def moved(folders):
    """Return an adapted model, the adapter of the round's start, and one that training has reached."""
    adapted = tiny.adapted(folders("llama"), "llama")
    start = adapted.get()
    point = start + np.random.default_rng(3).normal(size=start.size) * 0.05
    return adapted, start, point


def per_row(adapted, loss, records, point):
    adapted.set(point)
    return Clipper(adapted, None, 8, loss).each(point, loss.prepared(adapted, records, np.arange(len(records))))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_two_rows_of_a_pair_add_up_to_the_gradient_of_the_preference_loss(folders, family):
    adapted = tiny.adapted(folders(family), family)
    start = adapted.get()
    point = start + np.random.default_rng(3).normal(size=start.size) * 0.05
    records = pairs([12, 9, 20, 20, 5, 17])
    wanted = naive_dpo(adapted, records, start, point)
    rows = per_row(adapted, Preference(BETA, start), records, point)
    found = rows[::2] + rows[1::2]
    assert max(float((f - w).norm() / w.norm()) for f, w in zip(found, wanted, strict=True)) < 1e-4


def test_at_the_rounds_start_every_pair_pulls_with_half_of_beta(moved):
    adapted, start, _ = moved
    records, loss = pairs([12, 9, 20, 20]), Preference(BETA, start)
    adapted.set(start)
    weights = loss.prepared(adapted, records, np.arange(4)).weights
    np.testing.assert_allclose(weights, BETA * np.array([0.5, -0.5, 0.5, -0.5]), rtol=1e-5)


def test_what_another_pair_holds_changes_nothing_for_a_pair(moved):
    """The loss that transformers or a batch mean would give couples them; clipping would then bound no pair."""
    adapted, start, point = moved
    records = pairs([12, 9, 20, 20])
    other = pairs([12, 9, 6, 14], seed=9)
    loss, again = Preference(BETA, start), Preference(BETA, start)
    both = per_row(adapted, loss, records, point)[:2]
    mixed = Records(
        np.concatenate([records.tokens[:2], np.pad(other.tokens[2:], ((0, 0), (0, 6)))]),
        np.concatenate([records.lengths[:2], other.lengths[2:]]),
        records.owner,
        np.concatenate([records.counted[:2], np.pad(other.counted[2:], ((0, 0), (0, 6)))]),
        paired=True,
    )
    beside = per_row(adapted, again, mixed, point)[:2]
    assert float((both - beside).norm() / both.norm()) < 1e-4


def test_a_pair_that_breaks_the_model_breaks_no_other(moved):
    adapted, start, point = moved
    records = pairs([12, 9, 20, 20])
    with torch.no_grad():
        adapted.base.model.get_input_embeddings().weight[255] = float("nan")
        head = torch.nn.Linear(32, 256, bias=False)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
        adapted.base.model.lm_head = head.requires_grad_(False)
    tokens = records.tokens % 255
    tokens[2, 8] = 255
    loss = Preference(BETA, start)
    adapted.set(point)
    weights = loss.prepared(adapted, Records(tokens, records.lengths, records.owner, records.counted, paired=True),
                            np.arange(4)).weights  # fmt: skip
    assert np.isfinite(weights[:2]).all()
    assert np.isnan(weights[2:]).all()  # its gradient is no number, and such a unit adds zero


def test_the_rounds_start_is_looked_up_once_for_each_row(moved):
    adapted, start, point = moved
    records, loss = pairs([12, 9, 20, 20, 7, 8]), Preference(BETA, start)
    runs = []
    whole = adapted.base.model.forward

    def counting(*args, **kwargs):
        runs.append(int(kwargs["input_ids"].shape[0]))
        return whole(*args, **kwargs)

    adapted.base.model.forward = counting
    adapted.set(point)
    loss.prepared(adapted, records, np.array([0, 1]))
    loss.prepared(adapted, records, np.array([0, 1, 4, 5]))
    loss.prepared(adapted, records, np.array([4]))  # one row of a pair: its partner is looked at, too
    assert sum(runs) == (2 + 2) + (4 + 2) + 2
    np.testing.assert_array_equal(adapted.get(), point.astype(np.float32))  # it leaves the model where it was


def test_steps_by_this_loss_make_the_chosen_answers_likelier_than_the_rejected(moved):
    adapted, start, _ = moved
    records, loss = pairs([12, 9, 20, 20, 7, 8]), Preference(BETA, start)
    point = start.astype(np.float64)
    for _ in range(20):
        adapted.set(point)
        rows = per_row(adapted, loss, records, point)
        point = point - 0.3 * rows.sum(dim=0).double().numpy()
    adapted.set(point)
    after = log_probabilities(adapted, records).reshape(-1, 2)
    adapted.set(start)
    before = log_probabilities(adapted, records).reshape(-1, 2)
    gained = (after - before) @ np.array([1.0, -1.0])
    assert (gained > 1.0).all()


def test_only_counted_tokens_are_trained_on(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    records = tiny.records([10, 10])
    counted = np.zeros(records.tokens.shape, np.bool_)
    counted[:, 6] = True
    marked = Records(records.tokens, records.lengths, counted=counted)
    found = Clipper(adapted, None, 8).each(adapted.get(), marked)
    for i in range(2):
        bs = trained(adapted)
        ids = torch.from_numpy(records.tokens[i : i + 1].astype(np.int64))
        loss = functional.cross_entropy(adapted.model(input_ids=ids).logits[0, 5:6].float(), ids[0, 6:7])
        wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, bs)])
        for b in bs:
            b.requires_grad_(False)
        assert float((found[i] - wanted).norm() / wanted.norm()) < 1e-5


def test_to_count_every_token_is_plain_text_bit_for_bit(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    records = tiny.records([10, 4])
    every = Records(records.tokens, records.lengths, counted=np.ones(records.tokens.shape, np.bool_))
    clipper = Clipper(adapted, None, 8)
    assert torch.equal(clipper.each(adapted.get(), every), clipper.each(adapted.get(), records))


def test_an_objective_has_its_loss():
    start = np.zeros(3)
    assert loss_of(Objective.TEXT, 0.1, start) is MEAN_LOSS
    assert loss_of(Objective.ANSWERS, 0.1, start) is MEAN_LOSS
    assert isinstance(loss_of(Objective.PREFERENCE, 0.1, start), Preference)


def test_rows_that_are_no_pairs_have_no_preference(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    with pytest.raises(ValueError, match="expected pairs"):
        Preference(BETA, adapted.get()).prepared(adapted, tiny.records([5, 5]), np.arange(2))
