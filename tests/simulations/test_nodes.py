"""The folders of a deployment on this machine: each home has its policy, and has approved the roster of them all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.artefacts import read_artefact
from client.folder import Folder
from client.model import load_base
from client.opening import identity_of, open_house
from client.roster import approved_roster
from client.settings import Settings
from privacy.policy import Budget, Permission, Policy
from privacy.units import Kind, Level, Relation, Unit
from simulations.collaborations import run_of
from simulations.collaborations.judged import trial_of
from simulations.engine import declared_of
from simulations.experiment import load_experiment
from simulations.nodes import policy_toml, prepare, settle
from simulations.texts import lay_out, training
from simulations.village import raise_village

PERMISSIONS = st.builds(
    Permission,
    partner=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    level=st.sampled_from(Level),
    collaborations=st.just(("average",)),
    smallest_crowd=st.integers(1, 99),
    unsafe_without_noise=st.booleans(),
    colluding=st.integers(0, 99),
    attempts=st.integers(1, 99),
    unsafe_plain_sum=st.booleans(),
    epsilon=st.none() | st.floats(0.01, 99),
    redaction=st.text(max_size=9),
    releases_per_day=st.none() | st.integers(1, 99),
    bytes_per_day=st.none() | st.integers(1, 2**40),
    disclosures=st.none() | st.integers(0, 99),
    expires=st.none() | st.dates(),
    purposes=st.none() | st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3).map(tuple),
    approval=st.booleans(),
    tells=st.lists(st.sampled_from([Kind.COUNT, Kind.METRIC, Kind.TIMING, Kind.CAPABILITY])).map(tuple),
)
BUDGETS = st.builds(
    Budget,
    st.floats(0.1, 99),
    st.floats(1e-12, 1e-3),
    st.sampled_from(Unit),
    st.sampled_from(Relation),
    st.lists(st.floats(1.05, 1024), max_size=4).map(tuple),
    st.integers(2, 999),
    st.floats(0, 1e-13),
    st.integers(0, 9999),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(BUDGETS, PERMISSIONS, st.booleans())
def test_a_policy_is_read_as_it_was_written(
    tmp_path: Path, budget: Budget, allowed: Permission, seeded: bool
) -> None:
    policy = Policy(1, budget, (allowed,), seeded)
    (tmp_path / "policy.toml").write_text(policy_toml(policy), encoding="utf-8")
    assert Policy.load(tmp_path / "policy.toml") == policy


def test_floors_and_unsafe_text_are_read_as_they_were_written(tmp_path: Path) -> None:
    allowed = Permission("p", Level.TEXT, ("quote",), least_noise=0.7, unsafe_unredacted_text=True)
    policy = Policy(1, Budget(8.0, 1e-5), (allowed,))
    (tmp_path / "policy.toml").write_text(policy_toml(policy), encoding="utf-8")
    assert Policy.load(tmp_path / "policy.toml") == policy


def test_every_home_of_a_deployment_has_approved_the_roster_of_them_all(
    experiment_file: Path, tmp_path: Path
) -> None:
    experiment = load_experiment(experiment_file)
    nodes = settle(experiment, lay_out(experiment, experiment_file, tmp_path / "data"), tmp_path / "nodes")
    keys = {name: identity_of(Folder(home)).public for name, home in nodes.homes.items()}
    assert len(keys) == 3
    for home in nodes.homes.values():
        assert dict(approved_roster(Folder(home)).keys) == keys


def test_a_home_on_a_node_trains_and_holds_back_what_the_same_member_does_in_a_simulation(
    experiment_file: Path, tmp_path: Path
) -> None:
    """The same rank, and the same validation records: else the same seed would give another adapter."""
    text = (
        experiment_file.read_text()
        .replace('name = "average"', 'name = "extrapolate"')
        .replace("rounds = 2", "rounds = 1")
    )
    text = text.replace('data = "ash"', 'data = "ash"\nrank = 1')
    experiment_file.write_text(text + '\n[utility]\ningredients = ["base", "base"]\nvalidation = 0.3\n')
    experiment = load_experiment(experiment_file)
    texts = lay_out(experiment, experiment_file, tmp_path / "data")
    nodes = settle(experiment, texts, tmp_path / "nodes")
    base = load_base(experiment.model_path)
    village = raise_village(experiment, training(texts), base, tmp_path / "village")
    asked = trial_of(replace(experiment, utility=replace(experiment.utility, population=9)), base.digest, "", 1)
    for member, villager in village.villagers.items():
        folder = Folder(nodes.homes[member])
        house, shelf = open_house(folder, Settings.load(folder.settings))
        there, here = house.records(asked), villager.house.records(asked)
        assert house.most_rank == villager.house.most_rank == (1 if member == "ash" else None)
        for one, other in zip(there, here, strict=True):
            assert len(one) == len(other) > 0
            assert np.array_equal(one.tokens, other.tokens)
        house.close()
        shelf.close()
    village.close()


def test_what_a_merge_joins_is_in_every_home_of_a_deployment_and_charged_there(
    experiment_file: Path, tmp_path: Path
) -> None:
    experiment_file.write_text(experiment_file.read_text().replace('name = "average"', 'name = "merge"'))
    experiment = load_experiment(experiment_file)
    texts = lay_out(experiment, experiment_file, tmp_path / "data")
    base = load_base(experiment.model_path)
    orders = run_of(experiment).orders(experiment, base, declared_of(training(texts), base))
    nodes = settle(experiment, texts, tmp_path / "nodes", orders)
    prepare(experiment, nodes)
    for name, home in nodes.homes.items():
        assert read_artefact(home / "adapters", "merging").values.any()
        assert nodes.statement(name).charges == 1
