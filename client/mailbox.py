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
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')));
CREATE TABLE head (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), head TEXT NOT NULL);
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
        self._aside = _open(file, "NORMAL")  # a machine that loses power may lose its last heads, and only those

    @staticmethod
    def create(file: Path) -> None:
        """Make an empty shelf in a new file that only its owner can read."""
        file.touch(mode=0o600, exist_ok=False)
        database = _open(file)
        try:
            database.executescript(_SCHEMA)
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
        self._aside.close()

    def remember(self, head: str) -> None:
        """Keep the newest head of the trail; it is there after a crash of the process."""
        self._run("INSERT OR REPLACE INTO head VALUES (1, ?)", (head,), self._aside)

    def remembered(self) -> str | None:
        """Return the newest head that was kept."""
        row = self._run("SELECT head FROM head", ()).fetchone()
        return None if row is None else str(row[0])

    def _run(
        self, statement: str, values: tuple[object, ...], database: sqlite3.Connection | None = None
    ) -> sqlite3.Cursor:
        try:
            with self._lock:
                return (database or self._db).execute(statement, values)
        except sqlite3.Error as broken:
            raise _unavailable(self._file, broken) from None


def _open(file: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
    except sqlite3.Error as broken:
        raise _unavailable(file, broken) from None
    return database


def _unavailable(file: Path, broken: sqlite3.Error) -> ShelfUnavailable:
    return ShelfUnavailable(f"{file.name}: {getattr(broken, 'sqlite_errorname', type(broken).__name__)}")
