"""Measure this state side by side with a peer, in one run, and give ratios: `parley bench NAME`."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.gate import Disclosed, Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import Randomness, SystemRandomness
from privacy.units import Level, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.session import MemberId, drive
from protocols.weights.average import Average, Recipe

MEMBERS, ROUNDS, LENGTH = 10, 30, 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """Be one line of a benchmark. `ratio` is ours over the peer's, or None without a peer; `goal` in words."""

    measure: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def engine() -> list[Row]:
    """Measure what a client-round costs beyond the work itself, in process and in Flower's simulation engine."""
    ours = _in_process_ms()
    peer = _flower_ms()
    ratio = None if peer is None else ours / peer
    name = "Flower's Ray engine, one array of the same size there and back"
    return [
        Row("inprocess_ms_per_client_round", ours, "ms", name, peer, ratio, "below 1 ms", ours < 1),
        Row(
            "flower_ray_ms_per_client_round", peer if peer is not None else float("nan"), "ms", goal="for comparison"
        ),
    ]


BENCHES: dict[str, Callable[[], list[Row]]] = {"engine": engine}


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write the rows as JSON."""
    file.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n", encoding="utf-8")


class _NoWork:
    """Be the work itself, of no length: what is left to measure is what the engine adds."""

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:  # noqa: ARG002  a draw takes randomness
        return np.zeros(LENGTH, np.float32)


@dataclass
class _Idle:
    gate: Gate
    account: Account
    occasion: Occasion

    def contribution(
        self, _recipe: Recipe, _round: int, _adapter: NDArray[np.float32]
    ) -> Disclosed[NDArray[np.float32]]:
        return self.gate.disclose(_NoWork(), self.account, self.occasion)


def _in_process_ms() -> float:
    """Return milliseconds per client-round of real members: letters, signatures, codec, gate, durable ledger."""
    coordinator = Identity.generate()
    with tempfile.TemporaryDirectory() as folder:
        members = {MemberId(f"m{i:02d}"): _member(Path(folder) / f"{i}.db", coordinator) for i in range(MEMBERS)}
        entry = CATALOG["average"]
        keys = {m: identity.public for m, (identity, _) in members.items()}
        ends = {m: _mailbox(m, identity, coordinator, gate).deliver for m, (identity, gate) in members.items()}
        times = []
        for session in range(3):
            outbox = Outbox(MemoryRoad(ends), coordinator, "coordinator", f"{session:032x}", "average", keys)
            task = Average(_recipe(), 1, np.zeros(LENGTH, np.float32))
            began = time.perf_counter()
            drive(entry.coordinate(sorted(members), task), outbox, entry.wire)
            times.append((time.perf_counter() - began) * 1e3 / MEMBERS / ROUNDS)
        for _, gate in members.values():
            gate.ledger.close()
    return statistics.median(times)


def _member(file: Path, coordinator: Identity) -> tuple[Identity, Gate]:
    permission = Permission(str(coordinator.public), Level.WEIGHTS, ("average",), 1, unsafe_without_noise=True)
    policy = Policy(1, Budget(8.0, 1e-5), (permission,))
    return Identity.generate(), Gate(policy, Ledger(file), SystemRandomness())


def _mailbox(member: MemberId, identity: Identity, coordinator: Identity, gate: Gate) -> Mailbox:
    account = Account("bench", gate.policy.budget)
    return Mailbox(
        member, identity, coordinator.public, CATALOG, lambda occasion: _Idle(gate, account, occasion), MemoryShelf()
    )


def _recipe() -> Recipe:
    return Recipe(
        base="", layout="", length=LENGTH, rank=1, alpha=1.0, targets=("none",), adapter_seed=0, record_tokens=2,
        rounds=ROUNDS, steps=1, batch_size=1, optimizer="sgd", learning_rate=1.0, clipping_norm=1.0, unit=Unit.RECORD,
        epsilon=None, delta=1e-5,
    )  # fmt: skip


def _flower_ms() -> float | None:
    """Return Flower's milliseconds per client-round for the same bytes and no work; None if it is not installed."""
    from simulations.flower_engine import echo_ms

    return echo_ms(MEMBERS, ROUNDS, LENGTH)
