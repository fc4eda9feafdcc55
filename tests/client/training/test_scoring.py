"""Scores of candidates on private records: what they say, and how little one record can, whatever is asked."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from client.data import Records
from client.homes.utility import Judges
from client.masking import MaskedSample
from client.training.clipping import record_losses
from client.training.scoring import Scorer
from privacy.accounting.curves import divergence
from privacy.discrete_gaussian import DiscreteGaussian
from privacy.fixed_point import FixedPoint, sum_of_squares
from privacy.randomness import UnsafeSeededRandomness
from privacy.sampled_sum import SampledShare
from privacy.units import Relation, Unit
from protocols.secure_sum.terms import Mode, Terms
from protocols.weights.utility import Trial

TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)


@pytest.fixture(scope="module")
def adapted(folders):
    return tiny.adapted(folders("llama"), "llama")


def points(adapted, count: int, scale: float = 0.3, seed: int = 0) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).normal(size=(count + 1, adapted.layout.size)) * scale
    return list(drawn.astype(np.float32))


def trial(**changes) -> Trial:
    given = {
        "base": "b", "layout": "l", "length": 8, "rank": 1, "alpha": 1.0, "targets": ("q",), "adapter_seed": 1,
        "record_tokens": 12, "clip": 0.5, "candidates": 8, "evaluations": 3, "population": 40, "unit": Unit.RECORD,
        "epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 1.5,
    }  # fmt: skip
    return Trial(**(given | changes))


def tally(scorer: Scorer, records: Records, asked: Trial) -> MaskedSample:
    spec = asked.spec(TERMS, 3, len(scorer.points) - 1)
    return MaskedSample(SampledShare(Judges(scorer, records), spec, 1.0, TERMS.honest), lambda values: values)


def drawn(scorer: Scorer, records: Records, asked: Trial | None = None) -> np.ndarray:
    """Return the noised integers, the noise being the same each time: differences are exact."""
    share = tally(scorer, records, asked or trial())
    return np.asarray(share.draw(Fixed(5))).astype(np.int64)


class Fixed(UnsafeSeededRandomness):
    """Seeded noise; who is sampled is not drawn from the same stream, so that it is the same for any number."""

    def uniform(self, size):
        return np.zeros(size)


def spec_of(scorer: Scorer) -> FixedPoint:
    return trial().spec(TERMS, 3, len(scorer.points) - 1)


def test_a_score_is_the_loss_that_a_candidate_saves_on_the_record_alone(adapted):
    records = tiny.records([9, 4, 12, 6, 5], width=12, seed=4)
    here = points(adapted, 3)
    together = Scorer(adapted, here, 100.0, 4).each(records)
    alone = np.vstack([Scorer(adapted, here, 100.0, 4).each(records.take(np.array([i]))) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    losses = []
    for point in here:
        adapted.set(point)
        with torch.no_grad():
            row = torch.from_numpy(records.tokens[2:3].astype(np.int64))
            losses.append(float(record_losses(adapted.base.model, row, torch.tensor([12]))[0]))
    np.testing.assert_allclose(together[2], losses[0] - np.array(losses[1:]), atol=1e-4)


def test_a_candidate_that_is_the_reference_gains_nothing(adapted):
    (point,) = points(adapted, 0)
    scores = Scorer(adapted, [point, point, point], 1.0, 4).each(tiny.records([9, 4, 12], width=12))
    assert np.array_equal(scores, np.zeros((3, 2)))


@pytest.mark.parametrize("scale", [0.3, 50.0, 1e30])
def test_candidates_crafted_so_that_one_record_dominates_move_the_sum_by_no_more_than_the_bound(adapted, scale):
    records = tiny.records([9, 4, 12, 6, 5, 11], width=12, seed=4)
    for seed in range(3):
        scorer = Scorer(adapted, points(adapted, 6, scale, seed), 0.5, 4)
        bound = spec_of(scorer).bound
        whole = drawn(scorer, records)
        for left_out in range(len(records)):
            kept = records.take(np.array([i for i in range(len(records)) if i != left_out]))
            moved = whole - drawn(scorer, kept)
            assert sum_of_squares(moved.astype(np.int32)) <= bound**2 * (1 + 1e-5)  # others' rounding in a batch


def test_one_candidate_sent_many_times_costs_what_it_tells(adapted):
    """Averaging K copies lowers the noise by sqrt(K), which the norm of K scores had raised by sqrt(K) before."""
    records = tiny.records([9, 4, 12, 6], width=12, seed=4)
    reference, candidate = points(adapted, 1, 50.0)
    once, often = (
        Scorer(adapted, [reference, candidate], 0.5, 4),
        Scorer(adapted, [reference, *[candidate] * 8], 0.5, 4),
    )
    one, many = spec_of(once), spec_of(often)
    assert one.deviation / one.scale == pytest.approx(many.deviation / many.scale / np.sqrt(8), rel=1e-3)
    costs = [divergence(tally(s, records, trial()).event, 8.0, Relation.ADD_OR_REMOVE) for s in (once, often)]
    assert costs == pytest.approx([8.0 / 2 / 1.5**2] * 2, rel=1e-5)  # that of a Gaussian at the trial's noise


def test_a_candidate_whose_losses_are_no_numbers_has_the_lowest_score(adapted):
    records = tiny.records([9, 4, 12], width=12)
    broken = np.full(adapted.layout.size, 3e38, np.float32)
    good = points(adapted, 1)
    scores = Scorer(adapted, [good[0], broken, good[1]], 0.5, 4).each(records)
    assert (scores[:, 0] == -0.5).all()
    assert np.isfinite(scores).all()


def test_a_reference_whose_losses_are_no_numbers_says_nothing(adapted):
    records = tiny.records([9, 4, 12], width=12)
    broken = np.full(adapted.layout.size, 3e38, np.float32)
    assert not Scorer(adapted, [broken, *points(adapted, 1)], 0.5, 4).each(records).any()


def test_a_member_without_validation_records_sends_its_noise_alone(adapted):
    scorer = Scorer(adapted, points(adapted, 4), 0.5, 4)
    nobody = tiny.records([], width=12)
    spec = spec_of(scorer)
    noise = DiscreteGaussian(spec.deviation).draw(4, Fixed(5))
    assert np.array_equal(drawn(scorer, nobody), noise)
    assert tally(scorer, nobody, trial()).event == tally(scorer, tiny.records([5] * 9, width=12), trial()).event


def test_the_noise_of_the_sum_has_the_deviation_that_is_charged(adapted):
    scorer = Scorer(adapted, points(adapted, 8), 0.5, 4)
    nobody, spec = tiny.records([], width=12), spec_of(scorer)
    share = tally(scorer, nobody, trial())
    values = np.concatenate([share.draw(UnsafeSeededRandomness(seed)) for seed in range(200)])
    assert values.std() == pytest.approx(spec.deviation, rel=0.06)
    assert share.event.deviation == spec.deviation


def test_a_groups_score_is_the_mean_over_its_records_and_bounded_like_one(adapted):
    records = tiny.records([9, 4, 12, 6, 5], width=12, seed=4)
    scorer = Scorer(adapted, points(adapted, 3, 5.0), 0.5, 2)
    rows = scorer.each(records)
    grouped = scorer.each(replace(records, owner=np.array([0, 1, 0, 0, 1], np.int32)))
    np.testing.assert_allclose(grouped, [rows[[0, 2, 3]].mean(axis=0), rows[[1, 4]].mean(axis=0)], atol=1e-12)


def test_a_pair_scores_what_the_chosen_answer_gains_over_the_rejected_one(adapted):
    rows = tiny.records([9, 9, 6, 6], width=12, seed=4)
    counted = np.zeros(rows.tokens.shape, np.bool_)
    counted[:, 3:5] = True
    pairs = replace(rows, owner=np.array([0, 0, 1, 1], np.int32), counted=counted, paired=True)
    swapped = pairs.take(np.array([1, 0, 3, 2]))
    here = points(adapted, 2)
    scores, turned = (Scorer(adapted, here, 50.0, 4).each(p) for p in (pairs, swapped))
    assert scores.shape == (2, 2)
    np.testing.assert_allclose(scores, -turned, atol=1e-4)
    assert np.abs(scores).max() > 1e-3


def test_only_the_tokens_that_count_are_scored(adapted):
    rows = tiny.records([9, 9], width=12, seed=4)
    counted = np.zeros(rows.tokens.shape, np.bool_)
    counted[:, 5] = True
    said = replace(rows, counted=counted)
    after = rows.tokens.copy()
    after[:, 6:9] = 7  # what stands behind the counted token is no matter
    here = points(adapted, 2)
    one, other = (Scorer(adapted, here, 50.0, 4).each(r) for r in (said, replace(said, tokens=after)))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert not np.allclose(one, Scorer(adapted, here, 50.0, 4).each(rows))
