"""What a coordinator makes of the mean: the papers' lines, and nothing that hangs on what was not chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from village import LENGTH, recipe, task, village

from protocols.faults import LocalError
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId
from protocols.weights.average import Average, Contributed, coordinate
from protocols.weights.recipe import Half
from protocols.weights.server_rules import Server, ServerRule, Stepping

ALL = slice(0, 4)
rng = np.random.default_rng(3)
MEANS = rng.normal(size=(6, 4))


def steps(rule: ServerRule, means=MEANS) -> np.ndarray:
    stepping = Stepping(rule, 4)
    return np.array([stepping.step(mean, ALL) for mean in means])


def by_the_paper(rule: ServerRule) -> np.ndarray:
    """Reddi et al. 2021, algorithm 2, one entry and one line at a time."""
    taken = np.zeros_like(MEANS)
    for j in range(4):
        m, v = 0.0, rule.tau**2
        for t in range(6):
            d = MEANS[t, j]
            m = rule.momentum * m + (1 - rule.momentum) * d
            if rule.name is Server.FEDADAM:
                v = rule.second * v + (1 - rule.second) * d * d
            else:
                v = v - (1 - rule.second) * d * d * (1 if v > d * d else -1)
            taken[t, j] = rule.learning_rate * m / (v**0.5 + rule.tau)
    return taken


@pytest.mark.parametrize("name", [Server.FEDADAM, Server.FEDYOGI])
def test_the_adaptive_rules_are_the_papers_line_by_line_and_correct_no_start(name):
    rule = ServerRule(name, learning_rate=0.1, momentum=0.8, second=0.95, tau=0.01)
    assert np.allclose(steps(rule), by_the_paper(rule), rtol=1e-13)


def test_plain_averaging_takes_the_mean_as_it_is_to_the_bit():
    assert np.array_equal(steps(ServerRule()), MEANS)
    assert np.array_equal(steps(ServerRule(learning_rate=0.5)), 0.5 * MEANS)


def test_momentum_is_the_running_sum_and_nesterovs_looks_one_step_ahead():
    heavy, ahead = (steps(ServerRule(n, momentum=0.5)) for n in (Server.FEDAVGM, Server.NESTEROV))
    sums = np.array([sum(0.5 ** (t - i) * MEANS[i] for i in range(t + 1)) for t in range(6)])
    assert np.allclose(heavy, sums)
    assert np.allclose(ahead, 0.5 * sums + MEANS)
    assert np.array_equal(steps(ServerRule(Server.FEDAVGM, momentum=0.0)), MEANS)


def test_yogi_forgets_one_large_delta_by_what_is_new_alone_and_adam_by_a_share_of_it():
    means = np.concatenate([np.full((1, 4), 100.0), np.full((20, 4), 0.1)])
    adam, yogi = (
        steps(ServerRule(n, momentum=0.0, second=0.5), means)[-1, 0] for n in (Server.FEDADAM, Server.FEDYOGI)
    )
    assert adam > 5 * yogi > 0


@given(st.sampled_from(list(Server)), st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=5))
def test_what_no_round_chose_has_no_history_and_what_one_chose_has_only_its_own(name, rounds):
    rule, some = ServerRule(name), [np.array(sorted(r)) for r in rounds]
    together, alone = Stepping(rule, 4), [Stepping(rule, 1) for _ in range(4)]
    for chosen, mean in zip(some, MEANS, strict=False):
        moved = together.step(mean[chosen], chosen)
        each = [alone[i].step(mean[i : i + 1], slice(0, 1))[0] for i in chosen]
        assert np.allclose(moved, each)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0}, {"learning_rate": float("inf")}, {"tau": 0.0}, {"momentum": 1.0}, {"second": -0.1},
    ],
)  # fmt: skip
def test_a_rule_out_of_range_cannot_be_made(change):
    with pytest.raises(ValueError, match="expected"):
        ServerRule(**change)


@pytest.mark.parametrize("name", list(Server))
def test_every_rule_gives_the_same_adapter_whatever_the_sum(name, tmp_path):
    there = village(tmp_path, 4, noise_multiplier=0.0)
    rule = ServerRule(name, learning_rate=0.1, tau=0.05)
    made = []
    for kind in ({"plain": True}, {"mode": Mode.STRICT}, {"mode": Mode.RESILIENT}):
        asked = task(**kind, rounds=3)
        asked = Average(asked.recipe, asked.quorum, asked.adapter, asked.terms, rule)
        made.append(there.run(asked, session=f"{name.value}-{len(made)}").adapter)
    assert np.allclose(made[0], made[1], atol=1e-6)
    assert np.array_equal(made[1], made[2])
    assert made[0].min() > 0.01


def driven(asked: Average, deltas) -> np.ndarray:
    """What a coordinator makes of these deltas of one member, one a round."""
    running = coordinate([MemberId("a")], asked)
    next(running)
    for round_, delta in enumerate(deltas):
        try:
            running.send({MemberId("a"): Contributed(round_, np.asarray(delta, np.float32))})
        except StopIteration as end:
            return end.value.adapter
    raise AssertionError("still asking")


def test_in_turns_the_first_round_moves_the_bs_alone_and_the_second_the_as_alone():
    turns = recipe(rounds=2, half=Half.ALTERNATE, b_entries=3)
    asked = Average(turns, 1, np.zeros(LENGTH, np.float32), None)
    assert np.array_equal(driven(asked, [[1, 1, 1], [2, 2]]), [1, 1, 1, 2, 2])


def test_with_a_share_only_the_entries_that_the_public_seed_chose_move():
    some = recipe(rounds=3, length=64, share=0.25)
    asked = Average(some, 1, np.zeros(64, np.float32), None)
    deltas = [np.full(some.entries(r), r + 1) for r in range(3)]
    expected = np.zeros(64)
    for r in range(3):
        expected[some.chosen(r)] += r + 1
    assert 4 < some.entries(0) < 30
    assert np.array_equal(driven(asked, deltas), expected)


def test_a_delta_of_all_entries_where_some_are_asked_for_counts_as_silence():
    some = recipe(rounds=1, length=64, share=0.25)
    running = coordinate([MemberId("a"), MemberId("b")], Average(some, 1, np.zeros(64, np.float32), None))
    next(running)
    right, wrong = np.ones(some.entries(0), np.float32), np.ones(64, np.float32)
    with pytest.raises(StopIteration) as end:
        running.send({MemberId("a"): Contributed(0, right), MemberId("b"): Contributed(0, wrong)})
    assert end.value.value.answered == (1,)


def test_both_halves_in_one_round_cannot_be_averaged():
    both = recipe(half=Half.BOTH, b_entries=3)
    with pytest.raises(LocalError, match="product of means"):
        next(coordinate([MemberId("a")], Average(both, 1, np.zeros(LENGTH, np.float32), None)))
