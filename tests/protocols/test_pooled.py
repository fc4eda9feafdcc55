"""Steps on the union of everybody's records, and what a malicious coordinator cannot make of them."""

import dataclasses

import numpy as np
import pytest
from village import LENGTH, pool_task, recipe, village

from client.training.optimisers import optimiser
from privacy.units import Unit
from protocols.carriers.memory import MemoryRoad, Way
from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive
from protocols.weights.descent import RULES, Descent
from protocols.weights.pooled import Idle, Pool, Step, coordinate, require_sampled, spec_of

BARE = {"epsilon": None, "noise_multiplier": None}  # no noise: a disclosure, for exact figures
ALL = BARE | {"population": 12, "batch_size": 12}  # every record in every step


@pytest.fixture(params=list(Mode))
def mode(request) -> Mode:
    return request.param


def test_without_noise_the_point_is_that_of_descent_on_all_records_in_one_place(mode, tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    result = there.run(pool_task(mode, **ALL, rounds=5, clipping_norm=0.15), collaboration="pooled")
    point, records = np.zeros(LENGTH), np.repeat([0.0, 0.1, 0.2], 4)
    for _ in range(5):
        gradients = point - records[:, None]
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        point -= 0.1 * (gradients * np.minimum(1, 0.15 / np.maximum(norms, 1e-30))).mean(axis=0)
    assert np.allclose(result.point, point, atol=1e-6)
    assert result.answered == (3,) * 5


def test_every_step_is_charged_once_at_every_member(mode, tmp_path):
    there = village(tmp_path, 3)
    there.run(pool_task(mode, rounds=4), collaboration="pooled")
    for house in there.houses.values():
        statement = house.ledger.statement(house.account)
        assert (statement.charges, statement.disclosures) == (4, 0)


def test_a_lost_step_costs_one_step_and_the_next_one_goes_on_from_where_it_was(tmp_path):
    there = village(tmp_path, 3, 0.0, lost=lambda trip, member, way: (trip, member, way) == (3, "m2", Way.BACK))
    result = there.run(pool_task(**ALL, rounds=4), collaboration="pooled")
    assert result.answered == (3, 0, 2, 3)
    assert result.trips == (1, 1, 1, 1)
    spent = [h.ledger.statement(h.account).disclosures for h in there.houses.values()]
    assert spent == [4, 4, 3]  # m2 uploaded in vain, and was left in peace for one step


def test_in_resilient_mode_a_step_is_made_of_those_who_answer(tmp_path):
    there = village(tmp_path, 4, 0.0, lost=lambda trip, member, way: (trip, member) == (2, "m3"))
    result = there.run(pool_task(Mode.RESILIENT, **ALL, rounds=1), collaboration="pooled")
    assert result.answered == (3,)
    # the three's records, divided by what is expected of three of four: half of 12 is a quarter less
    assert np.allclose(result.point, 0.1 * 4 * (0.0 + 0.1 + 0.2) / (12 * 3 / 4), atol=1e-6)


def test_below_the_quorum_it_aborts_and_says_how_many_of_how_many(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: trip == 3 and member != "m0")
    with pytest.raises(Abort, match="step 2: 1 of 3 members answered, need 2"):
        there.run(pool_task(rounds=3), collaboration="pooled")


def told(there, lie, **changes):
    """Run with a coordinator that shows `m1` another step than the others; return its result, or None."""
    entry, liar = CATALOG["pooled"], MemberId("m1")

    def lying(running):
        asks = next(running)
        while True:
            asks = {m: lie(a) if m == liar and isinstance(a, Step) else a for m, a in asks.items()}
            answers = yield asks
            try:
                asks = running.send(answers)
            except StopIteration as end:
                return end.value

    outbox = there.outbox(collaboration="pooled", road=MemoryRoad(there.road.ends))
    running = entry.coordinate(sorted(there.houses), pool_task(**changes))
    try:
        return drive(lying(running), outbox, entry.wire)
    except Abort:
        return None


def test_another_point_shown_to_one_member_gives_a_sum_that_says_nothing(tmp_path):
    elsewhere = np.full(LENGTH, 5.0, np.float32)
    result = told(village(tmp_path, 3, 0.0), lambda ask: dataclasses.replace(ask, point=elsewhere), **ALL, rounds=1)
    assert result is None  # its masks are others: the members' commitments do not agree, and nothing is added up


@pytest.mark.parametrize(
    "change",
    [{"population": 24}, {"batch_size": 12}, {"noise_multiplier": 0.5}, {"clipping_norm": 2.0}, {"epsilon": 9.0}],
)
def test_another_rate_norm_or_noise_told_to_one_member_gives_no_sum(tmp_path, change):
    there = village(tmp_path, 3)
    result = told(
        there, lambda ask: dataclasses.replace(ask, recipe=dataclasses.replace(ask.recipe, **change)), rounds=1
    )
    assert result is None


class NoHome:
    """A home that must not be asked."""

    def stepped(self, recipe, step, point, request, slips):
        raise AssertionError("asked")


GOOD = {"steps": 1, "population": 24, "noise_multiplier": 2.0}
HERE = np.zeros(LENGTH, np.float32)


def ask(step=0, point=HERE, **changes) -> Step:
    request = "a request"
    return Step(recipe(**(GOOD | changes)), step, point, request, ())


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (Idle(1), ask(0)),  # the same step twice
        (Idle(0), ask(3)),  # beyond the last
        (Idle(0), ask(-1)),
        (Idle(0), ask(point=np.zeros(LENGTH + 1, np.float32))),
        (Idle(0), ask(point=np.full(LENGTH, np.nan, np.float32))),
        (Idle(0), ask(point=np.full(LENGTH, np.inf, np.float32))),
        (Idle(0), dataclasses.replace(ask(), request=None)),
        (Idle(0), ask(steps=2)),
        (Idle(0), ask(population=0)),
        (Idle(0), ask(optimizer="lion")),
        (Idle(0), ask(proximal=0.1)),
        (Idle(0), ask(epsilon=None, noise_multiplier=None, target_quantile=0.5)),
        (Idle(0), ask(noise_multiplier=None)),  # epsilon, and nobody's noise
        (Idle(0), Idle(0)),
    ],
)
def test_an_ask_out_of_order_out_of_shape_or_not_of_this_kind_never_reaches_the_home(state, asked):
    with pytest.raises(PeerError):
        state.answer(asked, NoHome())


def test_a_population_smaller_than_its_batch_is_no_recipe():
    with pytest.raises(ValueError, match="population"):
        recipe(**(GOOD | {"population": 7}))


@pytest.mark.parametrize("wrong", [{"steps": 2}, {"population": 0}, {"optimizer": "none"}])
def test_a_task_that_cannot_be_stepped_through_is_our_bug(wrong):
    with pytest.raises((LocalError, ValueError)):
        next(coordinate([MemberId("a")], pool_task(**wrong)))
    with pytest.raises(LocalError):
        next(coordinate([MemberId("a")], dataclasses.replace(pool_task(), point=np.zeros(LENGTH + 1, np.float32))))


@pytest.mark.parametrize("rule", RULES)
def test_the_coordinators_rule_is_the_members_own_optimiser(rule):
    descent, theirs = Descent(rule, 0.3, 8), optimiser(rule, 0.3)
    for seed in range(20):
        gradient = np.random.default_rng(seed).normal(size=8)
        assert np.allclose(descent.step(gradient, slice(0, 8)), theirs.step(gradient), rtol=1e-12, atol=0)


def test_an_entry_that_no_step_chose_keeps_its_state():
    whole, part = Descent("adam", 0.1, 4), Descent("adam", 0.1, 4)
    chosen = np.array([1, 3])
    for seed in range(6):
        gradient = np.random.default_rng(seed).normal(size=4)
        if seed % 2:
            part.step(gradient[:1], slice(0, 1))  # another entry's turn
        moved = part.step(gradient[chosen], chosen)
        assert np.allclose(moved, whole.step(gradient, slice(0, 4))[chosen])


def test_words_are_sized_for_the_batch_and_not_for_all_records():
    terms = Terms(Mode.STRICT, 2, 1)
    scales = [spec_of(recipe(**(GOOD | {"population": p})), terms, 3, 0).scale for p in (24, 2400, 24 * 10**6)]
    assert scales[0] > scales[1] >= scales[2] > scales[1] / 3
    whole = spec_of(recipe(**(GOOD | {"unit": Unit.MEMBER})), terms, 3, 0)
    assert whole == recipe(**(GOOD | {"unit": Unit.MEMBER})).spec(terms, 3, 0)


def test_the_batch_may_be_larger_than_its_words_hold_and_only_use_is_lost(tmp_path):
    """Everybody has far more records than declared: the sum wraps, the step is of no use, and nothing breaks."""
    there = village(tmp_path, 3)
    result = there.run(pool_task(population=6, batch_size=6, rounds=2), collaboration="pooled")
    assert result.answered == (3, 3)
    assert np.isfinite(result.point).all()


def test_a_task_survives_the_wire():
    wire = CATALOG["pooled"].wire
    decoded = wire.decode(wire.encode(pool_task()))
    assert isinstance(decoded, Pool)
    require_sampled(decoded.recipe)
