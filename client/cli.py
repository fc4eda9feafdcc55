"""The command line of a member: parley member init | up | policy | ledger | status."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from privacy.config import ConfigError

app = typer.Typer(help="An organisation's or a device's side: its model, its data, its policy.", no_args_is_help=True)
Home = Annotated[Path, typer.Argument(metavar="DIR", help="The member's home folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class FormatChoice(StrEnum):
    """Name how the data lies on disk."""

    AUTO = "auto"
    JSONL = "jsonl"
    TEXT = "text"
    FOLDER = "folder"
    DATASETS = "datasets"


class PartChoice(StrEnum):
    """Name a half of a member."""

    DAEMON = "daemon"
    SUPERNODE = "supernode"


@app.command()
def init(
    home: Home,
    invitation: Annotated[Path, typer.Option(help="The file that the coordinator gave you.")],
    model: Annotated[str, typer.Option(help="A folder as transformers saves it, or the id of a cached model.")],
    data: Annotated[Path, typer.Option(help="Your private records; they stay where they are.")],
    format: Annotated[FormatChoice, typer.Option(help="How the data lies on disk.")] = FormatChoice.AUTO,  # noqa: A002
    text_column: Annotated[str, typer.Option(help="Where the text is, in jsonl and datasets.")] = "text",
    ledger: Annotated[Path | None, typer.Option(help="The ledger of another home with the same data.")] = None,
    account: Annotated[str | None, typer.Option(help="The name of the data in that ledger.")] = None,
    policy_file: Annotated[Path | None, typer.Option("--policy", help="Start from this policy of yours.")] = None,
) -> None:
    """Make a home: keys, settings, and a policy for you to edit. Nothing is ever written over."""
    from client.data import Format
    from client.init import Wishes
    from client.init import init as make_home

    with _explained():
        wishes = Wishes(invitation, model, data, Format(format.value), text_column, ledger, account, policy_file)
        settings = make_home(home, wishes)
    typer.echo(f"{home}: the home of {settings.member}, about {settings.data.declared_documents} documents.")
    typer.echo(f"Read and edit {home / 'policy.toml'}; then: parley member up {home}")


@app.command()
def up(
    home: Home,
    only: Annotated[PartChoice | None, typer.Option(help="Run one half, for instance as another user.")] = None,
) -> None:
    """Enrol if that is still to do, then run the daemon and the SuperNode until Ctrl-C."""
    from client.up import Part
    from client.up import up as run

    with _explained():
        run(home.absolute(), Part(only.value) if only else None, _say)


@app.command()
def policy(home: Home) -> None:
    """Check the policy, and print what it comes down to."""
    from client.views import policy_lines

    with _explained():
        lines = policy_lines(home.absolute())
    typer.echo("\n".join(lines))


@app.command()
def ledger(home: Home, as_json: AsJson = False) -> None:
    """Print what has left, and what it adds up to."""
    from client.views import ledger_json, ledger_lines

    with _explained():
        shown = ledger_json(home.absolute()) if as_json else "\n".join(ledger_lines(home.absolute()))
    typer.echo(shown)


@app.command()
def status(home: Home, as_json: AsJson = False) -> None:
    """Ask the running daemon how it is."""
    from client.views import status_json, status_lines

    with _explained():
        shown = status_json(home.absolute()) if as_json else "\n".join(status_lines(home.absolute()))
    typer.echo(shown)


def _say(line: str) -> None:
    from datetime import datetime

    typer.echo(f"{datetime.now():%H:%M:%S} {line}")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the operator can mend into one line and an exit status."""
    from client.supervisor import Hopeless
    from privacy.refusal import Refused

    try:
        yield
    except ConfigError as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(2) from None
    except (Hopeless, Refused) as end:
        typer.echo(str(end), err=True)
        raise typer.Exit(1) from None
