"""Read columns of a folder that Hugging Face `datasets` saved: Arrow streams, without that library.

pyarrow is enough, and reads lazily: the library itself would bring pandas, and a pickle in its footsteps.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from privacy.config import ConfigError, nearest


def rows(folder: Path, columns: Sequence[str]) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield each row's file, number (from 1 in each file) and `columns`, split after split, as they were saved.

    Raises:  ConfigError, naming the file, and the nearest column for one that is missing.
    """
    for part in _parts(folder):
        for name in _files(part):
            for number, row in enumerate(_rows(part / name, columns), start=1):
                yield part / name, number, row


def _parts(folder: Path) -> list[Path]:
    """Return the folders of the splits: several for a DatasetDict, else the folder itself."""
    index = folder / "dataset_dict.json"
    if not index.is_file():
        return [folder]
    splits = _json(index).get("splits")
    if not isinstance(splits, list) or not all(_is_plain(name) for name in splits):
        raise ConfigError(index, "splits", "expected names of folders")
    return [folder / name for name in splits]


def _files(part: Path) -> list[str]:
    state = part / "state.json"
    files = _json(state).get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in files or ()]
    if not names or not all(_is_plain(name) for name in names):
        raise ConfigError(state, "_data_files", "expected the names of the Arrow files")
    return [str(name) for name in names]


def _rows(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ConfigError(file, "format", "reading it takes pyarrow, which is not installed") from None
    if not file.is_file():
        raise ConfigError(file, "", "no such file")
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            known = [str(name) for name in stream.schema.names]
            for column in columns:
                if column not in known:
                    raise ConfigError(file, "", f"no column {column} ({nearest(column, known)})")
            for batch in stream:
                for values in zip(*(batch.column(column) for column in columns), strict=True):
                    yield {name: value.as_py() for name, value in zip(columns, values, strict=True)}
    except pa.ArrowInvalid:
        raise ConfigError(file, "", "not an Arrow stream, or not a whole one") from None


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError:
        raise ConfigError(file, "", "cannot be read") from None
    except ValueError:
        raise ConfigError(file, "", "not JSON") from None
    if not isinstance(found, dict):
        raise ConfigError(file, "", "expected a JSON object")
    return found


def _is_plain(name: object) -> bool:
    """Tell whether a name stays in its folder."""
    return isinstance(name, str) and bool(name) and name not in {".", ".."} and not set(name) & {"/", "\\", "\0"}
