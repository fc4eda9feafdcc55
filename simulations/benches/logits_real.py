"""Put the figures' own sums through real homes and secure sums: bit for bit, and what whole numbers do to perplexity.

secure_sum_wrong_words        entries of the decoded sums that differ from plain integer sums of all members' own
quantisation_perplexity       how far perplexity from the sums is from that of the formula in floating point
tokens_per_round_trip(_dp)    symbols that a block of four positions gives, accepted by chance or matched
"""

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from client.experts.expert import Expert
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.homes.positions import entries
from client.model import Base, digest
from protocols.carriers.memory import MemoryRoad
from protocols.logits.block import Asked
from protocols.logits.question import Question, Sends
from protocols.logits.sampling import combined
from simulations.benches import logits_rules as rules
from simulations.benches.logits_figures import BOUND, Found
from simulations.benches.logits_homes import TERMS, answer, homes, question, read
from simulations.benches.logits_lab import Bench
from simulations.benches.logits_private import Unit, push
from simulations.benches.logits_rules import perplexity

POSITIONS = 4  # T: the symbols of one round trip at most
CLIP, LEAN = 2.0, 0.5


def real(bench: Bench, found: Found) -> None:
    """Read one window of each silo, and speak, in homes that have the silos' and the shards' models."""
    base = base_of(bench, bench.public())
    with tempfile.TemporaryDirectory(prefix="parley-") as folder:
        own = {name: [base_of(bench, bench.silo(name))] for name in bench.silos}
        _sums(bench, base, own, Path(folder), found)
        _speaking(bench, base, own, Path(folder) / "speaking", found)
        shards = {name: [base_of(bench, m) for m in bench.shards(name)] for name in bench.silos}
        _matching(bench, base, shards, Path(folder) / "matching", found)


def base_of(bench: Bench, model: Any) -> Base:
    """Return a model of the bench, frozen, with its tokenizer."""
    return Base("bench", model.requires_grad_(False), bench.tokenizer, digest(model, bench.tokenizer))


def _sums(bench: Bench, base: Base, own: dict[str, list[Base]], folder: Path, found: Found) -> None:
    """Read a window of each silo through secure sums; and by the formula; and by plain integers."""
    rows, home = bench.windows(held_out=True)
    rows = rows[[int(np.flatnonzero(home == n)[0]) for n in range(len(own))]]
    public = TokenExpert(View(base))
    thoughts = [public.block(row.tolist(), ()) for row in rows]
    told = np.stack([t.told[1:] for t in thoughts])
    decay = float(found.chosen["decay"])
    length = rows.shape[1] - 1
    asked = question(
        base, Sends.WEIGHTED, block=length, most=rows.size, experts=len(own), weight_bound=BOUND, decay=decay
    )
    with homes(base, own, folder) as village:
        done = read(village, asked, rows, told, MemoryRoad(village.ends))
    logs = np.concatenate([public.block(r[:1].tolist(), r[1:-1].tolist()).next for r in rows])
    q = combined(asked, logs, done.sums, np.zeros((0, 0), np.uint32))
    through_sums = np.log(q[np.arange(len(q)), rows[:, 1:].ravel()])
    each = np.stack([[TokenExpert(View(m[0])).block(r.tolist(), ()).told[1:] for r in rows] for m in own.values()])
    exact = rules.mixture(told, each, BOUND, decay)
    found.values["quantisation"] = abs(perplexity(through_sums) / perplexity(exact) - 1)
    found.values["wrong words"] = float((done.sums != _plainly(asked, rows, told, own)).sum())
    found.values["words"] = float(done.sums.size)


def _plainly(asked: Question, rows: Any, told: Any, own: dict[str, list[Base]]) -> Any:
    """Return what the sums ought to be: each member's whole numbers, added up as such, and read back."""
    parts = []
    for row, known in zip(rows, told.astype(np.float32), strict=True):
        at = Asked(asked, row[:1], np.zeros(1, np.float32), row[1:-1], known[:-1], np.zeros((0, 0), np.uint32))
        spec = asked.spec(TERMS, len(own), at.positions)
        total = sum(
            spec.encode(
                entries(at, 0, TokenExpert(View(m[0])).block(row[:1].tolist(), row[1:-1].tolist()), None).ravel()
            ).astype(np.int64)
            for m in own.values()
        )
        parts.append((np.asarray(total) * (1 / spec.scale)).reshape(at.positions, -1))
    return np.concatenate(parts)


def _speaking(bench: Bench, base: Base, own: dict[str, list[Base]], folder: Path, found: Found) -> None:
    """Answer prompts with the mixture, drafts accepted by chance: nothing private is sampled from."""
    size = bench.lab.size
    asked = question(
        base, Sends.WEIGHTED, block=POSITIONS, most=size.answer, experts=len(own), weight_bound=BOUND,
        decay=float(found.chosen["decay"]),
    )  # fmt: skip
    found.values["tokens a trip"] = rate(bench, base, own, folder, "mixture", asked)


def _matching(bench: Bench, base: Base, shards: dict[str, list[Base]], folder: Path, found: Found) -> None:
    """Answer prompts by the exponential mechanism at epsilon 8 for 256 tokens of a record: samples are matched."""
    experts = sum(map(len, shards.values()))
    strength = push(8.0, 256, Unit.RECORD) * experts / CLIP
    asked = question(
        base, Sends.RATIOS, block=POSITIONS, most=bench.lab.size.answer, experts=experts, clip=CLIP,
        lean=LEAN, strength=strength, central=True,
    )  # fmt: skip
    found.values["tokens a trip dp"] = rate(bench, base, shards, folder, "private_predict", asked)


def rate(
    bench: Bench, base: Base, models: Any, folder: Path, name: str, asked: Question, drafter: Expert | None = None
) -> float:
    """Return how many symbols a full block gave in the mean, over answers to one prompt of each silo.

    The public model drafts, unless somebody else does.
    """
    rows, home = bench.windows(held_out=True)
    folder.mkdir(parents=True, exist_ok=True)
    given: list[int] = []
    with homes(base, models, folder) as village:
        for n in range(len(bench.silos)):
            prompt = rows[int(np.flatnonzero(home == n)[0])][: bench.lab.size.shape.window // 4].tolist()
            given += answer(village, name, asked, prompt, base, f"{n:032x}", drafter).given[:-1]
    return _mean(given)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / max(1, len(found))
