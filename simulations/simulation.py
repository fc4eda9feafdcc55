"""Simulate an experiment on this machine, and put it beside its yardsticks."""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from client.model import Base, load_base
from privacy.config import ConfigError
from simulations.artifact import save_adapter
from simulations.collaborations.run import Outcome
from simulations.compare import BASE, TOGETHER, Timing, Witness, compared, rounds_of
from simulations.engine import complete, run_in_process, settle
from simulations.experiment import Experiment, load_experiment
from simulations.report import show, write_json, write_page
from simulations.texts import lay_out, training
from simulations.village import Village
from simulations.yardsticks import Job, judged, yardsticks

ROADS = {"in-process": "simulated, in one process", "flower": "simulated, in Flower's simulation engine"}


def simulate_file(
    file: Path, engine: str, out: Path | None, compare: bool, json_file: Path | None, console: Console
) -> Outcome:
    """Simulate the experiment in `file`. Raises: ConfigError, Abort, RunFailed."""
    began = time.monotonic()
    experiment = load_experiment(file)
    if out is not None and out.exists() and any(out.iterdir()):
        raise ConfigError(out, "--out", "expected a new folder")
    base = load_base(experiment.model_path)
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        texts = lay_out(experiment, file, Path(scratch) / "data")
        experiment = complete(experiment, training(texts), base)
        with closing(settle(experiment, training(texts), base, Path(scratch) / "village")) as village:
            started = time.monotonic()
            outcome = _run(engine)(experiment, village, base)
            took = time.monotonic() - started
            witnesses = _witnesses(village, experiment.training.record_tokens)
        rounds = rounds_of(outcome)
        console.print(f"{ROADS[engine]}: {len(rounds)} rounds in {took:.1f} s")
        for note in outcome.notes:
            console.print(note, highlight=False, markup=False)
        if out is not None:
            guarantees = {n: w.statement.spent if not w.statement.disclosures else None for n, w in witnesses.items()}
            save_adapter(experiment, base, outcome.adapter, guarantees, outcome.answered, out / "adapter")
        if compare:
            base_and_us = [Job(BASE, experiment, texts), Job(TOGETHER, experiment, texts, adapter=outcome.adapter)]
            losses = judged([*yardsticks(experiment, texts), *base_and_us])
            timing = Timing(rounds, max(0.0, took - sum(outcome.seconds)), time.monotonic() - began)
            comparison = compared(experiment, ROADS[engine], losses, witnesses, timing)
            show(comparison, console)
            for folder in (out,) if out is not None else ():
                write_json(comparison, folder / "report.json")
                write_page(comparison, folder / "report.html")
            if json_file is not None:
                write_json(comparison, json_file)
    return outcome


def _run(engine: str) -> Callable[[Experiment, Village, Base], Outcome]:
    if engine == "flower":
        from simulations.flower_engine import run_in_flower

        return run_in_flower
    return run_in_process


def _witnesses(village: Village, record_tokens: int) -> dict[str, Witness]:
    return {
        str(m): Witness(v.statement, v.house.declared.records(record_tokens), v.bytes_sent, v.bytes_received)
        for m, v in village.villagers.items()
    }
