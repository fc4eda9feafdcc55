"""The command `parley bench`."""

from pathlib import Path
from typing import Annotated

import typer

from privacy.config import ConfigError
from simulations.explaining import errors

_MEASURED = (
    "What to measure: dp-training, engine, evolve, ledger, logits, real-size, redaction, secure-sum, stream, text"
    " or weights."
)


def bench(
    name: Annotated[str, typer.Argument(help=_MEASURED)],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    corpora: Annotated[Path | None, typer.Option(help="logits: a folder of text for each silo.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="logits, text: where trained models are kept for the next time.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="text: what every member has, a folder or id; none is trained then.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="redaction: a folder with redaction/ and ner/.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="redaction: JSON Lines with text and units.")] = None,
) -> None:
    """Measure this state beside a peer, in one run.

    Most take some minutes on two cores, weights a quarter of an hour, logits and text half an hour and more.
    Some peers come with the extra `bench`, as `make bench` installs it.
    """
    with errors():
        from privacy.config import nearest
        from simulations import bench as benches
        from simulations.benches.rows import text

        if name not in benches.BENCHES:
            raise ConfigError("parley bench", name, f"no such benchmark ({nearest(name, list(benches.BENCHES))})")
        if name != "logits" and corpora:
            raise ConfigError("parley bench", "--corpora", "it is for the benchmark logits alone")
        if name not in ("logits", "text") and work:
            raise ConfigError("parley bench", "--work", "it is for the benchmarks logits and text alone")
        if name != "text" and model:
            raise ConfigError("parley bench", "--model", "it is for the benchmark text alone")
        if name != "redaction" and (data or prompts):
            raise ConfigError("parley bench", "--data, --prompts", "they are for the benchmark redaction alone")
        given = {
            "logits": lambda: benches.logits(corpora, work),
            "redaction": lambda: benches.redaction(data, prompts),
            "text": lambda: benches.text(work, model),
        }
        rows = given.get(name, benches.BENCHES[name])()
        for line in text(rows):
            typer.echo(line)
        if json_file is not None:
            benches.write_rows(rows, json_file)
