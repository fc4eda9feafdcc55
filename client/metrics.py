"""Write the daemon's counters and gauges in Prometheus' text format, with no label that names anybody.

Only a level, a unit, a kind and a reason may be labels, and their values are words of ours: a monitoring system keeps
what it reads for long, and shows it to many. No partner, session, path, data set or member is in here.

Cites: the Prometheus text exposition format, version 0.0.4.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.ledger_view import Seen, Shown
    from privacy.books.statement import Share

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABELS = frozenset({"level", "unit", "kind", "reason"})
_WORD = re.compile(r"[A-Za-z][A-Za-z-]{0,31}")
Labels = tuple[tuple[str, str], ...]
Status = Mapping[str, str | int | Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Metric:
    """Hold one metric: what it counts, and its value for each set of labels. Raises: ValueError for another label."""

    name: str
    says: str
    samples: Mapping[Labels, float]
    counter: bool = True

    def __post_init__(self) -> None:
        for labels in self.samples:
            if not all(name in LABELS and _WORD.fullmatch(value) for name, value in labels):
                raise ValueError("a label is a level, a unit, a kind or a reason, and its value a word")

    def lines(self) -> Iterator[str]:
        """Yield the metric's lines."""
        yield f"# HELP {self.name} {self.says}"
        yield f"# TYPE {self.name} {'counter' if self.counter else 'gauge'}"
        for labels, value in sorted(self.samples.items()):
            inside = ",".join(f'{name}="{word}"' for name, word in labels)
            yield f"{self.name}{{{inside}}} {_number(value)}" if inside else f"{self.name} {_number(value)}"


def exposition(status: Status, seen: Seen | None) -> str:
    """Return all metrics; without `seen`, where the ledger cannot be read, the daemon's alone."""
    found = [
        *_of_the_daemon(status),
        _one("parley_ledger_readable", "Whether the ledger can be read.", seen is not None),
    ]
    if seen is not None:
        found += _of_the_ledger(seen)
    return "".join(f"{line}\n" for metric in found for line in metric.lines())


def _of_the_daemon(status: Status) -> list[Metric]:
    silent = status.get("silent")
    reasons = silent if isinstance(silent, Mapping) else {}
    by_reason: dict[Labels, float] = {(("reason", reason),): count for reason, count in reasons.items()}
    return [
        _one("parley_model_loaded", "Whether the home is open.", bool(status["loaded"])),
        _one("parley_uptime_seconds", "Since the daemon was started.", _count(status, "uptime_s")),
        Metric("parley_letters_answered_total", "Letters answered.", {(): _count(status, "letters")}),
        Metric("parley_letters_unanswered_total", "Letters that got no answer, by why.", by_reason),
    ]


def _of_the_ledger(seen: Seen) -> list[Metric]:
    found = [
        _one("parley_ledger_lines", "Lines of the trail.", seen.lines),
        _one("parley_policy_fits", "Whether the policy fits the open account.", not seen.wrong),
        _one("parley_ledger_matches", "Whether the ledger's figures are those of its lines.", not seen.changed),
        _one("parley_approvals_waiting", "Releases that wait for the operator.", len(seen.waiting)),
    ]
    if seen.accounts:  # this home's own comes first; others' data sets on the same ledger are their homes' to report
        found += _of_the_account(seen.accounts[0]) + _by_level(seen.accounts[0].shares)
    return found


def _of_the_account(own: Shown) -> list[Metric]:
    unit: Labels = (("unit", own.spent.unit.value),)
    return [
        Metric("parley_epsilon_spent", "Enforced, at the account's delta.", {unit: own.spent.epsilon}, counter=False),
        Metric("parley_epsilon_limit", "The account's budget.", {unit: own.limit}, counter=False),
        Metric("parley_delta", "The account's delta.", {unit: own.spent.delta}, counter=False),
        Metric("parley_charges_total", "Releases charged.", {unit: own.charges}),
        Metric("parley_disclosures_total", "Releases that no epsilon describes.", {unit: own.disclosures}),
        Metric("parley_disclosures_limit", "Most of them.", {unit: own.most_disclosures}, counter=False),
    ]


def _by_level(shares: Sequence[Share]) -> list[Metric]:
    totals: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
    fit: dict[Labels, float] = {}
    for share in shares:
        level: Labels = (("level", share.level.value),)
        totals["charges"][level] += share.charges
        totals["disclosures"][level] += share.disclosures
        totals["bytes"][level] += share.bytes
        if share.more is not None:
            fit[level] = min(share.more, fit.get(level, math.inf))
    return [
        Metric("parley_level_charges_total", "Releases charged, by level.", totals["charges"]),
        Metric("parley_level_disclosures_total", "Releases without epsilon, by level.", totals["disclosures"]),
        Metric("parley_level_bytes_total", "Bytes of answers that left, by level.", totals["bytes"]),
        Metric("parley_level_releases_left", "How many more of a level's last release fit.", fit, counter=False),
    ]


def _one(name: str, says: str, value: float) -> Metric:
    return Metric(name, says, {(): float(value)}, counter=False)


def _count(status: Status, key: str) -> float:
    value = status.get(key, 0)
    return float(value) if isinstance(value, int) else 0.0


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
