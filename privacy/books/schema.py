"""Lay out the ledger's one SQLite file: lines that are only ever added, and what they add up to."""

import secrets
import sqlite3
from pathlib import Path

from privacy.refusal import LedgerUnavailable

VERSION = 3
_TABLES = """
CREATE TABLE trail (
  one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, secret BLOB NOT NULL,
  seq INTEGER NOT NULL, at TEXT NOT NULL, chain BLOB NOT NULL, peaks BLOB NOT NULL);
CREATE TABLE accounts (
  id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, unit TEXT NOT NULL, relation TEXT NOT NULL,
  epsilon REAL NOT NULL, delta REAL NOT NULL, reserved REAL NOT NULL, orders TEXT NOT NULL,
  record_tokens INTEGER NOT NULL, most_disclosures INTEGER NOT NULL, nats TEXT NOT NULL, extra INTEGER NOT NULL,
  charges INTEGER NOT NULL DEFAULT 0, disclosures INTEGER NOT NULL DEFAULT 0,
  UNIQUE (dataset, unit, relation));
CREATE TABLE shares (
  id INTEGER PRIMARY KEY, account INTEGER NOT NULL REFERENCES accounts (id), partner TEXT NOT NULL,
  level TEXT NOT NULL, collaboration TEXT NOT NULL, nats TEXT NOT NULL, extra INTEGER NOT NULL,
  charges INTEGER NOT NULL DEFAULT 0, disclosures INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
  minute INTEGER NOT NULL, epsilon REAL, bytes_per_day INTEGER, last_event TEXT,
  UNIQUE (account, partner, level, collaboration));
CREATE TABLE minutes (
  share INTEGER NOT NULL, minute INTEGER NOT NULL, releases INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (share, minute)) WITHOUT ROWID;
CREATE TABLE said (share INTEGER PRIMARY KEY, day INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, slot TEXT, session TEXT, number INTEGER, share INTEGER,
  line TEXT NOT NULL, hash BLOB NOT NULL);
CREATE UNIQUE INDEX each_slot_once ON entries (session, number, slot) WHERE slot IS NOT NULL;
CREATE TABLE belongs (
  account INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (account, seq)) WITHOUT ROWID;
CREATE VIEW charged_to AS
  SELECT s.account AS account, e.seq AS seq FROM entries e JOIN shares s ON s.id = e.share
  WHERE e.kind IN ('charged', 'disclosed') UNION ALL SELECT account, seq FROM belongs;
CREATE TABLE joined (
  account INTEGER NOT NULL, other INTEGER NOT NULL, PRIMARY KEY (account, other)) WITHOUT ROWID;
CREATE TABLE heads (
  seq INTEGER NOT NULL, key TEXT NOT NULL, root BLOB NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (seq, key)) WITHOUT ROWID;
CREATE TABLE refusals (
  partner TEXT PRIMARY KEY, hour INTEGER NOT NULL, lines INTEGER NOT NULL, folded INTEGER NOT NULL);
CREATE TABLE approvals (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, state TEXT NOT NULL, partner TEXT NOT NULL,
  collaboration TEXT NOT NULL, level TEXT NOT NULL, purpose TEXT NOT NULL, plan TEXT NOT NULL, session TEXT,
  crowd INTEGER, summed INTEGER, cost TEXT);
CREATE INDEX approvals_of ON approvals (partner, collaboration, level);
CREATE TABLE datasets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE names (name TEXT PRIMARY KEY, dataset INTEGER NOT NULL REFERENCES datasets (id)) WITHOUT ROWID;
CREATE TABLE fingerprints (
  print BLOB NOT NULL, dataset INTEGER NOT NULL, PRIMARY KEY (print, dataset)) WITHOUT ROWID;
"""
_INDEXES = (  # nothing takes longer for what left before it; none reads a line's JSON, which may be damaged
    "CREATE INDEX IF NOT EXISTS artefacts ON entries (seq) WHERE slot = 'artefact'",
    "CREATE INDEX IF NOT EXISTS free_answers ON entries (share, seq)"
    " WHERE kind IN ('derived', 'continued') AND slot = 'answer'",
    "CREATE INDEX IF NOT EXISTS charged_with_others ON entries (share)"
    " WHERE kind = 'charged' AND instr(line, '\\\"honest\\\"') > 0",
)
_SINCE_2 = "ALTER TABLE approvals ADD COLUMN {}"
_APPEND_ONLY = ("entries", "belongs", "heads")
_TRIGGER = """CREATE TRIGGER {0}_{1} BEFORE {1} ON {0} BEGIN SELECT RAISE(ABORT, 'append only'); END;"""


def connect(file: Path, *, durable: bool = True, reading: bool = False) -> sqlite3.Connection:
    """Open the file, and lay it out if it is new. Raises: LedgerUnavailable."""
    try:
        db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=256)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        if reading:
            db.execute("PRAGMA query_only=ON")
        else:
            file.chmod(0o600)  # also one that was restored from a copy
            _lay_out(db)
        version = _version(db)
    except (sqlite3.Error, OSError) as broken:
        raise LedgerUnavailable(f"{file.name}: {type(broken).__name__}") from None
    if version != VERSION:
        db.close()
        raise LedgerUnavailable(f"{file.name}: a ledger of version {version}, and this software keeps {VERSION}")
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _lay_out(db: sqlite3.Connection) -> None:
    if _version(db) in (0, 2):
        _lay_out_tables(db)
    if _version(db) == VERSION:
        for index in _INDEXES:
            db.execute(index)


def _lay_out_tables(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    if _version(db) == 2:  # what was approved under it waits anew: nobody saw what it costs
        for column in ("crowd INTEGER", "summed INTEGER", "cost TEXT"):
            db.execute(_SINCE_2.format(column))
        db.execute(f"PRAGMA user_version={VERSION}")
    elif _version(db) == 0:  # another process may have been first
        triggers = [_TRIGGER.format(table, verb) for table in _APPEND_ONLY for verb in ("UPDATE", "DELETE")]
        for statement in (*_TABLES.split(";\n"), *triggers):
            if statement.strip():
                db.execute(statement)
        first = (secrets.token_hex(16), secrets.token_bytes(32), bytes(32), bytes(8))
        db.execute("INSERT INTO trail VALUES (1, ?, ?, 0, '', ?, ?)", first)
        db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")
