"""Read a home's ledger once, for the table, the JSON, the page and the metrics alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from client.folder import Folder
from client.settings import Settings
from privacy.accounting.certificate import Certificate, certify
from privacy.books.accounts import Account, Whose
from privacy.books.approvals import Approval
from privacy.books.statement import Caps, Share
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.policy import Policy
from privacy.refusal import Incomparable, LedgerUnavailable, Refused
from privacy.trail import parse
from privacy.units import Guarantee, Relation, rounded_down, rounded_up

LAST = 20  # lines of the trail that are shown
CHANGED = "somebody has changed this ledger, and these figures are not its lines' (parley member audit verify)"
NO_SUM = "counted, never summed: no epsilon describes them"
COSTS_NO_MORE = "answers made of what was charged earlier, or paid for with it: they cost nothing more"
SHARES_DO_NOT_ADD_UP = "each share's epsilon is what it would cost alone; together they cost at most the sum"
_SHOWN_OF_A_KEY = len("ed25519:") + 16  # 96 bits: nobody makes another key that begins alike
_MOST_CERTIFIED = 100_000  # charges: beyond, to read them all would keep the page waiting
_MOST_COMPARED = 200_000  # lines: likewise
_MOST_KINDS = 50  # of event
_LONGEST_SHOWN = 160  # characters of an event
Line = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Shown:
    """Show one account: what is enforced, and beside it an epsilon that nothing enforces, if it is tighter."""

    dataset: str
    spent: Guarantee
    limit: float
    charges: int
    disclosures: int
    most_disclosures: int
    certified: Certificate | None
    shares: tuple[Share, ...]
    derived: Mapping[Whose, int] = field(default_factory=dict)

    def derived_for(self, share: Share) -> int:
        """Return how many answers a share got that were derived from earlier charges."""
        return self.derived.get((share.partner, share.level.value, share.collaboration), 0)

    @property
    def answers_derived(self) -> int:
        """Return how many answers were derived from earlier charges in all."""
        return sum(self.derived.values())

    @property
    def left(self) -> float:
        """Return what is left, as printed: epsilons do not add up, so more may fit than this."""
        return max(0.0, self.limit - self.spent.epsilon)


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what a ledger shows; this home's own account comes first.

    `wrong`: why no policy governs it as it is. `changed`: what is shown, and its own lines do not bear out.
    """

    accounts: tuple[Shown, ...]
    waiting: tuple[Approval, ...]
    last: tuple[Line, ...]
    lines: int
    wrong: str = ""
    changed: str = ""


def look(root: Path) -> Seen:
    """Return what the ledger of the home in the folder `root` holds, beside what the policy allows of it now.

    Raises: ConfigError; LedgerUnavailable, also for a ledger that holds what none would write.
    """
    folder = Folder(root)
    settings, policy = Settings.load(folder.settings), Policy.load(folder.policy)
    file = settings.ledger_in(root)
    if not file.is_file():
        raise ConfigError(file, "", "no such ledger")
    ledger = Ledger(file)
    try:
        return _seen(ledger, settings.data.account, policy)
    except (ValueError, TypeError, LookupError, ArithmeticError) as damaged:
        raise LedgerUnavailable(
            f"{file.name}: it holds what no ledger writes ({type(damaged).__name__}); parley member audit verify says"
            " where"
        ) from None
    finally:
        ledger.close()


def _seen(ledger: Ledger, data: str, policy: Policy) -> Seen:
    accounts, wrong = _accounts(ledger, ledger.account(data, policy.budget), _caps(policy))
    lines = ledger.head().seq
    last = tuple(parse(line) for line in ledger.lines(max(0, lines - LAST)))
    changed = ledger.contradiction() if lines <= _MOST_COMPARED else ""
    return Seen(accounts, ledger.pending(), last, lines, wrong, changed)


def _caps(policy: Policy) -> Caps:
    """Return what bounds each partner's share now: the operator may have edited the policy since the last charge."""
    return {(p.partner, p.level.value, c): p.epsilon for p in policy.allow for c in p.collaborations}


def as_json(seen: Seen) -> str:
    """Return all of it as JSON."""
    whole = {
        "accounts": [_account(account) for account in seen.accounts],
        "wrong": seen.wrong,
        "changed": seen.changed,
        "waiting": [_named(waiting) for waiting in seen.waiting],
        "lines": seen.lines,
        "last": [dict(line) for line in seen.last],
    }
    return json.dumps(whole, indent=2)


def as_table(seen: Seen) -> list[str]:
    """Return all of it as lines of text, without a character that a terminal would obey."""
    lines = []
    if seen.wrong:
        lines += [f"warning: the policy does not fit this account, and nothing will leave: {seen.wrong}"]
    if seen.changed:
        lines += [f"warning: {CHANGED}: {seen.changed}"]
    for account in seen.accounts:
        lines += [*_summary(account), *_table(account), *_promises(account), ""]
    if seen.waiting:
        lines += ["waits for your approval (parley member approve DIR ID):"]
        lines += [
            f"  {w.id}  {short(w.partner)}  {w.collaboration} ({w.level.value})  {w.purpose}  {w.cost or ''}"
            for w in seen.waiting
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
    times = f"{line['count']} times" if line.get("count", 1) != 1 else ""
    what = str(line.get("event") or line.get("why") or line.get("purpose") or "")
    what = what if len(what) <= _LONGEST_SHOWN else f"{what[:_LONGEST_SHOWN]}..."
    size = size_of(int(line["size"])) if "size" in line else ""
    where = f"{line['collaboration']} ({line['level']})" if "collaboration" in line and "level" in line else ""
    return f"{line['seq']:>6}  {line['at']}  {line['kind']:<9}  {'  '.join(filter(None, (where, size, what, times)))}"


def size_of(count: int) -> str:
    """Return a number of bytes with its unit."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _accounts(ledger: Ledger, mine: Account, caps: Caps) -> tuple[tuple[Shown, ...], str]:
    """Return every account, `mine` first; where the policy does not fit the open one: as it was opened, and why."""
    key = (mine.dataset, mine.budget.unit)
    opened = {(a.dataset, a.budget.unit): a for a in ledger.accounts()}
    others = tuple(_shown(ledger, account) for its, account in opened.items() if its != key)
    try:
        return (_shown(ledger, mine, caps), *others), ""
    except LedgerUnavailable:
        raise
    except Refused as wrong:
        return (_shown(ledger, opened[key], caps), *others), str(wrong)


def _shown(ledger: Ledger, account: Account, caps: Caps | None = None) -> Shown:
    said = ledger.statement(account, caps)
    certified = _certificate(ledger, account) if 0 < said.charges <= _MOST_CERTIFIED else None
    if certified is not None and certified.epsilon >= said.spent.epsilon:
        certified = None
    most = account.budget.disclosures
    counts = (said.charges, said.disclosures, most)
    derived = ledger.derived(account)
    return Shown(said.dataset, said.spent, said.limit, *counts, certified, said.shares, derived)


def _certificate(ledger: Ledger, account: Account) -> Certificate | None:
    """Return the account's certificate, or None where there is no finite one or it would take long."""
    events = ledger.events(account)
    if len(events) > _MOST_KINDS:
        return None
    try:
        return _certified(tuple(sorted(events.items())), account.budget.delta, account.budget.relation)
    except (Incomparable, ValueError):
        return None


@lru_cache(64)
def _certified(events: tuple[tuple[str, int], ...], delta: float, relation: Relation) -> Certificate:
    return certify(dict(events), delta, relation)


def _summary(account: Shown) -> list[str]:
    spent = account.spent
    lines = [
        f"{account.dataset}: epsilon {rounded_up(spent.epsilon)} of {account.limit:g} spent,"
        f" {rounded_down(account.left)} left,"
        f" at delta {spent.delta:g}, per {spent.unit.value}, {spent.relation.value}",
        f"  enforced   epsilon {rounded_up(spent.epsilon)} by {spent.accountant}: holds whatever is asked next",
    ]
    if account.certified:
        by = account.certified
        lines += [f"  certified  epsilon {rounded_up(by.epsilon)} by {by.accountant}: {by.assumption}"]
    counted = f"{account.disclosures} of at most {account.most_disclosures}"
    lines += [f"  charges {account.charges}"]
    if account.answers_derived:
        lines += [f"  derived {account.answers_derived}, {COSTS_NO_MORE}"]
    return [*lines, f"  disclosures {counted}, {NO_SUM}"]


def _promises(account: Shown) -> list[str]:
    lines = [f"  {SHARES_DO_NOT_ADD_UP}"] * (len(account.shares) > 1)
    lines += [f"  assumes: {line}" for line in account.spent.assumptions]
    return lines + [f"  not covered: {line}" for line in account.spent.not_covered]


def _table(account: Shown) -> list[str]:
    if not account.shares:
        return []
    head = (
        "PARTNER",
        "LEVEL",
        "COLLABORATION",
        "EPSILON",
        "OF",
        "CHARGES",
        "DERIVED",
        "DISCLOSED",
        "SENT",
        "STILL FIT",
    )
    rows = [head, *(cells(share, account.derived_for(share)) for share in account.shares)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def cells(share: Share, derived: int) -> tuple[str, ...]:
    """Return a share, and how many answers were derived for it, as the columns of a table."""
    return (
        short(share.partner),
        share.level.value,
        share.collaboration,
        rounded_up(share.epsilon),
        "-" if share.limit is None else f"{share.limit:g}",
        str(share.charges),
        str(derived),
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
        "derived": account.answers_derived,
        "disclosures": account.disclosures,
        "most_disclosures": account.most_disclosures,
        "certified": by and {"epsilon": by.epsilon, "accountant": by.accountant, "assumption": by.assumption},
        "shares": [_named(share) | {"derived": account.derived_for(share)} for share in account.shares],
    }


def _finite(value: float) -> float | None:
    """Return `value`, or None where there is no finite one: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _named(row: Share | Approval) -> dict[str, object]:
    found = {name: getattr(row, name) for name in row.__slots__}
    return found | {"level": row.level.value}
