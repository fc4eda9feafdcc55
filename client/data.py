"""Read a member's documents from disk and cut texts into records of a fixed number of tokens.

A record is a window of one document: the unit that record-level privacy protects. No token is in two records.
Conversations and choices become records in `conversations.py`.
Learns:  who reads an error: the file, a line or byte number, a column's name; never content.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.documents import Columns, Content, Document, as_document
from privacy.config import ConfigError

_TEXTS = Columns()
_PIECE = 2**16  # characters given to a tokenizer at once: its bookkeeping takes a hundred bytes for each


class Format(Enum):
    """Name how the data lies on disk."""

    AUTO = "auto"
    JSONL = "jsonl"
    TEXT = "text"
    FOLDER = "folder"
    DATASETS = "datasets"


@dataclass(frozen=True, slots=True)
class Records:
    """Hold rows of one width, and whose they are.

    Shapes:  tokens (rows, record_tokens) int32, zeros after the end; lengths (rows,) int32, at least 2; owner
             (rows,) int32, the privacy unit of each row, 0 to units - 1 and none of them without a row, or None:
             each row is its own; counted (rows, record_tokens) bool, the tokens that are to be predicted, or None:
             all but the first; weights (rows,) float64, by which each row's summed loss is multiplied, or None: it
             is divided by the number of its counted tokens.

    With `paired`, rows 2k and 2k + 1 are one example: the chosen answer and the rejected one. `left_out` documents
    had nothing to train on, or more than a record holds; like all the rest that is no one else's business.
    """

    tokens: NDArray[np.int32] = field(repr=False)
    lengths: NDArray[np.int32] = field(repr=False)
    owner: NDArray[np.int32] | None = field(default=None, repr=False)
    counted: NDArray[np.bool_] | None = field(default=None, repr=False)
    weights: NDArray[np.float64] | None = field(default=None, repr=False)
    paired: bool = False
    left_out: int = field(default=0, repr=False)

    def __len__(self) -> int:
        return int(self.lengths.size)

    @property
    def units(self) -> int:
        """Return how many privacy units there are."""
        return len(self) if self.owner is None else int(self.owner.max(initial=-1)) + 1

    @property
    def rows_per_example(self) -> int:
        """Return how many rows one example takes: a unit's gradient is divided by the number of its examples."""
        return 2 if self.paired else 1

    def rows_of(self, units: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows of these privacy units, in ascending order."""
        if self.owner is None:
            return np.sort(units)
        wanted = np.zeros(self.units, dtype=np.bool_)
        wanted[units] = True
        return np.flatnonzero(wanted[self.owner])

    def take(self, chosen: NDArray[np.intp]) -> "Records":
        """Return the rows at these indices, in this order; owners keep their numbers."""
        return Records(
            self.tokens[chosen],
            self.lengths[chosen],
            None if self.owner is None else self.owner[chosen],
            None if self.counted is None else self.counted[chosen],
            None if self.weights is None else self.weights[chosen],
            self.paired,
        )

    def narrowed(self, width: int) -> "Records":
        """Return the rows without the columns beyond `width`, which none of them reaches."""
        counted = None if self.counted is None else self.counted[:, :width]
        return replace(self, tokens=self.tokens[:, :width], counted=counted)

    def filled_up(self, rows: int) -> "Records":
        """Return so many rows at least: blank ones at the end, with nothing to predict and nobody's."""
        more = max(0, rows - len(self))
        return Records(
            np.pad(self.tokens, ((0, more), (0, 0))),
            np.pad(self.lengths, (0, more), constant_values=2),
            None,
            None if self.counted is None else np.pad(self.counted, ((0, more), (0, 0))),
            None if self.weights is None else np.pad(self.weights, (0, more)),
            self.paired,
        )


class Owners:
    """Number the groups of rows in the order in which they first have one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, document: Document) -> int:
        """Return the number of the group that a document belongs to. Raises: ConfigError if it names none."""
        if document.group is None:
            raise ConfigError(document.file, document.place, "no group: name the column in data.group_column")
        return self._numbers.setdefault(document.group, len(self._numbers))


def cut(documents: Iterable[str | Document], tokenizer: Any, record_tokens: int, *, grouped: bool = False) -> Records:
    """Cut each document into windows of `record_tokens` tokens; the last one is padded.

    A window of a single token predicts nothing and is left out. The order is that of the documents. With `grouped`
    the rows belong to their documents' groups; else each is a unit of its own.
    Raises:  ConfigError for a document without a group where groups are asked for.
    """
    if record_tokens < 2:
        raise ValueError("record_tokens: expected at least 2")
    blocks, lengths = [np.zeros((0, record_tokens), np.int32)], [np.zeros(0, np.int32)]
    owner, owners, left_out = [np.zeros(0, np.int32)], Owners(), 0
    encode = Encoder(tokenizer)
    for document in map(as_document, documents):
        block, length = _windows(encode(document.text), record_tokens)
        kept = length >= 2
        if not kept.any():
            left_out += 1
            continue
        blocks.append(block[kept])
        lengths.append(length[kept])
        if grouped:
            owner.append(np.full(int(kept.sum()), owners.number(document), np.int32))
    whose = np.concatenate(owner) if grouped else None
    return Records(np.concatenate(blocks), np.concatenate(lengths), whose, left_out=left_out)


class Encoder:
    """Turn documents into tokens, with what the tokenizer puts around a text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _frame(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return what stands before a text, and what behind it."""
        frame = np.array(self._tokenizer("")["input_ids"], np.int32)
        opened = 1 if frame[:1].tolist() == [self._tokenizer.bos_token_id] else 0
        return frame[:opened], frame[opened:]

    def __call__(self, document: str) -> NDArray[np.int32]:
        """Return the tokens of a document, shape (tokens,) int32."""
        opening, end = self._frame
        parts = [opening]
        for piece in _pieces(document):
            tokens = self._tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
            parts.append(np.asarray(tokens, dtype=np.int32))
        return np.concatenate([*parts, end])


def documents(path: Path, form: Format = Format.AUTO, column: str = "text") -> Iterator[str]:
    """Yield the texts at `path` in a fixed order, those without any text left out; at least one.

    Raises:  ConfigError, naming the file and the line, byte or column, if it is missing, empty or no text.
    """
    for document in read(path, form, Columns(text=column)):
        if document.text.strip():
            yield document.text


def read(path: Path, form: Format = Format.AUTO, columns: Columns = _TEXTS) -> Iterator[Document]:
    """Yield all that stands at `path` in a fixed order, what is empty too; at least one has words in it.

    Raises:  ConfigError, naming the file and the line, byte or column, if it is missing, empty or not as expected.
    """
    if not path.exists():
        raise ConfigError(path, "", "no such file or folder")
    form = _recognise(path) if form is Format.AUTO else form
    empty = True
    for document in _found(path, form, columns):
        empty = empty and not document.text.strip()
        yield document
    if empty:
        raise ConfigError(path, "", "no text in it")


def _found(path: Path, form: Format, columns: Columns) -> Iterator[Document]:
    match form:
        case Format.JSONL:
            return _jsonl(path, columns)
        case Format.DATASETS:
            return _saved(path, columns)
    if columns.content is not Content.TEXT or columns.group is not None:
        raise ConfigError(path, "", "expected JSONL or a saved data set: texts by themselves have no columns")
    found = _folder(path) if form is Format.FOLDER else iter([_text(path)])
    return (Document(text) for text in found)


def edition(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return names, numbers, sizes and times of the files at `path`: others after any edit, and nothing is read."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(str(p), p.stat()) for p in files]
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats)


def _recognise(path: Path) -> Format:
    if path.is_dir():
        saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        return Format.DATASETS if saved else Format.FOLDER
    return Format.JSONL if path.suffix.lower() in {".jsonl", ".ndjson"} else Format.TEXT


def _text(path: Path) -> str:
    """Return a file's text; bytes that are not UTF-8 text are an error that names their place."""
    try:
        raw = path.read_bytes()
    except OSError as broken:
        raise ConfigError(path, "", f"cannot be read ({type(broken).__name__})") from None
    zero = raw.find(0)
    if zero >= 0:
        raise ConfigError(path, f"byte {zero}", "expected UTF-8 text, found a zero byte: a binary file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        place = wrong.start + (len(raw) - len(wrong.object))  # the mark of utf-8-sig is not counted
    raise ConfigError(path, f"byte {place}", "expected UTF-8 text")


def _folder(path: Path) -> Iterator[str]:
    """Yield the text of every file below `path` by name; names that begin with a dot are left out."""
    if not path.is_dir():
        raise ConfigError(path, "", "expected a folder")
    files = [p for p in path.rglob("*") if p.is_file()]
    names = {p.relative_to(path).as_posix(): p for p in files}
    for name in sorted(names):
        if not any(part.startswith(".") for part in name.split("/")):
            yield _text(names[name])


def _jsonl(path: Path, columns: Columns) -> Iterator[Document]:
    for number, line in enumerate(_text(path).split("\n"), start=1):  # U+2028 may stand inside a JSON string
        if line.strip():
            place = f"line {number}"
            yield columns.document(_row(path, place, line), str(path), place)


def _row(path: Path, place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ConfigError(path, place, "expected a JSON object")
    return row


def _saved(path: Path, columns: Columns) -> Iterator[Document]:
    from client.arrow import rows  # late: pyarrow is an optional dependency

    for file, number, row in rows(path, columns.names):
        if columns.content is Content.TEXT and row[columns.text] is None:
            row[columns.text] = ""  # a null is an empty text in such a data set
        yield columns.document(row, str(file), f"row {number}")


def _pieces(document: str) -> Iterator[str]:
    """Cut a document for the tokenizer, after a line's end where there is one."""
    start = 0
    while start < len(document):
        end = start + _PIECE
        if end < len(document):
            end = document.rfind("\n", start, end) + 1 or end
        yield document[start:end]
        start = end


def _windows(tokens: NDArray[np.int32], width: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    count = -(-tokens.size // width)
    block = np.zeros(count * width, dtype=np.int32)
    block[: tokens.size] = tokens
    lengths = np.full(count, width, dtype=np.int32)
    if count:
        lengths[-1] = tokens.size - (count - 1) * width
    return block.reshape(count, width), lengths
