"""Run the main job for real on this machine: a coordinator, members, Flower between them; then show what came of it.

lay out the silos ─▶ init, invite ─▶ start all processes ─▶ run the experiment over Flower ─▶ stop them
                  ─▶ train the yardsticks (alone, pooled) ─▶ table, report.html, report.json, the adapter
"""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from client.declared import Declared
from client.homes.local import units_of
from client.model import Base, load_base
from privacy.config import ConfigError
from simulations import nodes as real
from simulations.artifact import save_adapter
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.compare import BASE, TOGETHER, Timing, Witness, compared, rounds_of
from simulations.engine import complete, declared_of
from simulations.experiment import Experiment, load_experiment
from simulations.judging import notes_on, require_rows
from simulations.ordering import collect, order_for, watch
from simulations.report import Comparison, RoundResult, show, write_json, write_page
from simulations.shape import require_readable
from simulations.texts import MemberText, lay_out, training
from simulations.yardsticks import Job, judged, yardsticks

EXPERIMENT = Path(__file__).parent / "demo.toml"
_LONGEST_FOLDER = 50  # bytes: a socket's path has at most 100, and a member's folder comes between
ROAD = "over Flower, on real nodes on this machine"


@dataclass(frozen=True, slots=True)
class Ran:
    """Hold what came out of the run on real nodes."""

    outcome: Outcome
    rounds: tuple[RoundResult, ...]
    witnesses: Mapping[str, Witness]
    startup: float


def demo(file: Path, folder: Path, console: Console, json_file: Path | None = None) -> Comparison:
    """Run `file` on real nodes in the new folder `folder`, compare, and write the reports there.

    Raises: ConfigError, NodeDied, TimeoutError, RunFailed. Whatever happens, nothing is left running.
    """
    began = time.monotonic()
    experiment = load_experiment(file)
    _make_room(folder)
    console.print(f"[bold]{experiment.name}[/]: laying out {len(experiment.members)} silos of text in {folder}")
    texts = lay_out(experiment, file, folder / "data")
    base = load_base(experiment.model_path)
    require_readable(experiment, file, base)
    require_rows(experiment, file, texts, base.tokenizer)
    experiment, declared = complete(experiment, training(texts), base), declared_of(training(texts), base)
    orders = run_of(experiment).orders(experiment, base, declared)
    ran = _run(experiment, base, texts, declared, orders, folder, console)
    console.print("training the yardsticks on the same data: each member alone, and all data pooled")
    losses = judged(
        [
            *yardsticks(experiment, texts),
            Job(BASE, experiment, texts),
            Job(TOGETHER, experiment, texts, adapter=ran.outcome.adapter),
        ]
    )
    timing = Timing(ran.rounds, ran.startup, time.monotonic() - began)
    notes = (*ran.outcome.notes, *notes_on(experiment, base, texts, ran.outcome.adapter))
    comparison = replace(compared(experiment, ROAD, losses, ran.witnesses, timing), notes=notes)
    _save(experiment, base, comparison, ran, folder)
    show(comparison, console)
    if json_file is not None:
        write_json(comparison, json_file)
    console.print(
        f"report: {folder / 'report.html'}   adapter: {folder / 'adapter'}   (for PeftModel.from_pretrained)"
    )
    home = folder / "nodes" / experiment.members[0].name
    console.print(f"each member's home is still there to be looked at: parley member ledger {home}")
    return comparison


def _make_room(folder: Path) -> None:
    """Remove what an earlier demo left in `folder`; touch nothing that a demo did not make."""
    mark = folder / ".parley-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise ConfigError(folder, "--folder", "expected a new folder, or one that an earlier demo made")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        folder.chmod(0o700)  # copies of the members' texts will lie here
    except PermissionError:
        raise ConfigError(folder, "--folder", "expected a folder of your own") from None
    mark.touch()


def _room_for_sockets(folder: Path) -> Path:
    """Return `folder`, or a folder with a short path where the path of a socket in it would be too long."""
    if len(os.fsencode(folder.absolute())) <= _LONGEST_FOLDER:
        return folder
    short = Path(tempfile.mkdtemp(prefix="parley-"))
    (folder / "nodes").symlink_to(short / "nodes")
    return short


def _run(
    experiment: Experiment,
    base: Base,
    texts: Mapping[str, MemberText],
    declared: Mapping[str, Declared],
    orders: tuple[float, ...],
    folder: Path,
    console: Console,
) -> Ran:
    settled = real.settle(experiment, texts, _room_for_sockets(folder) / "nodes", orders)
    real.prepare(experiment, settled)
    began = time.monotonic()
    status = console.status("starting the coordinator and the members")
    with status, real.up(settled, status.update) as client:
        startup = time.monotonic() - began
        status.stop()
        console.print(f"all processes are up after {startup:.0f} s")
        run = client.submit(order_for(experiment, base))
        trips = watch(client, run, run_of(experiment).trips(experiment), console)["trips"]
        result = collect(client, run, experiment.collaboration.name)
        status.start()
        status.update("stopping all processes")
    outcome = run_of(experiment).outcome(result, [t["seconds"] for t in trips])
    return Ran(outcome, rounds_of(outcome), _witnesses(experiment, settled, declared, trips), startup)


def _witnesses(
    experiment: Experiment,
    settled: real.Nodes,
    declared: Mapping[str, Declared],
    trips: list[Mapping[str, Any]],
) -> dict[str, Witness]:
    """Ask each member's own ledger. The letters of one trip have about the same size for every member."""
    asked, found = experiment.example, {}
    for name, size in declared.items():
        down = sum(t["bytes_sent"] // t["asked"] for t in trips)
        up = sum(t["bytes_received"] // len(t["answered"]) for t in trips if name in t["answered"])
        found[name] = Witness(settled.statement(name), units_of(asked, size), up, down)
    return found


def _save(experiment: Experiment, base: Base, comparison: Comparison, ran: Ran, folder: Path) -> None:
    save_adapter(
        experiment,
        base,
        ran.outcome.adapter,
        {m.name: m.guarantee for m in comparison.members},
        ran.outcome.answered,
        folder / "adapter",
    )
    write_json(comparison, folder / "report.json")
    write_page(comparison, folder / "report.html")
