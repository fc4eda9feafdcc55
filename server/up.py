"""Run a coordinator: SuperLink, SuperExec, front and control service, all or none, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import httpx
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from privacy.config import ConfigError
from protocols.carriers import processes
from protocols.carriers.processes import Child
from protocols.carriers.stream_road import MOST_FRAME_BYTES
from server import authority, superlink
from server.enrolment import LATER, Reply, enrol
from server.folder import Address, Folder
from server.front import Front
from server.hub import MOST_CONNECTED, Hub
from server.openings import Openings
from server.road import MOST_BYTES
from server.runs import Runs
from server.service import service
from server.store import Store
from server.streams import streams
from server.superlink import SuperLink, Unreachable

log = logging.getLogger("parley.coordinator")

STARTUP_S = 120.0
TEND_S = 3.0
_RESTART_S = 2.0  # least time between two starts of one program


class Coordinator:
    """Be a running coordinator; a context manager that leaves nothing running. Main thread only.

    Raises: ConfigError on entering: a busy port, or another coordinator in the folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.store = Store(folder.store)
        self._port = superlink.free_port()
        self.superlink = SuperLink(folder, self._port)
        self.runs = Runs(folder, self.store, self.superlink)
        self._hub: Hub | None = None
        self._children: list[Child] = []
        self._servers: list[Server] = []
        self._held = contextlib.ExitStack()
        self._ready = threading.Event()

    def __enter__(self) -> Coordinator:
        os.umask(0o077)
        try:
            self._held.enter_context(self.folder.lock())
            public = _bound(self.folder)
            processes.sweep(self.folder.run)
            self._children = [processes.start(superlink.program(self.folder, self._port))]
            self._serve(public)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def tend(self, stopping: threading.Event) -> None:
        """Keep everything running until `stopping` is set. Raises: Unreachable if the SuperLink never comes up."""
        self._await_superlink(stopping)
        next_look = time.monotonic()
        while not stopping.wait(0.3):
            self._revive()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + TEND_S
                self._look_after_runs()

    def _look_after_runs(self) -> None:
        """Start again what was interrupted; a full disk or a restarting SuperLink is for the next time."""
        try:
            self.runs.tend(afresh=not self._ready.is_set())
            self._ready.set()
        except (Unreachable, OSError, sqlite3.Error) as error:
            log.warning("runs could not be looked after (%s)", type(error).__name__)

    def stop(self) -> None:
        """Stop all that was started, whatever state it is in."""
        for server in self._servers:
            server.stop()
        self.superlink.close()  # first: it waits for whoever is connected
        processes.stop(reversed(self._children))
        self._held.close()

    def _await_superlink(self, stopping: threading.Event) -> None:
        deadline = time.monotonic() + STARTUP_S
        while not self.superlink.healthy():
            if stopping.wait(0.2):
                return
            if time.monotonic() > deadline:
                raise Unreachable(f"the SuperLink is not up after {STARTUP_S:.0f} s; see its log in the run folder")
            self._revive()

    def _revive(self) -> None:
        """Start again what has died, but not in a tight circle."""
        for place, child in enumerate(self._children):
            if not child.running and time.monotonic() - child.started > _RESTART_S:
                log.warning("%s ended with status %s and is started again", child.name, child.returncode)
                self._ready.clear()  # its ServerApps died with it: their runs are started afresh
                processes.stop([child])
                self._children[place] = processes.start(child.program)

    def _serve(self, public: socket.socket) -> None:
        certificate, key = self.folder.server_certificate, self.folder.server_key
        openings = Openings(self.folder.streams)
        front = lambda: self._front(openings)  # noqa: E731
        self._servers.append(Server(front, public, certificate, key, MOST_FRAME_BYTES))
        routes = streams(self.store, openings, lambda: self._hub)
        control = service(self.store, self.runs, self.superlink, self._ready.is_set, routes)
        self._servers.append(Server(lambda: control, _unix(self.folder.control_socket), largest_frame=MOST_BYTES))
        for server in self._servers:
            server.start()

    def _front(self, openings: Openings) -> Front:
        upstream = httpx.AsyncClient(
            base_url=f"https://{self.superlink.address}",
            verify=superlink.tls(self.folder),
            trust_env=False,
            timeout=httpx.Timeout(120.0, connect=5.0),
        )
        shown = authority.fingerprint(self.folder.server_certificate.read_bytes())
        self._hub = Hub(openings, self.folder.identity(), shown)
        return Front(upstream, self._enrol, stream=self._hub)

    async def _enrol(self, request: bytes) -> Reply:
        try:
            return await asyncio.to_thread(enrol, request, self.store, self.superlink.register)
        except Unreachable:
            return LATER  # the SuperLink is still starting


class Server:
    """Serve the application that `make` returns on one bound socket, in a thread and event loop of its own.

    With a `largest_frame` it takes WebSockets, whose messages are no longer than that.
    """

    def __init__(
        self,
        make: Callable[[], object],
        bound: socket.socket,
        certificate: Path | None = None,
        key: Path | None = None,
        largest_frame: int = 0,
    ) -> None:
        self._bound = bound
        self._server = uvicorn.Server(
            uvicorn.Config(
                make,
                factory=True,  # called within the event loop
                http="h11",
                ws=_WebSocket if largest_frame else "none",
                ws_max_size=largest_frame,
                ws_per_message_deflate=False,
                lifespan="auto",
                log_config=None,
                log_level="warning",  # it would write down frames at one level, and addresses at another
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=256 + (MOST_CONNECTED if largest_frame else 0),  # streams stay
                timeout_keep_alive=30,
                timeout_graceful_shutdown=3,
                h11_max_incomplete_event_size=32_768,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([bound],), daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being answered, within seconds, and close the socket."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._bound.close()


class _WebSocket(WebSocketsSansIOProtocol):
    """Be uvicorn's WebSocket, which would break off the server's shutdown at a connection that is closing already."""

    def shutdown(self) -> None:
        """Hang up."""
        try:
            super().shutdown()
        except InvalidState:
            self.transport.close()


def _bound(folder: Folder) -> socket.socket:
    """Return a socket that listens on the public address. Raises: ConfigError, naming the address and the key."""
    address, key = folder.listen, "listen" if folder.settings.listen else "address"
    try:
        return socket.create_server((address.host, address.port), family=_family(address), backlog=256)
    except OSError as error:
        why = (
            "is busy"
            if error.errno == errno.EADDRINUSE
            else f"cannot be bound ({error.strerror or type(error).__name__})"
        )
        raise ConfigError(folder.settings_file, key, f"an address that is free: {address} {why}") from None


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _unix(path: Path) -> socket.socket:
    """Return a Unix socket that only its owner may open (the umask is 077)."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(0o600)
    bound.listen(64)
    return bound


def up(root: Path) -> None:
    """Run the coordinator of a folder until SIGINT, SIGTERM or SIGHUP; then stop all it started."""
    folder = Folder.open(root)
    with processes.stop_signals() as stopping, Coordinator(folder) as coordinator:
        log.info("listening on %s", folder.address)
        coordinator.tend(stopping)


@contextlib.contextmanager
def running(root: Path) -> Iterator[Coordinator]:
    """Within, a coordinator is up and ready, tended by a thread. For programs that are their own main loop."""
    stopping = threading.Event()
    with Coordinator(Folder.open(root)) as coordinator:
        thread = threading.Thread(target=coordinator.tend, args=(stopping,), daemon=True)
        thread.start()
        try:
            yield coordinator
        finally:
            stopping.set()
            thread.join()
