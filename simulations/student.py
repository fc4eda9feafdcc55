"""Train a student on what private models say together of public texts: a LoRA adapter, which can draft, too.

    public text ──▶ `distill`: a secure sum for each piece ──▶ soft labels over K symbols, and all else
    labels      ──▶ the base model with an adapter, trained here to give the same (cross-entropy) ──▶ saved as by PEFT

Everything here is public but the labels, which are a sum's: what they may tell is the members' own training to bound.

Learns:  whoever gets the student: what it has learnt of the labels.
Cites:   Hinton, Vinyals and Dean 2015.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.adapter import Layout, layout_from, load, save
from client.card import Card
from client.experts.expert import Expert
from client.model import Adapted, Base, layout_of, linear_modules
from privacy.artefact import Artefact
from privacy.config import ConfigError

Vector = NDArray[np.float32]
_SEED = 1  # of the adapter's frozen half
_TINY = 1e-12  # of a probability, so that its logarithm is finite


@dataclass(frozen=True, slots=True)
class Lesson:
    """Hold one piece of public text, and what is to be said of each of its tokens but the first.

    Shapes:  tokens (n,) int32; support (n - 1, K) or (0, 0) for all tokens; labels (n - 1, K + 1), last all else.
    """

    tokens: NDArray[np.int32]
    support: NDArray[np.uint32]
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Schooling:
    """Say how a student is trained: Adam on `batch` pieces a step; the rate falls to nothing in the end."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()  # none: every linear module but the output layer
    steps: int = 200
    rate: float = 3e-3
    batch: int = 4

    def __post_init__(self) -> None:
        if min(self.rank, self.steps, self.batch) < 1 or not self.rate > 0 or not self.alpha > 0:
            raise ConfigError("parley distill", "--rank, --steps, --rate", "expected positive numbers")


def layout_for(base: Base, schooling: Schooling) -> Layout:
    """Return the shape of the student's adapter. Raises: ConfigError for a target that the model does not have."""
    every = sorted({name.rpartition(".")[2] for name in linear_modules(base.model)})
    targets = schooling.targets or tuple(every)
    return layout_of(base, rank=schooling.rank, alpha=schooling.alpha, targets=targets, adapter_seed=_SEED)


def teach(base: Base, lessons: Sequence[Lesson], schooling: Schooling, seed: int = 0) -> Artefact:
    """Return an adapter of the base model that says what the lessons' labels say. Raises: ConfigError."""
    layout, draw = layout_for(base, schooling), np.random.default_rng(seed)
    adapted = Adapted(base, layout)
    try:
        matrices = [adapted.b(slot.name).requires_grad_(True) for slot in layout.slots]
        adam = torch.optim.Adam(matrices, lr=schooling.rate)
        for step in range(schooling.steps):
            chosen = draw.integers(0, len(lessons), min(schooling.batch, len(lessons)))
            adam.zero_grad(set_to_none=True)
            loss = sum(_crossed(base.model, lessons[int(i)]) for i in chosen) / len(chosen)
            torch.as_tensor(loss).backward()
            adam.param_groups[0]["lr"] = schooling.rate * (1 - step / schooling.steps)
            adam.step()
        return Artefact(layout.to_json(), adapted.get())
    finally:
        adapted.remove()


def divergence(expert: Expert, lessons: Sequence[Lesson]) -> float:
    """Return the mean divergence of Kullback and Leibler, labels from the expert's word, in nats a position."""
    total, positions = 0.0, 0
    for lesson in lessons:
        rows = np.exp(expert.block(lesson.tokens[:1].tolist(), lesson.tokens[1:-1].tolist()).next)
        inside = np.take_along_axis(rows, lesson.support.astype(np.intp), axis=1) if lesson.support.size else rows
        rest = np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)
        said = np.maximum(np.concatenate([inside, rest], axis=1), _TINY)
        labels = lesson.labels.astype(np.float64)
        total += float((labels * np.log(np.maximum(labels, _TINY) / said)).sum())
        positions += len(rows)
    return total / positions


class Wardrobe:
    """Put one adapter into a base model that has no home, or take it out again."""

    def __init__(self, base: Base, artefact: Artefact) -> None:
        layout = layout_from(artefact.shape)
        self._adapted, self._none, self._worn = Adapted(base, layout), np.zeros(layout.size, np.float32), False

    def dress(self, artefact: Artefact | None) -> None:
        """Let the base model be what it is with this adapter, or without any."""
        if artefact is not None or self._worn:
            self._adapted.set(self._none if artefact is None else artefact.values)
        self._worn = artefact is not None

    def close(self) -> None:
        """Give the base model back as it was."""
        self._adapted.remove()


@contextmanager
def wearing(base: Base, artefact: Artefact) -> Iterator[Wardrobe]:
    """Let a base model wear an adapter while the block lasts."""
    wardrobe = Wardrobe(base, artefact)
    try:
        wardrobe.dress(artefact)
        yield wardrobe
    finally:
        wardrobe.close()


def keep(folder: Path, base: Base, student: Artefact, facts: tuple[tuple[str, str], ...]) -> None:
    """Write a student as PEFT saves an adapter. Raises: ConfigError for a folder that is there already."""
    if folder.exists():
        raise ConfigError(folder, "--out", "is there already; nothing was written over")
    promise = "Trained on sums of what the members' models say of public texts: what their training cost, it tells."
    card = Card(folder.name, base.source, base.digest, facts, (), promise)
    save(folder, layout_from(student.shape), student.values, card)


def student_in(base: Base, folder: Path) -> Artefact:
    """Return the student in this folder. Raises: ConfigError for none, or one of another base model."""
    layout, vector = load(folder)
    short = {slot.name for slot in layout.slots} - set(linear_modules(base.model))
    if short:
        raise ConfigError(folder, "--draft", "expected an adapter of the base model, not of another one")
    return Artefact(layout.to_json(), vector)


def _crossed(model: Any, lesson: Lesson) -> Any:
    """Return the mean cross-entropy of a piece's labels, a tensor."""
    ids = torch.from_numpy(lesson.tokens[None].astype(np.int64))
    logs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1].float(), dim=-1)
    labels = torch.from_numpy(np.array(lesson.labels))
    if not lesson.support.size:
        return -(labels[:, :-1] * logs).sum() / len(labels)
    where = torch.from_numpy(lesson.support.astype(np.int64))
    inside = torch.gather(logs, 1, where)
    outside = torch.logsumexp(logs.scatter(1, where, -torch.inf), dim=1) if where.shape[1] < logs.shape[1] else None
    crossed = -(labels[:, :-1] * inside).sum()
    if outside is not None:
        crossed = crossed - (labels[:, -1] * outside).sum()
    return crossed / len(labels)
