"""Train what a collaboration is compared with: each member alone, and all data pooled in one place.

Both run the collaboration's own code, with one member: the same steps, the same epsilon, the same training. Pooled
is what nobody may have: the union of the data, with as many times larger batches as there are members.
"""

import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.documents import Document
from simulations.experiment import Experiment
from simulations.texts import MemberText, Texts

POOLED = "pooled"
Losses = dict[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """Be one thing to train, or just to judge: an adapter that is there, or none for the base model.

    With `members` a single member that holds their data is trained first.
    """

    name: str
    experiment: Experiment
    texts: Mapping[str, MemberText]
    members: tuple[str, ...] = ()
    adapter: NDArray[np.float32] | None = None


def yardsticks(experiment: Experiment, texts: Mapping[str, MemberText]) -> list[Job]:
    """Return the jobs of a comparison: pooled first, since it takes longest."""
    alone = [Job(m.name, experiment, texts, (m.name,)) for m in experiment.members]
    return [Job(POOLED, experiment, texts, tuple(texts)), *alone]


def judged(jobs: Sequence[Job], processes: int = 2) -> dict[str, Losses]:
    """Do the jobs, `processes` at a time, and return for each the loss on every member's held-out text.

    Units:  nats per token.
    """
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_quiet) as pool:
        return dict(zip([j.name for j in jobs], pool.map(do, jobs), strict=True))


def do(job: Job) -> Losses:
    """Train, if there is something to train, and judge."""
    import torch

    from client.model import load_base

    torch.set_num_threads(1)
    base = load_base(job.experiment.model_path)
    return judge(job, base, adapter_of(job, base) if job.members else job.adapter)


def adapter_of(job: Job, base: "Base") -> NDArray[np.float32]:  # type: ignore[name-defined]  # noqa: F821
    """Return what a single member comes to that holds the data of the job's members."""
    from simulations.collaborations import run_of
    from simulations.engine import simulate
    from simulations.texts import training

    alone = run_of(job.experiment).alone(job.experiment, job.name, len(job.members))
    documents = training({m: job.texts[m] for m in job.members})
    with tempfile.TemporaryDirectory() as folder:
        outcome, village = simulate(alone, {job.name: _joined(documents)}, base, Path(folder))
        village.close()
    return outcome.adapter


def judge(job: Job, base: "Base", adapter: NDArray[np.float32] | None) -> Losses:  # type: ignore[name-defined]  # noqa: F821
    """Return the loss of the base with `adapter`, or without one, on every member's held-out text."""
    from simulations.judging import loss_on
    from simulations.shape import trained

    model = base.model if adapter is None else trained(job.experiment, base, adapter)
    return {name: loss_on(job.experiment, model, base.tokenizer, text) for name, text in job.texts.items()}


def _joined(documents: Mapping[str, Texts]) -> Texts:
    """Return all members' documents; a group of one member is not that of the same name at another."""
    return [_whose(member, document) for member, found in documents.items() for document in found]


def _whose(member: str, document: str | Document) -> str | Document:
    if isinstance(document, str) or document.group is None:
        return document
    return replace(document, group=f"{member}/{document.group}")


def _quiet() -> None:
    """Let Ctrl-C end the workers through their parent, and not with a page of text each."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
