"""The command line of an auditor: parley member audit verify | export | prove | check | reconcile.

Exit status: 0 what was asked is sound; 1 it is not; 2 it cannot be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privacy.config import ConfigError

if TYPE_CHECKING:
    from privacy.auditing import Report
    from protocols.keys import PublicKey

audit = typer.Typer(help="What left a home, in a form that an auditor can check.", no_args_is_help=True)
_MOST_ALONE = 100  # occasions of one trail alone that are listed; all are counted
Source = Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A member's home, or a trail exported from one.")]
Out = Annotated[Path, typer.Option(help="A new file; nothing is written over.")]
Keys = Annotated[list[str] | None, typer.Option("--key", help="A public key, ed25519:...; may be repeated.")]


@audit.command()
def verify(
    source: Source,
    key: Keys = None,
    witness: Annotated[
        Path | None, typer.Option(help="A head, proof or export of this trail kept elsewhere.")
    ] = None,
    every_signature: Annotated[bool, typer.Option(help="Verify all signatures, not only the newest.")] = False,
) -> None:
    """Find what was deleted, inserted, reordered, edited or cut off."""
    from client.audit import verify as find

    with _explained():
        report = find(source, _parsed(key), witness, every_signature=every_signature)
    typer.echo("\n".join(_lines(report)))
    raise typer.Exit(0 if report.sound else 1)


@audit.command()
def export(home: Annotated[Path, typer.Argument(metavar="DIR", help="The member's home folder.")], out: Out) -> None:
    """Write the trail and its signed heads as JSON Lines: names, counts, times and digests, no value and no text."""
    from client.audit import export as write

    with _explained():
        report = write(home, out)
    typer.echo(f"{out}: {report.head.seq} lines")
    for fault in report.faults:
        typer.echo(f"NOT SOUND, and exported as it is: {fault}", err=True)
    raise typer.Exit(0 if report.sound else 1)


@audit.command()
def prove(source: Source, seq: Annotated[int, typer.Argument(help="The number of the line.")], out: Out) -> None:
    """Write a proof that one line is in the trail; it shows no other line."""
    from client.audit import prove as write

    with _explained():
        signed = write(source, seq, out)
    typer.echo(f"{out}: line {seq} of {signed.head.seq}, signed by {signed.key}")


@audit.command()
def check(file: Annotated[Path, typer.Argument(help="The proof.")], key: Keys = None) -> None:
    """Check a proof with nothing but the public key, and print the line that it shows."""
    from client.audit import check_proof

    with _explained():
        keys = _parsed(key)
        if not keys:
            raise typer.BadParameter("name the key that you know the home by", param_hint="--key")
        proven = check_proof(file, keys)
    if not proven.holds:
        typer.echo("does not hold: the signature is by no key that was named, or the line is not in the trail")
        raise typer.Exit(1)
    typer.echo(f"holds: in the trail {proven.head.head.trail}, signed by {proven.head.key}")
    typer.echo(proven.line)


@audit.command()
def reconcile(one: Source, other: Source, key: Keys = None) -> None:
    """Find where two members' trails contradict each other, or a receipt that the coordinator signed."""
    from client.audit import printable
    from client.audit import reconcile as compare

    with _explained():
        came_to = compare(one, other, _parsed(key))
    for found in (*came_to.alone[:_MOST_ALONE], *came_to.differences):
        where = f"session {printable(found.session)}, letter {found.number}: " if found.session else ""
        typer.echo(f"{where}{printable(found.what, 300)}")
    counts = f"{len(came_to.alone)} are in one trail only; {len(came_to.differences)} differences"
    typer.echo(f"both answered on {came_to.both} occasions; {counts}")
    raise typer.Exit(1 if came_to.differences else 0)


def _lines(report: "Report") -> list[str]:
    """Return what an operator or an auditor reads."""
    head = report.head
    lines = [
        f"trail {head.trail}: {head.seq} lines{f', the last of {head.at}' if head.seq else ''}",
        f"  under a signed head: {report.signed}; signatures verified: {report.signatures}",
        *(f"  signed by {key}" for key in report.keys),
    ]
    if head.seq > report.signed:
        first = report.signed + 1
        which = f"line {first} is" if first == head.seq else f"lines {first} to {head.seq} are"
        lines.append(f"  {which} under no signature yet")
    lines += [f"  NOT SOUND  {fault}" for fault in report.faults]
    return [*lines, "sound" if report.sound else "not sound"]


def _parsed(keys: list[str] | None) -> "list[PublicKey]":
    from protocols.keys import PublicKey

    try:
        return [PublicKey.parse(key) for key in keys or ()]
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--key") from None


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what cannot be read into one line and exit status 2."""
    from client.trails import Unreadable

    try:
        yield
    except (ConfigError, Unreadable) as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(2) from None
    except FileExistsError as there:
        typer.echo(f"{there.filename}: is there already, and is not written over", err=True)
        raise typer.Exit(2) from None
    except FileNotFoundError as missing:
        typer.echo(f"{missing.filename}: no such folder to write into", err=True)
        raise typer.Exit(2) from None
    except OSError as broken:
        typer.echo(f"{broken.filename}: {type(broken).__name__}", err=True)
        raise typer.Exit(2) from None
