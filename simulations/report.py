"""Show what a run came to: one comparison, as a table in the terminal, as JSON, and as one self-contained page.

No epsilon is shown without its delta, unit, neighbouring relation, accountant and assumptions.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from privacy.config import ConfigError
from privacy.units import Guarantee, Relation, Unit
from simulations.figures import Bar, bars

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --paper: #fdfdfb; --faint: #69737d; --line: #d8dcdf;
  --base: #a9b1b8; --alone: #c98a3d; --together: #2f7d6b; --pooled: #5b6fae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --paper: #14191e; --faint: #97a1aa; --line: #323a42; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } tr.result td { font-weight: 600; }
svg { width: 100%; height: auto; margin-top: .5rem; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .title { font-weight: 600; } svg .label { text-anchor: end; } .faint, figcaption { color: var(--faint); }
rect.base { fill: var(--base); } rect.alone { fill: var(--alone); }
rect.together { fill: var(--together); } rect.pooled { fill: var(--pooled); }
"""


@dataclass(frozen=True, slots=True)
class MemberResult:
    """Hold one member's figures. Losses are nats a token on its own held-out text; `mixed_alone` on the mixed one."""

    name: str
    records: int
    loss_base: float
    loss_alone: float
    loss_together: float
    loss_pooled: float
    mixed_alone: float
    guarantee: Guarantee | None
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class RoundResult:
    """Hold one round: how many members answered, how long it took."""

    round: int
    answered: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold all that a report shows. `mixed_*` are nats a token on the held-out text of all members in equal parts.

    `road` says how the letters went; `saw` what the coordinator saw, one sentence each; `warnings` what weakens or
    voids a claim, shown first; `notes` what else there is to tell.
    """

    experiment: str
    road: str
    members: tuple[MemberResult, ...]
    mixed_base: float
    mixed_together: float
    mixed_pooled: float
    rounds: tuple[RoundResult, ...]
    seconds: float
    startup_seconds: float
    saw: tuple[str, ...]
    warnings: tuple[str, ...]
    collaboration: str = "average"
    notes: tuple[str, ...] = ()

    @property
    def best_alone(self) -> float:
        """Return the lowest mixed loss that a member reaches alone."""
        return min(m.mixed_alone for m in self.members)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data; perplexity is exp(loss), per token."""
    c = comparison
    return {
        "experiment": c.experiment,
        "collaboration": c.collaboration,
        "road": c.road,
        "warnings": list(c.warnings),
        "members": [_member_json(m) for m in c.members],
        "mixed": {
            "perplexity_base": math.exp(c.mixed_base),
            "perplexity_alone": {m.name: math.exp(m.mixed_alone) for m in c.members},
            "perplexity_alone_best": math.exp(c.best_alone),
            "perplexity_together": math.exp(c.mixed_together),
            "perplexity_pooled": math.exp(c.mixed_pooled),
        },
        "epsilon": [_guarantee_json(m.name, m.guarantee) for m in c.members],
        "bytes": {
            "sent": sum(m.bytes_sent for m in c.members),
            "received": sum(m.bytes_received for m in c.members),
        },
        "rounds": [{"round": r.round, "answered": r.answered, "seconds": r.seconds} for r in c.rounds],
        "seconds": c.seconds,
        "startup_seconds": c.startup_seconds,
        "coordinator_saw": list(c.saw),
        "notes": list(c.notes),
    }


def _member_json(m: MemberResult) -> dict[str, Any]:
    return {
        "name": m.name,
        "records": m.records,
        "loss_base": m.loss_base,
        "loss_alone": m.loss_alone,
        "loss_together": m.loss_together,
        "loss_pooled": m.loss_pooled,
        "bytes_sent": m.bytes_sent,
        "bytes_received": m.bytes_received,
    }


def _guarantee_json(name: str, g: Guarantee | None) -> dict[str, Any]:
    if g is None:
        return {"member": name, "value": None, "why": "released without noise: a disclosure has no epsilon"}
    return {
        "member": name,
        "value": g.epsilon,
        "delta": g.delta,
        "unit": g.unit.value,
        "relation": g.relation.value,
        "accountant": g.accountant,
        "assumptions": list(g.assumptions),
        "not_covered": list(g.not_covered),
    }


def _comparison(tree: Any) -> Comparison:
    mixed, guarantees = tree["mixed"], {g["member"]: _guarantee(g) for g in tree["epsilon"]}
    alone = mixed["perplexity_alone"]
    members = tuple(
        MemberResult(
            name=m["name"],
            records=m["records"],
            loss_base=m["loss_base"],
            loss_alone=m["loss_alone"],
            loss_together=m["loss_together"],
            loss_pooled=m["loss_pooled"],
            mixed_alone=math.log(alone[m["name"]]),
            guarantee=guarantees[m["name"]],
            bytes_sent=m["bytes_sent"],
            bytes_received=m["bytes_received"],
        )
        for m in tree["members"]
    )
    return Comparison(
        experiment=tree["experiment"],
        road=tree["road"],
        members=members,
        mixed_base=math.log(mixed["perplexity_base"]),
        mixed_together=math.log(mixed["perplexity_together"]),
        mixed_pooled=math.log(mixed["perplexity_pooled"]),
        rounds=tuple(RoundResult(r["round"], r["answered"], r["seconds"]) for r in tree["rounds"]),
        seconds=tree["seconds"],
        startup_seconds=tree["startup_seconds"],
        saw=tuple(tree["coordinator_saw"]),
        warnings=tuple(tree["warnings"]),
        collaboration=tree["collaboration"],
        notes=tuple(tree.get("notes", ())),
    )


def _guarantee(tree: Any) -> Guarantee | None:
    if tree["value"] is None:
        return None
    return Guarantee(
        tree["value"],
        tree["delta"],
        Unit(tree["unit"]),
        Relation(tree["relation"]),
        tree["accountant"],
        tuple(tree["assumptions"]),
        tuple(tree["not_covered"]),
    )


def show(comparison: Comparison, console: Console) -> None:
    """Print the comparison as one table, and under it what the figures mean."""
    c = comparison
    for warning in c.warnings:
        console.print(warning, style="bold red", markup=False)
    table = Table(title=f"{c.experiment} ({c.road})", caption="held-out text: loss in nats a token; lower is better")
    columns = _columns(c)
    for i, heading in enumerate(columns):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for row in _rows(c):
        table.add_row(*row)
    console.print(table)
    for line in _footnotes(c):
        console.print(line, style="dim", highlight=False, markup=False)


def write_page(comparison: Comparison, file: Path) -> None:
    """Write one HTML file that needs nothing else: no script, no font, no image from elsewhere."""
    c = comparison
    head = "".join(f"<th>{escape(h)}</th>" for h in _columns(c))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(c))
    notes = "".join(f"<li>{escape(line)}</li>" for line in _footnotes(c))
    warnings = "".join(f"<p><strong>{escape(w)}</strong></p>" for w in c.warnings)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Parley: '
        f"{escape(c.experiment)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(c.experiment)}</h1><p class="faint">{escape(c.road)}</p>{warnings}'
        f"<figure>{_mixed_chart(c)}<figcaption>Held-out text of all members in equal parts; nobody trained on it."
        f"</figcaption></figure><figure>{_own_chart(c)}"
        "<figcaption>Each member's own held-out text.</figcaption></figure>"
        f"<h2>Figures</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<h2>What was promised, and what the coordinator saw</h2><ul>{notes}</ul></body></html>"
    )
    file.write_text(page, encoding="utf-8")


def read_json(file: Path) -> Comparison:
    """Read what `write_json` wrote. Raises: ConfigError, naming the key that is missing or wrong."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return _comparison(tree)
    except FileNotFoundError:
        raise ConfigError(file, "", "no such file") from None
    except KeyError as missing:
        raise ConfigError(file, str(missing.args[0]), "missing: not a report of a comparison") from None
    except (OSError, UnicodeDecodeError, ValueError, TypeError, AttributeError) as wrong:
        raise ConfigError(file, "", f"not a report of a comparison ({type(wrong).__name__})") from None


def write_json(comparison: Comparison, file: Path) -> None:
    """Write the comparison as JSON."""
    file.write_text(json.dumps(to_json(comparison), indent=2) + "\n", encoding="utf-8")


def _columns(c: Comparison) -> list[str]:
    return ["trained on", *(m.name for m in c.members), "mixed", "mixed perplexity"]


def _rows(c: Comparison) -> list[list[str]]:
    """Return one row for each way to train; a member alone is judged on its own text and on the mixed one."""
    rows = [_row("nothing (base)", [m.loss_base for m in c.members], c.mixed_base)]
    for m in c.members:
        rows.append(_row(f"{m.name} alone", [m.loss_alone if o is m else None for o in c.members], m.mixed_alone))
    rows.append(_row("together", [m.loss_together for m in c.members], c.mixed_together))
    rows.append(_row("all pooled", [m.loss_pooled for m in c.members], c.mixed_pooled))
    return rows


def _row(name: str, own: Sequence[float | None], mixed: float) -> list[str]:
    return [name, *("" if x is None else f"{x:.4f}" for x in own), f"{mixed:.4f}", f"{math.exp(mixed):.4f}"]


def _footnotes(c: Comparison) -> list[str]:
    lines = list(c.notes)
    for m in c.members:
        of = "groups" if m.guarantee and m.guarantee.unit is Unit.GROUP else "records"
        said = str(m.guarantee) if m.guarantee else "no epsilon: released without noise (a disclosure)"
        lines.append(
            f"{m.name}: {said}; {m.records} {of} declared;"
            f" {_size(m.bytes_sent)} sent, {_size(m.bytes_received)} received"
        )
    guarantees = [m.guarantee for m in c.members if m.guarantee]
    if guarantees:
        lines.append("assumed: " + "; ".join(guarantees[0].assumptions))
        lines.append("not covered: " + "; ".join(guarantees[0].not_covered))
    answered = ", ".join(f"{r.answered} in {r.seconds:.0f} s" for r in c.rounds)
    lines.append(f"rounds: {answered}; start-up {c.startup_seconds:.0f} s, all {c.seconds:.0f} s")
    lines.extend(f"the coordinator saw: {s}" for s in c.saw)
    return lines


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10**5 else f"{count / 1e3:.1f} kB"


def _mixed_chart(c: Comparison) -> str:
    rows = [Bar("base", math.exp(c.mixed_base), "base")]
    rows += [Bar(f"{m.name} alone", math.exp(m.mixed_alone), "alone") for m in c.members]
    rows += [
        Bar("together", math.exp(c.mixed_together), "together"),
        Bar("pooled", math.exp(c.mixed_pooled), "pooled"),
    ]
    return bars("Mixed held-out text", "perplexity per token", rows, _axis(rows))


def _own_chart(c: Comparison) -> str:
    rows: list[Bar] = []
    for m in c.members:
        rows += [Bar(f"{m.name} alone", math.exp(m.loss_alone), "alone")]
        rows += [
            Bar("together", math.exp(m.loss_together), "together"),
            Bar("pooled", math.exp(m.loss_pooled), "pooled"),
        ]
    return bars("Each member's own held-out text", "perplexity per token", rows, _axis(rows))


def _axis(rows: Sequence[Bar]) -> float:
    """Begin a little under the smallest bar, so that differences can be seen; the title then says so."""
    return math.floor(min(r.value for r in rows) * 9) / 10
