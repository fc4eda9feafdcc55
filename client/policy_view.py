"""Show an operator what a home's policy comes down to, warnings last."""

from pathlib import Path

from client.folder import Folder
from client.roster import approved_roster
from client.settings import Settings
from privacy.policy import Permission, Policy
from privacy.refusal import RosterNotApproved


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
    warnings = [*_warnings(settings, policy), *_crowd_warnings(folder, policy)]
    return lines + [f"warning: {warning}" for warning in warnings]


def _allowed(permission: Permission) -> str:
    unsafe = ", WITHOUT NOISE: no epsilon" * permission.unsafe_without_noise
    unsafe += ", NOT SUMMED: the coordinator may see this member's own values" * permission.unsafe_plain_sum
    names = ", ".join(permission.collaborations)
    return (
        f"allows {permission.partner}: {names} at level {permission.level.value},"
        f" with at least {permission.smallest_crowd} members, {permission.colluding} of them taken to collude,"
        f" in at most {permission.attempts} attempts{unsafe}"
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


def _crowd_warnings(folder: Folder, policy: Policy) -> list[str]:
    """Return what the roster falls short of. Raises: ConfigError for one that cannot be read."""
    try:
        members = len(approved_roster(folder).keys)
    except RosterNotApproved:
        return ["no roster is approved: every secure sum will be refused (parley member roster approve)"]
    least = max((p.smallest_crowd for p in policy.allow), default=0)
    return [f"the roster has {members} members, smallest_crowd asks for {least}"] * (members < least)
