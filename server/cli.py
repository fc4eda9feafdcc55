"""Offer the coordinator's commands: init, up, invite, roster, status."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from privacy.config import ConfigError

app = typer.Typer(no_args_is_help=True, help="The coordinator's side.")

FolderArgument = Annotated[Path, typer.Argument(help="The coordinator's folder.")]


@app.command()
def init(
    folder: FolderArgument,
    address: Annotated[str, typer.Option(help="HOST:PORT that members dial.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT to bind, where that differs.")] = "",
) -> None:
    """Make a coordinator's folder: a local CA, certificates, keys. Overwrites nothing."""
    from server import folder as folders

    with _errors():
        folders.init(folder, address, listen)
    typer.echo(f"Made {folder}. Next: parley coordinator invite {folder} NAME --out NAME.toml")


@app.command()
def up(folder: FolderArgument) -> None:
    """Run the coordinator until Ctrl-C."""
    from server.up import up as run

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    for chatty in ("httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with _errors():
        run(folder)


@app.command()
def invite(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(help="The member's name.")],
    out: Annotated[Path, typer.Option(help="The file to write; hand it to the member by a safe way.")],
) -> None:
    """Write an invitation with which one member can enrol, once."""
    from server.folder import Folder
    from server.invitation import invite as write

    with _errors():
        write(Folder.open(folder), name, out)
    typer.echo(f"Wrote {out}. It is as secret as a password until {name} has enrolled.")


@app.command()
def roster(
    folder: FolderArgument,
    out: Annotated[Path | None, typer.Option(help="The file to write; hand it to every member.")] = None,
) -> None:
    """Write the roster of all who have enrolled, for each member's operator to approve; without --out, print it."""
    from server.folder import Folder
    from server.roster import enrolled, write

    with _errors():
        found = enrolled(Folder.open(folder))
        if out is not None:
            write(found.roster, out)
    if out is None:
        typer.echo(found.roster.to_toml(), nl=False)
    typer.echo(f"roster of {len(found.roster.keys)} members: {', '.join(found.roster.members)}", err=out is None)
    if found.left_out:
        typer.echo(f"left out, since not enrolled yet: {', '.join(found.left_out)}", err=out is None)
    typer.echo(f"digest: {found.roster.spoken}", err=out is None)
    if out is not None:
        typer.echo(f"Wrote {out}. Each member's operator: parley member roster approve DIR {out}")


@app.command()
def status(
    folder: FolderArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who has enrolled, who is online, and how the runs stand."""
    from server.control import Client
    from server.folder import Folder

    with _errors():
        found = Client(Folder.open(folder)).status()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for member in found["members"]:
        state = "online" if member["online"] else "offline" if member["enrolled"] else "invited"
        typer.echo(f"{member['name']:32} {state}")
    for run in found["runs"]:
        typer.echo(f"run {run['id']}  {run['state']}, {run['trips']} trips")


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn a fault that is the operator's to mend into one line and exit status 2."""
    try:
        yield
    except Exception as error:
        from server.control import ControlError
        from server.superlink import Unreachable

        if not isinstance(error, ConfigError | ControlError | Unreachable):
            raise
        typer.echo(f"parley: {error}", err=True)
        raise typer.Exit(2) from None
