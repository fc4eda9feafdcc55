"""Every way to join adapters, on one village of real processes: the same seed gives the adapter of a simulation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from client.adapter import save
from client.card import Card
from client.model import Base, layout_of, load_base
from privacy.policy import Policy
from protocols.weights.merge import Method
from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.engine import complete, declared_of, run_in_process
from simulations.experiment import Experiment, PrivacyTable, load_experiment
from simulations.flower_engine import run_in_flower
from simulations.ordering import collect, order_for, watch
from simulations.tables import MergeTable, UtilityTable
from simulations.texts import MemberText, lay_out, training
from simulations.village import Village, policy_for, raise_village

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SUMS = {"merge": 1, "pooled": 2, "soup": 2, "search": 2, "extrapolate": 1, "pretrain": 2}
TRIPS = {"merge": 5, "pooled": 5, "soup": 5, "search": 5, "extrapolate": 4, "pretrain": 5}  # two open, one closes
JUDGED = ("soup", "search", "extrapolate")
BUDGET = 200.0  # for all of them, one after another, on the same data

Scene = tuple[list[Experiment], Mapping[str, MemberText], Base, tuple[float, ...]]


@pytest.fixture
def scene(experiment_file, tmp_path) -> Scene:
    """An experiment for each collaboration, the members' texts, the base, and the order that all are added up at."""
    plain = load_experiment(experiment_file)
    base, lora = load_base(plain.model_path), plain.lora
    layout = layout_of(base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=plain.seed)
    vector = (np.random.default_rng(3).normal(size=layout.size) * 0.3).astype(np.float32)
    save(tmp_path / "stirred", layout, vector, Card("stirred", "tiny", base.digest, (), ()))
    table = UtilityTable((str(tmp_path / "stirred"), "base"), validation=0.25, candidates=2, alphas=(0.5,))
    own = {
        "merge": {"merge": MergeTable(Method.TIES, density=0.5)},
        "pooled": {"training": replace(plain.training, steps=1, batch_size=12)},
        "pretrain": {
            "training": replace(plain.training, optimizer="adamw", learning_rate=0.01),
            "privacy": PrivacyTable(unsafe_without_noise=True),
        },
        **{name: {"utility": table} for name in JUDGED},
    }
    texts = lay_out(plain, experiment_file, tmp_path / "data")
    asked = [
        replace(plain, collaboration=replace(plain.collaboration, name=name, rounds=sums), **own[name])
        for name, sums in SUMS.items()
    ]
    orders = run_of(plain).orders(plain, base, declared_of(training(texts), base))
    return [complete(e, training(texts), base) for e in asked], texts, base, orders


def policy_of_all(experiments: list[Experiment], partner: str, orders: tuple[float, ...]) -> Policy:
    """A policy with a permission for each of them, and a budget for all."""
    policies = [policy_for(e, partner, orders) for e in experiments]
    budget = replace(policies[0].budget, epsilon=BUDGET)
    return replace(policies[0], budget=budget, allow=tuple(p.allow[0] for p in policies))


def settled(scene: Scene, folder: Path) -> Village:
    """A village in this process, its homes made like those of the nodes: one ledger each for all experiments."""
    experiments, texts, base, orders = scene
    village = raise_village(with_validation(experiments), training(texts), base, folder, orders)
    policy = policy_of_all(experiments, str(village.coordinator.public), orders)
    for member, villager in village.villagers.items():
        villager.house.policy = lambda: policy
        run_of(experiments[0]).prepare(experiments[0], villager.house, folder / member / "adapters")
    return village


def with_validation(experiments: list[Experiment]) -> Experiment:
    """The merge, in homes that hold records back as those who judge need it."""
    return replace(experiments[0], utility=next(e.utility for e in experiments if e.utility is not None))


def alike(one: Outcome, other: Outcome) -> bool:
    """Whether both came to the same adapter, by the same sums of the same members."""
    return (one.answered, one.notes) == (other.answered, other.notes) and np.array_equal(one.adapter, other.adapter)


def test_every_collaboration_on_real_nodes_comes_to_the_adapter_of_a_simulation(scene, tmp_path, short):
    experiments, texts, base, orders = scene
    village = settled(scene, tmp_path / "village")
    here = [run_in_process(e, village, base) for e in experiments]
    nodes = real.settle(with_validation(experiments), texts, short / "nodes", orders)
    policy = policy_of_all(experiments, str(nodes.coordinator.identity().public), orders)
    for home in nodes.homes.values():
        (home / "policy.toml").write_text(real.policy_toml(policy), encoding="utf-8")
    real.prepare(experiments[0], nodes)
    with real.up(nodes, lambda _line: None) as client:
        for experiment, expected in zip(experiments, here, strict=True):
            name = experiment.collaboration.name
            run = client.submit(order_for(experiment, base))
            trips = watch(client, run, run_of(experiment).trips(experiment), Console(quiet=True))["trips"]
            found = run_of(experiment).outcome(collect(client, run, name), [t["seconds"] for t in trips])
            assert len(trips) == run_of(experiment).trips(experiment) == TRIPS[name], name
            assert alike(found, expected), name
            assert name in JUDGED or np.abs(found.adapter).max() > 0, name
    for name, home in nodes.homes.items():
        there, simulated = nodes.statement(name), village.villagers[name].statement
        assert (there.charges, there.disclosures) == (simulated.charges, simulated.disclosures) == (8, 2), home
        assert there.spent.epsilon == simulated.spent.epsilon > 0
    village.close()


@pytest.mark.parametrize("name", ["pooled", "soup"])
def test_flowers_simulation_engine_comes_to_the_same_adapter(scene, tmp_path, name):
    experiments, _, base, _ = scene
    (experiment,) = [e for e in experiments if e.collaboration.name == name]
    found = []
    for folder, run in (("here", run_in_process), ("there", run_in_flower)):
        village = settled(scene, tmp_path / folder)
        found.append(run(experiment, village, base))
        village.close()
    assert alike(*found)
    assert found[0].answered == (3, 3)
