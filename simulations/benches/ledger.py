"""Measure the ledger: decisions in long trails, and durable charges beside SQLite's own commit."""

import copy
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dp_accounting import DpEvent, GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant

from privacy.accounting.events import to_json
from privacy.books import releases
from privacy.books.book import Book, Writer
from privacy.books.releases import Release
from privacy.books.schema import connect
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.units import Level
from simulations.benches.flower_accountant import flower_decision_us
from simulations.benches.rows import Row, against, at_least, at_most, undisturbed, versus

FEW, MANY = 10_000, 1_000_000  # releases in the trail
ACCOUNT = Account("bench", Budget(epsilon=900.0, delta=1e-5))
EVENTS: tuple[DpEvent, ...] = tuple(GaussianDpEvent(3000.0 + n) for n in range(8)) + tuple(
    PoissonSampledDpEvent(0.01, GaussianDpEvent(50.0 + n)) for n in range(8)
)
_AT_ONCE = 5000  # charges in one transaction, where a trail is filled


def bench_ledger() -> list[Row]:
    """Return every row of the ledger, of its accountant and of its audit trail."""
    from simulations.benches.accounting import bench_accounting
    from simulations.benches.auditing import auditing

    return [*ledger(), *bench_accounting(), *auditing()]


def ledger(few: int = FEW, many: int = MANY) -> list[Row]:
    """Return the rows of the ledger alone."""
    with tempfile.TemporaryDirectory(prefix="parley-") as folder, undisturbed():  # TMPDIR: a memory disk has no sync
        return [*decisions(Path(folder), few, many), *charges(Path(folder))]


def decisions(folder: Path, few: int, many: int, asked: int = 2000) -> list[Row]:
    """Time "what is spent, would this exceed" with a charge before each, in trails of two lengths."""
    rows, written = [], 0
    for name, length in (("1e4", few), ("1e6", many)):
        fill(folder / "long.db", written, length)
        written = length + 2 * asked
        after_a_charge, again = _decided(folder / "long.db", length, asked)
        rows.append(at_most(f"decision_us_p50_{name}", after_a_charge, 20, "us"))
        rows.append(Row(f"decision_us_p50_{name}_nothing_new", again, "us", goal="for comparison"))
        if name == "1e4":
            peer = "dp-accounting: copy, compose, epsilon"
            rows.append(versus("decision_vs_dp_accounting_1e4", after_a_charge, _dp_accounting(few), peer))
            flower = flower_decision_us(few // 10, ACCOUNT.budget.delta)
            rows.append(
                versus("decision_vs_flower_1e3", after_a_charge, flower, "Flower: would_exceed, 1,000 releases")
            )
    return rows


def fill(file: Path, first: int, last: int) -> None:
    """Charge the occasions from `first` to `last`, of all kinds and partners, by the code that charges."""
    writer = Writer(file, lambda: connect(file, durable=False), time.time, lambda _was, _now, _changes: None)
    texts = [to_json(event) for event in EVENTS]

    def charge(book: Book, numbers: range) -> None:
        for n in numbers:
            on = _occasion(n)
            releases.enter(book, Release(ACCOUNT, on, NO_LIMITS, "value", "charged", texts[n % len(texts)]))

    for start in range(first, last, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, last))
        writer.run(lambda book, numbers=numbers: charge(book, numbers))  # type: ignore[misc]
    writer.rest()


def charges(folder: Path, count: int = 500, threads: int = 32) -> list[Row]:
    """Time durable charges in turns with the least that any ledger of SQLite does: a line and a total, one commit."""
    here = Ledger(folder / "charges.db")
    floor = _Floor(folder / "floor.db")
    ours, theirs = [], []
    for n in range(count):
        event, on = EVENTS[n % len(EVENTS)], _occasion(n)
        ours.append(_seconds(lambda event=event, on=on: here.charge(ACCOUNT, event, on)))  # type: ignore[misc]
        theirs.append(_seconds(floor.commit))
    row = against(
        "charge_vs_sqlite_commit_p50",
        statistics.median(ours) * 1e3,
        statistics.median(theirs) * 1e3,
        "SQLite, ms",
        1.5,
    )
    rows = [row, at_least("charges_per_s_grouped", _grouped(here, threads), 1000, "/s")]
    here.close()
    return rows


class _Floor:
    """Commit a line of the usual length and a total, with full sync."""

    def __init__(self, file: Path) -> None:
        self.db = sqlite3.connect(file, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE entries (seq INTEGER PRIMARY KEY, line TEXT)",
            "CREATE TABLE totals (one INTEGER PRIMARY KEY, total INTEGER)",
            "INSERT INTO totals VALUES (1, 0)",
        ):
            self.db.execute(statement)

    def commit(self) -> None:
        """Be one durable commit."""
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("INSERT INTO entries (line) VALUES (?)", ("x" * 400,))
        self.db.execute("UPDATE totals SET total = total + 1")
        self.db.execute("COMMIT")


def _decided(file: Path, length: int, asked: int) -> tuple[float, float]:
    """Return the median microseconds of a decision just after a charge, and of one after nothing new."""
    here, after, again = Ledger(file, durable=False), [], []
    for n in range(length, length + 2 * asked):
        on, event = _occasion(n), EVENTS[(n * 7) % len(EVENTS)]
        ask = _asking(here, event, on)
        if n < length + asked:
            here.charge(ACCOUNT, event, on)
            after.append(_seconds(ask))
        else:
            again.append(_seconds(ask))
    here.close()
    return statistics.median(after) * 1e6, statistics.median(again) * 1e6


def _asking(here: Ledger, event: DpEvent, on: Occasion) -> Callable[[], object]:
    return lambda: here.decide(ACCOUNT, event, NO_LIMITS, on.partner, on.level, on.collaboration)


def _dp_accounting(releases: int) -> float:
    """Return the microseconds in which dp-accounting answers the same, from an accountant that holds as many."""
    accountant = RdpAccountant(neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event in EVENTS:
        accountant.compose(event, max(1, releases // len(EVENTS)))

    def decide() -> float:
        return float(copy.deepcopy(accountant).compose(EVENTS[0]).get_epsilon(ACCOUNT.budget.delta))

    return statistics.median(_seconds(decide) for _ in range(20)) * 1e6


def _grouped(here: Ledger, count: int) -> float:
    """Return how many durable charges a second many threads get done."""

    def work(thread: int) -> None:
        for n in range(100):
            here.charge(ACCOUNT, EVENTS[n % len(EVENTS)], _occasion(n, f"thread {thread}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 100 * count / (time.perf_counter() - began)


def _occasion(n: int, session: str = "") -> Occasion:
    session = session or f"session {n // 1000}"
    return Occasion(session, n, "average", Level.WEIGHTS, f"partner {n % 8}", 5, ("a", "b", "c", "d", "e"))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
