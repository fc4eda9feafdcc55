"""Start Flower's SuperLink and SuperExec, and call the SuperLink's Control API directly.

The one file beside `grid.py` and `app.py` that knows Flower's own types. The SuperLink listens on loopback only,
takes SuperNodes only by registered key, and hands tasks only to who holds the secret.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from protocols.carriers.flower_road import RUN_DIR, environment, warm
from protocols.carriers.processes import Program
from protocols.session import MemberId
from server.folder import Folder
from server.store import OtherKeys

if TYPE_CHECKING:
    from flwr.supercore.control import ControlHttpClient

_HOST = "127.0.0.1"


class Unreachable(Exception):
    """The SuperLink does not answer, or not as it should; may be tried again."""


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def program(folder: Folder, port: int) -> Program:
    """Return the SuperLink on loopback `port` together with the SuperExec that starts ServerApps for it."""
    secret = ("--superexec-auth-secret-file", str(folder.superexec_secret))
    superlink = (
        *("flower-superlink", "--host", _HOST, "--port", str(port)),
        *("--ssl-certfile", str(folder.server_certificate), "--ssl-keyfile", str(folder.server_key)),
        *("--ssl-ca-certfile", str(folder.ca_certificate), "--enable-supernode-auth"),
        *("--isolation", "process", "--database", str(folder.flower_state), *secret),
    )
    superexec = (
        *("flower-superexec", "--runtime-api-address", f"{_HOST}:{port}"),
        *("--root-certificates", str(folder.ca_certificate), *secret),
    )
    both = warm(("flwr-serverapp",), superlink, superexec)
    return Program("flower", both, environment(folder.flower_home), folder.run)


def tls(folder: Folder) -> ssl.SSLContext:
    """Return a context that trusts the folder's own CA and nobody else."""
    return ssl.create_default_context(cafile=str(folder.ca_certificate))


@dataclass(frozen=True, slots=True)
class FlowerRun:
    """Be what Flower says of a run: `status` is pending, starting, running or finished."""

    id: int
    status: str


class SuperLink:
    """Call the SuperLink's Control API on loopback. Every method raises Unreachable if it cannot."""

    def __init__(self, folder: Folder, port: int) -> None:
        self.address = f"{_HOST}:{port}"
        self._ca = folder.ca_certificate
        self._tls = tls(folder)
        self._lock = threading.Lock()
        self._client: ControlHttpClient | None = None

    def healthy(self) -> bool:
        """Say whether it answers."""
        try:
            with httpx.Client(verify=self._tls, trust_env=False, timeout=2.0) as client:
                return client.get(f"https://{self.address}/health").is_success
        except httpx.HTTPError:
            return False

    def register(self, member: MemberId, key_pem: bytes) -> int:
        """Let the SuperNode with this public key in; return its node id, the same one if it was in already."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        with self._control() as control:
            try:
                return int(control.RegisterNode(RegisterNodeRequest(public_key=key_pem, name=member)).node_id)
            except httpx.HTTPStatusError as error:
                if error.response.status_code >= 500:
                    raise
        for node, key in self.nodes().values():
            if key == key_pem:  # we crashed between registering it and writing that down
                return node
        raise OtherKeys

    def nodes(self) -> dict[int, tuple[int, bytes]]:
        """Return the registered SuperNodes: node id -> (node id, public key as PEM)."""
        return {n: (n, key) for n, (_, key) in self._nodes().items()}

    def online(self) -> frozenset[int]:
        """Return the node ids of the SuperNodes that are connected."""
        return frozenset(node for node, (status, _) in self._nodes().items() if status == "online")

    def start_run(self, fab: bytes, run_dir: str) -> int:
        """Submit the bundle as a new Flower run on `run_dir`; return its id."""
        import hashlib

        from flwr.common.serde import user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.proto.fab_pb2 import Fab

        request = StartRunRequest(
            fab=Fab(hash_str=hashlib.sha256(fab).hexdigest(), content=fab),
            override_config=user_config_to_proto({RUN_DIR: run_dir}),
        )
        with self._control() as control:
            response = control.StartRun(request)
        if not response.HasField("run_id"):
            raise Unreachable("the SuperLink did not take the run")
        return int(response.run_id)

    def stop_run(self, run: int) -> None:
        """Stop a Flower run; nothing happens to one that has ended or is unknown."""
        from flwr.proto.control_pb2 import StopRunRequest

        with self._control() as control:
            try:
                control.StopRun(StopRunRequest(run_id=run))
            except httpx.HTTPStatusError as error:
                if error.response.status_code >= 500:
                    raise

    def run(self, run: int) -> FlowerRun | None:
        """Return what the SuperLink says of a run; None if it knows none by that id."""
        from flwr.proto.control_pb2 import ListRunsRequest

        with self._control() as control:
            try:
                found = control.ListRuns(ListRunsRequest(run_id=run)).run_dict
            except httpx.HTTPStatusError as error:
                if error.response.status_code >= 500:
                    raise
                return None
        return FlowerRun(run, found[run].status.status) if run in found else None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _nodes(self) -> dict[int, tuple[str, bytes]]:
        from flwr.proto.control_pb2 import ListNodesRequest

        with self._control() as control:
            found = control.ListNodes(ListNodesRequest()).nodes_info
        return {int(n.node_id): (n.status, n.public_key) for n in found if n.status != "unregistered"}

    @contextlib.contextmanager
    def _control(self) -> Iterator[ControlHttpClient]:
        """Lend the connection to one thread at a time."""
        from flwr.supercore.control import ControlHttpClient

        with self._lock:
            if self._client is None:
                self._client = ControlHttpClient.from_server_address(
                    self.address, False, str(self._ca), interceptors=()
                )
            try:
                yield self._client
            except httpx.HTTPError as error:
                raise Unreachable(type(error).__name__) from None
