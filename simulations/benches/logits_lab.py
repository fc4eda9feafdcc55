"""Train all models of `parley bench logits`, one job at a time, and lay out the windows that they are judged on.

    for each seed:  texts and vocabulary -> the public model -> the silos', their shards', and those by DP-SGD

A job says all that it depends on, and leaves its model in the work folder: whoever needs it finds it there.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.benches.logits_corpora import Corpora, folders, installed
from simulations.benches.logits_dp import DpTraining, dp_model
from simulations.benches.logits_masking import Masking
from simulations.benches.logits_models import Shape, Shelf, Tokens, Training, fit, fresh, scores, stream, windows
from simulations.benches.logits_overhead import Overhead
from simulations.benches.logits_rules import Judged
from simulations.student import Schooling

Names = tuple[str, ...]
SHAPE, PUBLIC = Shape(), Training(1000, 0.01, batch=12)
SILO, SHARD = Training(250, 0.005), Training(100, 0.004)
OWN_TOKENS = Training(500, 0.01)
DP, MASKING, OVERHEAD = DpTraining(), Masking(), Overhead()
SCHOOLING = Schooling(rank=16, alpha=32.0, steps=200)


@dataclass(frozen=True, slots=True)
class Size:
    """Say how much is trained and judged: windows are of each silo."""

    seeds: tuple[int, ...] = (7, 8, 9)
    shape: Shape = SHAPE
    public: Training = PUBLIC
    silo: Training = SILO
    shard: Training = SHARD
    dp: DpTraining = DP
    shards: int = 8
    chosen_by: int = 4
    held_out: int = 8
    bytes_of_text: int = 2_500_000
    answer: int = 96  # tokens
    schooling: Schooling = SCHOOLING
    lessons: int = 96  # windows of the public text
    lessons_held_out: int = 8
    vocabularies: tuple[int, ...] = (512, 700, 1300, 1500)  # of the silos that have their own, one after the other
    own_tokens: Training = OWN_TOKENS
    bytes_held_out: int = 440
    bytes_chosen_by: int = 220
    masking: Masking = MASKING
    overhead: Overhead = OVERHEAD


@dataclass(frozen=True, slots=True)
class Lab:
    """Be where one seed's models are trained and kept."""

    work: Path
    corpora: Path | None
    size: Size
    seed: int

    @property
    def folder(self) -> Path:
        """Return where this seed's models are."""
        return self.work / f"seed-{self.seed}"

    def texts(self) -> Corpora:
        """Return the texts, dealt by this seed."""
        most = self.size.bytes_of_text
        return installed(self.seed, most) if self.corpora is None else folders(self.corpora, self.seed, most)


@dataclass(slots=True)
class Bench:
    """Hold a seed's texts in tokens, and give its models, each trained when it is first asked for."""

    lab: Lab
    texts: Corpora = field(init=False)
    tokenizer: Any = field(init=False)
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        self.texts = self.lab.texts()
        self.shelf = Shelf(self.lab.folder, f"{self.texts.digest} {self.lab.size.shape} {self.lab.seed}")
        self.tokenizer = self.shelf.vocabulary(self.texts.public, self.lab.size.shape.vocabulary)

    @property
    def silos(self) -> Names:
        """Return the silos' names."""
        return tuple(s.name for s in self.texts.silos)

    def public(self) -> Any:
        """Return the public model."""

        def make() -> Any:
            model = fresh(self.lab.size.shape, self.lab.seed)
            rows = self.rows(self.texts.public)
            fit(model, rows, self.lab.size.public, self.lab.seed)
            return model

        return self.shelf.model("public", f"{self.lab.size.public}", make, self.tokenizer)

    def silo(self, name: str) -> Any:
        """Return a silo's own model, trained on all its text."""
        return self._further(name, self._train(name), self.lab.size.silo)

    def shards(self, name: str) -> list[Any]:
        """Return the models of a silo's disjoint shards: each has one record in so many, and no record of another."""
        rows, count = self._train(name), self.lab.size.shards
        return [self._further(f"{name}-shard-{k}", rows[k::count], self.lab.size.shard) for k in range(count)]

    def dp(self, name: str) -> Any:
        """Return a silo's model trained by DP-SGD."""
        size = self.lab.size
        made_by = f"{size.public} {size.dp}"
        return self.shelf.model(
            f"{name}-dp",
            made_by,
            lambda: dp_model(self.public(), self.tokenizer, self._train(name), size.dp, self.lab.seed),
            self.tokenizer,
        )

    def own_tokens(self, name: str) -> tuple[Any, Any]:
        """Return a silo's model with a vocabulary of its own, trained on its text and the public one; and that."""
        size = self.lab.size
        (silo,) = (s for s in self.texts.silos if s.name == name)
        shape = replace(size.shape, vocabulary=size.vocabularies[self.silos.index(name) % len(size.vocabularies)])
        shelf = replace(self.shelf, folder=self.shelf.folder / f"{name}-own-tokens")
        tokenizer = shelf.vocabulary(silo.train, shape.vocabulary)

        def make() -> Any:
            model = fresh(shape, self.lab.seed)
            texts = [text for pair in zip(silo.train, self.texts.public, strict=False) for text in pair]
            fit(model, windows(stream(texts, tokenizer), shape.window), size.own_tokens, self.lab.seed)
            return model

        return shelf.model("model", f"{shape} {size.own_tokens}", make, tokenizer), tokenizer

    def windows(self, held_out: bool) -> tuple[Tokens, NDArray[np.intp]]:
        """Return windows of every silo's text that is held out, or that settings are chosen by; and whose each is."""
        size, found, home = self.lab.size, [], []
        for number, silo in enumerate(self.texts.silos):
            rows = self.rows(silo.held_out if held_out else silo.chosen_by)
            count = min(size.held_out if held_out else size.chosen_by, len(rows))
            chosen = np.random.default_rng(self.lab.seed).choice(len(rows), count, replace=False)
            found.append(rows[np.sort(chosen)])
            home += [number] * count
        return np.concatenate(found), np.array(home)

    def judged(self, models: Iterable[Any], held_out: bool) -> Judged:
        """Return what the public model and these say of the windows."""
        rows, home = self.windows(held_out)
        return Judged(rows, home, scores(self.public(), rows), np.stack([scores(m, rows) for m in models]))

    def rows(self, texts: tuple[str, ...]) -> Tokens:
        """Return texts in windows of tokens."""
        return windows(stream(texts, self.tokenizer), self.lab.size.shape.window)

    def _train(self, name: str) -> Tokens:
        (silo,) = (s for s in self.texts.silos if s.name == name)
        return self.rows(silo.train)

    def _further(self, name: str, rows: Tokens, training: Training) -> Any:
        def make() -> Any:
            model = copy.deepcopy(self.public())
            fit(model, rows, training, self.lab.seed)
            return model

        return self.shelf.model(name, f"{self.lab.size.public} {training}", make, self.tokenizer)


@dataclass(frozen=True, slots=True)
class Job:
    """Be one thing to train: `what` is a method of `Bench`."""

    lab: Lab
    what: str
    silo: str | None = None


def jobs(lab: Lab, silos: Names) -> Iterator[Job]:
    """Yield what is to be trained once the public model is there."""
    for what in ("shards", "dp", "own_tokens", "silo"):
        for name in silos:
            yield Job(lab, what, name)


def train(job: Job) -> None:
    """Do a job, in one thread."""
    alone()
    bench = Bench(job.lab)
    method = getattr(bench, job.what)
    method() if job.silo is None else method(job.silo)


def alone() -> None:
    """Let this process compute in one thread, and say nothing."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
