"""Measure this state side by side with its peers, in one run: `parley bench NAME`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from simulations.benches.rows import Row


def engine() -> list[Row]:
    """Measure what a client-round costs beyond the work itself, in process and in Flower's simulation engine."""
    from simulations.benches.engine import engine as measure

    return measure()


def secure_sum() -> list[Row]:
    """Measure secure sums beside the AES floor, Flower's SecAgg+, TenSEAL's CKKS and opendp's sampler."""
    from simulations.benches.secure_sum import secure_sum as measure

    return measure()


def dp_training() -> list[Row]:
    """Measure a private training step beside the same step without privacy, and beside Opacus and vmap."""
    from simulations.benches.dp_training import dp_training as measure

    return measure()


def real_size() -> list[Row]:
    """Measure a model of a real size: loading it from shards, and a private step beside one without privacy."""
    from simulations.benches.real_size import real_size as measure

    return measure()


def ledger() -> list[Row]:
    """Measure the ledger, its accountant and its audit trail beside SQLite, dp-accounting and fine PLDs."""
    from simulations.benches.ledger import bench_ledger as measure

    return measure()


def weights() -> list[Row]:
    """Measure what joining adapters costs in utility, how exactly they are joined, and what an update tells."""
    from simulations.benches.weights import weights as measure

    return measure()


def logits(corpora: Path | None = None, work: Path | None = None) -> list[Row]:
    """Measure what predicting together gains over the best silo alone, with and without privacy."""
    from simulations.benches.logits import logits as measure

    return measure(corpora, work)


def stream() -> list[Row]:
    """Measure a letter's round trip on a stream, by itself and with mailboxes that write everything down."""
    from simulations.benches.stream import measure

    return measure()


def evolve() -> list[Row]:
    """Measure private evolution's votes: what noise leaves of them, what noise it takes, and what a round costs."""
    from simulations.benches.evolve import evolve as measure

    return measure()


def text(work: Path | None = None, model: str | None = None) -> list[Row]:
    """Measure what models gain by talking in redacted words and voting in secret, and what leaks of it."""
    from simulations.benches.text import text as measure

    return measure(work, model)


def redaction(data: Path | None = None, prompts: Path | None = None) -> list[Row]:
    """Measure what the redactor finds, leaves and costs, beside Presidio and the rule of capitals."""
    from simulations.benches.redaction import redaction as measure

    return measure(data, prompts)


BENCHES: dict[str, Callable[[], list[Row]]] = {
    "dp-training": dp_training,
    "engine": engine,
    "evolve": evolve,
    "ledger": ledger,
    "logits": logits,
    "real-size": real_size,
    "redaction": redaction,
    "secure-sum": secure_sum,
    "stream": stream,
    "text": text,
    "weights": weights,
}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write the rows as JSON."""
    file.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n", encoding="utf-8")
