"""The mean of the members' adapters, and what a malicious coordinator or member cannot do to it."""

import numpy as np
import pytest
from village import LENGTH, recipe, task, village

from protocols.carriers.memory import Way
from protocols.faults import Abort, LocalError, PeerError
from protocols.session import MemberId
from protocols.weights.average import Average, Contribute, Contributed, Idle, coordinate


def test_without_noise_the_adapter_is_the_running_mean_of_the_members(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    result = there.run(task(rounds=20))
    assert np.allclose(result.adapter, 0.1, atol=1e-4)  # the mean of 0, 0.1 and 0.2
    assert result.answered == (3,) * 20


def test_every_round_is_charged_once_at_every_member(tmp_path):
    there = village(tmp_path, 3)
    there.run(task(rounds=3))
    for house in there.houses.values():
        statement = house.ledger.statement(house.account)
        assert (statement.charges, statement.disclosures) == (3, 0)


def test_the_round_goes_on_with_those_who_answer(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member) == (1, "m2"))
    assert there.run(task(rounds=3)).answered == (3, 2, 3)


def test_below_the_quorum_it_aborts_and_says_how_many_of_how_many(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: trip == 1 and member != "m0" and way is Way.BACK)
    with pytest.raises(Abort, match="round 2: 1 of 3 members answered, need 2"):
        there.run(task(rounds=3))


@pytest.mark.parametrize(
    "delta",
    [
        np.zeros(LENGTH + 1, np.float32),
        np.zeros((LENGTH, 1), np.float32),
        np.zeros(0, np.float32),
        np.full(LENGTH, 1e7, np.float32),
    ],
)
def test_a_delta_of_another_shape_or_beyond_all_measure_counts_as_silence(delta):
    running = coordinate([MemberId("a"), MemberId("b"), MemberId("c")], task(rounds=1))
    next(running)
    good = Contributed(0, np.ones(LENGTH, np.float32))
    with pytest.raises(StopIteration) as end:
        running.send({MemberId("a"): good, MemberId("b"): good, MemberId("c"): Contributed(0, delta)})
    assert end.value.value.answered == (2,)
    assert np.array_equal(end.value.value.adapter, np.ones(LENGTH))


def test_a_delta_of_another_round_or_of_another_kind_counts_as_silence():
    running = coordinate([MemberId("a"), MemberId("b")], task(rounds=1))
    next(running)
    stale = Contributed(7, np.ones(LENGTH, np.float32))
    with pytest.raises(Abort, match="0 of 2"):
        running.send({MemberId("a"): stale, MemberId("b"): Idle(0)})


class NoHome:
    """A home that must not be asked."""

    def contribution(self, recipe, round_, adapter):
        raise AssertionError("asked")


@pytest.mark.parametrize(
    ("state", "ask"),
    [
        (Idle(1), Contribute(recipe(), 0, np.zeros(LENGTH, np.float32))),
        (Idle(0), Contribute(recipe(rounds=3), 3, np.zeros(LENGTH, np.float32))),
        (Idle(0), Contribute(recipe(), -1, np.zeros(LENGTH, np.float32))),
        (Idle(0), Contribute(recipe(), 0, np.zeros(LENGTH - 1, np.float32))),
        (Idle(0), Contributed(0, np.zeros(LENGTH, np.float32))),
    ],
)
def test_an_ask_out_of_order_or_out_of_shape_never_reaches_the_home(state, ask):
    with pytest.raises(PeerError):
        state.answer(ask, NoHome())


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0}, {"steps": 0}, {"rounds": 0}, {"batch_size": -1}, {"learning_rate": 0.0}, {"clipping_norm": -1.0},
        {"epsilon": 0.0}, {"epsilon": -1.0}, {"delta": 0.0}, {"delta": 1.0}, {"targets": ()}, {"adapter_seed": -1},
        {"clipping_norm": float("inf")}, {"targets": ("q_proj",) * 257}, {"targets": ("x" * 257,)},
    ],
)  # fmt: skip
def test_a_recipe_out_of_range_cannot_be_made(change):
    with pytest.raises(ValueError, match=r"positive|range"):
        recipe(**change)


def test_a_task_that_does_not_fit_is_our_bug():
    for wrong in (Average(recipe(), 2, np.zeros(LENGTH + 1, np.float32)), Idle(0)):
        with pytest.raises(LocalError):
            next(coordinate([MemberId("a")], wrong))
