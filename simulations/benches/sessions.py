"""Measure a session of secure sums: what a member pays to open one, and how many sums one can carry."""

import statistics
import time
import tracemalloc
from collections.abc import Callable

from protocols.secure_sum.terms import Mode
from simulations.benches.members import crowd, encoded
from simulations.benches.rows import Row, at_most, undisturbed
from simulations.benches.sizes import Sizes, plain_spec, vector

_LENGTH = 8
_MILLION = 1_000_000


def opening(sizes: Sizes) -> list[Row]:
    """Take one member's time, of all members' the median, from ask bytes to answer bytes and the first slips."""
    rows = []
    for name, count, most, rounds in (("n20", sizes.few, 12, 5), ("n100", sizes.members, 60, 1)):
        with undisturbed():
            spent = [crowd(count, Mode.RESILIENT, colluding=count // 3).spent for _ in range(rounds)]
        took = min(statistics.median(s.values()) for s in spent)
        rows.append(at_most(f"session_setup_ms_{name}", took, most, "ms"))
    return rows


def lasting(sizes: Sizes) -> list[Row]:
    """Run many small sums on one key set-up. A day of them is extrapolated, and the row says so."""
    here, values, spec = crowd(5, Mode.STRICT), vector(_LENGTH), plain_spec(_LENGTH, 5)

    def run(count: int) -> None:
        for _ in range(count):
            encoded(here.first.upload(here.request(spec), values))

    began = time.perf_counter()
    run(sizes.sums)
    a_second = sizes.sums / (time.perf_counter() - began)
    growth = _growth(lambda: run(sizes.sums // 10)) / (sizes.sums // 10)
    room = a_second * here.terms.lifetime_s
    said = (
        f"EXTRAPOLATED from {sizes.sums:,} sums at {a_second:,.0f} a second to the keys' life of "
        f"{here.terms.lifetime_s // 3600} h; a million in {_MILLION / a_second / 60:.1f} min"
    )
    return [
        Row(
            "sums_per_session", room, "sums", said, goal=f"at least {_MILLION:,}", met=room >= _MILLION and growth < 1
        ),
        at_most("memory_growth_per_sum", growth, 1, "B"),
    ]


def _growth(call: Callable[[], None]) -> int:
    """Return by how many bytes the second of two equal calls leaves Python's memory larger."""
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
