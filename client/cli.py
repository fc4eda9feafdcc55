"""The command line of a member: parley member init | up | policy | roster | approve | ledger | audit | status."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from click import Command, Context
from typer.core import TyperGroup

from client.audit_cli import audit
from privacy.config import ConfigError

if TYPE_CHECKING:
    from client.folder import Folder
    from protocols.keys import PublicKey
    from protocols.session import MemberId

app = typer.Typer(help="An organisation's or a device's side: its model, its data, its policy.", no_args_is_help=True)
Home = Annotated[Path, typer.Argument(metavar="DIR", help="The member's home folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
roster = typer.Typer(help="Who may take part, as this home's operator has approved it.", no_args_is_help=True)
app.add_typer(roster, name="roster")


class _ShowUnlessTold(TyperGroup):
    """Take `policy DIR` for `policy show DIR`."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command and its arguments: `show`, where none is named."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


policy = typer.Typer(
    cls=_ShowUnlessTold, help="What this home agrees to, as its operator has written it.", no_args_is_help=True
)
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")


class FormatChoice(StrEnum):
    """Name how the data lies on disk."""

    AUTO = "auto"
    JSONL = "jsonl"
    TEXT = "text"
    FOLDER = "folder"
    DATASETS = "datasets"


class ContentChoice(StrEnum):
    """Name what a row of the data is."""

    TEXT = "text"
    CHAT = "chat"
    PREFERENCE = "preference"


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
    content: Annotated[ContentChoice, typer.Option(help="What a row of the data is.")] = ContentChoice.TEXT,
    group_column: Annotated[str | None, typer.Option(help="Whose a row is, for a budget per group.")] = None,
) -> None:
    """Make a home: keys, settings, and a policy for you to edit. Nothing is ever written over."""
    from client.data import Format
    from client.documents import Content
    from client.init import Wishes
    from client.init import init as make_home

    with _explained():
        form, what = Format(format.value), Content(content.value)
        wishes = Wishes(invitation, model, data, form, text_column, ledger, account, policy_file, what, group_column)
        settings = make_home(home, wishes)
    typer.echo(f"{home}: the home of {settings.member}, about {settings.data.declared_documents} documents.")
    typer.echo(f"Read and edit {home / 'policy.toml'}; then: parley member up {home}")
    typer.echo(f"Secure sums need a roster, once all have enrolled: parley member roster approve {home} FILE")


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


@policy.command("show")
def show_policy(home: Home) -> None:
    """Check the policy, and print what it comes down to."""
    from client.policy_view import policy_lines

    with _explained():
        lines = policy_lines(home.absolute())
    typer.echo("\n".join(lines))


@app.command("approve")
def approve_work(
    home: Home,
    number: Annotated[int | None, typer.Argument(metavar="[ID]", help="What to approve; else all is listed.")] = None,
    withdraw: Annotated[int | None, typer.Option(metavar="ID", help="Take this approval back.")] = None,
) -> None:
    """Show which work waits for your approval, or approve a piece of it."""
    from client.approving import approve, asked_lines, ledger_of, work_lines
    from client.approving import withdraw as take_back

    if number is not None and withdraw is not None:
        raise typer.BadParameter("approve one or withdraw one, not both at once", param_hint="--withdraw")
    with _explained(), ledger_of(home.absolute()) as ledger:
        if withdraw is not None:
            lines = [*work_lines(take_back(ledger, withdraw)), "withdrawn: what has left has left, and no more will"]
        elif number is not None:
            lines = [*work_lines(approve(ledger, number)), "approved, for the first session that asks for just this"]
        else:
            lines = asked_lines(ledger.approvals())
    typer.echo("\n".join(lines))


@roster.command()
def show(home: Home) -> None:
    """Print the approved roster and its digest."""
    from client.roster import approved_roster
    from client.views import digest_lines, roster_lines

    with _explained():
        folder, member, key = _own(home)
        approved = approved_roster(folder)
        lines = [*roster_lines(approved, member, key), *digest_lines(approved)]
    typer.echo("\n".join(lines))


@roster.command()
def approve(
    home: Home,
    file: Annotated[Path, typer.Argument(help="The roster that the coordinator gave you.")],
    digest: Annotated[str | None, typer.Option(help="Approve without asking if this is the roster's digest.")] = None,
) -> None:
    """Show a roster and what it changes, and let it count once you have compared its digest."""
    from client.roster import approve as let_count
    from client.roster import propose, require_digest
    from client.views import change_lines, digest_lines, roster_lines

    with _explained():
        folder, member, key = _own(home)
        proposal = propose(folder, file, member, key)
        lines = [*roster_lines(proposal.roster, member, key), *change_lines(proposal)]
        typer.echo("\n".join([*lines, *digest_lines(proposal.roster)]))
        if digest is not None:
            require_digest(proposal.roster, digest)
        if not proposal.is_new:
            return
        if digest is None and not typer.confirm("Is this the digest that the other operators have?"):
            typer.echo("nothing was approved", err=True)
            raise typer.Exit(1)
        let_count(folder, proposal.roster)
    typer.echo("approved; it counts from the next letter on")


@app.command()
def train(
    home: Home,
    name: Annotated[str, typer.Argument(help="What to call the adapter: it is kept in HOME/adapters/NAME.")],
    plan: Annotated[Path, typer.Option(help=r"The training, as in a run: seed, \[lora], \[training], \[privacy].")],
    shards: Annotated[int | None, typer.Option(min=1, help="One for each disjoint shard of the records.")] = None,
    no_noise: Annotated[
        bool, typer.Option("--no-noise", help=r"Leave \[privacy] out: no guarantee, no charge.")
    ] = False,
) -> None:
    """Train an adapter here by DP-SGD and keep it here, for merges and as an expert: charged now, and never again.

    Without noise nothing is charged, and nothing can be derived from it: what it is asked later is charged.
    """
    from client.kept import train_in

    with _explained():
        made, statement = train_in(home.absolute(), name, plan, shards, noise=not no_noise)
    charged = "charged, " if statement else "WITHOUT noise, nothing charged, "
    for one in made:
        typer.echo(f"{home / 'adapters' / one}: trained, {charged}and kept here; nothing has left")
    if statement:
        typer.echo(f"this data has spent, with all that was charged before: {statement.spent}")
        for line in statement.spent.assumptions:
            typer.echo(f"  assumes: {line}")


@app.command()
def ledger(home: Home, as_json: AsJson = False) -> None:
    """Print what has left, and what it adds up to."""
    from client.views import ledger_json, ledger_lines

    with _explained():
        shown = ledger_json(home.absolute()) if as_json else "\n".join(ledger_lines(home.absolute()))
    typer.echo(shown)


@app.command()
def personal(
    home: Home,
    out: Annotated[Path | None, typer.Option(help="Copy it to this new folder, as PEFT saves it.")] = None,
) -> None:
    """Show the adapter that is trained beside the shared one and never leaves, or export it."""
    from client.folder import Folder
    from client.personal import export, personal_lines

    with _explained():
        folder = Folder(home.absolute()).personal
        lines = personal_lines(folder)
        if out is not None:
            export(folder, out)
    typer.echo("\n".join(lines))


@app.command()
def status(home: Home, as_json: AsJson = False) -> None:
    """Ask the running daemon how it is."""
    from client.views import status_json, status_lines

    with _explained():
        shown = status_json(home.absolute()) if as_json else "\n".join(status_lines(home.absolute()))
    typer.echo(shown)


def _own(home: Path) -> "tuple[Folder, MemberId, PublicKey]":
    """Return the home's files, its name and its key. Raises: ConfigError."""
    from client.folder import Folder
    from client.opening import identity_of
    from client.settings import Settings
    from protocols.session import MemberId

    folder = Folder(home.absolute())
    return folder, MemberId(Settings.load(folder.settings).member), identity_of(folder).public


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
