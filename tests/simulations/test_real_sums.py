"""Secure sums on real nodes: a daemon is killed at each stage, and the others' sum comes out."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.nodes import Nodes
from simulations.ordering import collect, order_for, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FOUR = '\n[[members]]\nname = "dogwood"\ndata = "dogwood"\n'
STAGES = ("Introduce", "Acknowledge", "Contribute", "Agree", "Reveal")  # the trips of a resilient run, in order
ROUNDS = 3


def four_members(experiment_file: Path) -> None:
    """Add a fourth member, and let the noise be the system's."""
    (experiment_file.parent / "dogwood").mkdir()
    for i in range(20):
        (experiment_file.parent / "dogwood" / f"{i:02d}.txt").write_text(f"dogwood says {i} " * 12, encoding="utf-8")
    text = experiment_file.read_text().replace("seed = 7\nunsafe_seeded_randomness = true", "seed = 7")
    text = text.replace("rounds = 2", f"rounds = {ROUNDS}").replace("epsilon = 8.0", "epsilon = 8.0")
    experiment_file.write_text(text + FOUR)


def kill(nodes: Nodes, name: str) -> None:
    os.kill(int((nodes.homes[name] / "run" / "daemon.pid").read_text().split()[0]), signal.SIGKILL)


def await_trips(client, run: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(client.view(run)["trips"]) < count and client.view(run)["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def raise_budgets(nodes: Nodes, times: int) -> None:
    """Let each home take part in so many runs."""
    for home in nodes.homes.values():
        file = home / "policy.toml"
        file.write_text(file.read_text().replace("epsilon = 8.0", f"epsilon = {8.0 * times}"))


def test_a_daemon_killed_at_any_stage_spoils_no_sum_of_the_others(experiment_file, short, deployment):
    four_members(experiment_file)
    with deployment(experiment_file, short / "real") as (experiment, _, base, nodes):
        raise_budgets(nodes, 2 * len(STAGES) + 2)
        with real.up(nodes, lambda _line: None) as client:
            for stage, trips in ((None, None), *((s, i) for i, s in enumerate(STAGES))):
                before = {n: nodes.statement(n).charges for n in nodes.homes}
                run = client.submit(order_for(experiment, base))
                if stage is not None:
                    await_trips(client, run, trips)  # that stage's trip is under way, or about to be
                    kill(nodes, "dogwood")
                view = watch(client, run, run_of(experiment).trips(experiment), Console(quiet=True))
                result = collect(client, run, experiment.collaboration.name)
                charged = {n: nodes.statement(n).charges - before[n] for n in nodes.homes}
                assert np.isfinite(result.adapter).all(), stage
                assert np.abs(result.adapter).max() > 0, stage
                assert len(view["trips"]) == 2 + 3 * ROUNDS + 1, stage
                check(stage, result.answered, charged)
                _await_daemon(nodes, "dogwood")


def check(stage: str | None, answered: tuple[int, ...], charged: dict[str, int]) -> None:
    """Every round has the three others, who are charged for each; the fourth is charged for what it uploaded."""
    others = {n: c for n, c in charged.items() if n != "dogwood"}
    assert set(others.values()) == {ROUNDS}, stage
    assert set(answered) <= {3, 4}, stage
    assert answered.count(4) <= charged["dogwood"] <= answered.count(4) + 1, stage
    if stage is None:
        assert answered == (4,) * ROUNDS
    elif stage in ("Introduce", "Acknowledge"):
        assert answered[1:] == (3,) * (ROUNDS - 1) or answered == (4,) * ROUNDS, (
            "before its keys were made it loses none"
        )
    else:
        assert answered[-1] == 3, "a daemon without keys took part"


def _await_daemon(nodes: Nodes, name: str) -> None:
    """Wait until the supervisor has started the daemon again, and it has its model."""
    import httpx

    socket = nodes.homes[name] / "run" / "operator.sock"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as http:
                if http.get("http://daemon/status").json()["loaded"]:
                    return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.2)
    raise AssertionError("the daemon did not come back")
