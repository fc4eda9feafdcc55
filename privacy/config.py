"""Read strict TOML: an unknown key is an error that names the file, the key and the nearest known one."""

import difflib
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_EXPECTED: Mapping[type, str] = {
    dict: "a table",
    list: "an array",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    date: "a date without a time and without quotes, as in 2030-12-31",
    datetime: "a date and time with its offset, as in 2030-12-31T18:00:00Z",
}


class ConfigError(Exception):
    """Name the file, the key and what was expected; never the value that stood there."""

    def __init__(self, file: Path | str, key: str, expected: str) -> None:
        self.file, self.key, self.expected = str(file), key, expected
        super().__init__(f"{file}: {key}: {expected}" if key else f"{file}: {expected}")


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return " (nearest known: ...)" for a mistyped `name`, or a list of all that is known."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"nearest known: {close[0]}" if close else f"known: {', '.join(sorted(known))}"


def read_config(kind: type[T], file: Path) -> T:
    """Read `file` as the frozen dataclass `kind`, recursively and strictly.

    Raises: ConfigError, which names the file and the key.
    """
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise ConfigError(file, "", "no such file") from missing
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(file, "", f"cannot be read as UTF-8 ({type(unreadable).__name__})") from None
    except tomllib.TOMLDecodeError as malformed:
        raise ConfigError(file, "", f"not TOML: {_place(str(malformed))}") from None
    return build(kind, raw, file)


def build(kind: type[T], raw: Mapping[str, Any], file: Path | str, prefix: str = "") -> T:
    """Build the dataclass `kind` from a table; `prefix` is the table's own key, for the errors."""
    hints = get_type_hints(kind)
    wanted = {f.name.replace("_", "-") if "-" in f.name else f.name: f for f in _fields(kind)}
    for key in raw:
        if key not in wanted:
            raise ConfigError(file, prefix + key, f"unknown key ({nearest(key, list(wanted))})")
    values: dict[str, Any] = {}
    for key, field in wanted.items():
        if key in raw:
            values[field.name] = _value(hints[field.name], raw[key], file, prefix + key)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(file, prefix + key, "missing")
    try:
        return kind(**values)
    except ValueError as wrong:  # a dataclass may check itself in __post_init__, naming the key and the limit
        raise ConfigError(file, prefix.rstrip("."), str(wrong)) from None


def _fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    return fields(kind)


def _place(message: str) -> str:
    """Return where TOML broke, without quoting what stood there."""
    at = message.rfind("(at ")
    return message[at:] if at >= 0 else "syntax error"


def _value(hint: Any, raw: Any, file: Path | str, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (inner,) = [a for a in args if a is not type(None)]
        return _value(inner, raw, file, key)
    if origin is tuple:
        return tuple(
            _value(args[0], item, file, f"{key}[{i}]") for i, item in enumerate(_typed(list, raw, file, key))
        )
    if origin is not None and issubclass(origin, Mapping):
        table = _typed(dict, raw, file, key)
        return {name: _value(args[1], item, file, f"{key}.{name}") for name, item in table.items()}
    if is_dataclass(hint):
        return build(hint, _typed(dict, raw, file, key), file, key + ".")  # type: ignore[arg-type]
    return _scalar(hint, raw, file, key)


def _scalar(hint: Any, raw: Any, file: Path | str, key: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = [str(e.value) for e in hint]
        if raw not in known:
            raise ConfigError(file, key, f"expected one of {', '.join(known)}")
        return hint(raw)
    if hint is Path:
        return Path(_typed(str, raw, file, key))
    if hint is float and type(raw) is int:
        return float(raw)
    if hint is float and isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(file, key, "expected a finite number")
    if hint is datetime and isinstance(raw, datetime) and raw.tzinfo is None:
        raise ConfigError(file, key, "expected a date and time with its offset, as in 2030-12-31T18:00:00Z")
    return _typed(hint, raw, file, key)


def _typed(kind: type[T], raw: Any, file: Path | str, key: str) -> T:
    if type(raw) is not kind:  # exact: a bool is no int here, a time no date
        raise ConfigError(file, key, f"expected {_EXPECTED.get(kind) or kind.__name__}")
    return raw
