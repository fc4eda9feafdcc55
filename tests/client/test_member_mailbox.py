"""The shelf on disk keeps what the one in memory keeps, and after a crash too."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from client.mailbox import ShelfUnavailable, SqliteShelf
from privacy.config import ConfigError
from protocols.post import MemoryShelf, Shelf, Shelved

ACCEPTED = Shelved(0, b"d" * 32, None, None)
ANSWERED = Shelved(0, b"d" * 32, b"state", b"answer")


def _on_disk(folder: Path) -> Shelf:
    file = folder / "mailbox.db"
    if not file.exists():
        SqliteShelf.create(file)
    return SqliteShelf(file)


@pytest.fixture(params=[lambda folder: MemoryShelf(), _on_disk], ids=["memory", "sqlite"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    make: Callable[[Path], Shelf] = request.param
    return make(tmp_path)


def test_a_shelf_knows_nothing_of_a_session_it_never_kept(shelf: Shelf) -> None:
    assert shelf.fetch("5e55") is None


def test_a_shelf_returns_what_was_kept_last(shelf: Shelf) -> None:
    shelf.keep("5e55", ACCEPTED)
    assert shelf.fetch("5e55") == ACCEPTED
    shelf.keep("5e55", ANSWERED)
    assert shelf.fetch("5e55") == ANSWERED


def test_sessions_do_not_mix(shelf: Shelf) -> None:
    shelf.keep("a", ACCEPTED)
    shelf.keep("b", ANSWERED)
    assert (shelf.fetch("a"), shelf.fetch("b")) == (ACCEPTED, ANSWERED)


def test_what_was_kept_is_there_after_the_process_was_killed(tmp_path: Path) -> None:
    _on_disk(tmp_path)
    program = (
        "import os, sys; from pathlib import Path; from client.mailbox import SqliteShelf;"
        "from protocols.post import Shelved;"
        "SqliteShelf(Path(sys.argv[1])).keep('5e55', Shelved(0, b'd' * 32, b'state', b'answer'));"
        "os.kill(os.getpid(), 9)"
    )
    _python(program, str(tmp_path / "mailbox.db"))
    assert _on_disk(tmp_path).fetch("5e55") == ANSWERED


def test_a_full_disk_is_a_clear_error_and_the_old_session_stays(tmp_path: Path) -> None:
    shelf = _on_disk(tmp_path)
    shelf.keep("5e55", ACCEPTED)
    program = (
        "import resource, sys; from pathlib import Path; from client.mailbox import *;"
        "from protocols.post import Shelved;"
        "shelf = SqliteShelf(Path(sys.argv[1]));"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "\ntry: shelf.keep('5e55', Shelved(0, b'd' * 32, b'state', bytes(1_000_000)))"
        "\nexcept ShelfUnavailable as full: print(full)"
    )
    assert _python(program, str(tmp_path / "mailbox.db")).startswith("mailbox.db: SQLITE_")
    assert shelf.fetch("5e55") == ACCEPTED


def test_a_missing_shelf_is_never_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="answered twice"):
        SqliteShelf(tmp_path / "mailbox.db")
    assert not (tmp_path / "mailbox.db").exists()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mailbox.db").write_bytes(b"no database at all, and long enough to be read" * 100)
    with pytest.raises(ShelfUnavailable, match=r"mailbox\.db: SQLITE_NOTADB"):
        SqliteShelf(tmp_path / "mailbox.db")


def test_the_file_is_written_through_to_the_disk_and_is_its_owners_alone(tmp_path: Path) -> None:
    shelf = _on_disk(tmp_path)
    shelf.keep("5e55", ANSWERED)
    for file in tmp_path.glob("mailbox.db*"):
        assert file.stat().st_mode & 0o077 == 0
    database: sqlite3.Connection = shelf._db  # type: ignore[attr-defined]
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _python(program: str, *arguments: str) -> str:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr, done.stderr
    return done.stdout
