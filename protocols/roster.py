"""Name who may take part, with their public keys, in a form that two operators can compare by one digest."""

import hashlib
import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privacy.config import ConfigError
from protocols.keys import PublicKey
from protocols.session import MemberId

MOST_BYTES = 2**19  # of a file: more than four thousand members
LONGEST_LINE = 200  # characters: a key of a hundred thousand parts would keep the TOML parser busy for minutes
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NAME_RULE = "expected names of lower-case letters, digits and hyphens, at most 64"


@dataclass(frozen=True, slots=True)
class Roster:
    """Hold the members of one consortium and their keys; order does not matter, duplicates are refused.

    `digest` is 64 hex characters that change with every name and every key.
    Trusts:  whoever approves it. Compare `digest` over a channel that the coordinator does not control.
    """

    keys: tuple[tuple[MemberId, PublicKey], ...]
    digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [m for m, _ in self.keys]
        if not all(map(is_name, names)):  # a tab or a line's end in a name would give two rosters one digest
            raise ValueError(_NAME_RULE)
        if len(set(names)) < len(names) or len({k.raw for _, k in self.keys}) < len(names):
            raise ValueError("a member or a key stands twice in the roster")
        ordered = tuple(sorted(self.keys, key=lambda entry: entry[0]))
        lines = "".join(f"{member}\t{key}\n" for member, key in ordered)
        object.__setattr__(self, "keys", ordered)
        object.__setattr__(self, "digest", hashlib.sha256(b"parley/v1/roster\0" + lines.encode()).hexdigest())

    @classmethod
    def load(cls, file: Path) -> "Roster":
        """Read and check `file`, once. Raises: ConfigError, which names the file and the key, and quotes nothing."""
        try:
            if not file.is_file():  # nor may it be a pipe or a device, which might never end
                raise ConfigError(file, "", "no such file")
            with file.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
        except OSError as unreadable:
            raise ConfigError(file, "", f"cannot be read ({type(unreadable).__name__})") from None
        return cls.parse(content, file)

    @classmethod
    def parse(cls, content: bytes, file: Path) -> "Roster":
        """Return the roster that `file` holds. Raises: ConfigError, as `load` does."""
        if len(content) > MOST_BYTES:
            raise ConfigError(file, "", f"expected at most {MOST_BYTES} bytes")
        tree = _tree(content, file)
        for key in tree:
            if key not in ("version", "members"):
                raise ConfigError(file, key if is_name(key) else "", "unknown key (known: members, version)")
        if type(tree.get("version")) is not int or tree["version"] != 1:  # a truth value is no number here
            raise ConfigError(file, "version", "expected 1; a newer roster needs a newer parley")
        members = tree.get("members")
        if not isinstance(members, dict) or not members:
            raise ConfigError(file, "members", "expected a table of at least one name and its key")
        if not all(map(is_name, members)):
            raise ConfigError(file, "members", _NAME_RULE)
        entries = tuple((MemberId(name), _key(text, file, f"members.{name}")) for name, text in members.items())
        _require_distinct(entries, file)
        return cls(entries)

    def to_toml(self) -> str:
        """Return the file of this roster. It does not hold its own digest: that must come another way."""
        lines = (f'{member} = "{key}"' for member, key in self.keys)
        return "\n".join((_HEAD, *lines, ""))

    def key(self, member: MemberId) -> PublicKey:
        """Return the member's key. Raises: KeyError."""
        at = bisect_left(self.keys, member, key=lambda entry: entry[0])
        if at == len(self.keys) or self.keys[at][0] != member:
            raise KeyError(member)
        return self.keys[at][1]

    @property
    def members(self) -> tuple[MemberId, ...]:
        """Return the names in order."""
        return tuple(m for m, _ in self.keys)

    @property
    def spoken(self) -> str:
        """Return the digest in groups of four, for reading it aloud."""
        return " ".join(re.findall("....", self.digest))


def is_name(text: str) -> bool:
    """Say whether `text` can name a member; what can is safe to print."""
    return bool(_NAME.fullmatch(text))


_HEAD = """\
# Who may take part, and by which public keys. It counts at a member only once its operator has approved it:
#     parley member roster approve DIR FILE
# Compare the digest that this prints with the other operators', by a way that the coordinator does not control.
version = 1

[members]"""


def _tree(content: bytes, file: Path) -> dict[str, Any]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(file, "", "cannot be read as UTF-8") from None
    if max(map(len, text.split("\n"))) > LONGEST_LINE:
        raise ConfigError(file, "", f"expected lines of at most {LONGEST_LINE} characters")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as malformed:  # a number of a million digits is a ValueError too
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(malformed))
        raise ConfigError(file, "", f"not TOML (at {place[1]})" if place else "not TOML") from None


def _key(text: object, file: Path, key: str) -> PublicKey:
    """Return the key of which `text` is the one text form. Raises: ConfigError."""
    try:
        parsed = PublicKey.parse(text) if isinstance(text, str) else None
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:  # base64 has several ways to write one key
        raise ConfigError(file, key, "expected ed25519:<43 characters of base64url>")
    return parsed


def _require_distinct(entries: tuple[tuple[MemberId, PublicKey], ...], file: Path) -> None:
    owner: dict[bytes, MemberId] = {}
    for member, key in entries:
        if owner.setdefault(key.raw, member) != member:
            raise ConfigError(file, f"members.{member}", f"the same key as members.{owner[key.raw]}")
