"""Recognise documents under whatever name: a keyed fingerprint of each is kept, and never a word of it.

The key is in the ledger, so a fingerprint says nothing to who has not got the file, and little to who has: that a
document is there can be tried, not read.
"""

import hmac
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

_LABEL = b"parley/v1/document\0"
_AT_ONCE = 4096  # documents
_LONGEST_NAME = 256


def fingerprint(key: bytes, document: str) -> bytes | None:
    """Return 16 bytes that stand for the document however it is spaced, cased or composed; None for an empty one.

    Cites:   RFC 2104 (HMAC, here with SHA-256, truncated); Unicode TR 15 (NFKC).
    """
    words = unicodedata.normalize("NFKC", document).casefold().split()
    return (
        hmac.digest(key, _LABEL + " ".join(words).encode("utf-8", "surrogatepass"), "sha256")[:16] if words else None
    )


def recognise(db: sqlite3.Connection, name: str, documents: Iterable[str]) -> tuple[str, ...]:
    """Return the data set that these documents are, and then every other one that shares a document with it.

    A name that is known keeps its data set, and adds these documents to it. A new name is another name of the first
    data set that has all of these documents, or of which these have all; otherwise it is a new data set.
    `db` is a connection of its own: hashing may take long, and nobody waits for it.
    """
    if not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"a data set's name has 1 to {_LONGEST_NAME} characters")
    key = db.execute("SELECT secret FROM trail").fetchone()[0]
    db.execute("CREATE TEMP TABLE now (print BLOB PRIMARY KEY) WITHOUT ROWID")
    for batch in _prints(key, documents):
        db.execute("BEGIN")
        db.executemany("INSERT OR IGNORE INTO now VALUES (?)", batch)
        db.execute("COMMIT")
    db.execute("BEGIN IMMEDIATE")
    try:
        found = _settle(db, name)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return found


def _prints(key: bytes, documents: Iterable[str]) -> Iterator[list[tuple[bytes]]]:
    prints = ((p,) for p in (fingerprint(key, d) for d in documents) if p is not None)
    while batch := list(islice(prints, _AT_ONCE)):
        yield batch


def _settle(db: sqlite3.Connection, name: str) -> tuple[str, ...]:
    own = _known(db, name) or _the_same(db) or _new(db, name)
    db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (name, own))
    db.execute("INSERT OR IGNORE INTO fingerprints SELECT print, ? FROM now", (own,))
    return _with_sharers(db, own)


def known(db: sqlite3.Connection, name: str) -> tuple[str, ...]:
    """Return what `recognise` last returned for the name, or the name alone if it never was asked."""
    own = _known(db, name)
    return (name,) if own is None else _with_sharers(db, own)


def _with_sharers(db: sqlite3.Connection, own: int) -> tuple[str, ...]:
    """Return a data set's name, and those of all that share a document with it."""
    sharing = db.execute(
        "SELECT DISTINCT other.dataset FROM fingerprints mine CROSS JOIN fingerprints other"
        " ON other.print = mine.print WHERE mine.dataset = ? AND other.dataset <> ? ORDER BY other.dataset",
        (own, own),
    ).fetchall()
    called = dict(db.execute("SELECT id, name FROM datasets").fetchall())
    return tuple(called[n] for n in (own, *(row[0] for row in sharing)))


def _known(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT dataset FROM names WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _the_same(db: sqlite3.Connection) -> int | None:
    """Return the first data set that holds all of the documents, or that they hold all of."""
    many = db.execute("SELECT count(*) FROM now").fetchone()[0]
    shared = db.execute(
        "SELECT f.dataset, count(*) FROM now JOIN fingerprints f ON f.print = now.print GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for dataset, both in shared:
        whole = db.execute("SELECT count(*) FROM fingerprints WHERE dataset = ?", (dataset,)).fetchone()[0]
        if both in (many, whole):
            return int(dataset)
    return None


def _new(db: sqlite3.Connection, name: str) -> int:
    made = db.execute("INSERT INTO datasets (name) VALUES (?)", (name,))
    return int(made.lastrowid or 0)
