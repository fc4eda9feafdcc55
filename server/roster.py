"""Write the roster of all who have enrolled; it counts nowhere until the members' operators have approved it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from privacy.config import ConfigError
from protocols.keys import PublicKey
from protocols.roster import Roster
from protocols.session import MemberId
from server.folder import Folder, write_private
from server.store import Store


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Hold the roster of those who have enrolled, and who was invited but has not."""

    roster: Roster
    left_out: tuple[MemberId, ...]


def enrolled(folder: Folder) -> Enrolment:
    """Return the roster of all who have enrolled so far. Raises: ConfigError if nobody has."""
    members = Store(folder.store).members()
    entries = tuple((m.name, PublicKey.parse(m.keys.identity)) for m in members if m.keys is not None)
    if not entries:
        raise ConfigError(folder.store, "", "at least one member that has enrolled")
    return Enrolment(Roster(entries), tuple(m.name for m in members if m.keys is None))


def write(roster: Roster, out: Path) -> None:
    """Write the roster to the new file `out`. Raises: ConfigError."""
    try:
        write_private(out, roster.to_toml().encode())
    except FileExistsError:
        raise ConfigError(out, "", "a file that does not exist yet") from None
    except OSError as error:
        raise ConfigError(out, "", f"a file that can be written ({os.strerror(error.errno or 0)})") from None
