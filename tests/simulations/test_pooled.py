"""Pooled steps on real homes: as good as training in one place, and what a coordinator cannot ask for."""

from dataclasses import replace

import numpy as np
import pytest

from client.declared import declare
from client.model import load_base
from client.training.clipping import Clipper
from client.training.unit_gradients import Gradients
from privacy.config import ConfigError
from privacy.policy import Policy
from privacy.refusal import Refused
from privacy.units import NOISE_OF_OTHERS, Relation, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort, PeerError
from protocols.session import MemberId, drive
from protocols.weights.descent import Descent
from protocols.weights.pooled import Pool, Step
from simulations.collaborations.pooled import PooledRun
from simulations.compare import what_the_coordinator_saw
from simulations.engine import complete, run_in_process, settle, simulate
from simulations.experiment import load_experiment
from simulations.plan import make_plan
from simulations.planning import as_json, show
from simulations.texts import lay_out, training


@pytest.fixture
def scene(experiment_file, tmp_path):
    text = experiment_file.read_text().replace('name = "average"', 'name = "pooled"')
    experiment_file.write_text(text.replace("batch_size = 4", "batch_size = 12"))
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    base = load_base(experiment.model_path)
    return complete(experiment, texts, base), texts, base


@pytest.fixture
def raised(scene, tmp_path):
    """Raise villages of the experiment, with changes."""
    villages = []

    def make(**changes):
        experiment, texts, base = scene
        villages.append(settle(replace(experiment, **changes), texts, base, tmp_path / f"village{len(villages)}"))
        return villages[-1]

    yield make
    for village in villages:
        village.close()


def run(village, task: Pool, alter=lambda _member, ask: ask):
    """Drive a coordinator that alters its asks; return its result or None, and why members were silent."""
    why: dict[str, Exception] = {}

    def witnessed(name, deliver):
        def end(sealed: bytes) -> bytes:
            try:
                return deliver(sealed)
            except (Refused, PeerError) as fault:
                why[name] = fault
                raise

        return end

    def altered(running):
        asks = next(running)
        while True:
            answers = yield {m: alter(m, a) if isinstance(a, Step) else a for m, a in asks.items()}
            try:
                asks = running.send(answers)
            except StopIteration as end:
                return end.value

    road = MemoryRoad({m: witnessed(m, end) for m, end in village.ends.items()})
    entry = CATALOG["pooled"]
    outbox = village.outbox("5e55", "pooled", road)
    try:
        return drive(altered(entry.coordinate(village.members, task)), outbox, entry.wire), why
    except Abort:
        return None, why


def charged(village) -> int:
    return sum(len(list(v.house.ledger.entries())) for v in village.villagers.values())


def with_recipe(task: Pool, **changes) -> Pool:
    return replace(task, recipe=replace(task.recipe, **changes))


@pytest.fixture
def untouched(monkeypatch) -> list[int]:
    """How often somebody computed gradients of private records."""
    looked, vectors = [], Gradients.vectors

    def noted(self, chosen, randomness):
        looked.append(1)
        return vectors(self, chosen, randomness)

    monkeypatch.setattr(Gradients, "vectors", noted)
    return looked


@pytest.mark.slow
def test_without_noise_and_with_every_record_it_is_descent_on_the_union_in_one_place(scene, raised):
    experiment, _, base = scene
    bare = replace(experiment, privacy=replace(experiment.privacy, epsilon=None, unsafe_without_noise=True))
    village = raised(privacy=bare.privacy)
    fitted = {m: v.house for m, v in village.villagers.items()}
    task = PooledRun().task(bare, base)
    result, _ = run(village, task := with_recipe(task, batch_size=task.recipe.population, clipping_norm=0.5))
    point, descent = np.zeros(task.recipe.length), Descent("sgd", 0.5, task.recipe.length)
    for _ in range(task.recipe.rounds):
        total = np.zeros(point.size)
        for house in fitted.values():
            ready = house.fit(task.recipe)
            everybody = np.arange(ready.records.units)
            here = point.astype(np.float32).astype(np.float64)
            total += Clipper(ready.adapted, 0.5, 8).sum(here, ready.records, everybody)
        point += descent.step(total / task.recipe.population, slice(0, point.size))
    assert np.linalg.norm(result.point) > 1e-3
    assert np.abs(result.point - point).max() < 1e-6


def test_a_run_costs_everybody_what_the_plan_said_and_reaches_the_promise(scene, tmp_path):
    experiment, texts, base = scene
    plan = make_plan(experiment, base, {n: declare(t, base.tokenizer) for n, t in texts.items()})
    outcome, village = simulate(experiment, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    village.close()
    assert outcome.answered == (3,) * 4  # two rounds of two steps, each a letter
    for statement in statements:
        assert (statement.charges, statement.disclosures) == (4, 0)
        assert statement.spent.unit is Unit.RECORD
        assert NOISE_OF_OTHERS in statement.spent.assumptions
        assert statement.spent.epsilon == pytest.approx(plan.members[0].guarantee.epsilon, rel=1e-9)
        assert 7.9 < statement.spent.epsilon <= 8.0
    assert {m.rate for m in plan.members} == {12 / experiment.pooled.population}
    assert as_json(plan)["recipe"]["population"] == experiment.pooled.population


def test_the_noise_in_a_step_is_what_two_honest_members_must_have_and_a_third_adds_its_own(scene, raised):
    experiment, _, base = scene
    village, task = raised(), PooledRun().task(experiment, base)
    result, _ = run(village, with_recipe(task, rounds=1, clipping_norm=1e-6, learning_rate=1.0))
    z = task.recipe.noise_multiplier
    expected = z * np.sqrt(3 / 2) * 1e-6 / task.recipe.batch_size  # two of three are taken to be honest
    assert np.std(result.point) == pytest.approx(expected, rel=0.2)


def test_whole_members_are_protected_by_clipping_their_own_mean(scene, tmp_path):
    experiment, texts, base = scene
    whole = replace(experiment, privacy=replace(experiment.privacy, unit=Unit.MEMBER))
    outcome, village = simulate(whole, texts, base, tmp_path / "village")
    statement = next(iter(village.villagers.values())).statement
    village.close()
    assert outcome.answered == (3,) * 4
    assert statement.spent.unit is Unit.MEMBER
    assert statement.spent.relation is Relation.ZERO_OUT
    assert 7.9 < statement.spent.epsilon <= 8.0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"noise_multiplier": 0.01}, "promise"),  # less noise than promised
        ({"noise_multiplier": 1e-5}, "promise|narrow"),
        ({"batch_size": 59}, "promise"),  # a higher rate at the same noise
        ({"rounds": 400}, "promise"),  # more steps at the same noise
        ({"epsilon": 100.0, "noise_multiplier": 0.2}, "budget|epsilon|left"),  # a lesser promise than the budget's
        ({"population": 13}, "smaller than this home's own data"),
        ({"record_tokens": 2}, "tokens"),  # a record made small
        ({"unit": Unit.MEMBER}, "budget is per record"),
        ({"epsilon": None, "noise_multiplier": None}, "without noise"),
        ({"clipping_norm": 1e9}, "norm"),
    ],
)
def test_what_is_asked_of_a_home_against_its_promise_policy_or_data_is_refused_before_a_record_is_read(
    scene, raised, untouched, changes, fault
):
    experiment, _, base = scene
    village, task = raised(), PooledRun().task(experiment, base)
    result, why = run(village, with_recipe(task, **changes))
    assert result is None
    assert set(why) == {"ash", "birch", "cedar"}
    for said in why.values():
        assert any(word in str(said) for word in fault.split("|")), said
    assert charged(village) == 0
    assert untouched == []


def test_another_point_shown_to_one_member_gives_no_sum_and_costs_the_step(scene, raised):
    experiment, _, base = scene
    village, task = raised(), with_recipe(PooledRun().task(experiment, base), rounds=4)

    def lie(member, ask):
        return replace(ask, point=ask.point + np.float32(0.1)) if (member, ask.step) == ("ash", 1) else ask

    result, _ = run(village, task, lie)
    assert result is None or result.answered[1] == 0


def test_the_same_step_again_is_refused_and_what_it_gave_stays_one_draw(scene, raised):
    experiment, _, base = scene
    village, task = raised(), PooledRun().task(experiment, base)
    result, why = run(village, task, lambda _m, ask: replace(ask, step=0))
    assert result is None or result.answered[1:] == (0,) * 3
    assert {str(w) for w in why.values()} == {"a step out of order"}
    assert charged(village) == 3  # the first step's, once each


def test_a_home_with_a_poisoned_batch_moves_a_step_by_its_sample_times_the_norm_at_most(scene, raised, monkeypatch):
    experiment, _, base = scene
    bare = replace(experiment.privacy, epsilon=None, unsafe_without_noise=True)
    task = PooledRun().task(replace(experiment, privacy=bare), base)
    task = with_recipe(task, batch_size=task.recipe.population, rounds=1, learning_rate=1.0)
    honest, _ = run(raised(privacy=bare), task)
    each, sizes = Clipper.one_by_one, []

    def poisoned(self, point, records, units, randomness=None):
        sizes.append(units.size)
        for some in each(self, point, records, units, randomness):
            yield np.full_like(some, 3e38) if len(sizes) == 1 else some  # the first home's clipping is broken, too

    monkeypatch.setattr(Clipper, "one_by_one", poisoned)
    moved, _ = run(raised(privacy=bare), task)
    most = 2 * sizes[0] * task.recipe.clipping_norm / task.recipe.batch_size
    assert 0 < np.linalg.norm(moved.point - honest.point) <= most


def test_a_budget_that_is_spent_in_the_middle_stops_the_steps_and_not_the_ledger(scene, raised):
    experiment, _, base = scene
    village, task = raised(), PooledRun().task(experiment, base)
    seen = []

    def tighten(member, ask):
        if ask.step == 2 and not seen:
            for villager in village.villagers.values():
                policy = villager.house.policy()
                villager.house.policy = lambda p=policy: Policy(1, p.budget, (), p.unsafe_seeded_randomness)
            seen.append(member)
        return ask

    result, why = run(village, task, tighten)
    assert result is None
    assert set(why) == {"ash", "birch", "cedar"}
    assert charged(village) == 6


def test_a_plain_sum_of_samples_is_refused_by_key(experiment_file):
    text = experiment_file.read_text().replace('name = "average"', 'name = "pooled"\nunsafe_plain_sum = true')
    experiment_file.write_text(text)
    with pytest.raises(ConfigError, match="unsafe_plain_sum"):
        load_experiment(experiment_file)


def test_without_a_population_there_is_no_order_and_the_key_is_named(scene):
    experiment, _, base = scene
    unknown = replace(experiment, pooled=replace(experiment.pooled, population=0))
    with pytest.raises(ConfigError, match=r"pooled\.population"):
        PooledRun().task(unknown, base)


def test_its_yardstick_is_central_dp_sgd_with_as_many_steps(scene, tmp_path):
    experiment, texts, base = scene
    pooled = PooledRun().alone(experiment, "pooled", 3)
    assert (pooled.collaboration.name, pooled.collaboration.rounds, pooled.training.steps) == ("average", 1, 4)
    assert pooled.training.batch_size == experiment.training.batch_size
    assert PooledRun().alone(experiment, "ash", 1).training.batch_size == 4
    together = {"pooled": [t for each in texts.values() for t in each]}
    outcome, village = simulate(pooled, together, base, tmp_path / "one")
    assert next(iter(village.villagers.values())).statement.spent.epsilon <= 8.0
    village.close()
    assert outcome.answered == (1,)


def test_what_is_said_of_a_run_is_said_of_sums(scene, capsys):
    from rich.console import Console

    experiment, texts, base = scene
    assert "in every step the noised sum" in what_the_coordinator_saw(experiment)[0]
    plan = make_plan(experiment, base, {n: declare(t, base.tokenizer) for n, t in texts.items()})
    show(plan, Console(width=200))
    said = capsys.readouterr().out
    assert "in all 4 rounds" in said
    assert f"orders = [{plan.orders[0]:g}]" in said


def test_seeded_runs_are_the_same_twice(scene, tmp_path):
    experiment, texts, base = scene
    points = []
    for name in ("a", "b"):
        village = settle(experiment, texts, base, tmp_path / name)
        points.append(run_in_process(experiment, village, base).adapter)
        village.close()
    assert np.array_equal(*points)
    assert MemberId("ash") in village.villagers
