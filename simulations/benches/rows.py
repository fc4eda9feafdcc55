"""Hold what a benchmark found, one line a figure, and time two things fairly: in turns, in the same process."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """Be one line of a benchmark: `value` is what the goal speaks of, `met` whether it was reached.

    Beside a peer, `ratio` compares `ours` and `peer_value`, both in the unit that `peer` names: peer / ours, in our
    favour, in what `versus` makes; ours / peer in what `against` makes, and in the engine's rows.
    """

    measure: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    ours: float | None = None


class PeerMissing(Exception):
    """A peer is not installed; the text names it, and the extra that brings it."""

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'parley[bench]' brings it")
        self.package = package


def versus(measure: str, ours: float, peer_value: float, peer: str, least: float | None = None) -> Row:
    """Return a row that says how many times the peer's cost is ours; the goal, if any, is at least so many."""
    ratio = peer_value / ours
    goal, met = ("for comparison", None) if least is None else (f"at least {least:g} x", ratio >= least)
    return Row(measure, ratio, "x", peer, peer_value, ratio, goal, met, ours)


def against(measure: str, ours: float, floor: float, peer: str, most: float | None = None) -> Row:
    """Return a row that says how many times the floor, which nobody can go below, ours is."""
    ratio = ours / floor
    goal, met = ("for comparison", None) if most is None else (f"at most {most:g} x", ratio <= most)
    return Row(measure, ratio, "x", peer, floor, ratio, goal, met, ours)


def at_most(measure: str, value: float, most: float, unit: str) -> Row:
    """Return a row whose value should not be above a limit."""
    return Row(measure, value, unit, goal=f"at most {most:g} {unit}", met=value <= most)


def at_least(measure: str, value: float, least: float, unit: str) -> Row:
    """Return a row whose value should not be below a limit."""
    return Row(measure, value, unit, goal=f"at least {least:g} {unit}", met=value >= least)


def in_turns(repeats: int, *calls: Callable[[], object]) -> list[float]:
    """Return each call's best time in milliseconds of `repeats`; each has its turn once in every repeat."""
    best = [float("inf")] * len(calls)
    with undisturbed():
        for _ in range(repeats):
            for i, call in enumerate(calls):
                best[i] = min(best[i], timed(call))
    return best


def batched(batches: int, size: int, call: Callable[[], object]) -> float:
    """Return the milliseconds of a short call: the mean over a batch, of the best of so many batches."""
    with undisturbed():
        return min(timed(lambda: [call() for _ in range(size)]) for _ in range(batches)) / size


def timed(call: Callable[[], object]) -> float:
    """Return how many milliseconds one call takes."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector out, as `timeit` does: it would charge one side for what the other left."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def keep_memory() -> None:
    """Free one large block, as a member's model does all the time: then glibc keeps smaller ones that are freed.

    Without it each measured call pays for new pages, ours and the peer's alike: for a token more than for its masks.
    """
    bytearray(30 * 2**20)  # freed at once


def text(rows: Sequence[Row]) -> list[str]:
    """Return one line a row, in columns."""
    width = max((len(r.measure) for r in rows), default=0)
    return [
        f"{r.measure:{width}} {_figure(r.value):>12} {r.unit:4} {_verdict(r):5} {_rest(r)}".rstrip() for r in rows
    ]


def _figure(value: float) -> str:
    return f"{value:,.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def _verdict(row: Row) -> str:
    return {True: "met", False: "NOT", None: ""}[row.met]


def _rest(row: Row) -> str:
    beside = "" if row.peer_value is None else f"; {row.peer}: {_figure(row.peer_value)}"
    ours = "" if row.ours is None else f"; ours: {_figure(row.ours)}"
    return (
        f"{row.goal}{ours}{beside}" if row.peer_value is not None else "; ".join(filter(None, (row.goal, row.peer)))
    )
