"""Show an operator which work waits for approval, in plain words, and let one piece of it count.

Who asks, for what, and the plan are the partner's own words: nothing of them is trusted, not even to be printed.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.folder import Folder
from client.settings import Settings
from privacy.books.approvals import Approval
from privacy.config import ConfigError
from privacy.ledger import Ledger

_LONGEST = 200  # characters of one thing that a partner said
_NOISE = "noise_multiplier"
_MOST_LINES = 60


@contextmanager
def ledger_of(root: Path) -> Iterator[Ledger]:
    """Within, the ledger of a home is open. Raises: ConfigError, LedgerUnavailable."""
    file = Settings.load(Folder(root).settings).ledger_in(root)
    if not file.is_file():
        raise ConfigError(file, "", "no such ledger")
    ledger = Ledger(file)
    try:
        yield ledger
    finally:
        ledger.close()


def asked_lines(asked: Sequence[Approval]) -> list[str]:
    """Return what waits, in full, and then what was approved, in short: that can be taken back."""
    waiting = [line for one in asked if one.state == "pending" for line in work_lines(one)]
    lines = waiting or ["nothing waits for your approval"]
    for one in asked:
        if one.state == "approved":
            used = "not used so far" if one.session is None else "in use by one session"
            lines.append(f"approved before: {one.id}, {_what(one)}, {used}")
    return lines


def approve(ledger: Ledger, number: int) -> Approval:
    """Approve what waits under this number, and return it. Raises: ConfigError if nothing does."""
    if number not in {one.id for one in ledger.pending()}:
        raise ConfigError(
            "command line", "ID", "nothing waits under this number; parley member approve DIR lists all"
        )
    return ledger.approve(number)


def withdraw(ledger: Ledger, number: int) -> Approval:
    """Take back what was asked for or approved under this number. Raises: ConfigError if there is nothing to take."""
    if number not in {one.id for one in ledger.approvals() if one.state != "withdrawn"}:
        raise ConfigError(
            "command line", "--withdraw", "nothing under this number can be taken back; it may have been already"
        )
    return ledger.withdraw(number)


def work_lines(one: Approval) -> list[str]:
    """Return who asks for what, at what cost by this home's own count, and on which terms of the partner's."""
    purpose = f"for {_printable(one.purpose)}" if one.purpose else "for no purpose that was given"
    lines = [f"{one.id}: {_what(one)}, since {one.at}", f"  by {_printable(one.partner)}", f"  {purpose}"]
    lines += [f"  costs this data {one.cost}"] if one.cost else ["  what it costs was not written down"]
    lines += [] if one.summed is None else [f"  {_HOW[one.summed].format(one.crowd)}"]
    return lines + [f"    {line}" for line in plan_lines(one.plan)]


_HOW = {
    True: "within a secure sum of {} members, and nobody sees more than that sum",
    False: "NOT SUMMED: of {} members, and the coordinator sees this one's values by themselves",
}


def plan_lines(plan: str) -> list[str]:
    """Return the plan as one line for each of its terms, with nothing in it that a terminal would obey."""
    try:
        tree = json.loads(plan or "{}")
        lines = [f"{words}: {_said(value)}" for words, value in _terms(_explained(tree), "")]
    except (ValueError, RecursionError):
        return ["a plan that cannot be read: ask your partner"]
    if not lines:
        return ["no plan was given"]
    left = len(lines) - _MOST_LINES
    return lines if left <= 0 else [*lines[:_MOST_LINES], f"and {left} terms more"]


def _explained(tree: Any) -> Any:
    """Say what a plan leaves to the home: noise that it does not name is none only where there is no epsilon."""
    if isinstance(tree, dict) and tree.get("epsilon") is not None and tree.get(_NOISE, "") is None:
        return tree | {_NOISE: "calibrated at home"}
    return tree


def _what(one: Approval) -> str:
    return f"{_printable(one.collaboration)} at level {one.level.value}"


def _terms(tree: Any, words: str) -> Iterator[tuple[str, object]]:
    """Yield each leaf of the plan under the names that lead to it."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            named = _printable(str(key)).replace("_", " ")
            yield from _terms(value, f"{words}, {named}"[:_LONGEST] if words else named)
    elif not (isinstance(tree, dict) and not words):
        yield words or "plan", tree


def _said(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_said(part) for part in value)[:_LONGEST] or "none"
    return _printable(str(value))


def _printable(text: str) -> str:
    """Return at most so much of `text`, with escapes for all that is not plain ASCII: no colours, no lookalikes."""
    plain = text[:_LONGEST].encode("ascii", "backslashreplace").decode("ascii")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)
