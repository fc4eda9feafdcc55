"""Keep a mailbox's sessions in one SQLite file, each change on disk before the call returns."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.config import ConfigError

if TYPE_CHECKING:
    from protocols.post import Shelved

_SCHEMA = """
CREATE TABLE sessions (
  session TEXT PRIMARY KEY, number INTEGER NOT NULL, digest BLOB NOT NULL, state BLOB, answer BLOB,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')))
"""


class ShelfUnavailable(Exception):
    """The shelf could not be read or written; nothing was answered."""


class SqliteShelf:
    """Be a `Shelf` on disk: what is kept survives a crash of the process and of the machine.

    Rows are never deleted: a session that is forgotten could be answered a second time, with fresh noise
    on the same charge. For the same reason a shelf that is missing is an error, and never made anew here.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise ConfigError(file, "", "missing; without it letters could be answered twice: restore it")
        self._file = file
        self._lock = threading.Lock()
        self._db = _open(file)

    @staticmethod
    def create(file: Path) -> None:
        """Make an empty shelf in a new file that only its owner can read."""
        file.touch(mode=0o600, exist_ok=False)
        database = _open(file)
        try:
            database.execute(_SCHEMA)
        except sqlite3.Error as broken:
            raise _unavailable(file, broken) from None
        finally:
            database.close()

    def fetch(self, session: str) -> Shelved | None:
        """Return what is kept of `session`."""
        from protocols.post import Shelved  # late: it loads the accountant, and the daemon's socket must not wait

        row = self._run("SELECT number, digest, state, answer FROM sessions WHERE session = ?", (session,)).fetchone()
        return None if row is None else Shelved(*row)

    def keep(self, session: str, shelved: Shelved) -> None:
        """Replace what is kept of `session`: wholly, or not at all."""
        self._run(
            "INSERT OR REPLACE INTO sessions (session, number, digest, state, answer) VALUES (?, ?, ?, ?, ?)",
            (session, shelved.number, shelved.digest, shelved.state, shelved.answer),
        )

    def sessions(self) -> int:
        """Count the sessions that ever were."""
        return int(self._run("SELECT count(*) FROM sessions", ()).fetchone()[0])

    def close(self) -> None:
        """Close the file; all that was kept is in it."""
        self._db.close()

    def _run(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            with self._lock:
                return self._db.execute(statement, values)
        except sqlite3.Error as broken:
            raise _unavailable(self._file, broken) from None


def _open(file: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error as broken:
        raise _unavailable(file, broken) from None
    return database


def _unavailable(file: Path, broken: sqlite3.Error) -> ShelfUnavailable:
    return ShelfUnavailable(f"{file.name}: {getattr(broken, 'sqlite_errorname', type(broken).__name__)}")
