"""Measure a letter's round trip on a stream: the road by itself, and with a mailbox that writes everything down."""

import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from client.daemon import Desk, Submit
from client.mailbox import SqliteShelf
from client.stream import Hub as Door
from client.stream import Streams
from privacy.evidence import Evidence
from privacy.gate import Gate, Said
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.trail import HEAD_LABEL
from privacy.units import Level
from protocols import stream
from protocols.carriers.stream_road import MOST_FRAME_BYTES
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.post import Letter, Mailbox, seal
from protocols.session import MemberId
from protocols.stream import Dialling, OpenStream
from server import authority
from server.folder import Folder, init
from server.front import Front
from server.hub import Hub
from server.openings import Openings
from server.road import MOST_BYTES, StreamRoad
from server.store import Store
from server.streams import streams
from server.superlink import free_port, tls
from server.up import Server
from simulations.benches.rows import Row

MEMBERS, TRIPS = 3, 200
_BYTES = 1000
_FLOWER_MS = 9_100.0  # docs/log.md: two members, on a quiet machine, at best


def measure() -> list[Row]:
    """Return the medians for letters of 1 kB to three members at once, in one process, over TLS on loopback."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder, ExitStack() as held:
        town = held.enter_context(raise_town(Path(folder)))
        road = held.enter_context(StreamRoad(town.folder.control_socket, town.dialled(_Echo()), 30.0))
        members = list(town.identities)
        bare = _median_ms(road, [dict.fromkeys(members, bytes(_BYTES)) for _ in range(TRIPS)])
        boxes = _Boxes(town, Path(folder))
        kept = held.enter_context(StreamRoad(town.folder.control_socket, town.dialled(boxes), 30.0))
        full = _median_ms(kept, [boxes.letters(n) for n in range(TRIPS)])
    peer = "a Flower message and its answer, as the log has it"
    return [
        Row("stream_ms_1kb_n3", bare, "ms", peer, _FLOWER_MS, _FLOWER_MS / bare, "for comparison", None, bare),
        Row(
            "stream_mailbox_ms_1kb_n3", full, "ms", peer, _FLOWER_MS, _FLOWER_MS / full, "for comparison", None, full
        ),
    ]


def _median_ms(road: StreamRoad, trips: list[dict[MemberId, bytes]]) -> float:
    """Return the median trip, of which all must be answered. Raises: RuntimeError."""
    times = []
    for letters in trips:
        began = time.perf_counter()
        if len(road(letters)) < len(letters):
            raise RuntimeError(f"{len(road.silent)} of {len(letters)} were silent")
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


@dataclass
class Town:
    """Hold a hub of a coordinator's without Flower, and the homes that have dialled it."""

    folder: Folder
    openings: Openings
    coordinator: Identity
    identities: Mapping[MemberId, Identity]
    homes: list[Streams]

    def dialled(self, submits: Mapping[MemberId, Submit]) -> str:
        """Return a stream on which every member's letters go to its `submits`."""
        opened = self.openings.open({m: i.public for m, i in self.identities.items()}, 3600)
        door = Door(str(self.folder.address), self.folder.ca_certificate, self.coordinator.public)
        for member, identity in self.identities.items():
            home = Streams(door, member, identity, submits[member])
            home.dial(opened.stream, opened.ticket(member) or b"", opened.expires)
            self.homes.append(home)
        return opened.stream


@contextmanager
def raise_town(folder: Path) -> Iterator[Town]:
    """Yield a front with its hub and a control socket, without Flower."""
    made = init(folder / "c", f"127.0.0.1:{free_port()}")
    coordinator, openings, hubs = made.identity(), Openings(made.streams), list[Hub]()

    def front() -> Front:
        hubs.append(Hub(openings, coordinator, authority.fingerprint(made.server_certificate.read_bytes())))
        return Front(httpx.AsyncClient(verify=tls(made)), _nobody, stream=hubs[0])  # type: ignore[arg-type]

    control = FastAPI()
    control.include_router(streams(Store(made.store), openings, lambda: hubs[0] if hubs else None))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(made.control_socket))
    unix.listen(8)
    public = socket.create_server((made.address.host, made.address.port))
    servers = [
        Server(front, public, made.server_certificate, made.server_key, MOST_FRAME_BYTES),
        Server(lambda: control, unix, largest_frame=MOST_BYTES),
    ]
    for server in servers:
        server.start()
    town = Town(made, openings, coordinator, {MemberId(f"m{i}"): Identity.generate() for i in range(MEMBERS)}, [])
    while not hubs:
        time.sleep(0.01)
    yield town
    for home in town.homes:
        home.close()
    for server in servers:
        server.stop()


async def _nobody(_request: bytes) -> None:
    """Enrol nobody."""


class _Echo(dict[MemberId, Submit]):
    """Have every letter answered by itself, at once."""

    def __missing__(self, member: MemberId) -> Submit:
        return _at_once


def _at_once(sealed: bytes) -> Future[bytes | None]:
    done: Future[bytes | None] = Future()
    done.set_result(sealed)
    return done


@dataclass
class _Room:
    """Say a word to each letter, and dial nowhere."""

    gate: Gate
    occasion: Occasion

    def dial(self, stream: str, ticket: bytes, expires: int) -> Said[Dialling]:  # noqa: ARG002
        """Say so, through a real gate."""
        account = Account("bench", self.gate.policy.budget)
        return self.gate.say(lambda: Dialling(stream), account, self.occasion)


class _Boxes(dict[MemberId, Submit]):
    """Hold real desks and mailboxes: shelf and ledger on disk, durable, each answer signed and in the trail."""

    def __init__(self, town: Town, folder: Path) -> None:
        super().__init__()
        self.town = town
        for member, identity in town.identities.items():
            desk = Desk(lambda m=member, i=identity: self._mailbox(m, i, folder), lambda _error: None)  # type: ignore[misc]
            desk.start()
            self[member] = desk.submit

    def letters(self, number: int) -> dict[MemberId, bytes]:
        """Return one letter of 1 kB for each, of a session of its own."""
        everyone = tuple(sorted(self))
        body = stream.WIRE.encode(OpenStream("s" * (_BYTES - 300), bytes(32), 2**32))
        return {
            m: seal(Letter(f"{number:032x}", stream.NAME, 0, "coordinator", m, everyone, body), self.town.coordinator)
            for m in everyone
        }

    def _mailbox(self, member: MemberId, identity: Identity, folder: Path) -> Mailbox:
        permission = Permission(str(self.town.coordinator.public), Level.LOGITS, (stream.NAME,))
        ledger = Ledger(folder / f"{member}.ledger.db")
        gate = Gate(Policy(1, Budget(8.0, 1e-5), (permission,)), ledger, SystemRandomness())
        SqliteShelf.create(folder / f"{member}.mailbox.db")
        shelf = SqliteShelf(folder / f"{member}.mailbox.db")
        evidence = Evidence(ledger, lambda head: identity.sign(HEAD_LABEL, head), str(identity.public))
        key = self.town.coordinator.public
        return Mailbox(member, identity, key, CATALOG, lambda occasion: _Room(gate, occasion), shelf, evidence)
