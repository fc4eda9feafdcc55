"""Draw bars as SVG text: no library, no script, readable by a screen reader and in print."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LABEL, _BAR, _VALUE, _ROW, _TOP = 190, 380, 90, 26, 30


@dataclass(frozen=True, slots=True)
class Bar:
    """Be one bar: its label, its length in the chart's unit, and the class that colours it."""

    label: str
    value: float
    kind: str


def bars(title: str, unit: str, rows: Sequence[Bar], start: float = 0.0) -> str:
    """Return a horizontal bar chart whose axis begins at `start`, which the title says when it is not zero."""
    longest = max((r.value for r in rows), default=1.0)
    span = (longest - start) or 1.0
    height = _TOP + _ROW * len(rows) + 8
    width = _LABEL + _BAR + _VALUE
    shown = title if start == 0 else f"{title} (axis from {start:g})"
    body = "".join(_row(i, row, start, span) for i, row in enumerate(rows))
    spoken = "; ".join(f"{r.label} {r.value:.3f}" for r in rows)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(shown)}: {escape(spoken)}">'
        f'<text x="0" y="16" class="title">{escape(shown)}, {escape(unit)}</text>{body}</svg>'
    )


def _row(index: int, row: Bar, start: float, span: float) -> str:
    y = _TOP + _ROW * index
    length = max(1.0, _BAR * (row.value - start) / span)
    return (
        f'<text x="{_LABEL - 8}" y="{y + 15}" class="label">{escape(row.label)}</text>'
        f'<rect x="{_LABEL}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 8}" rx="2" class="{escape(row.kind)}"/>'
        f'<text x="{_LABEL + length + 6:.1f}" y="{y + 15}" class="value">{row.value:.3f}</text>'
    )
