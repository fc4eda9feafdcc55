"""Read a member's documents from disk and cut them into records of a fixed number of tokens.

A record is a window of one document: the unit that record-level privacy protects. No token is in two records.
Learns:  who reads an error: the file, a line or byte number, a column's name; never content.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.config import ConfigError, nearest

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
    """Hold records of one width.

    Shapes:  tokens (records, record_tokens) int32, zeros after the end; lengths (records,) int32, at least 2.
    """

    tokens: NDArray[np.int32] = field(repr=False)
    lengths: NDArray[np.int32] = field(repr=False)

    def __len__(self) -> int:
        return int(self.lengths.size)

    def take(self, chosen: NDArray[np.intp]) -> "Records":
        """Return the records at these indices, in this order."""
        return Records(self.tokens[chosen], self.lengths[chosen])


def cut(documents: Iterable[str], tokenizer: Any, record_tokens: int) -> Records:
    """Cut each document into windows of `record_tokens` tokens; the last one is padded.

    A window of a single token predicts nothing and is left out. The order is that of the documents.
    """
    if record_tokens < 2:
        raise ValueError("record_tokens: expected at least 2")
    blocks, lengths = [np.zeros((0, record_tokens), np.int32)], [np.zeros(0, np.int32)]
    for document in documents:
        block, length = _windows(encode(document, tokenizer), record_tokens)
        blocks.append(block[length >= 2])
        lengths.append(length[length >= 2])
    return Records(np.concatenate(blocks), np.concatenate(lengths))


def encode(document: str, tokenizer: Any) -> NDArray[np.int32]:
    """Return the tokens of a document, shape (tokens,) int32, with what the tokenizer puts around a text."""
    frame = list(tokenizer("")["input_ids"])
    opening = frame[:1] if frame and frame[0] == tokenizer.bos_token_id else []
    parts = [np.asarray(opening, dtype=np.int32)]
    for piece in _pieces(document):
        tokens = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        parts.append(np.asarray(tokens, dtype=np.int32))
    parts.append(np.asarray(frame[len(opening) :], dtype=np.int32))
    return np.concatenate(parts)


def documents(path: Path, form: Format = Format.AUTO, column: str = "text") -> Iterator[str]:
    """Yield the documents at `path` in a fixed order, those without any text left out; at least one.

    Raises:  ConfigError, naming the file and the line, byte or column, if it is missing, empty or no text.
    """
    if not path.exists():
        raise ConfigError(path, "", "no such file or folder")
    match _recognise(path) if form is Format.AUTO else form:
        case Format.JSONL:
            found = _jsonl(path, column)
        case Format.FOLDER:
            found = _folder(path)
        case Format.DATASETS:
            from client.arrow import rows  # late: pyarrow is an optional dependency

            found = rows(path, column)
        case _:
            found = iter([_text(path)])
    empty = True
    for document in found:
        if document.strip():
            empty = False
            yield document
    if empty:
        raise ConfigError(path, "", "no text in it")


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


def _jsonl(path: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(_text(path).split("\n"), start=1):  # U+2028 may stand inside a JSON string
        if line.strip():
            yield _field(path, number, line, column)


def _field(path: Path, number: int, line: str, column: str) -> str:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ConfigError(path, f"line {number}", "expected a JSON object")
    if column not in row:
        raise ConfigError(path, f"line {number}", f"no column {column} ({nearest(column, list(row))})")
    if not isinstance(row[column], str):
        raise ConfigError(path, f"line {number}", f"expected text in column {column}")
    return str(row[column])


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
