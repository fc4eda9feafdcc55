"""Run an experiment in Flower's simulation engine: Ray workers as nodes, the same village behind them.

The homes stay in this process. Each listens on a socket in the village's folder, as a member's daemon does, and the
post office in the Ray worker forwards the letters there: the same two apps as on real nodes, and the same adapter.
"""

import contextlib
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from client.daemon import Desk, make_app
from client.model import Base
from protocols.catalog import CATALOG
from protocols.keys import Identity, PublicKey
from protocols.post import Deliver
from protocols.session import MemberId
from server.rounds import ORDERS, Order, RunFolder, Who
from server.simulated import simulation
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.experiment import Experiment
from simulations.ordering import RunFailed
from simulations.village import Village

TRIP_S = 600.0


def run_in_flower(experiment: Experiment, village: Village, base: Base, timeout_s: float = 3600.0) -> Outcome:
    """Run the experiment's collaboration over Flower's simulation engine.

    Raises: Unreachable if the engine does not come up; TimeoutError; RunFailed.
    """
    entry = CATALOG[experiment.collaboration.name]
    task = entry.wire.encode(run_of(experiment).task(experiment, base))
    with tempfile.TemporaryDirectory(prefix="parley-") as name:  # short: a socket's path has at most 107 bytes
        behind = Behind(village.ends, village.keys, village.coordinator)
        folder = run_order(
            Order(entry.name, village.members, task, TRIP_S, experiment.purpose), behind, Path(name), timeout_s
        )
        result = entry.wire.decode(folder.result)
        return run_of(experiment).outcome(result, [float(str(t["seconds"])) for t in folder.trips])


@dataclass(frozen=True, slots=True)
class Behind:
    """Be who stands behind the nodes: where letters to each member go, its public key, and the coordinator."""

    ends: Mapping[MemberId, Deliver]
    keys: Mapping[MemberId, PublicKey]
    coordinator: Identity


class Finished:
    """Hold a finished run: its encoded result, and one line for each trip."""

    def __init__(self, folder: RunFolder) -> None:
        if not folder.result.exists():
            why = folder.why()
            raise RunFailed(f"{why.get('error', 'no result')}: {why.get('message', '')}")
        self.result = folder.result.read_bytes()
        self.trips = folder.trips()


def run_order(order: Order, behind: Behind, folder: Path, timeout_s: float) -> Finished:
    """Run an order over Flower's simulation engine, with all files in `folder`."""
    key = folder / "coordinator.key"
    key.touch(mode=0o600)
    key.write_bytes(behind.coordinator.to_pem())
    who = Who(secrets.token_hex(16), str(key), {str(m): str(k) for m, k in behind.keys.items()}, {})
    made = RunFolder.make(folder / "run", ORDERS.encode(order), who)
    sockets = folder / "v"
    sockets.mkdir(mode=0o700)
    with _listening(behind.ends, sockets), simulation(folder / "f") as engine:
        run = engine.submit(made.root, sockets, len(order.members))
        deadline = time.monotonic() + timeout_s
        while not made.ended:
            if engine.finished(run) and not made.ended:
                raise RunFailed("Flower ended the run without a result")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no result after {timeout_s:.0f} s")
            time.sleep(0.2)
    return Finished(made)


@contextlib.contextmanager
def _listening(ends: Mapping[MemberId, Deliver], folder: Path) -> Iterator[None]:
    """Within, every member answers on `folder`/PLACE.sock, PLACE being its place among the sorted members."""
    servers = [_serve(ends[m], folder / f"{place}.sock") for place, m in enumerate(sorted(ends))]
    try:
        yield
    finally:
        for server, thread in servers:
            server.should_exit = True
            thread.join(timeout=10)


@dataclass(frozen=True, slots=True)
class _Mailbox:
    end: Deliver

    def deliver(self, sealed: bytes, /) -> bytes:
        """Return the sealed answer."""
        return self.end(sealed)


def _serve(end: Deliver, path: Path) -> tuple[uvicorn.Server, threading.Thread]:
    desk = Desk(lambda: _Mailbox(end), lambda _error: None)
    desk.start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(16)
    config = uvicorn.Config(make_app(desk), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    return server, thread
