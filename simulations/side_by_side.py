"""Put several runs on the same silos side by side, and say where collaboration does not help.

Runs are compared by perplexity on the held-out text of all members in equal parts, each with its own yardsticks: the
best member alone and all data pooled, both trained as in the run, under its privacy. A member alone may train better
as in another run: where that promised no less, it is what collaboration must beat.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from privacy.config import ConfigError
from privacy.units import Guarantee, Unit
from simulations.report import STYLE, Comparison

_SAME = 1e-9  # nats: the base judged on the same text gives the same loss
_COLUMNS = (
    "run", "collaboration", "epsilon", "base", "best alone", "together", "pooled", "kB sent a member", "seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what one run came to: perplexities, and in a sentence whether it was worth while.

    `rival` is the run in which a member alone came farthest, of those that promise no less; by default this one.
    """

    run: Comparison
    base: float
    alone: float
    together: float
    pooled: float
    rival: Comparison

    @property
    def sentence(self) -> str:
        """Return the sentence."""
        r, alone = self.run, math.exp(self.rival.best_alone)
        best = min(self.rival.members, key=lambda m: m.mixed_alone).name
        how = "" if self.rival is r else f" trained as in {self.rival.experiment},"
        if self.together >= self.base:
            return f"{r.experiment}: collaboration does not help: the base model alone is as good or better"
        if self.together >= alone:
            by = _percent(self.together, alone)
            comma = "," if how else ""
            return f"{r.experiment}: collaboration does not help: {best} alone{comma}{how} is better, by {by}"
        gain = f"better than {best} alone,{how} the best, by {_percent(alone, self.together)}"
        more = self.pooled < self.together
        pooled = f"{_percent(self.together, self.pooled)} more" if more else "no more"
        return f"{r.experiment}: {gain}; pooled data would give {pooled}"


def verdicts(runs: Sequence[tuple[Path, Comparison]]) -> list[Verdict]:
    """Return a verdict for each run, the best first. Raises: ConfigError if they are not on the same silos."""
    first = runs[0][1]
    names = [m.name for m in first.members]
    for file, run in runs:
        if [m.name for m in run.members] != names or abs(run.mixed_base - first.mixed_base) > _SAME:
            raise ConfigError(file, "", "other members, text or base model than the first report's")
    exp = math.exp
    found = [
        Verdict(r, exp(r.mixed_base), exp(r.best_alone), exp(r.mixed_together), exp(r.mixed_pooled), rival)
        for r, rival in _with_rivals(_told_apart(runs))
    ]
    return sorted(found, key=lambda v: v.together)


def _told_apart(runs: Sequence[tuple[Path, Comparison]]) -> list[Comparison]:
    """Return the runs, with its folder or file in the name of each that has the name of another."""
    often = Counter(run.experiment for _, run in runs)
    places = [file.parent if file.name == "report.json" else file for file, _ in runs]
    return [
        run if often[run.experiment] == 1 else replace(run, experiment=f"{run.experiment} ({place})")
        for (_, run), place in zip(runs, places, strict=True)
    ]


def _with_rivals(runs: Sequence[Comparison]) -> list[tuple[Comparison, Comparison]]:
    """Return each run with the one, of those that promise no less, in which a member alone came farthest."""
    return [(r, min((r, *(o for o in runs if _as_strict(o, r))), key=lambda o: o.best_alone)) for r in runs]


def _as_strict(other: Comparison, run: Comparison) -> bool:
    """Tell whether a member alone in the `other` run has a promise, and no weaker one than that of `run`."""
    mine, theirs = _first_guarantee(run), _first_guarantee(other)
    if not mine or not theirs:
        return not mine
    own, its = mine[0], theirs[0]
    if its.unit is not own.unit or own.unit is Unit.MEMBER:  # whole members alone are trained without noise
        return False
    return its.delta <= own.delta and round(its.epsilon, 1) <= round(own.epsilon, 1)


def show_side_by_side(found: Sequence[Verdict], console: Console) -> None:
    """Print the table, and a sentence for each run."""
    caption = "held-out text of all members: perplexity a token; lower is better"
    table = Table(title="the same silos", caption=caption, padding=0)
    rows = [_row(v) for v in found]
    for i, heading in enumerate(_COLUMNS):
        left = i < 2
        whole = (
            None if left else max(len(row[i]) for row in rows)
        )  # names are folded where it is narrow, no figure is
        table.add_column(heading, justify="left" if left else "right", overflow="fold", min_width=whole)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in _lines(found):
        console.print(line, style="dim", highlight=False, markup=False)


def write_side_by_side(found: Sequence[Verdict], file: Path) -> None:
    """Write one HTML file that needs nothing else."""
    head = "".join(f"<th>{escape(h)}</th>" for h in _COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in _row(v)) + "</tr>" for v in found)
    notes = "".join(f"<li>{escape(line)}</li>" for line in _lines(found))
    file.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width"><title>Parley: side by side</title><style>{STYLE}</style></head><body>'
        "<h1>The same silos, side by side</h1><p class='faint'>Perplexity a token on the held-out text of all members"
        f"; lower is better.</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{notes}</ul></body></html>",
        encoding="utf-8",
    )


def _row(v: Verdict) -> list[str]:
    sent = max(m.bytes_sent for m in v.run.members) / 1e3
    figures = [f"{x:.4f}" for x in (v.base, v.alone, v.together, v.pooled)]
    return [v.run.experiment, v.run.collaboration, _epsilon(v.run), *figures, f"{sent:.1f}", f"{v.run.seconds:.0f}"]


def _epsilon(run: Comparison) -> str:
    """Return the largest epsilon of a member; none if one member let a value go without noise."""
    guarantees = [m.guarantee for m in run.members]
    known = [g for g in guarantees if g is not None]
    return f"{max(g.epsilon for g in known):.2f}" if len(known) == len(guarantees) else "none"


def _lines(found: Sequence[Verdict]) -> list[str]:
    """Return what each verdict says, and then what each epsilon means."""
    meanings = dict.fromkeys(
        f"{v.run.experiment}: {g}; assumed: {'; '.join(g.assumptions)}"
        for v in found
        for g in _first_guarantee(v.run)
    )
    return [*(v.sentence for v in found), *meanings]


def _first_guarantee(run: Comparison) -> list[Guarantee]:
    known = [m.guarantee for m in run.members if m.guarantee is not None]
    return [max(known, key=lambda g: g.epsilon)] if known else []


def _percent(worse: float, better: float) -> str:
    return f"{100 * (worse / better - 1):.2f} %"
