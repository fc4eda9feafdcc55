"""Read a home's ledger once, for the table, the JSON, the page and the metrics alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.folder import Folder
from client.settings import Settings
from privacy.config import ConfigError
from privacy.ledger import Account, Entry, Ledger, Statement
from privacy.policy import Policy
from privacy.units import Guarantee, Level

LAST = 20  # lines of the trail that are shown
NO_SUM = "counted, never summed: no epsilon describes them"
SHARES_DO_NOT_ADD_UP = "each share's epsilon is what it would cost alone; together they cost at most the sum"
_SHOWN_OF_A_KEY = len("ed25519:") + 16  # 96 bits: nobody makes another key that begins alike
_LONGEST_SHOWN = 160  # characters of an event
Line = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Share:
    """Show what one partner got at one level by one collaboration; `more` of its last event still fit."""

    partner: str
    level: Level
    collaboration: str
    epsilon: float
    limit: float | None
    charges: int
    disclosures: int
    bytes: int
    more: int | None


@dataclass(frozen=True, slots=True)
class Certified:
    """Show an epsilon that nothing enforces, by whose count, and what it rests on."""

    epsilon: float
    accountant: str
    assumption: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Show one account: what is enforced, and beside it what may be printed."""

    dataset: str
    spent: Guarantee
    limit: float
    charges: int
    disclosures: int
    most_disclosures: int
    certified: Certified | None
    shares: tuple[Share, ...]

    @property
    def left(self) -> float:
        """Return what is left, as printed: epsilons do not add up, so more may fit than this."""
        return max(0.0, self.limit - self.spent.epsilon)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Show what waits for the operator's approval."""

    id: str
    partner: str
    level: Level
    collaboration: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what a ledger shows; this home's own account comes first."""

    accounts: tuple[Shown, ...]
    waiting: tuple[Waiting, ...]
    last: tuple[Line, ...]
    lines: int


def look(root: Path) -> Seen:
    """Return what the ledger of the home in the folder `root` holds. Raises: ConfigError, LedgerUnavailable."""
    folder = Folder(root)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    file = settings.ledger_in(root)
    if not file.is_file():
        raise ConfigError(file, "", "no such ledger")
    ledger = Ledger(file)
    try:
        mine = Account(settings.data.account, policy.budget)
        others = [a for a in ledger.accounts() if a.dataset != mine.dataset or a.budget.unit != mine.budget.unit]
        accounts = tuple(_shown(ledger.statement(account), account) for account in (mine, *others))
        lines = tuple(_line(entry) for entry in ledger.entries())
    finally:
        ledger.close()
    return Seen(accounts, (), lines[-LAST:], len(lines))


def as_json(seen: Seen) -> str:
    """Return all of it as JSON."""
    whole = {
        "accounts": [_account(account) for account in seen.accounts],
        "waiting": [_named(waiting) for waiting in seen.waiting],
        "lines": seen.lines,
        "last": [dict(line) for line in seen.last],
    }
    return json.dumps(whole, indent=2)


def as_table(seen: Seen) -> list[str]:
    """Return all of it as lines of text, without a character that a terminal would obey."""
    lines = []
    for account in seen.accounts:
        lines += [*_summary(account), *_table(account.shares), *_promises(account), ""]
    if seen.waiting:
        lines += ["waits for your approval (parley member approve DIR ID):"]
        lines += [
            f"  {w.id}  {short(w.partner)}  {w.collaboration} ({w.level.value})  {w.purpose}" for w in seen.waiting
        ]
        lines += [""]
    if seen.last:
        lines += [f"the last of {seen.lines} lines of the trail (all of them: parley member audit export DIR):"]
    lines += [told(line) for line in seen.last] or ["nothing has left"]
    return [plain(line) for line in lines]


def short(partner: str) -> str:
    """Return as much of a key as nobody else's begins with."""
    return partner if len(partner) <= _SHOWN_OF_A_KEY else f"{partner[:_SHOWN_OF_A_KEY]}..."


def plain(text: str) -> str:
    """Return `text` with every character that is not printable replaced: a partner chose some of it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def told(line: Line) -> str:
    """Return a line of the trail as one reads it."""
    what = str(line.get("event") or line.get("why") or line.get("purpose") or "")
    what = what if len(what) <= _LONGEST_SHOWN else f"{what[:_LONGEST_SHOWN]}..."
    size = size_of(int(line["size"])) if "size" in line else ""
    where = f"{line['collaboration']} ({line['level']})" if "collaboration" in line and "level" in line else ""
    return f"{line['seq']:>6}  {line['at']}  {line['kind']:<9}  {'  '.join(filter(None, (where, size, what)))}"


def size_of(count: int) -> str:
    """Return a number of bytes with its unit."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _shown(statement: Statement, account: Account) -> Shown:
    return Shown(
        statement.dataset,
        statement.spent,
        statement.limit,
        statement.charges,
        statement.disclosures,
        account.budget.disclosures,
        None,
        (),
    )


def _line(entry: Entry) -> Line:
    line: dict[str, str | int | bool] = {"seq": entry.seq, "at": entry.at}
    line |= {"collaboration": entry.collaboration, "level": entry.level.value, "partner": entry.partner}
    return line | ({"kind": "charged", "event": entry.event} if entry.event else {"kind": "disclosed"})


def _summary(account: Shown) -> list[str]:
    spent = account.spent
    lines = [
        f"{account.dataset}: epsilon {spent.epsilon:.2f} of {account.limit:g} spent, {account.left:.2f} left,"
        f" at delta {spent.delta:g}, per {spent.unit.value}, {spent.relation.value}",
        f"  enforced   epsilon {spent.epsilon:.2f} by {spent.accountant}: holds whatever is asked next",
    ]
    if account.certified:
        by = account.certified
        lines += [f"  certified  epsilon {by.epsilon:.2f} by {by.accountant}: {by.assumption}"]
    counted = f"{account.disclosures} of at most {account.most_disclosures}"
    return [*lines, f"  charges {account.charges}", f"  disclosures {counted}, {NO_SUM}"]


def _promises(account: Shown) -> list[str]:
    lines = [f"  {SHARES_DO_NOT_ADD_UP}"] * (len(account.shares) > 1)
    lines += [f"  assumes: {line}" for line in account.spent.assumptions]
    return lines + [f"  not covered: {line}" for line in account.spent.not_covered]


def _table(shares: tuple[Share, ...]) -> list[str]:
    if not shares:
        return []
    head = ("PARTNER", "LEVEL", "COLLABORATION", "EPSILON", "OF", "CHARGES", "DISCLOSED", "SENT", "STILL FIT")
    rows = [head, *(cells(share) for share in shares)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def cells(share: Share) -> tuple[str, ...]:
    """Return a share as the columns of a table."""
    return (
        short(share.partner),
        share.level.value,
        share.collaboration,
        f"{share.epsilon:.2f}",
        "-" if share.limit is None else f"{share.limit:g}",
        str(share.charges),
        str(share.disclosures),
        size_of(share.bytes),
        "-" if share.more is None else str(share.more),
    )


def _account(account: Shown) -> dict[str, object]:
    spent, by = account.spent, account.certified
    return {
        "dataset": account.dataset,
        "guarantee": str(spent),
        "epsilon": _finite(spent.epsilon),
        "delta": spent.delta,
        "unit": spent.unit.value,
        "relation": spent.relation.value,
        "accountant": spent.accountant,
        "assumptions": list(spent.assumptions),
        "not_covered": list(spent.not_covered),
        "limit": account.limit,
        "left": account.left,
        "charges": account.charges,
        "disclosures": account.disclosures,
        "most_disclosures": account.most_disclosures,
        "certified": by and {"epsilon": by.epsilon, "accountant": by.accountant, "assumption": by.assumption},
        "shares": [_named(share) for share in account.shares],
    }


def _finite(value: float) -> float | None:
    """Return `value`, or None where there is no finite one: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _named(row: Share | Waiting) -> dict[str, object]:
    found = {name: getattr(row, name) for name in row.__slots__}
    return found | {"level": row.level.value}
