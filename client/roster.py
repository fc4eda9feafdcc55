"""Approve who may take part: the operator compares one digest, and only then does a roster count in this home."""

import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.folder import Folder, replace_private
from privacy.config import ConfigError
from privacy.refusal import RosterNotApproved
from protocols.keys import PublicKey
from protocols.roster import MOST_BYTES, Roster
from protocols.session import MemberId


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hold a roster that was read once, so that what is shown is what is approved, and the one that counts so far."""

    roster: Roster
    approved: Roster | None

    @property
    def is_new(self) -> bool:
        """Say whether approving it would change anything."""
        return self.roster != self.approved

    @property
    def added(self) -> tuple[MemberId, ...]:
        """Return who would be new."""
        before = set(self._before)
        return tuple(m for m in self.roster.members if m not in before)

    @property
    def removed(self) -> tuple[MemberId, ...]:
        """Return who would take part no more."""
        after = set(self.roster.members)
        return tuple(m for m in self._before if m not in after)

    @property
    def rekeyed(self) -> tuple[MemberId, ...]:
        """Return whose key would be another: a member that lost its own, or somebody who wants to stand in for it."""
        before = self._before
        return tuple(m for m, key in self.roster.keys if before.get(m, key) != key)

    @property
    def _before(self) -> dict[MemberId, PublicKey]:
        return dict(self.approved.keys) if self.approved else {}


def approved_roster(folder: Folder) -> Roster:
    """Return the roster that the operator of this home has approved, read anew each time.

    Trusts:  the file, which its owner alone may write.
    Raises:  RosterNotApproved if there is none; ConfigError for one that is malformed or that others may write.
    """
    try:
        with folder.roster.open("rb") as file:
            _require_own(os.fstat(file.fileno()), folder.roster)
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RosterNotApproved("no roster is approved here: parley member roster approve") from None
    except OSError as unreadable:
        raise ConfigError(folder.roster, "", f"cannot be read ({type(unreadable).__name__})") from None
    return _parsed(content, folder.roster)


def propose(folder: Folder, file: Path, member: MemberId, key: PublicKey) -> Proposal:
    """Read the roster in `file` for the home of `member`, whose key is `key`; nothing changes by that.

    Raises: ConfigError, also for a roster in which this member's own name or key differs.
    """
    roster = Roster.load(file)
    own = dict(roster.keys).get(member)
    if own is None:
        raise ConfigError(file, f"members.{member}", "missing: this home is not in the roster under its name")
    if own != key:
        raise ConfigError(file, f"members.{member}", "another key than this home's: somebody would stand in for it")
    try:
        return Proposal(roster, approved_roster(folder))
    except RosterNotApproved:
        return Proposal(roster, None)


def require_digest(roster: Roster, digest: str) -> None:
    """Return if `digest` is the roster's, whatever its spaces. Raises: ConfigError, RosterNotApproved."""
    plain = "".join(digest.split()).lower()
    if not re.fullmatch("[0-9a-f]{64}", plain):
        raise ConfigError("command line", "--digest", "expected all 64 hexadecimal characters")
    if plain != roster.digest:
        raise RosterNotApproved("the roster has another digest than --digest: nothing was approved")


def approve(folder: Folder, roster: Roster) -> None:
    """Let `roster` count in this home from the next letter on; if that is interrupted, the old one still counts.

    Trusts:  that the operator has seen it, and compared its digest. Raises: ConfigError if it cannot be written.
    """
    try:
        replace_private(folder.roster, roster.to_toml().encode())
    except OSError as full:
        raise ConfigError(folder.roster, "", f"cannot be written ({os.strerror(full.errno or 0)})") from None


def _require_own(found: os.stat_result, file: Path) -> None:
    if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(file, "", "others may write this file: chmod 600 it, and ask whether they did")


@lru_cache(maxsize=4)
def _parsed(content: bytes, file: Path) -> Roster:  # the same bytes are the same roster, letter after letter
    return Roster.parse(content, file)
