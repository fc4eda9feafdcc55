"""Start Flower's own simulation engine on a folder of ours, and submit one run to it.

A SuperLink of its own, on loopback, in memory, without keys: what it carries here is simulated. Its nodes are
Ray workers, and each runs the same post office as a real SuperNode, in front of a socket in the village's folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from protocols.carriers import processes
from protocols.carriers.flower_road import RUN_DIR, VILLAGE, command, environment
from protocols.carriers.processes import Program
from server import bundle
from server.superlink import Unreachable, free_port

_HOST = "127.0.0.1"
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """Be a SuperLink that simulates."""

    address: str

    def submit(self, run_dir: Path, village: Path, nodes: int) -> int:
        """Start the run in `run_dir` with `nodes` nodes, one worker each; return Flower's id of it."""
        from flwr.common.serde import user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.proto.fab_pb2 import Fab
        from flwr.proto.federation_config_pb2 import SimulationConfig

        fab = bundle.build()
        request = StartRunRequest(
            fab=Fab(hash_str=hashlib.sha256(fab).hexdigest(), content=fab),
            override_config=user_config_to_proto({RUN_DIR: str(run_dir), VILLAGE: str(village)}),
            override_federation_config=SimulationConfig(num_supernodes=nodes, client_resources_num_cpus=1),
        )
        with self._control() as control:
            response = control.StartRun(request)  # type: ignore[attr-defined]
        if not response.HasField("run_id"):
            raise Unreachable("the SuperLink did not take the run")
        return int(response.run_id)

    def finished(self, run: int) -> bool:
        """Say whether Flower has ended the run, well or not."""
        from flwr.proto.control_pb2 import ListRunsRequest

        with self._control() as control:
            found = control.ListRuns(ListRunsRequest(run_id=run)).run_dict  # type: ignore[attr-defined]
        return run not in found or found[run].status.status == "finished"

    @contextlib.contextmanager
    def _control(self) -> Iterator[object]:
        from flwr.supercore.control import ControlHttpClient

        client = ControlHttpClient.from_server_address(self.address, True, None, interceptors=())
        try:
            yield client
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from None
        finally:
            client.close()


@contextlib.contextmanager
def simulation(folder: Path) -> Iterator[Simulated]:
    """Within, Flower's simulation engine is up, with its files in `folder`; afterwards nothing of it runs.

    Raises: Unreachable if it does not come up.
    """
    home, run = folder / "flower", folder / "superlink"
    for made in (home, run):
        made.mkdir(parents=True, mode=0o700)
    port = free_port()
    parts = ("--insecure", "--simulation", "--host", _HOST, "--port", str(port))
    program = Program("superlink", (command("flower-superlink"), *parts), environment(home), run)
    child = processes.start(program)
    try:
        _await(child, f"http://{_HOST}:{port}/health")
        yield Simulated(f"{_HOST}:{port}")
    finally:
        processes.stop([child])


def _await(child: processes.Child, url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.running:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2.0, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise Unreachable(f"Flower's simulation engine did not start; its log is {child.program.log}")
