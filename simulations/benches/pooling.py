"""Measure what pooled steps lose to DP-SGD in one place, and averaging with them, at one epsilon on the same silos.

The demo's recipe, with noise of the system; runs differ by the adapter's seed. Perplexity is of all held-out text.

NAME_vs_central_dpsgd_eps8    NAME's perplexity over that of DP-SGD by one who holds all data.
NAME_share_of_central_gain    what NAME takes off the base's perplexity, as a share of what DP-SGD in one place does.

Every figure is the mean over the seeds; NAME_..._spread is the largest less the smallest of them.
"""

import math
import multiprocessing
import signal
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from simulations.benches.rows import Row
from simulations.demo import EXPERIMENT
from simulations.experiment import Experiment, PrivacyTable, SecureSumTable, load_experiment
from simulations.texts import MemberText, lay_out
from simulations.yardsticks import Job, do

EPSILON = 8.0
POOLED, AVERAGED, CENTRAL, BASE = "pooled", "local_average", "central", "base"
_MOST = 1.03  # times the perplexity in one place: the goal


@dataclass(frozen=True, slots=True)
class Size:
    """Say how much is trained and judged: `rounds` of `steps`, each on `batch` records of all members together."""

    seeds: tuple[int, ...] = (7, 8, 9)
    rounds: int = 4
    steps: int = 5
    batch: int = 180
    held_out: int = 12_000  # characters of each member


@dataclass(frozen=True, slots=True)
class Trial:
    """Be one run to judge: how, with which adapter's seed, and in which experiment."""

    how: str
    seed: int
    experiment: Experiment
    texts: Mapping[str, MemberText]


def pooling(size: Size | None = None, file: Path = EXPERIMENT, processes: int = 2) -> list[Row]:
    """Return all rows; `processes` runs go on at a time."""
    size = size or Size()
    with tempfile.TemporaryDirectory(prefix="parley-") as folder:
        found = perplexities(trials(size, file, Path(folder)), processes)
    return rows_of(
        [found[POOLED, s] for s in size.seeds],
        [found[AVERAGED, s] for s in size.seeds],
        [found[CENTRAL, s] for s in size.seeds],
        found[BASE, size.seeds[0]],
    )


def trials(size: Size, file: Path, folder: Path) -> list[Trial]:
    """Return what is to be run: all of it for each seed, and the base once. Training text is written to `folder`."""
    experiment = load_experiment(file)
    members = len(experiment.members)
    pooled = replace(
        experiment,
        collaboration=replace(experiment.collaboration, name="pooled", rounds=size.rounds),
        training=replace(experiment.training, steps=size.steps, batch_size=size.batch),
        privacy=PrivacyTable(epsilon=EPSILON, delta=experiment.privacy.delta),
        secure_sum=SecureSumTable(smallest_crowd=members, colluding=1),  # all are there: the least noise
    )
    averaged = replace(
        pooled,
        collaboration=replace(pooled.collaboration, name="average"),
        training=replace(pooled.training, batch_size=max(1, size.batch // members)),
    )
    laid = lay_out(experiment, file, folder)
    texts = {name: replace(text, held_out=text.held_out[: size.held_out]) for name, text in laid.items()}
    by_how = {POOLED: pooled, CENTRAL: pooled, AVERAGED: averaged}
    found = [Trial(how, s, replace(e, seed=s), texts) for how, e in by_how.items() for s in size.seeds]
    return [*found, Trial(BASE, size.seeds[0], pooled, texts)]


def perplexities(wanted: Sequence[Trial], processes: int) -> dict[tuple[str, int], float]:
    """Run the trials, and return each one's perplexity by how it was run and its seed."""
    spawned, quiet = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(processes, spawned, initializer=signal.signal, initargs=quiet) as pool:
        return {(t.how, t.seed): p for t, p in zip(wanted, pool.map(perplexity, wanted), strict=True)}


def perplexity(trial: Trial) -> float:
    """Train as the trial says, and return the perplexity on all members' held-out text, all members equal."""
    job = Job(trial.how, trial.experiment, trial.texts)
    if trial.how == CENTRAL:
        losses = do(replace(job, members=tuple(trial.texts)))
    elif trial.how == BASE:
        losses = do(job)
    else:
        losses = _together(job)
    return math.exp(math.fsum(losses.values()) / len(losses))


def rows_of(pooled: Sequence[float], averaged: Sequence[float], central: Sequence[float], base: float) -> list[Row]:
    """Return the rows for perplexities by seed. Pooled is clearly better if its worst seed beats the other's best."""
    over = [_over(pooled, central), _over(averaged, central)]
    best, worst = min(over[1]), max(over[0])
    rows: list[Row] = []
    for name, own, ratios, goal, met in (
        (POOLED, pooled, over[0], f"at most {_MOST:g} x", _mean(over[0]) <= _MOST),
        (AVERAGED, averaged, over[1], "its best seed above pooled's worst", best > worst),
    ):
        measure, peer = f"{name}_vs_central_dpsgd_eps8", "in one place, perplexity"
        row = Row(measure, _mean(ratios), "x", peer, _mean(central), goal=goal, met=met, ours=_mean(own))
        rows += [row, _spread(measure, ratios, "x")]
    gained = [base - c for c in central]
    for name, own in ((POOLED, pooled), (AVERAGED, averaged)):
        gains = [base - o for o in own]
        measure, shares, peer = f"{name}_share_of_central_gain", _over(gains, gained), "gain in one place"
        row = Row(measure, _mean(shares), "1", peer, _mean(gained), goal="for comparison", ours=_mean(gains))
        rows += [row, _spread(measure, shares, "1")]
    return rows


def _together(job: Job) -> dict[str, float]:
    """Run the experiment's collaboration on all members, and judge; what a process needs is imported there."""
    import torch

    from client.model import load_base
    from simulations.engine import simulate
    from simulations.texts import training
    from simulations.yardsticks import judge

    torch.set_num_threads(1)
    base = load_base(job.experiment.model_path)
    with tempfile.TemporaryDirectory(prefix="parley-") as folder:
        outcome, village = simulate(job.experiment, training(job.texts), base, Path(folder))
        village.close()
    if min(outcome.answered) < len(job.texts):
        raise RuntimeError("a step or a round was lost: what is left cannot be compared")
    return judge(job, base, outcome.adapter)


def _over(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(measure: str, values: Sequence[float], unit: str) -> Row:
    return Row(f"{measure}_spread", max(values) - min(values), unit, goal="for comparison")
