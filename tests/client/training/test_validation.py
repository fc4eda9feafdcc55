"""The records that are held back from training: each by its own content, and none twice."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from client.data import Records
from client.validation import set_apart


def rows(records: Records) -> set[bytes]:
    return {row[:n].tobytes() for row, n in zip(records.tokens, records.lengths, strict=True)}


def test_every_record_is_either_trained_on_or_judged_with():
    records = tiny.records([9] * 400, width=12, seed=3)
    kept, held = set_apart(records, 0.25, "notes")
    assert len(kept) + len(held) == 400
    assert rows(kept) & rows(held) == set()
    assert rows(kept) | rows(held) == rows(records)
    assert 60 <= len(held) <= 140  # 100 expected; beyond these with probability below 1e-5


def test_with_no_share_nothing_is_held_back_and_the_records_are_as_they_were():
    records = tiny.records([9] * 20, width=12, seed=3)
    kept, held = set_apart(records, 0.0, "notes")
    assert np.array_equal(kept.tokens, records.tokens)
    assert len(held) == 0


def test_another_record_more_moves_no_other_from_one_side_to_the_other():
    records = tiny.records([9] * 100, width=12, seed=3)
    kept, held = set_apart(records, 0.3, "notes")
    for left_out in range(0, 100, 7):
        fewer = records.take(np.array([i for i in range(100) if i != left_out]))
        k, h = set_apart(fewer, 0.3, "notes")
        assert rows(k) <= rows(kept)
        assert rows(h) <= rows(held)
        assert len(k) + len(h) == 99


def test_another_name_of_the_data_holds_other_records_back():
    records = tiny.records([9] * 200, width=12, seed=3)
    assert rows(set_apart(records, 0.5, "notes")[1]) != rows(set_apart(records, 0.5, "letters")[1])


def test_a_group_stays_together_and_its_units_are_numbered_without_a_gap():
    owner = np.repeat(np.arange(60, dtype=np.int32), 3)
    records = replace(tiny.records([9] * 180, width=12, seed=3), owner=owner)
    kept, held = set_apart(records, 0.4, "notes")
    assert kept.units + held.units == 60
    for part in (kept, held):
        assert np.array_equal(np.unique(part.owner), np.arange(part.units))
        assert (np.bincount(part.owner) == 3).all()


def test_the_two_answers_of_a_pair_stay_beside_each_other():
    owner = np.repeat(np.arange(50, dtype=np.int32), 2)
    records = replace(tiny.records([9] * 100, width=12, seed=3), owner=owner, paired=True)
    first = {records.tokens[i].tobytes(): records.tokens[i + 1].tobytes() for i in range(0, 100, 2)}
    for part in set_apart(records, 0.4, "notes"):
        assert part.paired
        assert all(first[part.tokens[i].tobytes()] == part.tokens[i + 1].tobytes() for i in range(0, len(part), 2))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="validation"):
        set_apart(tiny.records([9]), share, "notes")
