"""The folders of a deployment on this machine: each home has its policy, and has approved the roster of them all."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.folder import Folder
from client.opening import identity_of
from client.roster import approved_roster
from privacy.policy import Budget, Permission, Policy
from privacy.units import Kind, Level, Relation, Unit
from simulations.experiment import load_experiment
from simulations.nodes import policy_toml, settle
from simulations.texts import lay_out

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
