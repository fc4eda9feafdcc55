"""Read an audit trail where it lies, in a home's ledger or in an exported file; and write one for an auditor.

export = JSON Lines: {"format": "parley-trail/1", "trail": ...}, the lines as they are, then the signed heads
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.folder import Folder
from client.opening import identity_of
from client.settings import Settings
from privacy.books.schema import connect
from privacy.ledger import Ledger
from privacy.refusal import LedgerUnavailable
from privacy.trail import Head, SignedHead, parse

EXPORT, PROOF = "parley-trail/1", "parley-proof/1"
_HEAD = b'{"head":'  # no line of a trail begins so: "at" comes before "head"
_HEADS = (
    "SELECT heads.seq, heads.key, heads.root, heads.signature, entries.line, entries.hash"
    " FROM heads LEFT JOIN entries ON entries.seq = heads.seq ORDER BY heads.seq, heads.key"
)


class Unreadable(Exception):
    """Say that a file is none of ours, or broken; it names the file and what was expected, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Trail:
    """Give the lines of one trail, in order, as often as one asks, and the heads that were signed for it.

    `member` and `key` are the home's that it was taken from. `links` are those stored beside the lines, and `end` is
    the number and the link of the last line as the ledger itself has it: an export has neither.
    """

    id: str
    lines: Callable[[], Iterator[str]]
    heads: tuple[SignedHead, ...]
    member: str = ""
    key: str = ""
    links: Callable[[], Iterator[bytes]] | None = None
    end: tuple[int, bytes] | None = None


@contextmanager
def opened(source: Path) -> Iterator[Trail]:
    """Give the trail of a home, as it is at this moment, or of an exported file. Raises: Unreadable, ConfigError."""
    if not source.is_dir():
        yield read_export(source)
        return
    folder, settings, file = _home(source)
    try:
        with closing(connect(file, reading=True)) as db:
            db.text_factory = _ascii
            db.execute("BEGIN")  # one moment, whatever the daemon writes meanwhile
            yield _trail_of(db, settings.member, str(identity_of(folder).public))
    except (sqlite3.Error, LedgerUnavailable) as broken:
        raise Unreadable(f"{file}: no ledger that can be read ({type(broken).__name__})") from None


def ledger_of(home: Path) -> Ledger:
    """Open the ledger of a home, for a question that only it can answer. Raises: Unreadable, ConfigError."""
    _, _, file = _home(home)
    try:
        return Ledger(file)
    except LedgerUnavailable as broken:
        raise Unreadable(str(broken)) from None


def remembered(home: Path) -> SignedHead | None:
    """Return the newest head that the home kept beside its answers, if any: an old ledger is behind it."""
    file = Folder(home.absolute()).mailbox
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'head'").fetchone():
                return None
            row = db.execute("SELECT head FROM head").fetchone()
            return None if row is None else SignedHead.from_json(row[0])
    except (sqlite3.Error, ValueError, TypeError):
        raise Unreadable(f"{file}: the head that was kept there cannot be read") from None


def read_export(file: Path) -> Trail:
    """Return what an exported file holds. Raises: Unreadable."""
    with _explained(file):
        with file.open("rb") as rows:
            numbered = enumerate(rows, 1)
            header = _object(*_first(numbered))
            heads = tuple(SignedHead.from_json(_line(n, row)) for n, row in _from_the_first_head(numbered))
        if header.get("format") != EXPORT:
            raise ValueError("not an export")
        trail, member, key = (header.get(name, "") for name in ("trail", "member", "key"))
        if not (isinstance(trail, str) and isinstance(member, str) and isinstance(key, str)):
            raise ValueError("not an export")
        Head(trail, 0, "", bytes(32), bytes(32))  # is it a trail's id?
    return Trail(trail, lambda: _lines(file), heads, member, key)


def write_export(trail: Trail, out: Path) -> None:
    """Write the trail into a new file that only its owner can read."""
    out.touch(mode=0o600, exist_ok=False)
    with out.open("w", encoding="ascii", errors="replace", newline="\n") as file:
        header = {"format": EXPORT, "key": trail.key, "member": trail.member, "trail": trail.id}
        file.write(json.dumps(header) + "\n")
        file.writelines(line.replace("\n", "?") + "\n" for line in trail.lines())
        file.writelines(head.to_json() + "\n" for head in trail.heads)


def read_head(file: Path) -> SignedHead:
    """Return the head that a file holds: alone, in a proof, or as the newest of an export. Raises: Unreadable."""
    with _explained(file), file.open("rb") as rows:
        first = _object(*_first(enumerate(rows, 1)))
        if first.get("format") == EXPORT:
            return max(read_export(file).heads, key=lambda h: h.head.seq)
        return SignedHead.from_fields(first["head"] if first.get("format") == PROOF else first)


def _home(root: Path) -> tuple[Folder, Settings, Path]:
    folder = Folder(root.absolute())
    settings = Settings.load(folder.settings)
    file = settings.ledger_in(folder.root)
    if not file.is_file():
        raise Unreadable(f"{file}: the ledger is missing")
    return folder, settings, file


class _Cut(ValueError):
    """Say which row does not end."""

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__("a line that does not end")


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Unreadable(f"{file}: no such file") from None
    except _Cut as cut:
        raise Unreadable(f"{file}: row {cut.row} does not end: the file was cut there") from None
    except (OSError, ValueError, KeyError, RecursionError) as wrong:
        raise Unreadable(f"{file}: not a file that parley wrote, or broken ({type(wrong).__name__})") from None


def _trail_of(db: sqlite3.Connection, member: str, key: str) -> Trail:
    trail, seq, chain = db.execute("SELECT id, seq, chain FROM trail").fetchone() or (None, None, None)
    if not (isinstance(trail, str) and isinstance(seq, int) and isinstance(chain, bytes)):
        raise Unreadable("the ledger does not say which trail it is, and where it ends")
    heads = []
    for number, signer, root, signature, line, link in db.execute(_HEADS):
        try:
            head = Head(trail, number, str(parse(line)["at"]), _bytes(link), _bytes(root))
        except (ValueError, TypeError):
            continue  # its line is missing or none: that is found by following the lines
        heads.append(SignedHead(head, str(signer), _bytes(signature)))

    def lines() -> Iterator[str]:
        for (line,) in db.execute("SELECT line FROM entries ORDER BY seq"):
            yield line if isinstance(line, str) else ""

    def links() -> Iterator[bytes]:
        return (link for (link,) in db.execute("SELECT hash FROM entries ORDER BY seq"))

    return Trail(trail, lines, tuple(heads), member, key, links, (seq, chain))


def _bytes(found: object) -> bytes:
    """Return what is in a column, or what neither fits nor verifies: it is held against the lines like any other."""
    return found if isinstance(found, bytes) else bytes(32)


def _ascii(data: bytes) -> str:
    return data.decode("ascii", "replace")


def _first(rows: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    return next(rows, (1, b""))


def _object(number: int, row: bytes) -> dict[str, object]:
    found = json.loads(_line(number, row))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _line(number: int, row: bytes) -> str:
    if not row:
        raise ValueError("nothing is there")
    if not row.endswith(b"\n"):
        raise _Cut(number)
    return row[:-1].decode("ascii")


def _from_the_first_head(rows: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for number, row in rows:
        if row.startswith(_HEAD):
            yield number, row
            yield from rows
        elif not row.endswith(b"\n"):
            raise _Cut(number)


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as rows:
        next(rows, None)
        for row in rows:
            if row.startswith(_HEAD):
                return
            yield row.removesuffix(b"\n").decode("ascii", "replace")
