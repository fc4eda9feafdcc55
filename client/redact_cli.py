"""The command `parley redact`: redact files or standard input at home, preview it, and restore what comes back."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privacy.config import ConfigError

if TYPE_CHECKING:
    from client.redacting import FileRedactor, Tally, Wanted
    from privacy.redaction.redactor import Redactor
    from privacy.redaction.settings import Settings
    from privacy.redaction.vault import Vault

Files = Annotated[list[Path], typer.Argument(metavar="FILE|-...", help="Files or folders; - is standard input.")]


def redact(
    files: Files,
    strict: Annotated[
        bool, typer.Option(help="Also hide whatever is written like a name or a number of something.")
    ] = False,
    entities: Annotated[str | None, typer.Option(help="Hide only these kinds, with commas between.")] = None,
    threshold: Annotated[float | None, typer.Option(help="How sure a rule has to be, from 0 to 1.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Never hide this string; may be repeated.")] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Always hide this string; may be repeated.")] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="Also hide what NAME=REGEX (RE2) matches.")] = None,
    plug: Annotated[list[str] | None, typer.Option(help="Also ask presidio, spacy, transformers or gliner.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that a plug loads: a folder or a name it knows.")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="In JSON and CSV: this path only, as a.b[].c or a.b=PERSON.")
    ] = None,
    vault: Annotated[Path | None, typer.Option(help="Keep what tokens stand for in this folder, sealed.")] = None,
    partner: Annotated[
        str, typer.Option(help="Whom the text is for: each partner has tokens and a key of its own.")
    ] = "me",
    restore: Annotated[bool, typer.Option(help="Put back what the vault knows, instead.")] = False,
    out: Annotated[Path | None, typer.Option(help="A new file, or for several files a new folder.")] = None,
    preview: Annotated[bool, typer.Option(help="Show the original with what would be hidden marked.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only count: write nothing, remember nothing.")] = False,
) -> None:
    """Put tokens in the place of identifiers. Redaction is not anonymity: the report says what it misses."""
    with _explained():
        from client.redacting import FileRedactor, Wanted, files_in

        if restore:
            _restore(files, vault, partner, out)
            return
        made = _redactor(_settings(strict, entities, threshold, allow, deny, pattern, plug), model)
        wanted = [Wanted.parse(f) for f in field or ["*"]]
        sources = [None if str(f) == "-" else f for f in ([files[0]] if str(files[0]) == "-" else files_in(files))]
        with _vault(None if dry_run or preview else vault, partner) as opened:
            worker = FileRedactor(made, opened)
            if preview:
                _preview(made, sources)
            else:
                _work(worker, sources, wanted, out, dry_run)
        if not preview:
            _report(worker.tally, made, vault is None and not dry_run)


def _settings(
    strict: bool,
    entities: str | None,
    threshold: float | None,
    allow: list[str] | None,
    deny: list[str] | None,
    pattern: list[str] | None,
    plug: list[str] | None,
) -> "Settings":
    from privacy.redaction.settings import THRESHOLD, Settings
    from privacy.redaction.spans import Entity

    kinds = tuple(Entity)
    if entities is not None:
        names = [n.strip().upper() for n in entities.split(",") if n.strip()]
        if unknown := [n for n in names if n not in set(Entity)]:
            raise ConfigError(
                "--entities", "", f"{len(unknown)} unknown; known: {', '.join(e.value for e in Entity)}"
            )
        kinds = tuple(Entity(n) for n in names)
    own = [tuple(p.partition("=")[::2]) for p in pattern or []]
    plain = entities is None and threshold is None and not allow
    name = ("strict" if strict else "default") if plain else "own"
    return Settings(
        name, kinds, threshold or THRESHOLD, {}, tuple(allow or ()), tuple(deny or ()), tuple((n, r) for n, r in own),
        tuple(plug or ()), strict=strict,
    )  # fmt: skip


def _redactor(settings: "Settings", model: str | None) -> "Redactor":
    from client.plugs import plugged
    from privacy.redaction.redactor import Redactor

    return Redactor(settings, plugged(settings.plugs, model))


@contextmanager
def _vault(folder: Path | None, partner: str) -> "Iterator[Vault]":
    from client.vault import Vaults
    from privacy.redaction.vault import Vault

    if folder is None:
        yield Vault(partner)
        return
    with Vaults(folder).open(partner) as vault:
        yield vault


def _work(
    worker: "FileRedactor", sources: list[Path | None], wanted: "list[Wanted]", out: Path | None, dry_run: bool
) -> None:
    """Redact each source; write to `out`, or else to standard output."""
    from rich.console import Console
    from rich.progress import track

    from client.redacting import form_of

    if out is not None and out.exists():
        raise ConfigError(out, "", "is there already; nothing was written over")
    many = len(sources) > 1
    if many and out is None and not dry_run:
        raise ConfigError("--out", "", "expected a new folder, for several files")
    shown = track(sources, "redacting", console=Console(stderr=True), disable=not many, transient=True)
    done: list[tuple[Path | None, str]] = []
    for source in shown:
        done.append((source, worker.file(_read(source), form_of(source), wanted)))
    if dry_run:
        return
    for source, text in done:  # all or nothing: a file that cannot be redacted stops the rest
        if out is None:
            sys.stdout.write(text)
        elif many:
            out.mkdir(exist_ok=True)
            (out / _name_in(out, source)).write_text(text, encoding="utf-8")
        else:
            out.write_text(text, encoding="utf-8")


def _name_in(out: Path, source: Path | None) -> str:
    """Return a name that is not taken: two files of one name may come from two folders."""
    name = source.name if source else "redacted.txt"
    number = 1
    while (out / name).exists():
        number += 1
        name = f"{number}-{source.name if source else 'redacted.txt'}"
    return name


def _preview(made: "Redactor", sources: list[Path | None]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for source in sources:
        text = _read(source)
        shown = Text(text)
        spans = made.find(text)
        for span in spans:
            shown.stylize("reverse", span.start, span.end)
        console.print(shown)
        for span in spans:
            console.print(
                f"  {span.start:>8}-{span.end:<8} {span.kind.value:13} {span.score:.2f}  {span.why}", markup=False
            )


def _report(tally: "Tally", made: "Redactor", forgotten: bool) -> None:
    """Print counts, and what the result is worth, to standard error: standard output is the text's."""
    counts = ", ".join(f"{kind} {n}" for kind, n in sorted(tally.counts.items())) or "nothing"
    masked = tally.masked / max(1, tally.characters)
    typer.echo(f"replaced: {counts}; {masked:.1%} of {tally.characters:,} characters", err=True)
    typer.echo(str(made.protection), err=True)
    if forgotten:
        typer.echo("no --vault: what the tokens stand for is forgotten, and cannot be restored", err=True)


def _restore(files: list[Path], folder: Path | None, partner: str, out: Path | None) -> None:
    if folder is None or not folder.exists():
        raise ConfigError("--vault", "", "expected the folder of the vault that gave the tokens")
    if out is not None and out.exists():
        raise ConfigError(out, "", "is there already; nothing was written over")
    if len(files) > 1:
        raise ConfigError("--restore", "", "expected one file")
    with _vault(folder, partner) as vault:
        done = vault.restored(_read(None if str(files[0]) == "-" else files[0]))
    if out is None:
        sys.stdout.write(done.text)
    else:
        out.write_text(done.text, encoding="utf-8")
    typer.echo(f"restored: {done.restored} tokens; {done.left} are not this partner's, or have run out", err=True)


def _read(source: Path | None) -> str:
    from client.redacting import read_text

    if source is None:
        return read_text(sys.stdin.buffer.read(), "standard input")
    try:
        return read_text(source.read_bytes(), str(source))
    except OSError as wrong:
        raise ConfigError(source, "", f"cannot be read ({type(wrong).__name__})") from None


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what a person can mend into one line and exit status 2; what was refused, into 1."""
    from privacy.refusal import Refused

    try:
        yield
    except (ConfigError, ValueError) as wrong:
        if isinstance(wrong, UnicodeError):
            raise
        typer.echo(f"parley redact: {wrong}", err=True)
        raise typer.Exit(2) from None
    except Refused as refused:
        typer.echo(f"parley redact: {refused}", err=True)
        raise typer.Exit(1) from None
