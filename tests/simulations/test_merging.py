"""Adapters that were trained apart, in real homes: charged once when they were trained, derived from when merged."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from client.adapter import Layout, load
from client.artefacts import read_artefact
from client.declared import declare
from client.kept import Exercise, LoraSettings, PrivacySettings, StepSettings, train
from client.model import load_base
from privacy.config import ConfigError
from privacy.refusal import BudgetExceeded, CrowdTooSmall, Refused
from privacy.units import Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort, PeerError
from protocols.session import drive
from protocols.weights.blending import trimmed
from protocols.weights.merge import Merge, MergePlan, Method, Protection
from simulations.collaborations.merge import MergeRun
from simulations.engine import settle, simulate
from simulations.experiment import PrivacyTable, load_experiment
from simulations.plan import make_plan
from simulations.tables import MergeTable
from simulations.texts import lay_out, training
from simulations.village import policy_for

LORA = LoraSettings(2, 4.0, ("q_proj", "v_proj"))
STEPS = StepSettings(16, 2, 4, "sgd", 0.5, 1.0)
EXERCISE = Exercise(7, LORA, STEPS, PrivacySettings(4.0))


@pytest.fixture
def village(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    there = settle(experiment, texts, load_base(experiment.model_path), tmp_path / "village")
    merging = replace(experiment, collaboration=replace(experiment.collaboration, name="merge"))
    policy = policy_for(merging, str(there.coordinator.public))
    for member, villager in there.villagers.items():
        budget = villager.house.policy().budget
        villager.house.policy = lambda budget=budget: replace(policy, budget=budget)
        villager.house.adapters = partial(read_artefact, tmp_path / member)
    yield there
    there.close()


def taught(village, folder, exercises=None) -> dict[str, tuple[Layout, np.ndarray]]:
    for i, (member, villager) in enumerate(village.villagers.items()):
        train(villager.house, "mine", exercises[i] if exercises else EXERCISE, folder / member)
    return {m: load(folder / m / "mine") for m in village.members}


def plan_of(layout: Layout, base: str, **changes) -> MergePlan:
    given = {"base": base, "adapter": "mine", "method": Method.ARITHMETIC, "layout": layout.digest, "bound": 1.0}
    return MergePlan(**(given | {"length": layout.size, "protection": Protection.TRAINING} | changes))


def run(village, plan: MergePlan, experiment_terms, why=None):
    ends = village.ends
    if why is not None:
        ends = {m: partial(witness, end, why) for m, end in ends.items()}
    outbox = village.outbox("5e55" + plan.method.value, "merge", MemoryRoad(ends))
    try:
        return drive(
            CATALOG["merge"].coordinate(village.members, Merge(plan, 3, experiment_terms)),
            outbox,
            CATALOG["merge"].wire,
        )
    finally:
        outbox.close()


def witness(deliver, why, sealed):
    try:
        return deliver(sealed)
    except (Refused, PeerError) as fault:
        why.append(fault)
        raise


@pytest.fixture
def terms(experiment_file):
    return load_experiment(experiment_file).terms


def base_of(village) -> str:
    return next(iter(village.villagers.values())).house.base.digest


def lines(villager, kind: str) -> list[dict]:
    return [found for found in map(json.loads, villager.house.ledger.lines()) if found["kind"] == kind]


def test_an_adapter_is_charged_when_it_is_trained_and_never_again_however_often_it_is_merged(
    village, terms, tmp_path
):
    kept = taught(village, tmp_path)
    before = {m: v.statement for m, v in village.villagers.items()}
    assert all(s.charges == 1 and 0 < s.spent.epsilon <= 8.0 for s in before.values())
    layout = kept["ash"][0]
    points = np.array([vector.astype(np.float64) for _, vector in kept.values()])
    made = run(village, plan_of(layout, base_of(village)), terms).adapter
    assert np.allclose(made, points.mean(axis=0), atol=1e-8)
    made = run(village, plan_of(layout, base_of(village), method=Method.TIES, density=0.5), terms).adapter
    assert np.allclose(made, by_the_paper(points, 0.5), atol=1e-7)
    run(village, plan_of(layout, base_of(village), method=Method.DARE, density=0.5), terms)
    for member, villager in village.villagers.items():
        after = villager.statement
        assert (after.spent, after.charges, after.disclosures) == (before[member].spent, 1, 0)
        (charged,) = lines(villager, "charged")
        derived = lines(villager, "derived")
        assert len(derived) == 1 + 1 + 2 + 1
        assert {d["of"] for d in derived} == {charged["seq"]}
        assert charged["partner"] == "home"
        assert len(lines(villager, "emitted")) >= 4
        villager.house.ledger.require_totals()


def by_the_paper(points: np.ndarray, density: float) -> np.ndarray:
    kept = np.array([trimmed(p, density) for p in points])
    agree = (np.sign(kept) == np.sign(kept.sum(axis=0))) & (kept != 0)
    return np.where(agree.any(axis=0), (kept * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1), 0.0)


def test_adapters_with_other_seeds_and_ranks_are_summed_exactly_by_two_sketches(village, terms, tmp_path):
    exercises = [replace(EXERCISE, seed=s, lora=replace(LORA, rank=r)) for s, r in ((1, 1), (2, 2), (3, 3))]
    kept = taught(village, tmp_path, exercises)
    slots = kept["ash"][0].slots
    outputs, inputs = tuple(s.outputs for s in slots), tuple(s.inputs for s in slots)
    plan = replace(
        plan_of(kept["ash"][0], base_of(village)),
        method=Method.SKETCH, layout="", width=6, outputs=outputs, inputs=inputs, seed=5,
    )  # fmt: skip
    made = run(village, plan, terms).adapter
    q, z = np.split(made.astype(np.float64), [6 * sum(outputs)])
    for i, slot in enumerate(slots):
        whole = q[6 * sum(outputs[:i]) :][: 6 * slot.outputs].reshape(slot.outputs, 6)
        whole = whole @ z[6 * sum(inputs[:i]) :][: 6 * slot.inputs].reshape(6, slot.inputs)
        own = [
            layout.scale * layout.split(vector)[slot.name].astype(np.float64) @ layout.frozen(slot)
            for layout, vector in kept.values()
        ]
        assert np.linalg.norm(whole - np.mean(own, axis=0)) <= 1e-6 * np.linalg.norm(np.mean(own, axis=0))


def test_an_adapter_that_was_edited_after_it_was_trained_leaves_no_home(village, terms, tmp_path):
    kept = taught(village, tmp_path)
    layout, vector = kept["birch"]
    edited = vector.copy()
    edited[0] += 1
    house = village.villagers["birch"].house
    house.adapters = lambda name: replace(read_artefact(tmp_path / "birch", name), values=edited)
    why = []
    with pytest.raises(Abort):
        run(village, plan_of(layout, base_of(village)), terms, why)
    assert [str(w) for w in why if isinstance(w, Refused)] == [
        "nothing was charged for this: it is not what was drawn here, or it was changed"
    ]
    assert len(lines(village.villagers["birch"], "derived")) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": "b" * 64}, "another base model"),
        ({"layout": "l" * 64}, "another layout"),
        ({"adapter": "other"}, "no adapter of this name"),
        ({"members": ("nobody",), "weights": (1.0,)}, "no weight"),
    ],
)
def test_a_plan_that_does_not_fit_a_homes_adapter_costs_nothing(village, terms, tmp_path, change, words):
    layout = taught(village, tmp_path)["ash"][0]
    why = []
    with pytest.raises(Abort):
        run(village, replace(plan_of(layout, base_of(village)), **change), terms, why)
    assert len(why) >= 3
    assert all(words in str(w) for w in why[:3])
    assert all(len(lines(v, "derived")) == 1 for v in village.villagers.values())


def test_a_disclosure_and_a_name_that_is_taken_are_refused(village, terms, tmp_path):
    layout = taught(village, tmp_path)["ash"][0]
    why = []
    with pytest.raises(Abort):
        run(village, plan_of(layout, base_of(village), protection=Protection.NONE), terms, why)
    assert all("unsafe_without_noise" in str(w) for w in why)
    house = village.villagers["ash"].house
    with pytest.raises(ConfigError, match="there is one already"):
        train(house, "mine", EXERCISE, tmp_path / "ash")
    with pytest.raises(ConfigError, match="letters"):
        train(house, "../mine", EXERCISE, tmp_path / "ash")


@pytest.mark.parametrize(
    ("method", "unit", "epsilon"),
    [
        (Method.TIES, Unit.RECORD, 8.0),
        (Method.DARE, Unit.RECORD, 8.0),
        (Method.ARITHMETIC, Unit.MEMBER, 8.0),
        (Method.ARITHMETIC, Unit.RECORD, None),
    ],
)
def test_an_experiment_goes_through_plan_training_merge_and_ledger(experiment_file, tmp_path, method, unit, epsilon):
    experiment = load_experiment(experiment_file)
    experiment = replace(
        experiment,
        collaboration=replace(experiment.collaboration, name="merge"),
        merge=MergeTable(method, density=0.5),
        privacy=PrivacyTable(unit, epsilon, unsafe_without_noise=epsilon is None),
    )
    texts, base = training(lay_out(experiment, experiment_file, tmp_path / "data")), load_base(experiment.model_path)
    plan = make_plan(experiment, base, {n: declare(t, base.tokenizer) for n, t in texts.items()})
    outcome, there = simulate(experiment, texts, base, tmp_path / "village")
    statements = [v.statement for v in there.villagers.values()]
    received = max(v.bytes_received for v in there.villagers.values())
    there.close()
    assert outcome.answered == (3,) * (2 if method is Method.TIES else 1)
    assert outcome.adapter.any()
    assert sum(plan.bytes_opening) + plan.bytes_down < received * 1.5
    if epsilon is None:
        assert all((s.charges, s.disclosures) == (0, 1) for s in statements)
        return
    assert all((s.charges, s.disclosures) == (1, 0) for s in statements)
    for statement, member in zip(statements, plan.members, strict=True):
        assert statement.spent.epsilon == pytest.approx(member.guarantee.epsilon, rel=0.02)
        assert statement.spent.unit is unit


def test_what_the_budget_has_no_room_for_is_not_trained(village, tmp_path):
    house = village.villagers["ash"].house
    wide = replace(EXERCISE, privacy=PrivacySettings(8.0))
    train(house, "first", wide, tmp_path / "ash")
    with pytest.raises(BudgetExceeded):
        train(house, "second", wide, tmp_path / "ash")
    assert not (tmp_path / "ash" / "second").exists()
    assert house.policy().allow[0].partner != "home"


def test_a_sketch_wider_than_any_rank_could_be_is_refused_before_it_fills_the_memory(village, terms, tmp_path):
    layout, why = taught(village, tmp_path)["ash"][0], []
    outputs, inputs = tuple(s.outputs for s in layout.slots), tuple(s.inputs for s in layout.slots)
    plan = replace(
        plan_of(layout, base_of(village)),
        method=Method.SKETCH, layout="", width=1000, outputs=outputs, inputs=inputs, seed=5,
    )  # fmt: skip
    with pytest.raises(Abort):
        run(village, plan, terms, why)
    assert "a sketch wider than" in str(why[0])
    assert all(len(lines(v, "derived")) == 1 for v in village.villagers.values())


@pytest.mark.parametrize(
    ("weights", "merged"), [((1.0, 1e-9, 1e-9), False), ((1.0, 0.9, 0.05), False), ((1.0, 0.5, 0.2), True)]
)
def test_weights_that_leave_one_adapter_alone_in_a_sum_without_noise_are_refused(
    village, terms, tmp_path, weights, merged
):
    layout, vector = taught(village, tmp_path, [replace(EXERCISE, privacy=None)] * 3)["ash"]
    for villager in village.villagers.values():
        policy = villager.house.policy()
        allow = tuple(replace(p, unsafe_without_noise=True) for p in policy.allow)
        laxer = replace(policy, allow=allow)
        villager.house.policy = lambda policy=laxer: policy
    plan, why = plan_of(layout, base_of(village), protection=Protection.NONE), []
    plan = replace(plan, members=tuple(village.members), weights=weights)
    if merged:
        assert run(village, plan, terms).answered == (3,)
        return
    with pytest.raises(Abort):  # else with the first weights the sum is ash's adapter, to nine digits
        made = run(village, plan, terms, why)
        assert not np.allclose(made.adapter * sum(weights), vector, atol=1e-6)
    assert isinstance(why[0], CrowdTooSmall)
    assert lines(village.villagers["ash"], "disclosed") == []


def test_weights_that_would_leave_an_adapter_alone_are_refused_by_key_before_anything_is_trained(experiment_file):
    experiment = load_experiment(experiment_file)
    bare = PrivacyTable(epsilon=None, unsafe_without_noise=True)
    members = tuple(replace(m, weight=0.01 if m.name != "ash" else 1.0) for m in experiment.members)
    merging = replace(experiment.collaboration, name="merge")
    experiment = replace(experiment, collaboration=merging, privacy=bare, members=members)
    base = load_base(experiment.model_path)
    with pytest.raises(ConfigError, match=r"members\.ash\.weight: no noise, and fewer than 3 members"):
        MergeRun().merging(experiment, base)
    noised = replace(experiment, privacy=PrivacyTable(epsilon=8.0))
    assert MergeRun().merging(noised, base).protection is Protection.TRAINING
