"""Show an operator the policy, the ledger and the daemon of a home, as lines or as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from client.folder import Folder
from client.settings import Settings
from privacy.config import ConfigError
from privacy.policy import Permission, Policy
from protocols.carriers.processes import alive


def policy_lines(root: Path) -> list[str]:
    """Return what the home's policy comes down to, warnings last. Raises: ConfigError."""
    folder = Folder(root)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    budget = policy.budget
    lines = [
        f"{folder.policy}: is in order",
        f"budget of {settings.data.account}: epsilon {budget.epsilon:g} at delta {budget.delta:g},"
        f" per {budget.unit.value}, {budget.relation.value}",
    ]
    lines += [_allowed(permission) for permission in policy.allow]
    lines += [f"warning: {warning}" for warning in _warnings(settings, policy)]
    return lines


def ledger_lines(root: Path) -> list[str]:
    """Return what has left the home's data, and what it adds up to."""
    seen = _ledger(root)
    lines = []
    for account in seen["accounts"]:
        lines.append(f"{account['dataset']}: {account['guarantee']}, of {account['limit']:g}")
        lines.append(f"  charges {account['charges']}, disclosures without any epsilon {account['disclosures']}")
        lines += [f"  assumes: {line}" for line in account["assumptions"]]
        lines += [f"  not covered: {line}" for line in account["not_covered"]]
    lines += [""] + [_entry(entry) for entry in seen["entries"]] if seen["entries"] else ["nothing has left"]
    return lines


def ledger_json(root: Path) -> str:
    """Return the same as JSON."""
    return json.dumps(_ledger(root), indent=2)


def status_lines(root: Path) -> list[str]:
    """Return how the home's processes are."""
    status = _status(root)
    return [f"{key}: {value}" for key, value in status.items()]


def status_json(root: Path) -> str:
    """Return the same as JSON."""
    return json.dumps(_status(root), indent=2)


def _allowed(permission: Permission) -> str:
    noise = ", WITHOUT NOISE: no epsilon" if permission.unsafe_without_noise else ""
    names = ", ".join(permission.collaborations)
    return (
        f"allows {permission.partner}: {names} at level {permission.level.value},"
        f" with at least {permission.smallest_crowd} members{noise}"
    )


def _warnings(settings: Settings, policy: Policy) -> list[str]:
    warnings = []
    if policy.budget.delta * settings.data.declared.records(policy.budget.record_tokens) >= 1:
        warnings.append("delta is not below 1 / number of records: it would permit publishing one")
    if not any(p.partner == settings.coordinator.key for p in policy.allow):
        warnings.append("nothing is allowed to this home's coordinator: it will be refused")
    if policy.unsafe_seeded_randomness:
        warnings.append("seeded randomness is allowed: whoever knows the seed can subtract the noise")
    return warnings


def _ledger(root: Path) -> dict[str, Any]:
    from privacy.ledger import Account, Ledger

    folder = Folder(root)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    file = settings.ledger_in(root)
    if not file.is_file():
        raise ConfigError(file, "", "no such ledger")
    ledger = Ledger(file)
    try:
        mine = Account(settings.data.account, policy.budget)
        others = [a for a in ledger.accounts() if a.dataset != mine.dataset or a.budget.unit != mine.budget.unit]
        statements = [ledger.statement(account) for account in (mine, *others)]
        entries = [asdict(e) | {"level": e.level.value} for e in ledger.entries()]
    finally:
        ledger.close()
    accounts = [_account(statement) for statement in statements]
    return {"accounts": accounts, "entries": entries}


def _account(statement: Any) -> dict[str, Any]:
    spent = statement.spent
    return {
        "dataset": statement.dataset,
        "guarantee": str(spent),
        "epsilon": spent.epsilon,
        "delta": spent.delta,
        "unit": spent.unit.value,
        "relation": spent.relation.value,
        "accountant": spent.accountant,
        "assumptions": list(spent.assumptions),
        "not_covered": list(spent.not_covered),
        "limit": statement.limit,
        "charges": statement.charges,
        "disclosures": statement.disclosures,
    }


def _entry(entry: dict[str, Any]) -> str:
    what = entry["event"] or "disclosure, no epsilon"
    return f"{entry['seq']:>5}  {entry['at']}  {entry['collaboration']} ({entry['level']})  {what}"


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
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(settings.socket_in(root)))) as http:
            status |= {"daemon": "up"} | http.get("http://daemon/status", timeout=5.0).json()
    except (httpx.TransportError, json.JSONDecodeError):
        pass
    return status


def _runs(pid_file: Path) -> bool:
    try:
        return alive(int(pid_file.read_text(encoding="ascii").split()[0]))
    except (OSError, ValueError, IndexError):
        return False
