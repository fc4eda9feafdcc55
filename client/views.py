"""Show an operator the roster, the ledger and the daemon of a home, as lines or as JSON."""

import json
from pathlib import Path
from typing import Any

import httpx
import typer

from client.folder import Folder
from client.roster import Proposal
from client.settings import LOOPBACK, Settings
from protocols.carriers.processes import alive
from protocols.keys import PublicKey
from protocols.roster import Roster
from protocols.session import MemberId

_SHOWN_OF_A_KEY = len("ed25519:") + 16  # 96 bits: nobody makes another key that begins alike


def roster_lines(roster: Roster, member: MemberId, key: PublicKey) -> list[str]:
    """Return who is in the roster; `member` with `key` is this home."""
    lines = [f"roster of {len(roster.keys)} members"]
    for name, its_key in roster.keys:
        lines.append(f"  {name:32} {_short(its_key)}" + "  this home" * ((name, its_key) == (member, key)))
    return lines


def digest_lines(roster: Roster) -> list[str]:
    """Return what two operators read to each other."""
    return ["digest, to be compared with the other operators' by a way that is not the coordinator's:", roster.spoken]


def change_lines(proposal: Proposal) -> list[str]:
    """Return what approving the proposal would change; a changed key, which may be somebody else's, in red."""
    if proposal.approved is None:
        return ["no roster is approved here so far"]
    lines = [f"  added        {name}" for name in proposal.added]
    lines += [f"  removed      {name}" for name in proposal.removed]
    for name in proposal.rekeyed:
        old, new = proposal.approved.key(name), proposal.roster.key(name)
        line = f"  KEY CHANGED  {name}: {_short(new)}, was {_short(old)}; ask {name} itself whether that is so"
        lines.append(typer.style(line, fg="red", bold=True))
    return ["changes what is approved:" if lines else "changes nothing: it is approved already", *lines]


def ledger_lines(root: Path) -> list[str]:
    """Return what has left the home's data, and what it adds up to."""
    from client.ledger_view import as_table, look

    return as_table(look(root))


def ledger_json(root: Path) -> str:
    """Return the same as JSON."""
    from client.ledger_view import as_json, look

    return as_json(look(root))


def status_lines(root: Path) -> list[str]:
    """Return how the home's processes are."""
    status = _status(root)
    silent = status.pop("silent", {})
    lines = [f"{key}: {value}" for key, value in status.items()]
    return lines + [f"letters without an answer, {reason}: {count}" for reason, count in silent.items()]


def status_json(root: Path) -> str:
    """Return the same as JSON."""
    return json.dumps(_status(root), indent=2)


def _short(key: PublicKey) -> str:
    return str(key)[:_SHOWN_OF_A_KEY] + "..."


def _status(root: Path) -> dict[str, Any]:
    folder = Folder(root)
    settings = Settings.load(folder.settings)
    status: dict[str, Any] = {
        "member": settings.member,
        "coordinator": settings.coordinator.address,
        "enrolled": not folder.invitation.exists(),
        "supernode": "up" if _runs(folder.road.run / "supernode.pid") else "down",
        "daemon": "down",
    }
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(settings.operator_socket_in(root)))) as http:
            status |= {"daemon": "up"} | http.get("http://daemon/status", timeout=5.0).json()
        if settings.page.port is not None:
            token = folder.page_token.read_text(encoding="ascii")
            status["page"] = f"http://{LOOPBACK}:{settings.page.port}/?token={token}"
    except (httpx.TransportError, json.JSONDecodeError, OSError):
        pass
    return status


def _runs(pid_file: Path) -> bool:
    try:
        return alive(int(pid_file.read_text(encoding="ascii").split()[0]))
    except (OSError, ValueError, IndexError):
        return False
