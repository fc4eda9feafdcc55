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


def work_lines(one: Approval) -> list[str]:
    """Return who asks for what, on which terms."""
    purpose = f"for {_printable(one.purpose)}" if one.purpose else "for no purpose that was given"
    lines = [f"{one.id}: {_what(one)}, since {one.at}", f"  by {_printable(one.partner)}", f"  {purpose}"]
    return lines + [f"    {line}" for line in plan_lines(one.plan)]


def plan_lines(plan: str) -> list[str]:
    """Return the plan as one line for each of its terms, with nothing in it that a terminal would obey."""
    try:
        lines = [f"{words}: {_said(value)}" for words, value in _terms(json.loads(plan or "{}"), "")]
    except (ValueError, RecursionError):
        return ["a plan that cannot be read: ask your partner"]
    if not lines:
        return ["no plan was given"]
    left = len(lines) - _MOST_LINES
    return lines if left <= 0 else [*lines[:_MOST_LINES], f"and {left} terms more"]


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
