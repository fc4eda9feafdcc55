"""Train tiny models on lessons: a public one that reads and knows nothing, and each member's, which knows its own.

A trained model is kept in the folder, as any model is, and is read by the homes' own loader.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.model import Base, load_base
from simulations.benches.logits_models import Shape, Shelf, fresh, optimizers
from simulations.facts.lessons import lessons
from simulations.facts.world import Share

_SHAPE = Shape(vocabulary=1200, hidden=128, inner=320, layers=3, heads=4, window=192, longest=512)
_SILENT = -100  # what torch's cross entropy leaves out
_LESSONS = 20_000  # of which the vocabulary is made
_SORTED = 8  # batches whose lessons are sorted by length: less is padded

_Lesson = tuple[NDArray[np.int64], int]


@dataclass(frozen=True, slots=True)
class Teaching:
    """Say how long a model is taught: a step sees `batch` lessons, of which only what is said in answer counts."""

    steps: int
    rate: float
    batch: int = 24


PUBLIC, OWN = Teaching(3_000, 0.006), Teaching(1_000, 0.004)


@dataclass(frozen=True, slots=True)
class Schooling:
    """Say how models are taught: the public one, and each member's own, which goes on from it."""

    public: Teaching = PUBLIC
    own: Teaching = OWN
    seed: int = 5


def school(folder: Path, shares: Sequence[Share], schooling: Schooling) -> tuple[Base, dict[str, Base]]:
    """Return the public model, and by member its own, trained unless the folder has them."""
    seed, public = schooling.seed, schooling.public
    shelf = Shelf(folder, f"facts {seed} {_SHAPE}")
    tokenizer = shelf.vocabulary(lessons(_LESSONS, seed), _SHAPE.vocabulary)

    def taught(model: Any, how: Teaching, number: int, share: Share | None = None) -> Any:
        teach(model, tokenizer, lessons(how.steps * how.batch, seed + number, share), how)
        return model

    base = shelf.model("public", f"{public}", lambda: taught(fresh(_SHAPE, seed), public, 0), tokenizer)
    for number, share in enumerate(shares, start=1):
        made_by = f"{public} {schooling.own} {share}"
        shelf.model(
            share.member,
            made_by,
            lambda s=share, n=number: taught(copy.deepcopy(base), schooling.own, n, s),  # type: ignore[misc]
            tokenizer,
        )
    return load_base(str(folder / "public")), {s.member: load_base(str(folder / s.member)) for s in shares}


def teach(model: Any, tokenizer: Any, texts: Iterator[str], how: Teaching) -> None:
    """Train all parameters on what is said in answer; the rate rises over the first steps, and falls at the end."""
    parameters, rules = list(model.parameters()), optimizers(model, how.rate)
    batches = _batches([_tokens(tokenizer, text) for text in islice(texts, how.steps * how.batch)], how.batch)
    for step, (tokens, wanted) in enumerate(batches):
        logits = model(input_ids=tokens, use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=_SILENT
        ).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        scale = min(1.0, (step + 1) / 30, (how.steps - step) / (0.6 * how.steps))
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] = group["initial"] * scale
            rule.step()
            rule.zero_grad(set_to_none=True)


def _tokens(tokenizer: Any, text: str) -> _Lesson:
    """Return a lesson's last tokens, and how many of them are said in answer."""
    asked = text[: text.rindex("\n", 0, -1) + 1]
    asked += text[len(asked) :].partition(":")[0] + ":"
    begun = tokenizer(asked, add_special_tokens=False)["input_ids"]
    said = tokenizer(text[len(asked) :], add_special_tokens=False)["input_ids"]
    return np.array([*begun, *said], np.int64)[-_SHAPE.window :], len(said)


def _batches(taught: Sequence[_Lesson], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches in the order of the lessons, but that neighbours of like length are put together."""
    for start in range(0, len(taught), size * _SORTED):
        some = sorted(taught[start : start + size * _SORTED], key=lambda lesson: lesson[0].size)
        parts = [some[i : i + size] for i in range(0, len(some), size)]
        for part in parts[::2] + parts[1::2]:
            yield _batch(part)


def _batch(rows: Sequence[_Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens (lessons, longest), and the same with all but the answers silent."""
    longest = max(row.size for row, _ in rows)
    tokens, wanted = np.zeros((len(rows), longest), np.int64), np.full((len(rows), longest), _SILENT, np.int64)
    for i, (row, said) in enumerate(rows):
        tokens[i, : row.size] = row
        wanted[i, row.size - said : row.size] = row[-said:]
    return torch.from_numpy(tokens), torch.from_numpy(wanted)
