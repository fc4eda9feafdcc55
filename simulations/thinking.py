"""Simulate models that think together: train each member's at home, read held-out text, and compare.

Held-out text is read in windows, each by one secure sum over all its positions. The base, each member's own model and
one trained on all data pooled read the same windows, so that all rows of the report are of the same positions.
"""

import math
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from client.data import Encoder
from client.experts.expert import Expert
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.homes.local import units_of
from client.model import Adapted, Base
from privacy.config import ConfigError
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.logits.asking import NO_SUPPORT, Read, Reading
from protocols.logits.sampling import combined
from protocols.session import drive
from simulations.collaborations.thinking import question_of
from simulations.compare import BASE, TOGETHER, Timing, Witness, compared
from simulations.engine import complete, settle
from simulations.experiment import Experiment
from simulations.report import Comparison, RoundResult
from simulations.shape import layout_for
from simulations.texts import MemberText, training
from simulations.village import Village
from simulations.yardsticks import POOLED, Job, Losses, adapter_of

Windows = Mapping[str, Sequence[NDArray[np.int32]]]
Rows = NDArray[np.float64]


def think(experiment: Experiment, texts: Mapping[str, MemberText], base: Base, console: Console) -> Comparison:
    """Return how the members' models do together, alone and pooled. Raises: ConfigError, Abort."""
    began = time.monotonic()
    windows = windows_of(experiment, texts, base)
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        experiment = complete(experiment, training(texts), base)
        with closing(settle(experiment, training(texts), base, Path(scratch))) as village:
            started = time.monotonic()
            sums, members = read_together(experiment, village, base, windows)
            took = time.monotonic() - started
            losses = {**_apart(village, windows), TOGETHER: _together(experiment, base, windows, sums)}
            witnesses = _witnesses(experiment, village)
    losses[POOLED] = _pooled(experiment, texts, base, windows)
    console.print(f"{len([w for of in windows.values() for w in of])} windows were read in {took:.1f} s")
    timing = Timing((RoundResult(1, members, took),), 0.0, time.monotonic() - began)
    return compared(experiment, "simulated, in one process", losses, witnesses, timing)


def windows_of(experiment: Experiment, texts: Mapping[str, MemberText], base: Base) -> Windows:
    """Return each member's windows of held-out tokens, of one length, as many of each. Raises: ConfigError."""
    table, found = experiment.thinking, {}
    for name, text in texts.items():
        tokens = Encoder(base.tokenizer)(text.held_out)
        starts = range(0, tokens.size - table.window - 1, table.window)
        found[name] = [tokens[s : s + table.window + 1] for s in starts[:: max(1, len(starts) // table.windows)]]
        found[name] = found[name][: table.windows]
    least = min(map(len, found.values()))
    if not least:
        raise ConfigError("experiment", "thinking.window", "expected windows that held-out texts have room for")
    return {name: of[:least] for name, of in found.items()}


def read_together(experiment: Experiment, village: Village, base: Base, windows: Windows) -> tuple[Rows, int]:
    """Return the sums at every position of every window, member after member, and how many members are in each.

    Raises: Abort.
    """
    terms = experiment.terms
    if terms is None:
        raise ConfigError("experiment", "collaboration.unsafe_plain_sum", "expected false: only sums are seen")
    entry, every = CATALOG[experiment.collaboration.name], [w for of in windows.values() for w in of]
    public = TokenExpert(View(base))
    told = np.concatenate([public.block(w.tolist(), ()).told for w in every])
    question = question_of(experiment, base, sum(w.size - 1 for w in every))
    task = Reading(
        question, experiment.collaboration.quorum, terms, np.concatenate(every), tuple(w.size for w in every), 1,
        told.astype(np.float32), NO_SUPPORT,
    )  # fmt: skip
    outbox = village.outbox(secrets.token_hex(16), entry.name, MemoryRoad(village.ends), experiment.purpose)
    found = drive(entry.coordinate(village.members, task), outbox, entry.wire)
    outbox.close()
    assert isinstance(found, Read)  # noqa: S101  what these collaborations return
    return found.sums, min(found.answered)


def _together(experiment: Experiment, base: Base, windows: Windows, sums: Rows) -> Losses:
    """Return the loss on each member's windows of what all models say together."""
    question, public, at = question_of(experiment, base, 1), TokenExpert(View(base)), 0
    losses = {}
    for name, of in windows.items():
        nats: list[float] = []
        for window in of:
            rows = public.block(window[:1].tolist(), window[1:-1].tolist()).next
            made = combined(question, rows, sums[at : at + len(rows)], NO_SUPPORT)
            nats += (-np.log(made[np.arange(len(rows)), window[1:]])).tolist()
            at += len(rows)
        losses[name] = math.fsum(nats) / len(nats)
    return losses


def _apart(village: Village, windows: Windows) -> dict[str, Losses]:
    """Return the losses of the base and of every member's own model, as its home would think with it."""
    homes = {str(m): v.house.experts(by_bytes=False) for m, v in village.villagers.items()}
    public = next(iter(homes.values())).public  # every home's is the same
    return {BASE: _losses(public, windows)} | {m: _losses(of.own[0], windows) for m, of in homes.items()}


def _pooled(experiment: Experiment, texts: Mapping[str, MemberText], base: Base, windows: Windows) -> Losses:
    """Return the losses of one model that is trained on all data in one place."""
    adapter = adapter_of(Job(POOLED, experiment, texts, tuple(texts)), base)
    adapted = Adapted(base, layout_for(experiment, base))
    try:
        adapted.set(adapter)
        return _losses(TokenExpert(View(base)), windows)
    finally:
        adapted.remove()


def _losses(expert: Expert, windows: Windows) -> Losses:
    """Return an expert's mean loss on each member's windows, in nats a token."""
    return {
        name: -math.fsum(float(expert.block(w.tolist(), ()).told[1:].mean()) for w in of) / len(of)
        for name, of in windows.items()
    }


def _witnesses(experiment: Experiment, village: Village) -> dict[str, Witness]:
    asked = experiment.example
    return {
        str(m): Witness(v.statement, units_of(asked, v.house.declared), v.bytes_sent, v.bytes_received)
        for m, v in village.villagers.items()
    }
