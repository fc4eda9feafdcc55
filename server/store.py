"""Remember who was invited, who enrolled with which keys, and which runs there are: one SQLite file.

Of an invitation's token only the SHA-256 is kept. The file holds names, public keys and numbers; no secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from protocols.session import MemberId

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS members (
    name TEXT PRIMARY KEY, token_digest BLOB NOT NULL, invited TEXT NOT NULL,
    supernode_key TEXT UNIQUE, identity_key TEXT UNIQUE, node TEXT UNIQUE, enrolled TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, started TEXT NOT NULL, flower_run TEXT, attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
"""


class WrongToken(Exception):
    """Nobody was invited by that name with that token."""


class OtherKeys(Exception):
    """The member, or one of the keys, is already enrolled otherwise."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Hold a member's two public keys: its SuperNode's (OpenSSH, P-384) and its identity's ("ed25519:...")."""

    supernode: str
    identity: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Be a member as the store knows it; `keys` and `node` are None until it enrolled."""

    name: MemberId
    keys: Keys | None
    node: int | None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Be a run as the store knows it: its id, the Flower run that carries it, how often it was started."""

    id: str
    started: str
    flower_run: int | None
    attempts: int


class Store:
    """Keep members and runs in one file. Safe to use from several threads and processes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        with self._open() as db:
            db.executescript(_SCHEMA)

    def invite(self, name: str, token: str) -> MemberId:
        """Note that `name` may enrol once with `token`; an older invitation that was not used is void.

        Raises: ValueError for a name that is none; OtherKeys if the member has enrolled.
        """
        member = member_name(name)
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT 1 FROM members WHERE name = ? AND enrolled IS NOT NULL", (member,)).fetchone():
                raise OtherKeys
            db.execute(
                "INSERT OR REPLACE INTO members (name, token_digest, invited) VALUES (?, ?, ?)",
                (member, _digest(token), _now()),
            )
        return member

    def check(self, name: str, token: str) -> Enrolled:
        """Return the member whom `token` invites. Raises: WrongToken, which does not say what was wrong."""
        with self._open() as db:
            row = db.execute("SELECT token_digest FROM members WHERE name = ?", (name,)).fetchone()
        known = row[0] if row else bytes(32)
        if not hmac.compare_digest(known, _digest(token)) or row is None:
            raise WrongToken
        return self.member(MemberId(name))

    def enrol(self, member: MemberId, keys: Keys, node: int) -> None:
        """Bind the keys and the Flower node to the member, for good. Raises: OtherKeys if one is taken."""
        with self._open() as db:
            try:
                changed = db.execute(
                    "UPDATE members SET supernode_key = ?, identity_key = ?, node = ?, enrolled = ?"
                    " WHERE name = ? AND (enrolled IS NULL OR (supernode_key = ? AND identity_key = ?))",
                    (keys.supernode, keys.identity, str(node), _now(), member, keys.supernode, keys.identity),
                ).rowcount
            except sqlite3.IntegrityError:
                raise OtherKeys from None
        if not changed:
            raise OtherKeys

    def member(self, name: MemberId) -> Enrolled:
        """Return one member. Raises: KeyError."""
        return {m.name: m for m in self.members()}[name]

    def members(self) -> list[Enrolled]:
        """Return all who were invited, in the order of their names."""
        with self._open() as db:
            rows = db.execute("SELECT name, supernode_key, identity_key, node FROM members ORDER BY name").fetchall()
        return [
            Enrolled(MemberId(name), Keys(key, identity) if node else None, int(node) if node else None)
            for name, key, identity, node in rows
        ]

    def add_run(self, run: str) -> None:
        """Note a new run."""
        with self._open() as db:
            db.execute("INSERT INTO runs (id, started) VALUES (?, ?)", (run, _now()))

    def carried_by(self, run: str, flower_run: int) -> None:
        """Note which Flower run carries a run from now on."""
        with self._open() as db:
            db.execute("UPDATE runs SET flower_run = ?, attempts = attempts + 1 WHERE id = ?", (str(flower_run), run))

    def runs(self) -> list[StoredRun]:
        """Return all runs, the oldest first."""
        with self._open() as db:
            rows = db.execute("SELECT id, started, flower_run, attempts FROM runs ORDER BY started, id").fetchall()
        return [StoredRun(i, s, int(f) if f else None, a) for i, s, f, a in rows]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._file, timeout=10.0)
        try:
            with db:
                yield db
        finally:
            db.close()


def member_name(text: str) -> MemberId:
    """Return `text` as a member's name. Raises: ValueError unless 1 to 32 of a-z, 0-9 and hyphens."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 32 letters a-z, digits and hyphens, not beginning with a hyphen")
    return MemberId(text)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
