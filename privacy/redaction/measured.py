"""Say how much a redactor missed where it was measured: a rate, its n, and a 95 % interval. Never an epsilon."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).parent / "measured.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold how many of `n` identifiers were missed on a benchmark.

    Units:   the interval covers the rate with 95 % confidence, if other text is like the benchmark's; nobody
             can promise that it is. Cites: Clopper and Pearson 1934.
    """

    benchmark: str
    what: str
    missed: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.missed <= self.n or self.n < 1:
            raise ValueError("measured: expected 0 <= missed <= n, and n at least 1")

    @property
    def rate(self) -> float:
        """Return the share that was missed."""
        return self.missed / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the rate."""
        return clopper_pearson(self.missed, self.n)

    def __str__(self) -> str:
        """Return one line, with n and the interval."""
        low, high = self.interval
        return (
            f"missed {self.rate:.1%} of {self.what} ({self.missed} of {self.n:,}; "
            f"95 % interval {low:.1%} to {high:.1%}) on {self.benchmark}"
        )


@dataclass(frozen=True, slots=True)
class Protection:
    """Say what protects a redacted message: nothing that has an epsilon."""

    profile: str
    measured: tuple[Measured, ...]
    guarantee: str = "none"
    epsilon: None = None
    delta: None = None
    unit: None = None

    def __post_init__(self) -> None:
        if self.guarantee != "none":
            raise ValueError("guarantee: redacted text has none")

    def __str__(self) -> str:
        """Return what has to stand beside a redacted message."""
        shown = "; ".join(map(str, self.measured)) or "what it misses has not been measured"
        return (
            "guarantee: none. Identifiers that were detected were removed; "
            f"{shown}. The rest of the text is disclosed and may identify people."
        )

    def as_json(self) -> str:
        """Return the record that travels with the message."""
        measured = [
            {"benchmark": m.benchmark, "what": m.what, "missed": m.missed, "n": m.n, "interval": list(m.interval)}
            for m in self.measured
        ]
        record = {"guarantee": "none", "epsilon": None, "delta": None, "unit": None}
        return json.dumps({**record, "profile": self.profile, "measured": measured})


@functools.cache
def shipped(strict: bool) -> tuple[Measured, ...]:
    """Return what was measured of what ships, plain or strict; `parley bench redaction` measures it again."""
    if not _FILE.exists():
        return ()
    rows = json.loads(_FILE.read_text(encoding="utf-8"))["strict" if strict else "default"]
    return tuple(Measured(r["benchmark"], r["what"], r["missed"], r["n"]) for r in rows)


@functools.lru_cache(maxsize=1024)
def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval that covers the true rate with this confidence, by bisection of the binomial's tails."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _root(lambda p: 1 - _at_most(hits - 1, n, p), tail, rising=True)
    high = 1.0 if hits == n else _root(lambda p: _at_most(hits, n, p), tail, rising=False)
    return low, high


def _at_most(k: int, n: int, p: float) -> float:
    """Return the probability of at most k hits of n."""
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


def _root(function: Callable[[float], float], value: float, rising: bool) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if (function(middle) < value) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2
