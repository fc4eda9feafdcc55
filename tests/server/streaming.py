"""A coordinator's front with its hub and control socket, and a village whose houses dial it: all on loopback."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from deployment import until
from fastapi import FastAPI
from village import COORDINATOR, Village, village
from websockets.asyncio.client import ClientConnection, connect

from client.daemon import Desk
from client.stream import Hub as Door
from client.stream import Streams
from protocols.carriers import stream_road as wire
from protocols.carriers.stream_road import Channel, Welcome
from protocols.keys import Identity
from protocols.session import MemberId
from protocols.stream import WIRE, Tickets
from server import authority
from server.folder import Folder, init
from server.front import Front
from server.hub import Hub
from server.openings import Openings
from server.road import MOST_BYTES, StreamRoad
from server.store import Keys, Store
from server.streams import streams
from server.superlink import free_port, tls
from server.up import Server, _unix

NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a Unix socket needs no authorities, and to load them takes time


class Line:
    """One WebSocket by hand. All of it happens in one event loop: no two threads may use one TLS connection."""

    def __init__(self, where: str, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

        async def dial() -> ClientConnection:
            return await connect(
                where, ssl=context, proxy=None, max_size=wire.MOST_FRAME_BYTES, max_queue=1, close_timeout=0.2
            )

        self._line = self._do(dial())

    def send(self, data: bytes | str) -> None:
        self._do(self._line.send(data))

    def recv(self, timeout_s: float) -> bytes:
        return self._do(asyncio.wait_for(self._line.recv(), timeout_s))

    def close(self) -> None:
        self._do(self._line.close())

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


@dataclass
class Town:
    """A coordinator's front and control socket, and a village whose houses can dial it."""

    folder: Folder
    there: Village
    desks: dict[str, Desk] = field(default_factory=dict)
    homes: dict[str, Streams] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    hub: Hub | None = None
    lines: list[Line] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @classmethod
    def make(cls, root: Path, there: Village | None = None) -> "Town":
        folder = init(root / "c", f"127.0.0.1:{free_port()}")
        folder.identity_key.write_bytes(COORDINATOR.to_pem())
        town = cls(folder, there or village(root, 3))
        threading.Thread(target=town.loop.run_forever, daemon=True).start()
        store = Store(folder.store)
        for place, (name, house) in enumerate(town.there.houses.items()):
            store.invite(name, "token")
            store.enrol(name, Keys(f"supernode {name}", str(house.identity.public)), place + 1)
            desk = Desk(lambda house=house: house.mailbox, lambda _: None)
            desk.start()
            town.desks[name] = desk
            town.dial_from(name)
        return town

    def dial_from(self, name: str, **changes) -> Streams:
        """Give a house its dialler, which may be another one's in part."""
        house = self.there.houses[MemberId(name)]
        door = changes.get("door", Door(str(self.folder.address), self.folder.ca_certificate, COORDINATOR.public))
        identity, submit = changes.get("identity", house.identity), changes.get("submit", self.desks[name].submit)
        self.homes[name] = Streams(door, changes.get("member", name), identity, submit)
        house.dial = self.homes[name].dial
        return self.homes[name]

    def up(self) -> None:
        openings, store = Openings(self.folder.streams), Store(self.folder.store)

        def front() -> Front:
            shown = authority.fingerprint(self.folder.server_certificate.read_bytes())
            self.hub = Hub(openings, self.folder.identity(), shown)
            nobody = httpx.AsyncClient(verify=NOBODY, base_url="https://127.0.0.1:1")
            return Front(nobody, None, stream=self.hub)  # type: ignore[arg-type]  # nobody enrols here

        control = FastAPI()
        control.include_router(streams(store, openings, lambda: self.hub))
        address = (self.folder.address.host, self.folder.address.port)
        files = (self.folder.server_certificate, self.folder.server_key)
        self.servers = [
            Server(front, socket.create_server(address), *files, wire.MOST_FRAME_BYTES),
            Server(lambda: control, _unix(self.folder.control_socket), largest_frame=MOST_BYTES),
        ]
        for server in self.servers:
            server.start()
        until(lambda: self.hub is not None)

    def down(self) -> None:
        for server in self.servers:
            server.stop()
        self.servers, self.hub = [], None

    def control(self) -> httpx.Client:
        road = httpx.HTTPTransport(verify=NOBODY, uds=str(self.folder.control_socket))
        return httpx.Client(transport=road, base_url="http://c")

    def open(self, lasts_s: float = 600.0, members: tuple[str, ...] | None = None) -> str:
        """Open a stream at the hub; nobody dials by that."""
        with self.control() as control:
            asked = {"members": members or tuple(self.there.houses), "lasts_s": lasts_s}
            return str(control.post("/streams", json=asked).raise_for_status().json()["stream"])

    def tickets(self, stream: str) -> Tickets:
        with self.control() as control:
            found = WIRE.decode(control.get(f"/streams/{stream}/task").raise_for_status().content)
        assert isinstance(found, Tickets)
        return found

    def dialled(self, lasts_s: float = 600.0) -> str:
        """Open a stream and have everybody dial it, as the collaboration does."""
        stream = self.open(lasts_s)
        opened = self.there.run(self.tickets(stream), session=f"open {stream}", collaboration="stream")
        assert opened.members == tuple(self.there.houses)
        until(lambda: self.here(stream) == opened.members)
        return stream

    def here(self, stream: str) -> tuple[str, ...]:
        assert self.hub is not None
        return tuple(sorted(self.hub.here(stream)))

    def road(self, stream: str, deadline_s: float = 10.0) -> StreamRoad:
        return StreamRoad(self.folder.control_socket, stream, deadline_s)

    def stop(self) -> None:
        for home in self.homes.values():
            home.close()
        for line in self.lines:
            with contextlib.suppress(Exception):
                line.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.down()

    def ticket(self, stream: str, member: str) -> bytes:
        found = self.tickets(stream)
        return found.tickets[sorted(self.there.houses).index(MemberId(member))]

    def socket(self, path: str = wire.PATH) -> Line:
        """Dial the hub as nobody in particular."""
        self.lines.append(Line(f"wss://{self.folder.address}{path}", tls(self.folder), self.loop))
        return self.lines[-1]

    def channel(self, of: str, by: str, **changes) -> Channel:
        shown = authority.fingerprint(self.folder.server_certificate.read_bytes())
        given = {"stream": of, "member": by, "certificate": shown} | changes
        return Channel(**({"ticket": b""} | given if "ticket" in given else {"ticket": self.ticket(of, by)} | given))

    def greeted(self, stream: str, member: str, identity: Identity | None = None) -> Line:
        """Dial and greet by hand as a member; return the connection."""
        line, channel, nonce = self.socket(), self.channel(stream, member), os.urandom(32)
        line.send(wire.WIRE.encode(channel.hello(nonce)))
        challenge = wire.WIRE.decode(line.recv(5))
        identity = identity or self.there.houses[MemberId(member)].identity
        line.send(wire.WIRE.encode(channel.proof(nonce, challenge, COORDINATOR.public, identity)))
        assert isinstance(wire.WIRE.decode(line.recv(5)), Welcome)
        return line
