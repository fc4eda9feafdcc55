"""The mean of the members' adapters, and what a malicious coordinator or member cannot do to it."""

import time

import numpy as np
import pytest
from village import LENGTH, recipe, task, village

from protocols.carriers.memory import Way
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId
from protocols.weights.average import Average, Contribute, Contributed, Idle, coordinate

SUMS = {"plain": {"plain": True}, "strict": {"mode": Mode.STRICT}, "resilient": {"mode": Mode.RESILIENT}}


@pytest.fixture(params=sorted(SUMS))
def kind(request) -> dict:
    return SUMS[request.param]


def test_without_noise_the_adapter_is_the_running_mean_of_the_members(kind, tmp_path):
    there = village(tmp_path, 4, noise_multiplier=0.0)
    result = there.run(task(**kind, rounds=20))
    assert np.allclose(result.adapter, 0.15, atol=1e-4)  # the mean of 0, 0.1, 0.2 and 0.3
    assert result.answered == (4,) * 20


def test_every_kind_of_sum_gives_the_same_adapter_to_seven_digits(tmp_path):
    there = village(tmp_path, 4, noise_multiplier=0.0)
    adapters = [there.run(task(**kind, rounds=3), session=name).adapter for name, kind in SUMS.items()]
    assert np.allclose(adapters[0], adapters[1], atol=1e-7)
    assert np.array_equal(adapters[1], adapters[2])


def test_a_task_without_terms_is_the_only_one_in_which_a_delta_is_on_the_wire(kind, tmp_path):
    there = village(tmp_path, 4, noise_multiplier=0.0)
    seen = []
    there.road.tap = lambda _member, way, data: seen.append(data) if way is Way.BACK else None
    there.run(task(**kind, rounds=1))
    halfway = (np.full(LENGTH, 0.3) / 2).astype(np.float32).tobytes()
    assert any(halfway in data for data in seen) is ("plain" in kind)


def test_in_strict_mode_a_round_that_misses_somebody_is_lost_and_who_was_away_is_asked_again_later(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member) == (3, "m2"))
    result = there.run(task(rounds=4))
    assert result.answered == (3, 0, 2, 3)
    assert result.trips == (1, 1, 1, 1)


def test_in_resilient_mode_the_round_goes_on_with_those_who_answer(tmp_path):
    there = village(tmp_path, 4, 0.0, lost=lambda trip, member, way: (trip, member) == (5, "m2"))
    result = there.run(task(mode=Mode.RESILIENT, rounds=3))
    assert result.answered == (4, 3, 4)
    assert result.trips == (3, 3, 3)


def test_a_round_that_was_lost_is_charged_and_not_asked_for_again(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: (trip, member) == (3, "m2"))
    there.run(task(rounds=2))
    spent = {m: h.ledger.statement(h.account).charges for m, h in there.houses.items()}
    assert spent == {"m0": 2, "m1": 2, "m2": 1}


def test_if_every_round_is_lost_there_is_no_result(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: (trip, member) == (2, "m2"))
    with pytest.raises(Abort, match="not one of 1 rounds had all that it needs of 3 members"):
        there.run(task(rounds=1))


def test_a_member_that_was_restarted_has_no_keys_and_stays_out_until_the_next_session(tmp_path):
    there = village(tmp_path, 3, 0.0)
    gone = there.houses[MemberId("m2")]

    def restart(trip, member, way):
        if (trip, member, way) == (3, "m2", Way.OUT):
            gone.sums = Sums(gone.identity, time.time)  # memory is lost; disk and data are not
        return False

    there.road.lost = restart
    assert there.run(task(rounds=4)).answered == (3, 0, 2, 0)
    assert there.run(task(rounds=1), session="2e55").answered == (3,)


def test_every_round_is_charged_once_at_every_member(kind, tmp_path):
    there = village(tmp_path, 4)
    there.run(task(**kind, rounds=3))
    for house in there.houses.values():
        statement = house.ledger.statement(house.account)
        assert (statement.charges, statement.disclosures) == (3, 0)


def test_a_plain_round_goes_on_with_those_who_answer(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member) == (1, "m2"))
    assert there.run(task(plain=True, rounds=3)).answered == (3, 2, 3)


def test_below_the_quorum_it_aborts_and_says_how_many_of_how_many(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: trip == 1 and member != "m0" and way is Way.BACK)
    with pytest.raises(Abort, match="round 2: 1 of 3 members answered, need 2"):
        there.run(task(plain=True, rounds=3))


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
    running = coordinate([MemberId("a"), MemberId("b"), MemberId("c")], task(plain=True, rounds=1))
    next(running)
    good = Contributed(0, np.ones(LENGTH, np.float32))
    with pytest.raises(StopIteration) as end:
        running.send({MemberId("a"): good, MemberId("b"): good, MemberId("c"): Contributed(0, delta)})
    assert end.value.value.answered == (2,)
    assert np.array_equal(end.value.value.adapter, np.ones(LENGTH))


def test_a_delta_of_another_round_or_of_another_kind_counts_as_silence():
    running = coordinate([MemberId("a"), MemberId("b")], task(plain=True, rounds=1))
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
        (Idle(1), Contribute(recipe(), 0, np.zeros(LENGTH, np.float32), None, ())),
        (Idle(0), Contribute(recipe(rounds=3), 3, np.zeros(LENGTH, np.float32), None, ())),
        (Idle(0), Contribute(recipe(), -1, np.zeros(LENGTH, np.float32), None, ())),
        (Idle(0), Contribute(recipe(), 0, np.zeros(LENGTH - 1, np.float32), None, ())),
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
    for wrong in (Average(recipe(), 2, np.zeros(LENGTH + 1, np.float32), None), Idle(0)):
        with pytest.raises(LocalError):
            next(coordinate([MemberId("a")], wrong))
