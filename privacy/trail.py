"""Write an audit trail: canonical lines, a hash chain and a Merkle tree over them, and heads that an identity signs.

    line(1) ── link ──> line(2) ── link ──> line(3)      Head: how many lines, the last link, the tree's root

One signed head fixes every line before it. Lines hold names, counts, limits and digests, never a value or a text.
Cites: RFC 9162, section 2.1 (the tree); Crosby and Wallach 2009 (why a chain alone is slow to prove things with).
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

Field = str | int | bool | None
KINDS = frozenset(
    {
        "opened",  # an account
        "charged",
        "disclosed",
        "derived",  # made of what was charged before
        "continued",  # paid for with an earlier answer
        "said",  # a message that holds nothing of the data
        "refused",
        "emitted",
        "receipt",  # a counterpart's signature on what it got
        "policy",
        "roster",
        "started",
        "approved",
        "withdrawn",
    }
)
GENESIS = bytes(32)  # what the first line is linked to
HEAD_LABEL = b"parley/v1/trail-head"  # for Identity.sign and PublicKey.verify
LONGEST_LINE = 65_536  # characters
_LINK = b"parley/v1/trail-link\0"
_OWN = frozenset({"seq", "at", "kind"})
_NAME = functools.lru_cache(1024)(re.compile(r"[a-z][a-z_]{0,31}").fullmatch)  # few names, many lines
_TYPES = {str, int, bool}
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z").fullmatch
_SURROGATE = re.compile("[\ud800-\udfff]").search
_TRAIL = re.compile(r"[0-9a-f]{16,64}")
_read = json.JSONDecoder().raw_decode  # what follows the first value is found when the two texts are compared
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def stamp(at: datetime) -> str:
    """Return a time as lines have it: UTC, microseconds, 27 characters that sort as time does."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def line(seq: int, at: str, kind: str, fields: Mapping[str, Field]) -> str:
    """Return one canonical JSON object: keys sorted, no spaces, ASCII; a field that is None is left out.

    Units:  seq counts from 1; at as `stamp` makes it.
    Raises: ValueError, which quotes no field's content.
    """
    if type(seq) is not int or seq < 1 or not _STAMP(at) or kind not in KINDS:
        raise ValueError("a line has a number from 1, a time in UTC to the microsecond, and a known kind")
    if not (all(map(_NAME, fields)) and _OWN.isdisjoint(fields)):
        raise ValueError("a field's name is lower case letters, and not seq, at or kind")
    kept = {name: value for name, value in fields.items() if value is not None}
    if not _TYPES.issuperset(map(type, kept.values())):
        raise ValueError("a field is a text, a whole number or a truth value")
    text = _canonical({"seq": seq, "at": at, "kind": kind, **kept})
    if "\\ud" in text and any(map(_halved, kept.values())):
        raise ValueError("a text has half a character")
    if len(text) > LONGEST_LINE:
        raise ValueError(f"a line has at most {LONGEST_LINE} characters")
    return text


def parse(text: str) -> dict[str, str | int | bool]:
    """Return a line's fields with its seq, at and kind. Raises: ValueError unless `line` could have written it."""
    try:
        found = _read(text)[0] if len(text) <= LONGEST_LINE else None
    except (ValueError, RecursionError):
        found = None
    if type(found) is not dict or not _well_formed(found) or _canonical(found) != text:
        raise ValueError("not a canonical line")
    if "\\ud" in text and any(map(_halved, found.values())):
        raise ValueError("not a canonical line")
    return found


def link(previous: bytes, line: str) -> bytes:
    """Return the 32 bytes that stand for this line and all before it; `previous` is the last link, or GENESIS."""
    if len(previous) != 32:
        raise ValueError("a link has 32 bytes")
    return hashlib.sha256(_LINK + previous + line.encode("ascii")).digest()


def leaf(line: str) -> bytes:
    """Return the tree's hash of one line (RFC 9162, section 2.1.1)."""
    return hashlib.sha256(b"\0" + line.encode("ascii")).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the tree's hash of two subtrees (RFC 9162, section 2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def grow(peaks: list[bytes], size: int, top: bytes) -> None:
    """Add a leaf, in place, to the peaks of a tree of `size` leaves; as many merge as the size ends in ones."""
    while size & 1:
        top = node(peaks.pop(), top)
        size >>= 1
    peaks.append(top)


def root(peaks: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of the tree with these peaks (RFC 9162, section 2.1.1)."""
    if not peaks:
        return hashlib.sha256().digest()
    *rest, top = peaks
    for left in reversed(rest):
        top = node(left, top)
    return top


@dataclass(frozen=True, slots=True)
class Peaks:
    """Hold what a growing tree must remember: one hash for each 1 in the binary form of its size, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count() or any(len(h) != 32 for h in self.hashes):
            raise ValueError("not the peaks of a tree")

    def added(self, line: str) -> "Peaks":
        """Return the peaks with one line more, after at most log2(size) + 1 hashes; these stay as they are."""
        return self.added_leaf(leaf(line))

    def added_leaf(self, top: bytes) -> "Peaks":
        """Return the peaks with one leaf more."""
        hashes = list(self.hashes)
        grow(hashes, self.size, top)
        return Peaks(self.size + 1, tuple(hashes))

    def root(self) -> bytes:
        """Return the Merkle tree hash over all lines (RFC 9162, section 2.1.1)."""
        return root(self.hashes)

    def to_bytes(self) -> bytes:
        """Return 8 bytes of size and 32 for each peak."""
        return self.size.to_bytes(8, "big") + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises: ValueError."""
        if len(data) < 8 or len(data) % 32 != 8:
            raise ValueError("not the peaks of a tree")
        return cls(int.from_bytes(data[:8], "big"), tuple(data[i : i + 32] for i in range(8, len(data), 32)))


@dataclass(frozen=True, slots=True)
class Head:
    """Stand for the first `seq` lines of one ledger's trail; `at` is the time of the last of them, or empty."""

    trail: str
    seq: int
    at: str
    chain: bytes
    root: bytes

    def __post_init__(self) -> None:
        if not _TRAIL.fullmatch(self.trail) or type(self.seq) is not int or self.seq < 0:
            raise ValueError("a head has a trail's id in hex, and a number of lines")
        if not (_STAMP(self.at) if self.seq else self.at == "") or {len(self.chain), len(self.root)} != {32}:
            raise ValueError("a head has the time of its last line, a link and a root")

    def signed_bytes(self) -> bytes:
        """Return what an identity signs, labelled: of no other head and of nothing else that is signed here."""
        return HEAD_LABEL + b"\n" + self.to_json().encode("ascii")

    def to_json(self) -> str:
        """Return the canonical JSON of this head."""
        return _canonical(self.fields())

    def fields(self) -> dict[str, str | int]:
        """Return what the JSON form holds."""
        return {
            "trail": self.trail,
            "seq": self.seq,
            "at": self.at,
            "chain": self.chain.hex(),
            "root": self.root.hex(),
        }

    @classmethod
    def from_fields(cls, found: object) -> Self:
        """Read what `fields` made. Raises: ValueError."""
        match found:
            case {"trail": str(t), "seq": int(s), "at": str(a), "chain": str(c), "root": str(r), **rest} if not rest:
                return cls(t, s, a, _hex(c), _hex(r))
        raise ValueError("not a head")


@dataclass(frozen=True, slots=True)
class SignedHead:
    """Hold a head, the text form of a public key, and that identity's signature of `head.signed_bytes()`."""

    head: Head
    key: str
    signature: bytes

    def to_json(self) -> str:
        """Return one canonical JSON object."""
        return _canonical({"head": self.head.fields(), "key": self.key, "signature": self.signature.hex()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises: ValueError."""
        try:
            return cls.from_fields(json.loads(text))
        except RecursionError:
            raise ValueError("not a signed head") from None

    @classmethod
    def from_fields(cls, found: object) -> Self:
        """Read the parsed form. Raises: ValueError."""
        match found:
            case {"head": head, "key": str(key), "signature": str(signature), **rest} if not rest:
                return cls(Head.from_fields(head), key, _hex(signature))
        raise ValueError("not a signed head")


def _well_formed(found: dict[str, object]) -> bool:
    seq, at = found.get("seq"), found.get("at")
    return (
        type(seq) is int
        and seq >= 1
        and type(at) is str
        and _STAMP(at) is not None
        and found.get("kind") in KINDS
        and all(map(_NAME, found))
        and {*map(type, found.values())} <= _TYPES
    )


def _halved(value: Field) -> bool:
    """Return whether a text has a surrogate of its own: two of them would be written as one whole character is."""
    return isinstance(value, str) and not value.isascii() and _SURROGATE(value) is not None


def _hex(text: str) -> bytes:
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise ValueError("not lower case hex")
    return data
