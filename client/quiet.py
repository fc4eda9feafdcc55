"""Keep what is private out of logs: of an exception only its type and its place are written; of a refusal, why."""

import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from privacy.config import ConfigError
from privacy.refusal import Refused

LOG = logging.getLogger("parley.member")


def describe(error: BaseException) -> str:
    """Return the types and places of `error` and its causes, and no words but our own."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        ours = isinstance(current, (Refused, ConfigError))  # our own words: names, places, counts and limits
        said = f": {current}" if ours else ""
        parts.append(f"{type(current).__name__} at {_place(current.__traceback__)}{said}")
        current = current.__cause__ or current.__context__
    return ", from ".join(parts)


def log_quietly(level: int = logging.INFO) -> None:
    """Send logs to standard error without any exception's text; what nobody caught is described likewise."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_strip)
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    LOG.setLevel(level)
    logging.captureWarnings(True)  # into the log, where others' words are left out
    sys.excepthook = lambda _kind, error, _trace: LOG.error("stopped: %s", describe(error))
    sys.unraisablehook = _unraisable
    threading.excepthook = _unraisable


def _strip(record: logging.LogRecord) -> bool:
    """Leave of a record what we wrote ourselves; of an exception, type and place."""
    if record.name != LOG.name:  # other people's messages may quote what they were working on
        record.msg, record.args = f"{record.name}: something at {Path(record.pathname).name}:{record.lineno}", ()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.msg, record.args = f"{record.getMessage()}: {describe(error)}", ()
    record.exc_info = record.exc_text = record.stack_info = None
    return True


def _unraisable(raised: Any) -> None:
    error = raised.exc_value
    LOG.error("a thread stopped: %s", describe(error) if error is not None else "unknown")


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
