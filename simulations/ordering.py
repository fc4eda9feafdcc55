"""Order an experiment from a coordinator, watch the run, and fetch its result."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from client.model import Base
from protocols.catalog import CATALOG
from protocols.wire import Message
from server.control import Client
from server.rounds import ORDERS, Order
from simulations.collaborations import run_of
from simulations.experiment import Experiment

TRIP_DEADLINE_S = 600.0
_AT_HOME = "why is in its run/daemon.log, for its operator alone"
_WHY = {
    "no-answer": f"its home refused, or could not answer; {_AT_HOME}",
    "late": "no answer in time",
    "away": "it was not on the stream",
    "flower-3": "no answer in time",
    "flower-5": "its node was not connected",
}


class RunFailed(Exception):
    """The run ended without a result; says what the coordinator wrote down."""


def order_for(experiment: Experiment, base: Base) -> bytes:
    """Return the encoded order that a coordinator runs."""
    name = experiment.collaboration.name
    task = CATALOG[name].wire.encode(run_of(experiment).task(experiment, base))
    members = tuple(m.name for m in experiment.members)
    return ORDERS.encode(Order(name, members, task, TRIP_DEADLINE_S, experiment.purpose, experiment.carrier))


def watch(client: Client, run: str, expected: int, console: Console) -> Mapping[str, Any]:
    """Show progress until the run has ended, and return its last view. Raises: RunFailed."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} trips"),
        TimeElapsedColumn(), console=console,
    ) as bar:  # fmt: skip
        task = bar.add_task("the members train", total=expected)
        while True:
            view = client.view(run)
            trips = view["trips"]
            said = f"{len(trips[-1]['answered'])} of {trips[-1]['asked']} answered" if trips else "the members train"
            bar.update(task, completed=min(len(trips), expected), description=said)
            if view["state"] != "running":
                break
            time.sleep(0.5)
    for line in missing(trips):
        console.print(line, highlight=False, markup=False)
    if view["state"] == "failed":
        failure = view["failure"]
        raise RunFailed(f"{failure.get('error', 'failed')}: {failure.get('message', '')}")
    return view


def missing(trips: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line for each member that was silent: in which trips, and what is known of why."""
    silent: dict[str, dict[int, str]] = {}
    for trip in trips:
        for member, why in trip["silent"].items():
            silent.setdefault(member, {})[trip["trip"]] = why
    return [
        f"{member} was silent in trip {', '.join(map(str, whys))}: {_WHY.get(why, why)}"
        for member, whys in sorted(silent.items())
        for why in [next(iter(whys.values()))]
    ]


def collect(client: Client, run: str, collaboration: str) -> Message:
    """Return the decoded result of a run that has succeeded."""
    return CATALOG[collaboration].wire.decode(client.result(run))
