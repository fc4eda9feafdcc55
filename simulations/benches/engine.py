"""Measure what an engine costs beyond the work itself: letters, checks, the ledger. `parley bench engine`."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Evidence
from privacy.gate import Disclosed, Gate, Said
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import Randomness, SystemRandomness
from privacy.trail import HEAD_LABEL
from privacy.units import Level, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.session import MemberId, drive
from protocols.weights.average import Average
from protocols.weights.recipe import Recipe
from server.rounds import Order
from simulations.benches.rows import Row
from simulations.flower_engine import Behind, run_order

MEMBERS, ROUNDS, LENGTH = 10, 30, 10_000


def engine() -> list[Row]:
    """Measure what a client-round costs beyond the work itself, in process and in Flower's simulation engine.

    Both carry the same letters to the same members, which check, charge and answer, but have nothing to train.
    """
    with tempfile.TemporaryDirectory(prefix="parley-") as folder, _crowd(Path(folder)) as crowd:
        ours = _in_process_ms(crowd)
        peer = _flower_ms(crowd, Path(folder))
    name = "Flower's Ray engine, the same letters"
    return [
        Row("inprocess_ms_per_client_round", ours, "ms", name, peer, ours / peer, "below 1 ms", ours < 1),
        Row("flower_ray_ms_per_client_round", peer, "ms", goal="for comparison"),
    ]


class _NoWork:
    """Be the work itself, of no length: what is left to measure is what the engine adds."""

    def draw(self, randomness: Randomness) -> NDArray[np.float32]:  # noqa: ARG002  a draw takes randomness
        """Return zeros."""
        return np.zeros(LENGTH, np.float32)


@dataclass
class _Idle:
    gate: Gate
    account: Account
    occasion: Occasion

    def contribution(
        self, _recipe: Recipe, _round: int, _adapter: NDArray[np.float32]
    ) -> Disclosed[NDArray[np.float32]]:
        """Disclose zeros."""
        return self.gate.disclose(_NoWork(), self.account, self.occasion)

    def close(self) -> Said[bytes]:
        """Say that the session is closed."""
        return self.gate.say(lambda: b"", self.account, self.occasion)


@contextmanager
def _crowd(folder: Path) -> Iterator[Behind]:
    """Yield real members: letters, signatures, codec, gate and a village's ledger each, and no work."""
    coordinator = Identity.generate()
    gates = {MemberId(f"m{i:02d}"): _gate(folder / f"{i}.db", coordinator) for i in range(MEMBERS)}
    identities = {m: Identity.generate() for m in gates}
    ends = {m: _mailbox(m, identities[m], coordinator, gate).deliver for m, gate in gates.items()}
    yield Behind(ends, {m: i.public for m, i in identities.items()}, coordinator)
    for gate in gates.values():
        gate.ledger.close()


def _in_process_ms(crowd: Behind) -> float:
    """Return milliseconds per client-round in this process, the median of three sessions."""
    entry, times = CATALOG["average"], []
    for session in range(3):
        road = MemoryRoad(crowd.ends)
        outbox = Outbox(road, crowd.coordinator, "coordinator", f"{session:032x}", entry.name, crowd.keys)
        began = time.perf_counter()
        drive(entry.coordinate(sorted(crowd.ends), _task()), outbox, entry.wire)
        outbox.close()
        times.append((time.perf_counter() - began) * 1e3 / MEMBERS / ROUNDS)
    return statistics.median(times)


def _flower_ms(crowd: Behind, folder: Path) -> float:
    """Return milliseconds per client-round over Flower's Ray engine: the median trip, its start left out."""
    task = CATALOG["average"].wire.encode(_task())
    done = run_order(Order("average", tuple(sorted(crowd.ends)), task, 600.0), crowd, folder, 900.0)
    return statistics.median(float(str(t["seconds"])) for t in done.trips) * 1e3 / MEMBERS


def _gate(file: Path, coordinator: Identity) -> Gate:
    permission = Permission(
        str(coordinator.public), Level.WEIGHTS, ("average",), 1, unsafe_without_noise=True, unsafe_plain_sum=True
    )
    return Gate(Policy(1, Budget(8.0, 1e-5), (permission,)), Ledger(file, durable=False), SystemRandomness())


def _mailbox(member: MemberId, identity: Identity, coordinator: Identity, gate: Gate) -> Mailbox:
    account = Account("bench", gate.policy.budget)

    def open_home(occasion: Occasion) -> _Idle:
        return _Idle(gate, account, occasion)

    evidence = Evidence(gate.ledger, lambda head: identity.sign(HEAD_LABEL, head), str(identity.public))
    return Mailbox(member, identity, coordinator.public, CATALOG, open_home, MemoryShelf(), evidence)


def _task() -> Average:
    recipe = Recipe(
        base="", layout="", length=LENGTH, rank=1, alpha=1.0, targets=("none",), adapter_seed=0, record_tokens=2,
        rounds=ROUNDS, steps=1, batch_size=1, optimizer="sgd", learning_rate=1.0, clipping_norm=1.0, unit=Unit.RECORD,
        epsilon=None, delta=1e-5,
    )  # fmt: skip
    return Average(recipe, 1, np.zeros(LENGTH, np.float32), None)
