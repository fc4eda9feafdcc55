"""Find each member's rows for an experiment that is simulated here: what it trains on, and what nobody trains on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from client.data import documents, read
from client.documents import CONTENT, Columns, Content, Document, Turn
from privacy.config import ConfigError, nearest
from privacy.units import Unit
from simulations.corpora import headers, silos
from simulations.experiment import SILO, Experiment, MemberTable

HELD_OUT_CHARACTERS = 24_000  # of each member: equal shares make the mixed text, and keep judging short
_GROUP = "group"  # the column of what is written here

_PLAIN = Columns()

Texts = Sequence[str | Document]


@dataclass(frozen=True, slots=True)
class MemberText:
    """Name where one member's training rows lie, as its home will read them, and hold what nobody trains on.

    `columns` say what the rows are. Text is held out as one text, other rows as they are in `held`.
    """

    data: Path
    held_out: str
    columns: Columns = _PLAIN
    held: tuple[Document, ...] = ()


def lay_out(experiment: Experiment, file: Path, folder: Path) -> dict[str, MemberText]:
    """Write what the members need under `folder` and return it by member; `file` is named in errors.

    A silo (of the standard library, or of headers) is written out as a folder of files. A path's documents are
    split: every tenth, or a single document's last tenth, is held out; of rows that have groups, every tenth group
    with all its rows.
    Raises: ConfigError.
    """
    found = {m.name: _member(m, experiment, file, folder / m.name) for m in experiment.members}
    share, rows = min(len(t.held_out) for t in found.values()), min(len(t.held) for t in found.values())
    return {name: replace(t, held_out=t.held_out[:share], held=t.held[:rows]) for name, t in found.items()}


def training(texts: Mapping[str, MemberText]) -> dict[str, Texts]:
    """Return every member's documents, read as a member's home reads them."""
    return {name: _read(text.data, text.columns) for name, text in texts.items()}


def originals(experiment: Experiment, file: Path) -> dict[str, Texts]:
    """Return every member's rows as they stand where the experiment names them, for errors to name the place.

    Raises: ConfigError.
    """
    return {m.name: _read((file.parent / m.data).resolve(), columns_of(m, experiment)) for m in experiment.members}


def columns_of(member: MemberTable, experiment: Experiment) -> Columns:
    """Return what a member's rows are, and whose."""
    return Columns(CONTENT[experiment.training.objective], group=member.group_column)


def _read(path: Path, columns: Columns) -> Texts:
    if columns == _PLAIN:
        return list(documents(path))
    return [d for d in read(path, columns=columns) if d.text.strip()]


def _member(member: MemberTable, experiment: Experiment, file: Path, folder: Path) -> MemberText:
    key, columns = f"members.{member.name}.data", columns_of(member, experiment)
    if experiment.privacy.unit is Unit.GROUP and columns.group is None:
        wanted = 'expected the column that says whose a row is, for unit = "group"'
        raise ConfigError(file, f"members.{member.name}.group_column", wanted)
    if not member.data:
        raise ConfigError(file, key, "expected silo:NAME or a path, to simulate this member")
    path = (file.parent / member.data).resolve()
    if not member.data.startswith(SILO) and not path.exists():
        raise ConfigError(file, key, f"no such file or folder: {path}")
    if columns != _PLAIN:
        if member.data.startswith(SILO):
            raise ConfigError(file, key, "expected JSONL or a saved data set: a silo has no columns")
        return _rows(_read(path, columns), columns, (file, key), folder)
    if member.data.startswith(SILO):
        return _silo(member.data.removeprefix(SILO), key, file, folder)
    kept, held = _split(list(documents(path)))
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(kept):
        (folder / f"{number:06d}.txt").write_text(text, encoding="utf-8")
    return MemberText(folder, "\n".join(held)[:HELD_OUT_CHARACTERS])


def _silo(name: str, key: str, file: Path, folder: Path) -> MemberText:
    if name not in silos.MODULES and name not in headers.FOLDERS:
        raise ConfigError(file, key, f"no such silo ({nearest(name, [*silos.MODULES, *headers.FOLDERS])})")
    silo = silos.silo(name) if name in silos.MODULES else headers.silo(name)
    if not silo.train:
        raise ConfigError(file, key, "this installation of PyTorch has no headers under a permissive licence")
    folder.mkdir(parents=True, exist_ok=True)
    for source in silo.train:
        (folder / (source.name.replace("/", ".") + ".txt")).write_text(source.text, encoding="utf-8")
    return MemberText(folder, silos.joined(silo.held_out)[:HELD_OUT_CHARACTERS])


def _split(texts: list[str]) -> tuple[list[str], list[str]]:
    if len(texts) == 1:
        cut = len(texts[0]) * 9 // 10
        return [texts[0][:cut]], [texts[0][cut:]]
    held = texts[::10]
    return [t for i, t in enumerate(texts) if i % 10], held


def _rows(found: Texts, columns: Columns, at: tuple[Path, str], folder: Path) -> MemberText:
    """Split rows that have columns, and write those to train on as JSONL."""
    rows = [row for row in found if isinstance(row, Document)]
    kept, held = _apart(rows)
    if not kept:
        raise ConfigError(*at, "expected two groups, or two conversations, at least: one of them is held out")
    written = Columns(columns.content, group=_GROUP if columns.group else None)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(_row(d)) + "\n" for d in kept), encoding="utf-8")
    if columns.content is Content.TEXT:
        return MemberText(data, "\n".join(d.text for d in held)[:HELD_OUT_CHARACTERS], written)
    return MemberText(data, "", written, _within(held))


def _apart(rows: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Return the rows to train on, and those of every tenth group (else: conversation), which are held out.

    What a held-out conversation says, no row to train on says again, whosever it is.
    """
    units = list(dict.fromkeys(_unit(row) for row in rows))
    chosen = set(units[::10])
    held = [row for row in rows if _unit(row) in chosen]
    said = {_conversation(row) for row in held}
    return [row for row in rows if _unit(row) not in chosen and _conversation(row) not in said], held


def _unit(row: Document) -> object:
    return _conversation(row) if row.group is None else row.group


def _conversation(row: Document) -> object:
    """Return what makes two rows the same conversation: of a choice, its prompt."""
    if row.content is Content.TEXT:
        return row.text
    return row.turns if row.content is Content.CHAT else _prompt(row)


def _prompt(row: Document) -> tuple[Turn, ...]:
    """Return the turns that both answers follow; the last one of each is its own, even if they are the same."""
    pairs = zip(row.turns[:-1], row.rejected[:-1], strict=False)
    return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _within(rows: Sequence[Document]) -> tuple[Document, ...]:
    """Return the first rows, as many as keep judging short."""
    sizes, total = [], 0
    for row in rows:
        total += len(row.text)
        sizes.append(total)
    return tuple(row for row, size in zip(rows, sizes, strict=True) if size <= HELD_OUT_CHARACTERS or row is rows[0])


def _row(row: Document) -> dict[str, Any]:
    """Return a row as it is written for a home."""
    whose = {} if row.group is None else {_GROUP: row.group}
    if row.content is Content.TEXT:
        return {**whose, "text": row.text}
    if row.content is Content.CHAT:
        return {**whose, "messages": _messages(row.turns)}
    prompt = _prompt(row)
    chosen, rejected = (_messages(turns[len(prompt) :]) for turns in (row.turns, row.rejected))
    return {**whose, "prompt": _messages(prompt), "chosen": chosen, "rejected": rejected}


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]
