"""Simulate an experiment on this machine, and put it beside its yardsticks."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from client.homes.local import units_of
from client.model import Base, load_base
from privacy.config import ConfigError
from privacy.ledger import Statement
from protocols.faults import Abort
from simulations.artifact import save_adapter
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.collaborations.thinking import ThinkingRun
from simulations.compare import BASE, TOGETHER, Timing, Witness, compared, rounds_of
from simulations.engine import complete, run_in_process, settle
from simulations.experiment import Experiment, load_experiment
from simulations.judging import notes_on, require_rows
from simulations.report import Comparison, show, write_json, write_page
from simulations.shape import require_readable
from simulations.texts import lay_out, training
from simulations.thinking import think
from simulations.village import Village
from simulations.yardsticks import Job, judged, yardsticks

ROADS = {"in-process": "simulated, in one process", "flower": "simulated, in Flower's simulation engine"}


def simulate_file(
    file: Path, engine: str, out: Path | None, compare: bool, json_file: Path | None, console: Console
) -> None:
    """Simulate the experiment in `file`. Raises: ConfigError, Abort, RunFailed."""
    began = time.monotonic()
    experiment = load_experiment(file)
    thinking = isinstance(run_of(experiment), ThinkingRun)
    if thinking and engine != "in-process":
        said = f"expected in-process: {experiment.collaboration.name} is simulated in this process alone"
        raise ConfigError(file, "--engine", said)
    if thinking and not compare:
        said = f"expected --compare: of {experiment.collaboration.name} a comparison is all that is simulated"
        raise ConfigError(file, "--no-compare", said)
    if out is not None and out.exists() and any(out.iterdir()):
        raise ConfigError(out, "--out", "expected a new folder")
    base = load_base(experiment.model_path)
    require_readable(experiment, file, base)
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        texts = lay_out(experiment, file, Path(scratch) / "data")
        require_rows(experiment, file, texts, base.tokenizer)
        if thinking:
            _keep(think(experiment, texts, base, console), out, json_file, console)
            return
        experiment = complete(experiment, training(texts), base)
        with closing(settle(experiment, training(texts), base, Path(scratch) / "village")) as village:
            started = time.monotonic()
            with telling(village, console):
                outcome = _run(engine)(experiment, village, base)
            took = time.monotonic() - started
            witnesses = _witnesses(village, experiment)
        rounds = rounds_of(outcome)
        console.print(f"{ROADS[engine]}: {len(rounds)} rounds in {took:.1f} s")
        notes = (*outcome.notes, *notes_on(experiment, base, texts, outcome.adapter))
        for note in notes:
            console.print(note, highlight=False, markup=False)
        if not compare:
            for name, each in witnesses.items():
                console.print(f"{name}: {_spent(each.statement)}", highlight=False, markup=False, soft_wrap=True)
        if out is not None:
            guarantees = {n: w.statement.spent if not w.statement.disclosures else None for n, w in witnesses.items()}
            save_adapter(experiment, base, outcome.adapter, guarantees, outcome.answered, out / "adapter")
        if compare:
            base_and_us = [Job(BASE, experiment, texts), Job(TOGETHER, experiment, texts, adapter=outcome.adapter)]
            losses = judged([*yardsticks(experiment, texts), *base_and_us])
            timing = Timing(rounds, max(0.0, took - sum(outcome.seconds)), time.monotonic() - began)
            comparison = replace(compared(experiment, ROADS[engine], losses, witnesses, timing), notes=notes)
            _keep(comparison, out, json_file, console)


def _keep(comparison: Comparison, out: Path | None, json_file: Path | None, console: Console) -> None:
    """Show a comparison, and write it where it is asked for."""
    show(comparison, console)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(comparison, out / "report.json")
        write_page(comparison, out / "report.html")
    if json_file is not None:
        write_json(comparison, json_file)


@contextmanager
def telling(village: Village, console: Console) -> Iterator[None]:
    """Show what the homes' own ledgers say of an abort: in a simulation they are all one's own."""
    try:
        yield
    except Abort:
        for member in village.members:
            if refusals := village.villagers[member].refusals:
                console.print(f"{member} refused: {', '.join(refusals)}", highlight=False, markup=False)
        raise


def _spent(statement: Statement) -> str:
    if statement.disclosures:
        return f"{statement.disclosures} disclosures: no epsilon describes what was sent"
    return "; ".join([str(statement.spent), *(f"assumes: {line}" for line in statement.spent.assumptions)])


def _run(engine: str) -> Callable[[Experiment, Village, Base], Outcome]:
    if engine == "flower":
        from simulations.flower_engine import run_in_flower

        return run_in_flower
    return run_in_process


def _witnesses(village: Village, experiment: Experiment) -> dict[str, Witness]:
    asked = experiment.example
    return {
        str(m): Witness(v.statement, units_of(asked, v.house.declared), v.bytes_sent, v.bytes_received)
        for m, v in village.villagers.items()
    }
