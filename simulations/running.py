"""Run an experiment on real nodes: order it from a coordinator that is up, watch it, and fetch what came of it.

Learns:  this side: the mean adapter, and who answered. Losses and ledgers stay with the members: what a run cost
         each of them, only they can say (`parley member ledger`).
"""

from pathlib import Path

from rich.console import Console

from client.model import load_base
from privacy.config import ConfigError
from server.control import Client
from server.folder import Folder
from simulations.artifact import save_adapter
from simulations.collaborations import run_of
from simulations.experiment import load_experiment
from simulations.ordering import collect, order_for, watch
from simulations.shape import require_readable


def run_file(file: Path, coordinator: Path, out: Path, console: Console) -> None:
    """Run the experiment in `file` with the members that enrolled with the coordinator in this folder.

    Raises: ConfigError, ControlError, RunFailed.
    """
    experiment = load_experiment(file)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(out, "--out", "expected a new folder")
    base = load_base(experiment.model_path)
    require_readable(experiment, file, base)
    client = Client(Folder.open(coordinator))
    run = client.submit(order_for(experiment, base))
    console.print(f"run {run}")
    try:
        trips = watch(client, run, run_of(experiment).trips(experiment), console)["trips"]
    except KeyboardInterrupt:
        client.stop(run)
        raise
    result = collect(client, run, experiment.collaboration.name)
    outcome = run_of(experiment).outcome(result, [t["seconds"] for t in trips])
    for note in outcome.notes:
        console.print(note, highlight=False, markup=False)
    save_adapter(experiment, base, outcome.adapter, {}, outcome.answered, out)
    console.print(f"adapter: {out}; each member's ledger says what it cost: parley member ledger HOME")
