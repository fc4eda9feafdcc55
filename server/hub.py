"""Join the members that have dialled to whoever has letters for them: one WebSocket for each, none in another's way.

    operator's program ──▶ carry(stream, member, letter, deadline) ──▶ a member's seat ──▶ its one connection

A seat outlives its connections: a letter without an answer is sent again, the same bytes, on the next one, and the
member's mailbox answers the same letter with the same bytes. All of it runs in the event loop of the front.

Learns:  the coordinator: what Flower's road would tell it: sealed answers, who is silent, and when.
Trusts:  the ticket and both keys for who it is (`protocols/carriers/stream_road.py`); no frame for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from protocols.carriers import stream_road as road
from protocols.carriers.stream_road import Channel, Hello, Pieces, Proof, Welcome
from protocols.faults import PeerError
from protocols.keys import Identity
from protocols.session import MemberId
from server.openings import Opening, Openings

log = logging.getLogger("parley.hub")

Scope = MutableMapping[str, Any]  # ASGI
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

GREETING_S = 10.0  # from the first byte to the proof
AWAY_S = 10.0  # a member that is not there gets so long to come back
MOST_GREETING = 256  # connections that nobody has vouched for yet
MOST_CONNECTED = 2048
MOST_WAITING = 32  # letters to one member


class Silence(StrEnum):
    """Say why a letter got no answer, in a fixed word."""

    UNKNOWN = "unknown"
    AWAY = "away"
    BUSY = "busy"
    LATE = "late"
    NONE = "no-answer"


@dataclass(slots=True, eq=False)
class _Letter:
    sealed: bytes
    answer: asyncio.Future[bytes]


class _Gone(Exception):
    """The other side has hung up."""


class Hub:
    """Seat the members of open streams. Made within the event loop that it lives in.

    Trusts:  `identity` to be the coordinator's, `certificate` the SHA-256 of the certificate that the front shows.
    """

    def __init__(self, openings: Openings, identity: Identity, certificate: bytes) -> None:
        self._openings, self._identity, self._certificate = openings, identity, certificate
        self._loop = asyncio.get_running_loop()
        self._seats: dict[tuple[str, str], _Seat] = {}
        self._greeting = self._connected = 0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket: greet, seat, carry, until either side hangs up or the stream is over."""
        await receive()  # the request to connect
        if self._greeting >= MOST_GREETING or self._connected >= MOST_CONNECTED:
            await send({"type": "websocket.close", "code": road.REFUSED})
            return
        await send({"type": "websocket.accept"})
        self._greeting += 1
        try:
            async with asyncio.timeout(GREETING_S):
                opening, member = await self._greet(receive, send)
        except (PeerError, TimeoutError) as stranger:
            log.info("a stream was refused (%s)", type(stranger).__name__)
            await _close(send, road.REFUSED)
            return
        except _Gone:
            return
        finally:
            self._greeting -= 1
        self._connected += 1
        try:
            await self._serve(opening, member, _Connection(receive, send))
        finally:
            self._connected -= 1

    def ask(self, stream: str, member: str, sealed: bytes, deadline_s: float) -> Future[bytes | Silence]:
        """Do what `carry` does, from another thread."""
        return asyncio.run_coroutine_threadsafe(self.carry(stream, member, sealed, deadline_s), self._loop)

    async def carry(self, stream: str, member: str, sealed: bytes, deadline_s: float) -> bytes | Silence:
        """Return the member's answer to one letter, or why there is none, within `deadline_s`."""
        seat = self._seat(stream, member)
        if seat is None:
            return Silence.UNKNOWN
        if len(seat.letters) >= MOST_WAITING or len(sealed) > road.MOST_LETTER_BYTES:
            return Silence.BUSY
        number, letter = next(seat.numbers), _Letter(sealed, self._loop.create_future())
        seat.letters[number] = letter
        seat.wake()
        try:
            return await _patiently(seat, letter.answer, deadline_s)
        finally:
            del seat.letters[number]

    def here(self, stream: str) -> frozenset[str]:
        """Return whose connections to the stream stand. Safe to call from another thread."""
        return frozenset(m for (s, m), seat in list(self._seats.items()) if s == stream and seat.connection)

    def hang_up(self, stream: str) -> None:
        """End a stream for good, from any thread: who dials it again is refused."""
        self._openings.close(stream)
        asyncio.run_coroutine_threadsafe(self._end(stream), self._loop)

    async def _end(self, stream: str) -> None:
        for place in [place for place in self._seats if place[0] == stream]:
            seat = self._seats.pop(place)
            if seat.connection is not None:
                await seat.connection.close(road.OVER)
            for letter in seat.letters.values():
                if not letter.answer.done():
                    letter.answer.set_result(b"")

    def _seat(self, stream: str, member: str) -> _Seat | None:
        opening = self._openings.find(stream)
        if opening is None or opening.ticket(member) is None:
            return None
        if (stream, member) not in self._seats:
            for place in [p for p, s in self._seats.items() if not s.connection and not self._openings.find(p[0])]:
                del self._seats[place]  # of streams that have expired
            self._seats[stream, member] = _Seat()
        return self._seats[stream, member]

    async def _greet(self, receive: Receive, send: Send) -> tuple[Opening, MemberId]:
        """Return who has proved to be whom. Raises: PeerError, which says to nobody what was wrong; _Gone."""
        hello = road.WIRE.decode(await _message(receive))
        opening = self._openings.find(hello.stream) if isinstance(hello, Hello) else None
        if not isinstance(hello, Hello) or opening is None or (ticket := opening.ticket(hello.member)) is None:
            raise PeerError("no stream of this name for this member")
        channel = Channel(hello.stream, hello.member, self._certificate, ticket)
        challenge = channel.challenge(hello, os.urandom(road.NONCE_BYTES), self._identity)
        await _send(send, road.WIRE.encode(challenge))
        proof = road.WIRE.decode(await _message(receive))
        if not isinstance(proof, Proof):
            raise PeerError("not a proof")
        channel.check(hello, challenge, proof, opening.key(hello.member))
        await _send(send, road.WIRE.encode(Welcome()))
        return opening, MemberId(hello.member)

    async def _serve(self, opening: Opening, member: MemberId, connection: _Connection) -> None:
        """Carry letters on a connection until it ends, another takes its place, or the stream expires."""
        seat = self._seat(opening.stream, member)
        if seat is None:  # it was closed during the greeting
            await connection.close(road.OVER)
            return
        if seat.connection is not None:
            await seat.connection.close(road.REPLACED)
        seat.sit(connection)
        writer = asyncio.create_task(connection.write(seat))
        log.info("%s is on a stream", member)
        try:
            async with asyncio.timeout(self._openings.left_s(opening)):
                await connection.read(seat)
        except TimeoutError:
            await connection.close(road.OVER)
        except PeerError as garbage:
            log.warning("%s was cut off (%s)", member, type(garbage).__name__)
            await connection.close(road.REFUSED)
        finally:
            writer.cancel()
            seat.leave(connection)
            log.info("%s left a stream", member)


@dataclass(slots=True, eq=False)
class _Seat:
    """Hold what one member was asked and has not answered, in order, and the connection it is on, if any."""

    letters: dict[int, _Letter] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    connection: _Connection | None = None
    left: float = field(default_factory=time.monotonic)

    def sit(self, connection: _Connection) -> None:
        """Take this connection from now on."""
        self.connection = connection
        self.wake()

    def leave(self, connection: _Connection) -> None:
        """Be without this connection."""
        if self.connection is connection:  # and not one that has taken its place
            self.connection, self.left = None, time.monotonic()

    def wake(self) -> None:
        """Have the connection look for letters."""
        if self.connection is not None:
            self.connection.woken.set()

    @property
    def away_s(self) -> float:
        """Return how long there has been no connection."""
        return 0.0 if self.connection is not None else time.monotonic() - self.left


@dataclass(slots=True, eq=False)
class _Connection:
    """Be one authenticated WebSocket, with one letter at a time on it: `out` is its number until it is answered.

    So neither side buffers more than one, and a member that works for long still reads the pings.
    """

    receive: Receive
    send: Send
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    out: int | None = None
    last: int = -1

    async def write(self, seat: _Seat) -> None:
        """Send what waits, in order; on a new connection from the oldest letter that has no answer yet."""
        with contextlib.suppress(_Gone):
            while True:
                await self.woken.wait()
                self.woken.clear()
                waiting = next((n for n in seat.letters if n > self.last), None)
                if self.out is not None or waiting is None:
                    continue
                self.out = self.last = waiting
                for frame in road.frames(waiting, seat.letters[waiting].sealed):
                    await _send(self.send, frame)
                    await asyncio.sleep(0)  # the server's own `send` gives way to nobody

    async def read(self, seat: _Seat) -> None:
        """Take answers until the member hangs up. Raises: PeerError for what does not answer the letter on here."""
        pieces = Pieces()
        while True:
            try:
                frame = await _message(self.receive)
            except _Gone:
                return
            if self.out is None:
                raise PeerError("an answer to no letter on this connection")
            whole = pieces.add(frame, only=self.out)
            if whole is None:
                continue
            number, answer = whole
            self.out = None
            self.woken.set()
            letter = seat.letters.get(number)
            if letter is not None and not letter.answer.done():  # else it is too late
                letter.answer.set_result(answer)

    async def close(self, code: int) -> None:
        """Hang up, saying why in a number."""
        await _close(self.send, code)


async def _patiently(seat: _Seat, answer: asyncio.Future[bytes], deadline_s: float) -> bytes | Silence:
    """Wait for an answer: to the deadline, but no longer than `AWAY_S` for somebody who is not there."""
    deadline = time.monotonic() + deadline_s
    while not answer.done():
        left = deadline - time.monotonic()
        if left <= 0:
            return Silence.AWAY if seat.connection is None else Silence.LATE
        if seat.away_s >= AWAY_S:
            return Silence.AWAY
        patience = AWAY_S if seat.connection is not None else AWAY_S - seat.away_s
        await asyncio.wait((answer,), timeout=max(0.0, min(left, patience)))
    return answer.result() or Silence.NONE


async def _message(receive: Receive) -> bytes:
    """Return the next message's bytes. Raises: PeerError for a text, _Gone at the end."""
    event = await receive()
    if event["type"] != "websocket.receive":
        raise _Gone
    data = event.get("bytes")
    if not isinstance(data, bytes):
        raise PeerError("not bytes")
    return data


async def _send(send: Send, data: bytes) -> None:
    """Send bytes. Raises: _Gone."""
    try:
        await send({"type": "websocket.send", "bytes": data})
    except (OSError, RuntimeError):  # the server's ways to say that nobody is there
        raise _Gone from None


async def _close(send: Send, code: int) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        await send({"type": "websocket.close", "code": code})
