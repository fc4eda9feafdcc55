"""Redact files at home: plain text, and chosen fields of JSON, JSON Lines and CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from privacy.config import ConfigError
from privacy.redaction.redactor import Redactor
from privacy.redaction.spans import Entity
from privacy.redaction.vault import Vault

Text = Callable[[str], str]


class Form(StrEnum):
    """Name how a file is read."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Name a field by its path: keys with dots between, `[]` for every entry of a list, `*` for every text there is.

    With a `kind` the whole field is hidden as that; else what is detected in it.
    """

    path: tuple[str, ...]
    kind: Entity | None = None

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """Read `a.b[].c`, or `a.b=PERSON`. Raises: ValueError."""
        path, _, kind = text.partition("=")
        if kind and kind not in set(Entity):
            raise ValueError(f"expected a kind behind the =, one of {', '.join(e.value for e in Entity)}")
        parts = tuple(p for p in path.replace("[]", ".[]").split(".") if p)
        if not parts:
            raise ValueError("expected a path, such as patient.name or notes[].text")
        return cls(parts, Entity(kind) if kind else None)


@dataclass(slots=True)
class Tally:
    """Count what was replaced in a file; hold no value."""

    counts: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    masked: float = 0.0
    texts: int = 0

    def add(self, other: "Tally") -> None:
        """Add another file's."""
        self.counts += other.counts
        self.characters += other.characters
        self.masked += other.masked
        self.texts += other.texts


class FileRedactor:
    """Redact whole files with one redactor and one vault, and count."""

    def __init__(self, redactor: Redactor, vault: Vault) -> None:
        self.redactor, self.vault, self.tally = redactor, vault, Tally()

    def text(self, text: str) -> str:
        """Return the text redacted. Raises: Unreadable."""
        redacted = self.redactor.redact(text, self.vault)
        self._count(text, redacted.counts, redacted.masked * len(text))
        return redacted.text

    def field(self, value: str, kind: Entity | None) -> str:
        """Return a field redacted: all of it, where its kind is said."""
        if kind is None or not value:
            return self.text(value)
        self._count(value, Counter([kind.value]), len(value))
        return self.vault.tokens([(value, kind)])[0]

    def file(self, content: str, form: Form, wanted: Sequence[Wanted]) -> str:
        """Return a file redacted, its form kept. Raises: ConfigError, Unreadable."""
        match form:
            case Form.TEXT:
                return self.text(content)
            case Form.JSON:
                return json.dumps(self._walk(_parsed(content), wanted), ensure_ascii=False, indent=2) + "\n"
            case Form.JSONL:
                rows = (self._walk(_parsed(line), wanted) if line.strip() else None for line in content.splitlines())
                return "".join("\n" if r is None else json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
            case Form.CSV:
                return self._csv(content, wanted)

    def _walk(self, value: Any, wanted: Sequence[Wanted]) -> Any:
        for one in wanted:
            value = self._changed(value, one.path, one.kind)
        return value

    def _changed(self, value: Any, path: tuple[str, ...], kind: Entity | None) -> Any:
        if path[:1] == ("*",) or (not path and isinstance(value, dict | list)):
            return self._all(value, kind)
        if not path:
            return self.field(value, kind) if isinstance(value, str) else self._number(value, kind)
        if isinstance(value, list) and path[0] == "[]":
            return [self._changed(v, path[1:], kind) for v in value]
        if isinstance(value, dict) and path[0] in value:
            return {k: self._changed(v, path[1:], kind) if k == path[0] else v for k, v in value.items()}
        return value

    def _all(self, value: Any, kind: Entity | None) -> Any:
        if isinstance(value, dict):
            return {self.text(k): self._all(v, kind) for k, v in value.items()}
        if isinstance(value, list):
            return [self._all(v, kind) for v in value]
        return self.field(value, kind) if isinstance(value, str) else self._number(value, kind)

    def _number(self, value: Any, kind: Entity | None) -> Any:
        """Hide a number as a text, where one is detected in it or its kind is said; leave true, false and null."""
        if value is None or isinstance(value, bool):
            return value
        changed = self.field(str(value), kind)
        return value if changed == str(value) else changed

    def _csv(self, content: str, wanted: Sequence[Wanted]) -> str:
        rows = list(csv.reader(io.StringIO(content, newline="")))
        if not rows:
            return content
        every = next((w for w in wanted if w.path == ("*",)), None)
        kinds = {w.path[0]: w for w in wanted}
        if missing := [name for name in kinds if name != "*" and name not in rows[0]]:
            raise ConfigError("--field", missing[0], "no such column")
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows[1:]:
            names = rows[0] + [""] * (len(row) - len(rows[0]))  # cells without a column's name are redacted as well
            taken = [kinds.get(n, every) if n else Wanted(("*",)) for n in names[: len(row)]]
            writer.writerow([c if w is None else self.field(c, w.kind) for c, w in zip(row, taken, strict=True)])
        return out.getvalue()

    def _count(self, text: str, counts: Counter[str], masked: float) -> None:
        self.tally.counts += counts
        self.tally.characters += len(text)
        self.tally.masked += masked
        self.tally.texts += 1


def read_text(content: bytes, name: str) -> str:
    """Return a file's text, UTF-8 with or without its mark. Raises: ConfigError for what is no text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(name, "", "is no UTF-8 text; nothing was redacted, and nothing written") from None


def form_of(file: Path | None) -> Form:
    """Return how a file is read, by the end of its name."""
    return {".json": Form.JSON, ".jsonl": Form.JSONL, ".csv": Form.CSV}.get(
        file.suffix.lower() if file else "", Form.TEXT
    )


def files_in(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and those in the folders, in order; hidden ones are left out."""
    for path in paths:
        if path.is_dir():
            yield from sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
        else:
            yield path


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError("JSON", "", "cannot be read; nothing of it was written") from None
