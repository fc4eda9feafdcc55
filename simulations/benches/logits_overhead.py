"""Measure what the protocol adds to the models' own work: three members, each a process, on streams over loopback.

    this process    front with hub, control socket, coordinator: blocks of four positions of the mixture
    each member     its own model, home, gate, ledger and shelf on disk, desk, and one outbound WebSocket under TLS

In each round trip a member notes how long its model ran forward, keys and values kept. What the slowest of them took
is the bare work; the rest of the trip is the protocol's: letters, signatures, ledger, masks, and the road.
"""

import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.daemon import Desk
from client.experts.opening import Experts
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.mailbox import SqliteShelf
from client.model import Base, digest
from client.stream import Hub as Door
from client.stream import Streams
from privacy.ledger import Ledger
from protocols.catalog import CATALOG
from protocols.keys import Identity, PublicKey
from protocols.logits.asking import NO_SUPPORT, Blocks
from protocols.logits.block import Asked
from protocols.logits.question import Question, Sends
from protocols.post import Mailbox, Outbox
from protocols.roster import Roster
from protocols.secure_sum.coordinate import open_session
from protocols.session import Coordinator, MemberId, drive
from server.road import StreamRoad
from simulations.benches.dp_models import LARGE, Shape, model_of
from simulations.benches.logits_homes import TERMS, home_of, question
from simulations.benches.rows import Row
from simulations.benches.stream import Town, raise_town

NAMES = ("ash", "birch", "cedar")
POSITIONS = 4
Reals = NDArray[np.float64]
Note = tuple[float, float, float]
_UP_S, _TRIP_S = 600.0, 120.0


@dataclass(frozen=True, slots=True)
class Overhead:
    """Say how large the members' models are, how long the context is, and over how many blocks is measured."""

    shape: Shape = LARGE
    context: int = 64
    blocks: int = 12
    warm_up: int = 3


def overhead(size: Overhead | None = None) -> list[Row]:
    """Return what the trips took beyond the slowest member's forward passes, as a share of these."""
    size = size or Overhead()
    with tempfile.TemporaryDirectory(prefix="p-") as folder, ExitStack() as held:
        here = held.enter_context(raise_town(Path(folder)))
        stream, ends, roster = held.enter_context(_members(here, Path(folder), size))
        road = held.enter_context(StreamRoad(here.folder.control_socket, stream, _TRIP_S))
        outbox = Outbox(road, here.coordinator, "coordinator", "0f" * 16, "mixture", dict(roster.keys))
        trips = _Trips(outbox, [], [])
        asked = question(_base(size), Sends.WEIGHTED, block=POSITIONS, most=4096, experts=len(NAMES))
        speaking = _blocks([MemberId(n) for n in NAMES], asked, size)
        drive(speaking, trips, CATALOG["mixture"].wire)
        outbox.close()
        notes = np.array([_ended(end) for end in ends])  # (members, blocks, 3): see `_Noting`
    return rows_of(np.array(trips.seconds), np.array(trips.processor), notes, size.blocks)


def rows_of(seconds: Reals, processor: Reals, notes: Reals, blocks: int) -> list[Row]:
    """Return the rows for the last `blocks` trips of this process, and all notes of the members.

    On a busy machine a trip is also long because others have the processor: so the processor's time is told, too,
    that of the member that uses most beside its forwards, and the coordinator's.
    """
    trips, last = seconds[-blocks:], notes[:, -blocks:]
    bare = last[:, :, 0].max(axis=0)
    share = float((trips - bare).sum() / bare.sum())
    said = f"of {bare.mean() * 1e3:.0f} ms bare; {(trips - bare).mean() * 1e3:.1f} ms a block of {POSITIONS} more"
    beside = np.diff(notes[:, :, 2], axis=1)[:, -blocks:] - last[:, :, 1]
    used = float(beside.mean(axis=1).max() + processor[-blocks:].mean())
    forward = float(last[:, :, 1].mean())
    spent = f"of {forward * 1e3:.0f} ms forward; {used * 1e3:.1f} ms a block of {POSITIONS} more, processor's time"
    return [
        Row("protocol_overhead", share, "share", said, goal="at most 0.15", met=share <= 0.15),
        Row("protocol_overhead_processor", used / forward, "share", spent, goal="for comparison"),
    ]


def _blocks(members: Sequence[MemberId], asked: Question, size: Overhead) -> Coordinator[None]:
    """Ask for one block after the other, each on a context longer by all positions of the last."""
    opened = yield from open_session(members, TERMS)
    blocks = Blocks("mixture", opened, asked, len(members), len(members))
    tokens = np.random.default_rng(1).integers(3, asked.symbols, 4096).astype(np.int32)
    for n in range(size.warm_up + size.blocks):
        end, told = size.context + n * POSITIONS, np.zeros(4096, np.float32)
        drafts = (tokens[end : end + POSITIONS - 1] + 1) % asked.symbols  # the next context has others: all are wrong
        asks = Asked(asked, tokens[:end], told[:end], drafts, told[: POSITIONS - 1], NO_SUPPORT)
        yield from blocks.sum(asks)


@dataclass(frozen=True, slots=True)
class _Trips:
    """Be a carrier that notes its trips' time, and this process's own: from sealing letters to checked answers."""

    carrier: Outbox
    seconds: list[float]
    processor: list[float]

    def __call__(self, letters: Mapping[MemberId, bytes]) -> Mapping[MemberId, bytes]:
        """Carry, and note."""
        began, used = time.perf_counter(), time.process_time()
        answers = self.carrier(letters)
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - used)
        return answers


@contextmanager
def _members(here: Town, folder: Path, size: Overhead) -> Iterator[tuple[str, list[Connection], Roster]]:
    """Start one process for each member, and yield the stream that all have dialled."""
    spawned = multiprocessing.get_context("spawn")
    identities = {MemberId(n): Identity.generate() for n in NAMES}
    roster = Roster(tuple((m, i.public) for m, i in identities.items()))
    opened = here.openings.open(dict(roster.keys), 3600)
    ends: list[Connection] = []
    processes = []
    for name, identity in identities.items():
        near, far = spawned.Pipe()
        told = {
            "name": name, "pem": identity.to_pem().decode(), "folder": str(folder / name), "stream": opened.stream,
            "ticket": (opened.ticket(name) or b"").hex(), "expires": opened.expires,
            "address": str(here.folder.address), "ca": str(here.folder.ca_certificate),
            "coordinator": str(here.coordinator.public), "roster": [[m, str(k)] for m, k in roster.keys],
        }  # fmt: skip
        process = spawned.Process(target=serve, args=(far, size), daemon=True)
        process.start()
        near.send_bytes(json.dumps(told).encode())
        ends.append(near)
        processes.append(process)
    try:
        for end in ends:
            if not end.poll(_UP_S):
                raise TimeoutError("a member did not come up")
            end.recv_bytes()
        yield opened.stream, ends, roster
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _ended(end: Connection) -> list[Note]:
    """Ask a member for its notes, one for each block."""
    end.send_bytes(b"?")
    found: list[Note] = json.loads(end.recv_bytes())
    return found


@dataclass
class _Noting:
    """Be an expert that notes its forward's seconds, the processor's, and those of the whole process up to then."""

    expert: TokenExpert
    notes: list[Note]

    @property
    def symbols(self) -> int:
        """Return how many there are."""
        return self.expert.symbols

    def require_room(self, symbols: int) -> None:
        """Refuse more symbols than the model reads."""
        self.expert.require_room(symbols)

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> object:
        """Return what the expert says."""
        began, used = time.perf_counter(), time.thread_time()
        said = self.expert.block(context, drafts)
        self.notes.append((time.perf_counter() - began, time.thread_time() - used, time.process_time()))
        return said


def _base(size: Overhead) -> Base:
    from transformers import ByT5Tokenizer

    model, tokenizer = model_of(size.shape), ByT5Tokenizer(extra_ids=0)
    model.config.max_position_embeddings = 4096
    return Base("bench", model, tokenizer, digest(model, tokenizer))


def serve(far: Connection, size: Overhead) -> None:
    """Be one member: its home in a desk's thread, its stream dialled, until the parent is done with it."""
    import torch

    torch.set_num_threads(1)
    told = json.loads(far.recv_bytes())
    folder, identity = Path(told["folder"]), Identity.from_pem(told["pem"].encode())
    folder.mkdir()
    base, notes, ready = _base(size), list[Note](), threading.Event()
    partner = PublicKey.parse(told["coordinator"])
    roster = Roster(tuple((MemberId(m), PublicKey.parse(k)) for m, k in told["roster"]))

    def opened() -> Mailbox:
        house = home_of(
            MemberId(told["name"]), identity, base, (base,), partner, roster, Ledger(folder / "ledger.db")
        )
        expert = TokenExpert(View(base))
        house.made = Experts(expert, (_Noting(expert, notes),))  # type: ignore[arg-type]
        SqliteShelf.create(folder / "mailbox.db")
        shelf, evidence = SqliteShelf(folder / "mailbox.db"), house.evidence(identity)
        ready.set()
        return Mailbox(MemberId(told["name"]), identity, partner, CATALOG, house.open, shelf, evidence)

    desk = Desk(opened, lambda _broken: ready.set())
    desk.start()
    ready.wait(_UP_S)
    streams = Streams(Door(told["address"], Path(told["ca"]), partner), told["name"], identity, desk.submit)
    streams.dial(told["stream"], bytes.fromhex(told["ticket"]), told["expires"])
    far.send_bytes(b"up")
    far.recv_bytes()
    far.send_bytes(json.dumps(notes).encode())
    streams.close()
