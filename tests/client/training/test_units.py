"""Privacy units of many rows: what is clipped is a unit, however its rows fall into micro-batches."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive import one_by_one

from client.dp_training import DpSgd, Schedule
from client.training.clipping import Clipper, clipped_sum
from client.training.units import batches
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness

OWNERS = np.array([2, 0, 2, 1, 2, 2, 0, 2, 3], dtype=np.int32)
LENGTHS = [9, 20, 4, 7, 30, 2, 11, 30, 16]
EVERYBODY = np.arange(4)


def owned(lengths=LENGTHS, owners=OWNERS, seed=3):
    return replace(tiny.records(lengths, seed=seed), owner=np.asarray(owners, dtype=np.int32))


def naive(adapted, records, norm):
    """Average each unit's gradients, taken one by one, clip, and add up."""
    rows = one_by_one(adapted, records)
    units = [rows[torch.from_numpy(records.owner == unit)].mean(dim=0) for unit in range(records.units)]
    return clipped_sum(torch.stack(units), norm)


@pytest.mark.parametrize("norm", [0.01, None])
@pytest.mark.parametrize("micro_batch", [1, 3, 64])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_units_gradient_is_the_mean_of_its_rows_however_they_are_batched(folders, family, micro_batch, norm):
    adapted = tiny.adapted(folders(family), family, half_a=True)
    records = owned()
    found = Clipper(adapted, norm, micro_batch).sum(adapted.get(), records, EVERYBODY)
    wanted = naive(adapted, records, norm)
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize("micro_batch", [4, 64])
@pytest.mark.parametrize("norm", [1e-3, 1.0])
@pytest.mark.parametrize("owners", [[0] * 11 + [1], [0] + [1] * 11, list(range(12)), [0, 1, 2] * 4])
def test_a_unit_moves_the_sum_by_no_more_than_the_clipping_norm(folders, owners, norm, micro_batch):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records = owned([40, 2, 2] * 4, owners, seed=5)
    clipper, point, everyone = Clipper(adapted, norm, micro_batch), adapted.get(), np.arange(max(owners) + 1)
    whole = clipper.sum(point, records, everyone)
    for gone in everyone[:3]:
        moved = float(np.linalg.norm(whole - clipper.sum(point, records, np.delete(everyone, gone))))
        assert moved <= norm * 1.000001


def test_a_unit_with_one_broken_row_adds_nothing_and_changes_nothing_for_the_others(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    with torch.no_grad():
        adapted.base.model.get_input_embeddings().weight[255] = float("nan")
        head = torch.nn.Linear(32, 256, bias=False)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
        adapted.base.model.lm_head = head.requires_grad_(False)
    records = owned()
    records.tokens[:] %= 255
    records.tokens[4, 1] = 255  # one of unit 2's five rows
    for micro_batch in (1, 2, 64):
        clipper = Clipper(adapted, 1.0, micro_batch)
        found = clipper.gather(adapted.get(), records, EVERYBODY)
        others = clipper.gather(adapted.get(), records, np.array([0, 1, 3]))
        assert (found.skipped, others.skipped) == (1, 0)
        assert others.total.any()
        np.testing.assert_allclose(found.total, others.total, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_clipped_gradients_one_by_one_add_up_to_the_sum(folders, micro_batch):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    clipper, records = Clipper(adapted, 0.1, micro_batch), owned()
    found = np.concatenate(list(clipper.one_by_one(adapted.get(), records, EVERYBODY)))
    assert found.shape == (4, adapted.layout.size)
    assert np.linalg.norm(found.astype(np.float64), axis=1).max() <= 0.1
    np.testing.assert_allclose(
        found.sum(axis=0), clipper.sum(adapted.get(), records, EVERYBODY), rtol=1e-4, atol=1e-7
    )
    assert list(clipper.one_by_one(adapted.get(), records, np.arange(0))) == []


@st.composite
def samples(draw):
    units = draw(st.integers(1, 6))
    owners = list(range(units)) + draw(st.lists(st.integers(0, units - 1), max_size=20))
    paired = draw(st.booleans())
    order = draw(st.permutations(owners))
    rows = np.repeat(order, 2 if paired else 1)
    lengths = draw(st.lists(st.integers(2, 9), min_size=rows.size, max_size=rows.size))
    records = replace(tiny.records(lengths), owner=rows.astype(np.int32), paired=paired)
    chosen = draw(st.lists(st.integers(0, units - 1), unique=True, min_size=1))
    return records, np.array(chosen), draw(st.integers(1, 7)), draw(st.none() | st.integers(1, 5))


@given(samples())
def test_every_row_of_every_chosen_unit_is_visited_once_in_batches_of_the_size_asked_for(sample):
    records, chosen, micro_batch, most_rows = sample
    width = records.rows_per_example
    rows, seen, former = [], {}, None
    for batch in batches(records, chosen, micro_batch, most_rows, UnsafeSeededRandomness(1)):
        assert 0 < batch.rows.size <= max(width, micro_batch)
        assert batch.begun == (former is not None and former.open)
        if width == 2:
            assert (batch.rows[::2] % 2 == 0).all()
            assert (batch.rows[1::2] == batch.rows[::2] + 1).all()
        for start, end, examples in zip([0, *batch.ends[:-1]], batch.ends, batch.examples, strict=True):
            (owner,) = set(records.owner[batch.rows[start:end]].tolist())  # a piece is of one unit
            seen.setdefault(owner, []).append((end - start, examples))
        rows, former = [*rows, *batch.rows.tolist()], batch
    assert former is not None
    assert not former.open
    assert len(rows) == len(set(rows))
    assert set(seen) == set(chosen.tolist())
    for owner, pieces in seen.items():
        count = int((records.owner == owner).sum())
        kept = count if most_rows is None else min(count, max(width, most_rows // width * width))
        assert sum(size for size, _ in pieces) == kept
        assert {examples * width for _, examples in pieces} == {kept}


def test_of_a_huge_unit_each_row_is_as_likely_as_its_others():
    records = owned([4] * 10 + [5], [0] * 10 + [1])
    taken = np.zeros(11)
    rounds = 1000
    for _ in range(rounds):
        for batch in batches(records, np.array([0, 1]), 64, 3, SystemRandomness()):
            taken[batch.rows] += 1
    assert taken[10] == rounds
    assert taken.sum() == 4 * rounds
    assert np.abs(taken[:10] / rounds - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / rounds)


def test_to_choose_among_a_units_rows_takes_the_gates_randomness(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    with pytest.raises(ValueError, match="randomness"):
        Clipper(adapted, 1.0, 4, most_rows=2).sum(adapted.get(), owned(), EVERYBODY)
    with pytest.raises(ValueError, match="most_rows"):
        Schedule(1, 1, 1, 0.1, 1.0, most_rows=0)


class Ones:
    """Randomness that chooses every unit, and whose noise is one."""

    def uniform(self, size):
        return np.zeros(size)

    def normal(self, size):
        return np.ones(size)


def test_a_step_samples_units_and_divides_by_the_units_expected(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    schedule = Schedule(steps=1, batch_size=2, declared_records=4, learning_rate=0.5, clipping_norm=0.7)
    start = np.zeros(adapted.layout.size, np.float32)
    found = DpSgd(adapted, owned(), start, schedule, 1.3).draw(Ones())
    adapted.set(start)
    np.testing.assert_allclose(found, -0.5 * (naive(adapted, owned(), 0.7) + 1.3 * 0.7) / 2, rtol=1e-4, atol=1e-6)


def test_units_and_not_rows_are_sampled(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    schedule = Schedule(steps=1, batch_size=2, declared_records=4, learning_rate=0.5, clipping_norm=0.7)
    drawn = []

    class Counting(Ones):
        def uniform(self, size):
            drawn.append(size)
            return np.ones(size)

    DpSgd(adapted, owned(), np.zeros(adapted.layout.size, np.float32), schedule, 1.3).draw(Counting())
    assert drawn == [4]
