"""Draw the operator's page: one HTML document, without a script and without anything from elsewhere.

Learns: whoever may open the operator's socket: what `parley member ledger` and `status` print.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from client.markup import Html, style, tag
from privacy.units import rounded_down, rounded_up

if TYPE_CHECKING:
    from client.ledger_view import Seen, Shown
    from privacy.books.approvals import Approval

Status = Mapping[str, str | int | Mapping[str, int]]
_REFRESH_S = 30
_STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf8; --card: #fff; --ink: #1d2126; --soft: #5c6570; --line: #dfe1e4;
  --spent: #2f6f8f; --free: #e3ebef; --warn: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a0a8b2;
  --line: #343a41; --spent: #6cb2d3; --free: #2a3238; --warn: #f0a071; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 64rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; } h2 { margin: 0 0 .5rem; font-size: 1.1rem; overflow-wrap: anywhere; }
section { margin-top: 1.25rem; padding: 1rem 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
p { margin: .35rem 0; } .soft, .under { color: var(--soft); } .under { font-size: .9rem; overflow-wrap: anywhere; }
.warn { color: var(--warn); font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: .25rem 2.5rem; margin: 0; }
.figures dt { color: var(--soft); font-size: .85rem; }
.figures dd { margin: 0; font-size: 1.15rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: .6rem; margin: .75rem 0; border-radius: .3rem; }
.free { fill: var(--free); } .spent { fill: var(--spent); }
table { width: 100%; margin-top: .75rem; border-collapse: collapse; font-size: .9rem; }
th { color: var(--soft); font-weight: 500; text-align: left; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.mono { font-family: ui-monospace, monospace; font-size: .82rem; }
summary { cursor: pointer; color: var(--soft); margin-top: .5rem; }
@media (max-width: 44rem) { thead { display: none; } tr { display: block; padding: .5rem 0;
  border-bottom: 1px solid var(--line); } td { display: flex; justify-content: space-between; gap: 1rem;
  padding: .1rem 0; border: 0; text-align: right; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  .log td { display: block; text-align: left; } .log td::before { content: none; } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SHARE_HEAD = (
    ("partner", ""),
    ("level", ""),
    ("collaboration", ""),
    ("epsilon", "number"),
    ("of", "number"),
    ("charges", "number"),
    ("derived", "number"),
    ("disclosed", "number"),
    ("sent", "number"),
    ("still fit", "number"),
)


def draw(status: Status, seen: Seen | None, wrong: str = "") -> str:
    """Return the page; without `seen`, `wrong` says why the ledger cannot be read."""
    member = str(status.get("member", ""))
    parts = [tag("h1", member), _daemon(status)]
    if seen is None:
        parts.append(tag("section", tag("h2", "Ledger"), tag("p", f"It cannot be read: {wrong}", class_="warn")))
    else:
        parts += [_waiting(seen.waiting)] if seen.waiting else []
        parts += [tag("p", f"{words}.", class_="warn") for words in _warnings(seen)]
        parts += [_account(account) for account in seen.accounts]
        parts.append(_last(seen))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="refresh", content=str(_REFRESH_S)),
        tag("title", f"{member}: what has left"),
        style(_STYLE),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", *parts), lang="en").text + "\n"


def _warnings(seen: Seen) -> list[str]:
    from client.ledger_view import CHANGED

    wrong = [f"The policy does not fit this account: {seen.wrong}"] * bool(seen.wrong)
    return wrong + [f"{CHANGED.capitalize()}: {seen.changed}"] * bool(seen.changed)


def _daemon(status: Status) -> Html:
    silent = status.get("silent")
    reasons = silent if isinstance(silent, Mapping) else {}
    figures = {
        "daemon": "ready" if status.get("loaded") else "the model is being loaded",
        "model": str(status.get("model", "")),
        "up for": _duration(int(str(status.get("uptime_s", 0)))),
        "letters answered": str(status.get("letters", 0)),
        "letters without an answer": str(sum(reasons.values())),
    }
    parts = [tag("h2", "Daemon"), _figures(figures)]
    if reasons:
        rows = [((reason, ""), (str(count), "number")) for reason, count in reasons.items()]
        parts.append(_table((("why there was no answer", ""), ("letters", "number")), rows))
        parts.append(tag("p", "From outside all of these look the same.", class_="under"))
    return tag("section", *parts)


def _waiting(waiting: Sequence[Approval]) -> Html:
    from client.ledger_view import plain, short

    head = (("id", ""), ("partner", ""), ("collaboration", ""), ("level", ""), ("purpose", ""), ("costs", ""))
    rows = [
        [
            (str(w.id), "mono"),
            (short(w.partner), "mono"),
            (plain(w.collaboration), ""),
            (w.level.value, ""),
            (plain(w.purpose), ""),
            (plain(w.cost or ""), ""),
        ]
        for w in waiting
    ]
    how = tag("p", "Approve one with: parley member approve DIR ID", class_="under")
    return tag("section", tag("h2", "Waits for your approval"), _table(head, rows), how)


def _account(account: Shown) -> Html:
    from client.ledger_view import COSTS_NO_MORE, NO_SUM, SHARES_DO_NOT_ADD_UP, cells

    spent, by = account.spent, account.certified
    figures = {"epsilon spent": rounded_up(spent.epsilon), "of": f"{account.limit:g}"}
    figures["left"] = rounded_down(account.left)
    figures |= {"delta": f"{spent.delta:g}", "per": spent.unit.value, "neighbours": spent.relation.value}
    parts = [tag("h2", account.dataset), _figures(figures), _bar(account.spent.epsilon, account.limit)]
    enforced = (
        f"Enforced: epsilon {rounded_up(spent.epsilon)} by {spent.accountant}. It holds whatever is asked next."
    )
    parts.append(tag("p", enforced, class_="under"))
    if by is not None:
        certified = (
            f"Certified, and not enforced: epsilon {rounded_up(by.epsilon)} by {by.accountant}; {by.assumption}."
        )
        parts.append(tag("p", certified, class_="under"))
    disclosed = f"{account.disclosures} disclosures of at most {account.most_disclosures}: {NO_SUM}."
    derived = f"{account.answers_derived} derived: {COSTS_NO_MORE}. " if account.answers_derived else ""
    parts.append(tag("p", f"{account.charges} charges. {derived}{disclosed}", class_="under"))
    if account.shares:
        kinds = [kind for _, kind in _SHARE_HEAD]
        rows = [list(zip(cells(share, account.derived_for(share)), kinds, strict=True)) for share in account.shares]
        parts += [_table(_SHARE_HEAD, rows), tag("p", f"{SHARES_DO_NOT_ADD_UP.capitalize()}.", class_="under")]
    rest = [f"It assumes: {line}." for line in spent.assumptions]
    rest += [f"It does not cover: {line}." for line in spent.not_covered]
    said = [tag("p", line, class_="under") for line in rest]
    return tag("section", *parts, tag("details", tag("summary", "What this rests on"), *said))


def _last(seen: Seen) -> Html:
    from client.ledger_view import plain, told

    if not seen.last:
        return tag("section", tag("h2", "Trail"), tag("p", "Nothing has left.", class_="soft"))
    rows = [[(plain(told(line)), "mono")] for line in reversed(seen.last)]
    counted = tag("p", f"The last of {seen.lines} lines, the newest first.", class_="under")
    return tag("section", tag("h2", "Trail"), counted, _table((("line", ""),), rows, "log"))


def _figures(figures: Mapping[str, str]) -> Html:
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in figures.items() if value]
    return tag("dl", *pairs, class_="figures")


def _bar(spent: float, limit: float) -> Html:
    share = min(1.0, spent / limit) if limit > 0 else 1.0
    return tag(
        "svg",
        tag("rect", class_="free", width="100", height="4"),
        tag("rect", class_="spent", width=f"{100 * share:.2f}", height="4"),
        viewBox="0 0 100 4",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{100 * share:.0f} percent of the budget is spent",
    )


def _table(head: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]], kind: str = "") -> Html:
    """Return a table; each cell is (text, class)."""
    top = tag("tr", *(tag("th", name, class_=k, scope="col") for name, k in head))
    body = [
        tag(
            "tr",
            *(tag("td", text, class_=k, data_label=name) for (text, k), (name, _) in zip(row, head, strict=True)),
        )
        for row in rows
    ]
    return tag("table", tag("thead", top), tag("tbody", *body), class_=kind)


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
