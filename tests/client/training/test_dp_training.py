"""DP-SGD: its noise, its sampling, its scale, its event, and the same bits for the same seed."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from scipy import stats

from client.data import Records
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd, poisson
from client.training.clipping import Clipper
from client.training.optimisers import Adam, Sgd, optimiser
from privacy.mechanisms import Mechanism, Unprotected
from privacy.randomness import SystemRandomness, UnsafeSeededRandomness

SCHEDULE = Schedule(steps=3, batch_size=4, declared_records=12, learning_rate=0.5, clipping_norm=0.7)


class Ones:
    """Randomness that chooses every record, and whose noise is one."""

    def uniform(self, size):
        return np.zeros(size)

    def normal(self, size):
        return np.ones(size)


class Nobody(UnsafeSeededRandomness):
    """Real noise, but no record is ever chosen."""

    def uniform(self, size):
        return np.ones(size)


@pytest.fixture
def adapted(folders):
    return tiny.adapted(folders("llama"), "llama")


def task(adapted, records, schedule=SCHEDULE, sigma=1.3):
    return DpSgd(adapted, records, np.zeros(adapted.layout.size, np.float32), schedule, sigma)


def test_the_event_is_the_sampled_gaussian_of_each_step(adapted):
    mechanism: Mechanism = task(adapted, tiny.records([5] * 12))
    step = PoissonSampledDpEvent(4 / 12, GaussianDpEvent(1.3))
    assert mechanism.event == SelfComposedDpEvent(step, 3)


def test_the_event_depends_on_public_numbers_alone(adapted):
    few, many = task(adapted, tiny.records([5] * 2)), task(adapted, tiny.records([5] * 50, seed=2))
    assert few.event == many.event


def test_training_without_noise_has_no_event_and_no_zero_noise_passes_as_dp(adapted):
    start = np.zeros(adapted.layout.size, np.float32)
    plain: Unprotected = UnsafePlainSgd(adapted, tiny.records([5] * 3), start, SCHEDULE)
    assert not hasattr(plain, "event")
    for sigma in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise_multiplier"):
            task(adapted, tiny.records([5]), sigma=sigma)


def test_one_step_is_the_clipped_sum_plus_sigma_c_over_the_expected_batch(adapted):
    records = tiny.records([9, 4, 12, 6, 6, 9], seed=4)
    found = task(adapted, records, replace(SCHEDULE, steps=1)).draw(Ones())
    start = np.zeros(adapted.layout.size)
    clean = Clipper(adapted, 0.7, 64).sum(start, records, np.arange(6))
    np.testing.assert_allclose(found, -0.5 * (clean + 1.3 * 0.7) / 4, rtol=1e-4, atol=1e-6)


def test_steps_without_any_record_still_carry_noise_of_the_stated_size(adapted):
    schedule = replace(SCHEDULE, steps=5)
    deltas = [task(adapted, tiny.records([5] * 3), schedule).draw(Nobody(seed)) for seed in range(3)]
    values = np.concatenate(deltas) / (0.5 * 1.3 * 0.7 / 4 * np.sqrt(5))
    assert stats.kstest(values, "norm").pvalue > 1e-4
    spread = float((values**2).sum())
    assert stats.chi2.cdf(spread, values.size) == pytest.approx(0.5, abs=0.4999)
    assert abs(np.corrcoef(deltas[0], deltas[1])[0, 1]) < 0.1


def test_a_member_with_no_records_sends_noise(adapted):
    delta = task(adapted, tiny.records([], width=8)).draw(SystemRandomness())
    assert delta.shape == (adapted.layout.size,)
    assert (delta != 0).all()


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_the_same_seed_gives_the_same_bits_and_another_gives_others(adapted, name):
    records = tiny.records([9, 4, 12, 6, 6, 9], seed=4)
    mechanism = task(adapted, records, replace(SCHEDULE, optimizer=name))
    first, again = mechanism.draw(UnsafeSeededRandomness(5)), mechanism.draw(UnsafeSeededRandomness(5))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != mechanism.draw(UnsafeSeededRandomness(6)).tobytes()


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
import hashlib, numpy as np, tiny
from client.dp_training import DpSgd, Schedule
from privacy.randomness import UnsafeSeededRandomness
adapted = tiny.adapted(sys.argv[1], "llama")
schedule = Schedule(steps=3, batch_size=4, declared_records=12, learning_rate=0.5, clipping_norm=0.7)
start = np.zeros(adapted.layout.size, np.float32)
records = tiny.records([9, 4, 12, 6, 6, 9], seed=4)
delta = DpSgd(adapted, records, start, schedule, 1.3).draw(UnsafeSeededRandomness(5))
print(hashlib.sha256(delta.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bits(adapted, folders):
    here = Path(__file__).parent
    command = [sys.executable, "-c", PROGRAM, str(folders("llama")), str(here)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here.parents[2], timeout=100, check=True)
    delta = task(adapted, tiny.records([9, 4, 12, 6, 6, 9], seed=4)).draw(UnsafeSeededRandomness(5))
    assert done.stdout.split()[-1] == hashlib.sha256(delta.tobytes()).hexdigest()


def test_training_lowers_the_loss_of_its_own_records(adapted):
    from client.training.evaluation import held_out_loss

    text = "a collaboration is a named protocol. " * 20
    from client.data import cut

    tokenizer = adapted.base.tokenizer
    records = cut([text], tokenizer, 32)
    start = np.zeros(adapted.layout.size, np.float32)
    schedule = Schedule(
        steps=20, batch_size=len(records), declared_records=len(records), learning_rate=0.02, clipping_norm=1.0,
        optimizer="adam",
    )  # fmt: skip
    adapted.set(start)
    before = held_out_loss(adapted.model, tokenizer, [text], window=32)
    adapted.set(UnsafePlainSgd(adapted, records, start, schedule).draw(UnsafeSeededRandomness(0)))
    assert held_out_loss(adapted.model, tokenizer, [text], window=32) < before - 0.2


def test_the_sampler_takes_each_record_independently_at_its_rate():
    count, rate, rounds = 200, 0.1, 2000
    randomness = SystemRandomness()
    taken = np.zeros((rounds, count))
    for row in taken:
        row[poisson(count, rate, randomness)] = 1
    sizes = taken.sum(axis=1)
    assert abs(taken.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / taken.size)
    ratio = sizes.var() / (count * rate * (1 - rate))  # binomial, not an epoch's fixed size
    assert abs(ratio - 1) < 6 * np.sqrt(2 / rounds)
    correlation = np.corrcoef(taken.T) - np.eye(count)
    assert np.abs(correlation).max() < 6.5 / np.sqrt(rounds)
    expected = stats.binom.pmf(np.arange(10, 31), count, rate) * rounds
    observed = np.array([(sizes == size).sum() for size in range(10, 31)])
    assert ((observed - expected) ** 2 / expected).sum() < stats.chi2.ppf(1 - 1e-5, 21)


def test_the_realised_size_of_a_batch_never_divides(adapted):
    one, two = tiny.records([8], seed=1), tiny.records([8], seed=1)
    twice = Records(np.concatenate([one.tokens, two.tokens]), np.concatenate([one.lengths, two.lengths]))
    start = np.zeros(adapted.layout.size, np.float32)
    schedule = replace(SCHEDULE, steps=1)
    single = UnsafePlainSgd(adapted, one, start, schedule).draw(Ones())
    double = UnsafePlainSgd(adapted, twice, start, schedule).draw(Ones())
    np.testing.assert_allclose(double, 2 * single, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"batch_size": 13}, "declared_records"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"clipping_norm": float("inf")}, "clipping_norm"),
        ({"clipping_norm": 1e-15}, "clipping_norm"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"proximal": -1.0}, "proximal"),
        ({"target_quantile": 1.0}, "target_quantile"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        replace(SCHEDULE, **change)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_a_learning_rate_beyond_all_measure_makes_no_draw_fail_and_so_buys_no_second_one(adapted, name):
    schedule = replace(SCHEDULE, steps=2, learning_rate=1e308, optimizer=name)
    delta = task(adapted, tiny.records([5] * 12), schedule).draw(SystemRandomness())
    assert np.isfinite(delta).all()
    assert np.abs(delta).max() > 1e38


def test_the_optimisers_are_the_published_ones():
    import torch

    gradients = np.random.default_rng(0).normal(size=(5, 7))
    for mine, theirs in [
        (Sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (Adam(0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
        (optimiser("adamw", 0.1), lambda p: torch.optim.AdamW(p, lr=0.1)),
    ]:
        weight = torch.zeros(7, dtype=torch.float64, requires_grad=True)
        rule, point = theirs([weight]), np.zeros(7)
        with torch.no_grad():
            weight += 1.0
        point += 1.0
        for gradient in gradients:
            weight.grad = torch.from_numpy(gradient.copy())
            rule.step()
            point = point + mine.step(gradient, point)
        np.testing.assert_allclose(point, weight.detach().numpy(), rtol=1e-9)


def test_an_unknown_optimiser_is_named_as_such():
    with pytest.raises(ValueError, match="sgd, momentum, adam, adamw"):
        optimiser("lion", 0.1)


@pytest.mark.parametrize("half", ["a", "b"])
def test_a_round_trains_and_returns_what_is_chosen_and_nothing_else(folders, half):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    layout, records = adapted.layout, tiny.records([9, 4, 12, 6], seed=4)
    chosen = slice(0, layout.b_entries) if half == "b" else slice(layout.b_entries, layout.size)
    start = (np.random.default_rng(2).normal(size=layout.size) * 0.05).astype(np.float32)
    schedule = replace(SCHEDULE, steps=1)
    found = DpSgd(adapted, records, start, schedule, 1.3, chosen=chosen).draw(Ones())
    clean = Clipper(adapted, 0.7, 64, chosen=chosen).sum(start, records, np.arange(4))
    assert found.shape == clean.shape
    np.testing.assert_allclose(found, -0.5 * (clean + 1.3 * 0.7) / 4, rtol=1e-4, atol=1e-6)
    UnsafePlainSgd(adapted, records, start, replace(SCHEDULE, steps=2), chosen=chosen).draw(Ones())
    other = np.delete(np.arange(layout.size), np.arange(layout.size)[chosen])
    np.testing.assert_allclose(adapted.get()[other], start[other], atol=1e-6)


def test_both_halves_learn(folders):
    adapted = tiny.adapted(folders("llama"), "llama", half_a=True)
    records, start = tiny.records([16] * 4), np.zeros(adapted.layout.size, np.float32)
    schedule = Schedule(
        steps=8, batch_size=4, declared_records=4, learning_rate=0.02, clipping_norm=1.0, optimizer="adam"
    )
    delta = UnsafePlainSgd(adapted, records, start, schedule).draw(UnsafeSeededRandomness(0))
    b_entries = adapted.layout.b_entries
    assert np.abs(delta[:b_entries]).max() > 0.01
    assert np.abs(delta[b_entries:]).max() > 0.01


def test_a_choice_outside_the_vector_is_refused_before_any_draw(adapted):
    with pytest.raises(ValueError, match="chosen"):
        DpSgd(adapted, tiny.records([5]), np.zeros(adapted.layout.size), SCHEDULE, 1.0, chosen=slice(0, 10**9))
