"""A clipping norm that seeks a quantile: what it costs, where it goes, and what a home keeps of it."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from client.data import Records
from client.dp_training import DpSgd, Kept, Schedule, UnsafePlainSgd, kept
from client.training.adaptive import Quantile
from client.training.clipping import Clipper
from client.training.optimisers import OPTIMISERS, optimiser
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness

SCHEDULE = Schedule(
    steps=1, batch_size=8, declared_records=12, learning_rate=0.05, clipping_norm=0.7, target_quantile=0.5
)


@pytest.fixture
def adapted(folders):
    return tiny.adapted(folders("llama"), "llama")


def zero(adapted):
    return np.zeros(adapted.layout.size, np.float32)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("expected", [1, 8, 64, 10_000])
def test_sum_and_count_together_have_the_noise_that_is_charged_and_not_less(noise, expected):
    seeking = Quantile(0.5, noise, expected)
    together = (seeking.sum_multiplier**-2 + (2 * seeking.count_deviation) ** -2) ** -0.5
    assert noise <= together <= noise * (1 + 1e-9)
    assert seeking.sum_multiplier <= 1.015 * noise


def test_the_event_is_that_of_a_fixed_norm(adapted):
    records = tiny.records([5] * 12)
    seeking = DpSgd(adapted, records, zero(adapted), SCHEDULE, 1.3)
    fixed = DpSgd(adapted, records, zero(adapted), replace(SCHEDULE, target_quantile=None), 1.3)
    assert seeking.event == fixed.event


def test_the_norm_falls_where_all_are_within_it_and_rises_where_none_is():
    seeking = Quantile(0.5, 1.0, 100)
    assert seeking.moved(1.0, 100, 0, 0.0) == pytest.approx(np.exp(-0.2 * 0.5))
    assert seeking.moved(1.0, 0, 100, 0.0) == pytest.approx(np.exp(0.2 * 0.5))
    assert seeking.moved(1.0, 50, 50, 0.0) == pytest.approx(1.0)
    assert Quantile(0.9, 1.0, 100).moved(1.0, 90, 10, 0.0) == pytest.approx(1.0)


def test_a_unit_moves_the_count_by_a_half_and_the_expected_number_alone_divides():
    seeking = Quantile(0.5, 1.0, 100)
    fraction = [-np.log(seeking.moved(1.0, *votes, 0.0)) / 0.2 + 0.5 for votes in [(7, 3), (8, 3), (7, 4)]]
    np.testing.assert_allclose(np.diff(fraction)[0], 0.5 / 100)
    np.testing.assert_allclose(fraction[2] - fraction[0], -0.5 / 100)


class Noise(UnsafeSeededRandomness):
    """Real noise, every record chosen, and what was asked for noted."""

    def __init__(self, seed):
        super().__init__(seed)
        self.asked = []

    def uniform(self, size):
        return np.zeros(size)

    def normal(self, size):
        self.asked.append(size)
        return super().normal(size)


def test_the_sum_has_noise_of_the_larger_multiplier_at_the_norm_of_each_step(adapted):
    empty, schedule = tiny.records([], width=8), replace(SCHEDULE, steps=3, optimizer="sgd")
    mechanism = DpSgd(adapted, empty, zero(adapted), schedule, 1.3)
    randomness = Noise(1)
    delta = mechanism.draw(randomness)
    size = adapted.layout.size
    assert randomness.asked == [size, 1] * 3
    replayed, seeking, norm, variance = Noise(1), Quantile(0.5, 1.3, 8), 0.7, 0.0
    for _ in range(3):
        replayed.normal(size)
        variance += (0.05 * seeking.sum_multiplier * norm / 8) ** 2
        norm = seeking.moved(norm, 0, 0, float(replayed.normal(1)[0]))
    assert mechanism.left.norm == pytest.approx(norm)
    assert stats.kstest(delta / np.sqrt(variance), "norm").pvalue > 1e-4


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_from_a_tenth_and_from_ten_times_the_norm_reaches_its_quantile_in_sixty_rounds(adapted, factor, target):
    """Rounds of one step, the norm handed on as a home does; the expected batch is 64, the noise real."""
    rng = np.random.default_rng(4)
    records = tiny.records(rng.integers(4, 12, 64), seed=9)
    norms = Clipper(adapted, None, 64).each(zero(adapted), records).double().norm(dim=1).numpy()
    sought = float(np.quantile(norms, target))
    schedule = replace(
        SCHEDULE, batch_size=64, declared_records=64, learning_rate=1e-9, micro_batch=64, target_quantile=target,
        clipping_norm=factor * sought,
    )  # fmt: skip
    known, seeking = Kept(norm=factor * sought), Quantile(target, 0.5, 64)
    randomness, reached = SystemRandomness(), []
    for round_ in range(60):
        if round_ in (0, 30, 59):  # what a real draw leaves is what this loop computes
            mechanism = DpSgd(adapted, records, zero(adapted), schedule, 0.5, before=known)
            mechanism.draw(randomness)
            known = kept(mechanism.left.arrays())
        else:
            within = int((norms <= known.norm).sum())
            known = Kept(norm=seeking.moved(known.norm, within, 64 - within, float(randomness.normal(1)[0])))
        reached.append(float((norms <= known.norm).mean()))
    assert abs(np.mean(reached[-10:]) - target) <= 0.1


def test_what_a_draw_leaves_does_not_change_what_the_next_one_of_the_same_mechanism_draws(adapted):
    mechanism = DpSgd(adapted, tiny.records([5] * 12), zero(adapted), replace(SCHEDULE, steps=2), 1.3)
    first, norm = mechanism.draw(UnsafeSeededRandomness(2)), mechanism.left.norm
    assert norm != 0.7
    assert mechanism.draw(UnsafeSeededRandomness(2)).tobytes() == first.tobytes()
    assert mechanism.left.norm == norm


@pytest.mark.parametrize("name", OPTIMISERS)
def test_two_rounds_with_what_was_kept_between_them_are_one_of_twice_the_steps(adapted, name):
    class Repeated(Noise):
        def normal(self, size):
            return np.full(size, 0.3)

    records = tiny.records([9, 4, 12, 6], seed=4)
    schedule = replace(SCHEDULE, optimizer=name, batch_size=4, declared_records=4)
    whole = DpSgd(adapted, records, zero(adapted), replace(schedule, steps=4), 1.3)
    first = DpSgd(adapted, records, zero(adapted), replace(schedule, steps=2), 1.3)
    one = first.draw(Repeated(0))
    second = replace(first, start=one, before=kept(first.left.arrays()), left=Kept())
    np.testing.assert_allclose(one + second.draw(Repeated(0)), whole.draw(Repeated(0)), rtol=1e-3, atol=1e-5)
    assert second.left.norm == pytest.approx(whole.left.norm)
    for name_, array in whole.left.optimiser.items():
        np.testing.assert_allclose(second.left.optimiser[name_], array, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_an_optimiser_that_was_saved_goes_on_as_if_it_had_not_been(name):
    gradients = np.random.default_rng(0).normal(size=(6, 5))
    whole, first = optimiser(name, 0.1), optimiser(name, 0.1)
    for gradient in gradients[:3]:
        whole.step(gradient, np.ones(5))
        first.step(gradient, np.ones(5))
    again = optimiser(name, 0.1, first.arrays())
    for gradient in gradients[3:]:
        assert np.array_equal(again.step(gradient, np.ones(5)), whole.step(gradient, np.ones(5)))


@pytest.mark.parametrize(
    "arrays",
    [
        {"velocity": np.ones((2, 2))},
        {"velocity": np.array([np.nan])},
        {"another": np.ones(3)},
        {"count": np.zeros(1), "first": np.ones(3), "second": np.ones(3)},
        {"count": np.ones(1), "first": np.ones(3), "second": -np.ones(3)},
        {"count": np.ones(1), "first": np.ones(2), "second": np.ones(3)},
    ],
)
def test_a_damaged_or_foreign_state_is_refused_and_makes_no_draw_fail(adapted, arrays):
    for name in ("momentum", "adam"):
        with pytest.raises(ValueError, match="state of"):
            optimiser(name, 0.1, arrays)
    known = Kept(optimiser=arrays)
    schedule = replace(SCHEDULE, optimizer="adam")
    mechanism = DpSgd(adapted, tiny.records([5] * 4), zero(adapted), schedule, 1.3, before=known)
    fresh = replace(mechanism, before=None).draw(UnsafeSeededRandomness(1))
    assert np.array_equal(mechanism.draw(UnsafeSeededRandomness(1)), fresh)


@pytest.mark.parametrize("norm", [np.nan, 0.0, -1.0, np.inf, 1e9])
def test_a_damaged_norm_is_not_gone_on_from(norm):
    assert kept({"norm": np.array([norm])}).norm is None
    assert kept({"norm": np.ones(2)}).norm is None


def test_the_pull_to_the_start_is_added_after_the_noise(adapted):
    records, start = tiny.records([], width=8), zero(adapted)
    schedule = replace(SCHEDULE, target_quantile=None, steps=2, proximal=0.5, optimizer="sgd")
    found = DpSgd(adapted, records, start, schedule, 1.0).draw(Noise(3))
    replayed = Noise(3)
    first, second = (-0.05 * 0.7 / 8 * replayed.normal(start.size) for _ in range(2))
    np.testing.assert_allclose(found, first + second - 0.05 * 0.5 * first, rtol=1e-4, atol=1e-9)


def test_gradients_that_are_not_finite_are_counted_at_home_and_their_steps_are_steps(adapted, caplog):
    with torch.no_grad():
        adapted.base.model.get_input_embeddings().weight[200] = float("nan")
        head = torch.nn.Linear(32, 256, bias=False)
        torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
        adapted.base.model.lm_head = head.requires_grad_(False)
    records = tiny.records([9] * 4, seed=1)
    tokens = records.tokens % 200
    tokens[1:3, 4] = 200
    poisoned = Records(tokens, records.lengths)
    schedule = replace(SCHEDULE, steps=3)
    adapted.base.model.config.vocab_size = 199  # the check beforehand makes up records without that token
    mechanism = DpSgd(adapted, poisoned, zero(adapted), schedule, 1.0)
    randomness = Noise(1)
    with caplog.at_level("WARNING", logger="parley.member"):
        delta = mechanism.draw(randomness)
    assert np.isfinite(delta).all()
    assert (delta != 0).all()
    assert mechanism.left.skipped == 2 * 3
    assert len(randomness.asked) == 2 * 3
    assert "6 gradients were not finite" in caplog.text
    assert "skipped" not in repr(mechanism.left)
    plain = UnsafePlainSgd(adapted, poisoned, zero(adapted), schedule)
    assert np.isfinite(plain.draw(Noise(1))).all()
    assert plain.left.skipped == 6
