"""A game for two worlds that differ in one shard: what is charged bounds it, and a broken mechanism is found out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent

from client.experts.opening import Experts
from client.homes.logits import noised, sampled
from privacy.accounting.accountant import Filter, default_orders, price
from privacy.units import Relation, Unit
from protocols.logits.question import Alphabet, Question, Sends
from protocols.secure_sum.terms import Mode, Terms
from simulations.allowances import rho_of
from simulations.attacks.distinguishing import (
    Noised,
    Planted,
    Played,
    Sampled,
    asked_of,
    epsilon_at_least,
    farthest,
    play_noised,
    play_sampled,
    summed,
)

TERMS, DELTA, CLIP, SHARDS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1), 1e-5, 0.5, 6
PUBLIC, ONE, OTHER = farthest(8)
REST = tuple(Planted(np.random.default_rng(n).normal(0, 1, (8, 8))) for n in range(SHARDS - 1))


def question(**changes: object) -> Question:
    given = {"block": 1, "most": 16, "experts": SHARDS, "clip": CLIP}
    return Question("b" * 64, Alphabet.TOKENS, 8, 0, sends=Sends.RATIOS, **(given | changes))  # type: ignore[arg-type]


def world(*shard: Planted) -> tuple[Experts, ...]:
    """Return three homes; the first one has this shard alone."""
    return Experts(PUBLIC, shard), Experts(PUBLIC, REST[:2]), Experts(PUBLIC, REST[2:])


def sampled_at(epsilon: float) -> Question:
    """Return a question whose whole answer is charged so much for a record."""
    asked = question(central=True)
    rho = sampled(asked, 1, asked.spec(TERMS, 3, 1)).rho
    return replace(asked, strength=(rho_of(epsilon, DELTA, asked.most) / rho) ** 0.5)


def played(asked: Question, trials: int, *shards: tuple[Planted, ...]) -> Played:
    one, other = (Sampled(asked, TERMS, world(*s), (0,)) for s in shards)
    return play_sampled(one, other, trials, DELTA)


def without_clip(asked: Question) -> Question:
    return replace(asked, clip=100.0, grain=0.0)


def charged(event: object, epsilon: float) -> float:
    orders = default_orders(epsilon, DELTA)
    return Filter(orders, DELTA).epsilon(price(event, orders, Relation.ADD_OR_REMOVE))  # type: ignore[arg-type]


def normal(trials: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    return draw.normal(apart, 1, trials), draw.normal(0, 1, trials)


def test_the_bound_is_below_the_truth_and_comes_near_to_it():
    """Two Gaussians apart by 2: the best threshold's epsilon, which no interval may reach."""
    found = epsilon_at_least(*normal(4000, 2.0), DELTA)
    tail = [0.5 * math.erfc(t / math.sqrt(2)) for t in np.linspace(0.5, 6, 200)]
    shifted = [0.5 * math.erfc((t - 2) / math.sqrt(2)) for t in np.linspace(0.5, 6, 200)]
    wrong_at_least = 10 / 2000  # fewer cannot be seen in so many trials
    truth = max(math.log((r - DELTA) / w) for r, w in zip(shifted, tail, strict=True) if w > wrong_at_least)
    assert 0.5 * truth < found.epsilon < truth + 0.3
    assert found.judged == 2000


@pytest.mark.parametrize("seed", range(5))
def test_worlds_that_are_alike_are_not_told_apart(seed):
    draw = np.random.default_rng(seed)
    assert epsilon_at_least(draw.normal(size=600), draw.normal(size=600), DELTA).epsilon < 0.4


def test_it_does_not_matter_which_world_is_called_the_first_and_one_trial_is_none():
    one, other = normal(1000, 2.0)
    assert epsilon_at_least(one, other, DELTA).epsilon > 1
    assert epsilon_at_least(other, one, DELTA).epsilon < 0.4  # scores say the contrary: the threshold finds nothing
    with pytest.raises(ValueError, match="two trials"):
        epsilon_at_least(one[:1], other[:1], DELTA)


def test_a_threshold_is_not_judged_by_the_trials_that_chose_it():
    """The first half is told apart without a fault, and the second not at all."""
    one = np.concatenate([np.ones(200), np.zeros(200)])
    found = epsilon_at_least(one, np.zeros(400), DELTA)
    assert found.epsilon == 0.0
    assert (found.right, found.wrong) in ((0, 0), (200, 200))


def test_a_home_that_does_not_clip_is_found_out_and_one_that_does_keeps_its_epsilon():
    asked = sampled_at(2.0)
    assert played(asked, 200, (ONE,), (OTHER,)).epsilon <= 2.0
    assert played(without_clip(asked), 200, (ONE,), (OTHER,)).epsilon > 2.0


def test_noise_that_is_left_out_of_a_sum_is_found_out():
    asked = question(most=2, block=2, clip=2.0, noise_multiplier=10.0)
    event = noised(asked, 1, asked.spec(TERMS, 3, 2), TERMS.honest)
    promised = min(charged(event, e) for e in (1.0, 2.0, 4.0))
    worlds = [Noised(asked_of(asked, (0,), (1,)), TERMS, world(shard), TERMS.colluding) for shard in (ONE, OTHER)]
    assert play_noised(worlds[0], worlds[1], 40, DELTA).epsilon <= promised
    for quiet in worlds:
        quiet.colluding = len(quiet.homes)
    assert play_noised(worlds[0], worlds[1], 100, DELTA).epsilon > promised


def test_what_is_played_is_the_sum_of_all_homes_clipped_words():
    asked = replace(sampled_at(2.0), strength=1.0)
    got = summed(asked_of(asked, (0, 3)), world(ONE), TERMS)
    each = [e.block([0, 3], []).next - PUBLIC.block([0, 3], []).next for e in (ONE, *REST)]
    assert got == pytest.approx(sum(np.clip(np.rint(32 * d) / 32, -CLIP, CLIP) for d in each), abs=1e-5)
    assert np.abs(each[0]).max() > CLIP


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
def test_no_game_of_thousands_of_trials_beats_what_is_charged_for_a_record(epsilon):
    asked = sampled_at(epsilon)
    assert charged(SelfComposedDpEvent(sampled(asked, 1, asked.spec(TERMS, 3, 1)), 16), epsilon) <= epsilon * 1.0001
    found = played(asked, 6000, (ONE,), (OTHER,))
    print(epsilon, found)  # noqa: T201
    assert found.epsilon <= epsilon
    assert found.epsilon > 0.1 * epsilon or epsilon < 2  # the attack is worth something
    assert played(without_clip(asked), 2000, (ONE,), (OTHER,)).epsilon > min(epsilon, 5.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_game_beats_what_is_charged_for_a_whole_member_that_is_away():
    asked = replace(sampled_at(8.0), unit=Unit.MEMBER)
    spec = asked.spec(TERMS, 3, 1)
    promised = charged(SelfComposedDpEvent(sampled(asked, 1, spec), asked.most), 8.0)
    assert promised < 8.0  # an expert in its place against none: half as far as against its contrary
    found = played(asked, 6000, (ONE,), ())
    print(promised, found)  # noqa: T201
    assert 0.1 < found.epsilon <= promised


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("colluding", [0, 1])
def test_no_game_beats_what_is_charged_for_a_noised_sum(colluding):
    asked = question(most=2, block=2, clip=2.0, noise_multiplier=2.0)
    event = noised(asked, 1, asked.spec(TERMS, 3, 2), TERMS.honest)
    promised = min(charged(event, e) for e in (2.0, 4.0, 8.0))
    worlds = [Noised(asked_of(asked, (0,), (1,)), TERMS, world(shard), colluding) for shard in (ONE, OTHER)]
    found = play_noised(worlds[0], worlds[1], 4000, DELTA)
    print(promised, found)  # noqa: T201
    assert 0.3 < found.epsilon <= promised
