"""Train tiny models on lessons: a public one that reads and knows nothing, and each member's, which knows its own.

A trained model is kept in the folder, as any model is, and is read by the homes' own loader.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.model import Base, load_base
from simulations.benches.logits_models import Shape, Shelf, Training, fit, fresh, stream, windows
from simulations.facts.lessons import lessons
from simulations.facts.world import Share

_SHAPE = Shape(vocabulary=768, hidden=128, inner=320, layers=3, heads=4, window=128, longest=512)


@dataclass(frozen=True, slots=True)
class Schooling:
    """Say how long models are taught: lessons and steps of the public one, and of a member's own.

    Units:  one step sees `batch` windows of 128 tokens.
    """

    public_lessons: int = 60_000
    public_steps: int = 2_500
    own_lessons: int = 6_000
    own_steps: int = 500
    rate: float = 0.006
    own_rate: float = 0.003
    batch: int = 12
    seed: int = 5


def school(folder: Path, shares: Sequence[Share], schooling: Schooling) -> tuple[Base, dict[str, Base]]:
    """Return the public model, and by member its own, trained unless the folder has them."""
    public_texts = list(lessons(schooling.public_lessons, schooling.seed))
    shelf = Shelf(folder, f"facts {schooling}")
    tokenizer = shelf.vocabulary(public_texts, _SHAPE.vocabulary)

    def taught(model: object, texts: Sequence[str], training: Training, seed: int) -> object:
        fit(model, windows(stream(texts, tokenizer), _SHAPE.window), training, seed)
        return model

    first = Training(schooling.public_steps, schooling.rate, schooling.batch)
    public = shelf.model(
        "public", "", lambda: taught(fresh(_SHAPE, schooling.seed), public_texts, first, schooling.seed), tokenizer
    )
    own = Training(schooling.own_steps, schooling.own_rate, schooling.batch)
    for i, share in enumerate(shares):
        texts = list(lessons(schooling.own_lessons, schooling.seed + 1 + i, share))
        shelf.model(
            share.member,
            repr(share),
            lambda texts=texts, i=i: taught(copy.deepcopy(public), texts, own, i),  # type: ignore[misc]
            tokenizer,
        )
    return load_base(str(folder / "public")), {s.member: load_base(str(folder / s.member)) for s in shares}
