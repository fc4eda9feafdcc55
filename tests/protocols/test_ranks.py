"""Members of smaller ranks: which columns each trains when, and what a mean is over."""

import numpy as np
import pytest
from village import LENGTH, recipe, village
from village import task as task_of

from protocols.faults import LocalError
from protocols.secure_sum.messages import Upload
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId
from protocols.weights.average import Average, Contributed, Ranked, coordinate
from protocols.weights.ranks import column_of, columns, mean
from protocols.weights.recipe import Half
from protocols.weights.server_rules import Server, ServerRule

ALL = {"length": 24, "rank": 8, "rounds": 24}
KNOWN = [[0, 0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]]
UPLOAD = Upload(0, np.zeros(4, np.uint8), b"", b"", ())


@pytest.mark.parametrize("rank", range(1, 9))
def test_over_time_a_member_trains_every_column_equally_often(rank):
    some = recipe(**ALL)
    held = np.array([columns(some, "ash", rank, r) for r in range(8)])
    assert (held.sum(axis=1) == rank).all()
    assert (held.sum(axis=0) == rank).all()


def test_a_member_of_a_rank_above_the_adapters_trains_every_column_once():
    assert columns(recipe(**ALL), "ash", 100, 3).all()


def test_which_columns_they_are_is_public_and_never_changes():
    """Known answers: another machine, or a later version, must not train other columns than the mean is over."""
    some = recipe(**ALL)
    found = [columns(some, "ash", 3, r).astype(int).tolist() for r in (0, 1, 2)]
    assert found == KNOWN
    assert not np.array_equal(columns(recipe(**ALL | {"adapter_seed": 2}), "ash", 3, 0), columns(some, "ash", 3, 0))


def test_members_begin_at_columns_of_their_own():
    firsts = [int(np.flatnonzero(columns(recipe(**ALL), f"m{n}", 1, 0))[0]) for n in range(400)]
    assert np.bincount(firsts, minlength=8).min() > 25  # of 50 each


def test_by_turns_a_b_and_the_a_after_it_have_the_same_columns():
    turns = recipe(**ALL | {"half": Half.ALTERNATE, "b_entries": 16})
    held = [columns(turns, "ash", 4, r) for r in range(4)]
    assert np.array_equal(held[0], held[1])
    assert np.array_equal(held[2], held[3])
    assert not np.array_equal(held[0], held[2])


def test_the_column_of_an_entry_is_that_of_matrices_laid_out_by_rows():
    b, a = np.tile([0, 1, 2], 4), np.array([0, 0, 1, 1, 2, 2, 0, 1, 2])  # two A's, two wide and one wide
    assert np.array_equal(column_of(3, 12, (2, 1)), np.concatenate([b, a]))


def test_a_mean_is_over_those_who_trained_the_column_and_has_no_others():
    some = recipe(**ALL | {"length": 32})
    ranks = {MemberId("ash"): 3, MemberId("birch"): 2, MemberId("cedar"): 2}
    deltas, of = {}, np.arange(32) % 8
    for n, (member, rank) in enumerate(ranks.items()):
        deltas[member] = np.where(columns(some, member, rank, 5)[of], n + 1.0, 0.0)
    total = np.sum(list(deltas.values()), axis=0)
    found, entries = mean(total, some, 5, ranks, ())
    there = sum(d != 0 for d in deltas.values())
    assert 0 < np.count_nonzero(there == 0) < 32
    assert np.array_equal(entries, np.flatnonzero(there))
    assert np.array_equal(found, total[entries] / there[entries])


def test_where_all_train_all_a_mean_is_the_plain_one_bit_for_bit():
    total = np.random.default_rng(1).normal(size=24)
    found, chosen = mean(total, recipe(**ALL), 0, dict.fromkeys((MemberId("a"), MemberId("b"), MemberId("c"))), ())
    assert np.array_equal(found, total / 3)
    assert chosen == slice(0, 24)


def test_a_mean_of_a_share_of_the_entries_is_over_those_who_trained_them():
    some = recipe(**ALL | {"length": 64, "share": 0.25})
    chosen = some.chosen(2)
    held = columns(some, "ash", 3, 2)[chosen % 8]
    found, entries = mean(np.where(held, 2.0, 4.0), some, 2, {MemberId("ash"): 3, MemberId("birch"): None}, ())
    assert np.array_equal(entries, chosen)
    assert np.array_equal(found, np.where(held, 1.0, 4.0))


def test_rows_of_as_whose_widths_are_not_known_are_our_bug():
    turns = recipe(**ALL | {"half": Half.ALTERNATE, "b_entries": 16})
    with pytest.raises(LocalError, match="widths"):
        mean(np.zeros(8), turns, 1, {MemberId("ash"): 3}, ())
    assert mean(np.ones(8), turns, 1, {MemberId("ash"): 8}, (1,))[0].size == 8


def answered(said: dict, rule: ServerRule | None = None):
    """What a coordinator makes of one round of answers in a plain sum."""
    some = recipe(**ALL | {"rounds": 1})
    asked = Average(some, 1, np.zeros(24, np.float32), None, *([] if rule is None else [rule]))
    running = coordinate([MemberId(m) for m in said], asked)
    next(running)
    with pytest.raises(StopIteration) as end:
        running.send({MemberId(m): a for m, a in said.items()})
    return end.value.value


@pytest.mark.parametrize("rank", [0, -1, 8, 9])
def test_a_rank_that_cannot_be_counts_as_silence(rank):
    ones = np.ones(24, np.float32)
    result = answered({"ash": Contributed(0, ones), "birch": Contributed(0, 9 * ones, rank)})
    assert result.answered == (1,)
    assert np.array_equal(result.adapter, ones)


def test_a_column_that_nobody_trained_stays_as_it_was_under_every_rule():
    some, delta = recipe(**ALL | {"rounds": 1}), np.ones(24, np.float32)
    held = columns(some, "ash", 3, 0)[np.arange(24) % 8]
    for name in Server:
        made = answered({"ash": Contributed(0, delta * held, 3)}, ServerRule(name, learning_rate=0.5))
        assert np.array_equal(made.adapter != 0, held)


@pytest.mark.parametrize("mode", list(Mode))
def test_in_a_secure_sum_members_state_their_rank_and_all_others_letters_stay_as_they_were(mode, tmp_path):
    there, seen = village(tmp_path, 4, noise_multiplier=0.0), []
    there.houses[MemberId("m1")].rank = there.houses[MemberId("m3")].rank = 3
    there.road.tap = lambda member, _way, data: seen.append(member) if b"Ranked" in data else None
    whole = there.run(task_of(mode=mode, rounds=1))
    assert set(seen) == {"m1", "m3"}
    deltas = {MemberId(f"m{n}"): 3 if n in (1, 3) else None for n in range(4)}
    total = np.full(LENGTH, 0.3)  # half the way to each point: these homes send all entries, whatever they say
    expected, entries = mean(total, recipe(rounds=1), 0, deltas, ())
    assert entries.size == LENGTH
    assert np.allclose(whole.adapter, expected, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 4, 5])
def test_an_upload_of_a_rank_that_cannot_be_counts_as_silence(rank, tmp_path):
    there = village(tmp_path, 4, noise_multiplier=0.0)
    there.houses[MemberId("m2")].rank = rank
    assert there.run(task_of(mode=Mode.RESILIENT, rounds=1)).answered == (3,)


def test_an_upload_with_a_rank_is_no_part_of_a_plain_sum():
    ones = np.ones(24, np.float32)
    assert answered({"ash": Contributed(0, ones), "birch": Ranked(3, UPLOAD)}).answered == (1,)
