"""Write an invitation: the one file an operator hands to a member, over a channel both trust."""

from __future__ import annotations

import secrets
from pathlib import Path

from privacy.config import ConfigError
from server.folder import Folder, write_private
from server.store import OtherKeys, Store


def invite(folder: Folder, name: str, out: Path) -> None:
    """Write the invitation of `name` to the new file `out`.

    Learns:  who holds the file: how to enrol as `name`, once; it is as secret as a password.
    Trusts:  the channel: the file pins the coordinator's CA and its identity key.
    Raises:  ConfigError for a name that is none or has enrolled, or a file that exists.
    """
    if out.exists():
        raise ConfigError(out, "", "a file that does not exist yet")
    token = secrets.token_urlsafe(32)
    try:
        member = Store(folder.store).invite(name, token)
    except ValueError as wrong:
        raise ConfigError("command line", "NAME", str(wrong)) from None
    except OtherKeys:
        raise ConfigError("command line", "NAME", "a member that has not enrolled yet") from None
    lines = (
        "# An invitation to a Parley collaboration. Keep it secret until the member has enrolled.",
        "version = 1",
        f'member = "{member}"',
        f'address = "{folder.settings.address}"',
        f'coordinator_key = "{folder.identity().public}"',
        f'token = "{token}"',
        f'ca_certificate = """\n{folder.ca_certificate.read_text(encoding="ascii")}"""',
        "",
    )
    write_private(out, "\n".join(lines).encode())
