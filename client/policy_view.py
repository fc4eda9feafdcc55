"""Show an operator what a home's policy comes down to for its data as the ledger knows it, warnings last."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from client.folder import Folder
from client.roster import approved_roster
from client.settings import Settings
from privacy.ledger import Account, Ledger
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import RosterNotApproved

_FIXED = ("relation", "delta", "orders", "record_tokens", "approximate_delta")


def policy_lines(root: Path) -> list[str]:
    """Return what the home's policy comes down to, warnings last. Raises: ConfigError, LedgerUnavailable."""
    folder = Folder(root)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    mine, known = account_of(settings.ledger_in(root), settings.data.account, policy.budget)
    lines = [f"{folder.policy}: is in order", *_budget_lines(mine, known)]
    for permission in policy.allow:
        lines += _allowed(permission)
    warnings = [*_warnings(settings, policy), *_account_warnings(mine, known), *_crowd_warnings(folder, policy)]
    return lines + [f"warning: {warning}" for warning in warnings]


def account_of(ledger_file: Path, data: str, budget: Budget) -> tuple[Account, Account | None]:
    """Return the account that this data draws on, and how it was opened, or None if it has not been.

    Raises: LedgerUnavailable.
    """
    if not ledger_file.is_file():
        return Account(data, budget), None
    ledger = Ledger(ledger_file)
    try:
        mine = ledger.account(data, budget)
        return mine, opened_account(ledger, mine)
    finally:
        ledger.close()


def opened_account(ledger: Ledger, mine: Account) -> Account | None:
    """Return the account that is open for this data and unit, with what was fixed then, or None."""
    for known in ledger.accounts():
        if (known.dataset, known.budget.unit) == (mine.dataset, mine.budget.unit):
            return known
    return None


def fixed_otherwise(budget: Budget, known: Budget) -> Iterator[tuple[str, str]]:
    """Yield each key that was fixed to something else when the account was opened, and what it was fixed to.

    As long as one differs, the ledger refuses all that this budget would pay for.
    """
    for key in _FIXED:
        asked, fixed = getattr(budget, key), getattr(known, key)
        if asked != fixed and not (key == "orders" and not asked):  # no orders: whichever the account has
            yield key, _said(fixed)


def _budget_lines(mine: Account, known: Account | None) -> list[str]:
    b = mine.budget
    lines = [
        f"budget of {mine.dataset}: epsilon {b.epsilon:g} at delta {b.delta:g}, per {b.unit.value},"
        f" {b.relation.value}; at most {b.disclosures} disclosures without any epsilon"
    ]
    if known is None:
        return [*lines, "no account is open yet: the first release fixes all of this but epsilon and disclosures"]
    k = known.budget
    return [
        *lines,
        f"the account is open: epsilon {k.epsilon:g} at delta {k.delta:g}, {k.relation.value}, of {k.record_tokens}"
        f" tokens a record, at orders {_said(k.orders)}; the limit now is epsilon {min(k.epsilon, b.epsilon):g}",
    ]


def _allowed(p: Permission) -> Iterator[str]:
    unsafe = ", WITHOUT NOISE: no epsilon" * p.unsafe_without_noise
    unsafe += ", THE COORDINATOR IS TRUSTED: it sees exact sums and draws the samples" * p.trusts_coordinator
    unsafe += ", NOT SUMMED: the coordinator may see this member's own values" * p.unsafe_plain_sum
    unsafe += ", TEXT AS IT IS: nobody redacts it" * p.unsafe_unredacted_text
    yield (
        f"allows {p.partner}: {', '.join(p.collaborations)} at level {p.level.value},"
        f" with at least {p.smallest_crowd} members, {p.colluding} of them taken to collude,"
        f" in at most {p.attempts} attempts{unsafe}"
    )
    if bounds := list(_bounds(p)):
        yield f"  {'; '.join(bounds)}"


def _bounds(p: Permission) -> Iterator[str]:
    """Yield what bounds the permission further, or widens it."""
    for said, value in (
        ("only until the end of {} (UTC)", p.expires),
        ("only for the purpose {}", p.purposes and " or ".join(p.purposes)),
        ("only after your approval of each piece of work", p.approval or None),
        ("epsilon {:g} in all", p.epsilon),
        ("noise of {:g} at least", p.least_noise),
        ("{} releases a day", p.releases_per_day),
        ("{} bytes a day", p.bytes_per_day),
        ("{} disclosures in all", p.disclosures),
        ("text redacted by {}", p.redaction or None),
        ("may be told: {}", ", ".join(kind.value for kind in p.tells) or None),
    ):
        if value is not None:
            yield said.format(value)


def _warnings(settings: Settings, policy: Policy) -> Iterator[str]:
    if policy.budget.delta * settings.data.declared.records(policy.budget.record_tokens) >= 1:
        yield "delta is not below 1 / number of records: it would permit publishing one"
    if not any(p.partner == settings.coordinator.key for p in policy.allow):
        yield "nothing is allowed to this home's coordinator: it will be refused"
    if any((p.epsilon or 0) > policy.budget.epsilon for p in policy.allow):
        yield "a permission's epsilon is above the budget's, which ends before it"
    for p in policy.allow:
        if p.expires is not None and p.expires < datetime.now(UTC).date():
            yield f"what is allowed at level {p.level.value} ran out on {p.expires}"
    if policy.unsafe_seeded_randomness:
        yield "seeded randomness is allowed: whoever knows the seed can subtract the noise"


def _account_warnings(mine: Account, known: Account | None) -> Iterator[str]:
    """Yield where the file says one thing and the open account, which counts, another."""
    if known is None:
        return
    for key, fixed in fixed_otherwise(mine.budget, known.budget):
        yield f"the account is open with {key} {fixed}, which is fixed for its life: all releases will be refused"
    if mine.budget.epsilon > known.budget.epsilon:
        yield f"the account was opened with epsilon {known.budget.epsilon:g}: that stays the limit"


def _crowd_warnings(folder: Folder, policy: Policy) -> list[str]:
    """Return what the roster falls short of. Raises: ConfigError for one that cannot be read."""
    try:
        members = len(approved_roster(folder).keys)
    except RosterNotApproved:
        return ["no roster is approved: every secure sum will be refused (parley member roster approve)"]
    least = max((p.smallest_crowd for p in policy.allow), default=0)
    return [f"the roster has {members} members, smallest_crowd asks for {least}"] * (members < least)


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{part:g}" for part in value)
    return str(getattr(value, "value", value))
