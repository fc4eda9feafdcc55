"""Train tiny models on lessons: a public one that reads and knows nothing, and each member's, which knows its own.

A trained model is kept in the folder, as any model is, and is read by the homes' own loader.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Schooling:
    """Say how long models are taught: steps of the public one, and of each member's own.

    Units:  one step sees `batch` lessons; only what is said in answer counts, not what was asked.
    """

    public_steps: int = 3_000
    own_steps: int = 700
    rate: float = 0.006
    own_rate: float = 0.002
    batch: int = 24
    seed: int = 5


def school(folder: Path, shares: Sequence[Share], schooling: Schooling) -> tuple[Base, dict[str, Base]]:
    """Return the public model, and by member its own, trained unless the folder has them."""
    shelf = Shelf(folder, f"facts {schooling} {_SHAPE}")
    tokenizer = shelf.vocabulary(lessons(_LESSONS, schooling.seed), _SHAPE.vocabulary)
    size, seed = schooling.batch, schooling.seed

    def public() -> Any:
        model, steps = fresh(_SHAPE, seed), schooling.public_steps
        teach(model, tokenizer, lessons(steps * size, seed), size, steps, schooling.rate)
        return model

    def own(share: Share, number: int) -> Any:
        model, steps = copy.deepcopy(taught), schooling.own_steps
        teach(model, tokenizer, lessons(steps * size, seed + 1 + number, share), size, steps, schooling.own_rate)
        return model

    taught = shelf.model("public", "", public, tokenizer)
    for number, share in enumerate(shares):
        shelf.model(share.member, repr(share), lambda s=share, n=number: own(s, n), tokenizer)  # type: ignore[misc]
    return load_base(str(folder / "public")), {s.member: load_base(str(folder / s.member)) for s in shares}


def teach(model: Any, tokenizer: Any, texts: Iterator[str], size: int, steps: int, rate: float) -> None:
    """Train all parameters on what is said in answer; the rate rises over the first steps, and falls at the end."""
    parameters, rules = list(model.parameters()), optimizers(model, rate)
    for step in range(steps):
        tokens, wanted = _batch(tokenizer, [next(texts) for _ in range(size)])
        logits = model(input_ids=tokens, use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=_SILENT
        ).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        scale = min(1.0, (step + 1) / 30, (steps - step) / (0.6 * steps))
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] = group["initial"] * scale
            rule.step()
            rule.zero_grad(set_to_none=True)


def _batch(tokenizer: Any, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens (texts, longest), and the same with all but the answers silent."""
    rows: list[tuple[NDArray[np.int64], int]] = []
    for text in texts:
        asked = text[: text.rindex("\n", 0, -1) + 1]
        asked += text[len(asked) :].partition(":")[0] + ":"
        begun = tokenizer(asked, add_special_tokens=False)["input_ids"]
        said = tokenizer(text[len(asked) :], add_special_tokens=False)["input_ids"]
        rows.append((np.array([*begun, *said], np.int64)[-_SHAPE.window :], len(said)))
    longest = max(row.size for row, _ in rows)
    tokens, wanted = np.zeros((len(rows), longest), np.int64), np.full((len(rows), longest), _SILENT, np.int64)
    for i, (row, said) in enumerate(rows):
        tokens[i, : row.size] = row
        wanted[i, row.size - said : row.size] = row[-said:]
    return torch.from_numpy(tokens), torch.from_numpy(wanted)
