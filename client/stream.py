"""Dial a stream and answer the letters on it: outbound, to the coordinator's own address, until it is over.

    Streams.dial        the power that a letter has: a thread for each stream
    _Line               one stream: dial, greet, answer one letter after another, and dial again

A letter is handed to the desk that answers the post office's letters: mailbox and gate are the same. What gets no
answer gets an empty frame, as late as on the socket: at a multiple of `GRAIN_S`. Nothing here reads a letter.

Learns:  the coordinator: that the member is there, when it answers, and what the desk lets out.
Trusts:  the coordinator's own authority for the road, and its key, by which every letter is sealed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from client.daemon import Submit, to_the_grain
from client.quiet import LOG
from protocols.carriers import stream_road as road
from protocols.carriers.stream_road import Challenge, Channel, Pieces, Welcome
from protocols.faults import PeerError
from protocols.keys import Identity, PublicKey

MOST_STREAMS = 4  # of one coordinator, at once
GREETING_S = 10.0
FIRST_DELAY_S, MOST_DELAY_S = 0.2, 30.0
_PING_S = 20.0
_MUTE = logging.Logger("stream", logging.CRITICAL)  # the library's own would write down frames
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Hub:
    """Say where to dial and who is there: all of it from the home's own settings, none of it from a letter."""

    address: str
    ca: Path
    key: PublicKey


class Streams:
    """Keep the streams of one home."""

    def __init__(self, hub: Hub, member: str, identity: Identity, submit: Submit) -> None:
        self._hub, self._member, self._identity, self._submit = hub, member, identity, submit
        self._lines: dict[str, _Line] = {}

    def dial(self, stream: str, ticket: bytes, expires: int) -> None:
        """Begin to dial, and return at once. Raises: PeerError for a stream that is none, or one too many."""
        left_s = expires - time.time()
        if len(ticket) != road.TICKET_BYTES or not 0 < left_s <= road.LONGEST_S + 3600:  # clocks differ
            raise PeerError("no ticket, or a stream that is over, or lasts for too long")
        self._lines = {name: line for name, line in self._lines.items() if line.is_alive()}
        if stream in self._lines or len(self._lines) >= MOST_STREAMS:
            raise PeerError(f"this stream again, or one above {MOST_STREAMS}")
        line = _Line(self._hub, self._identity, self._submit, (stream, self._member, ticket), left_s)
        self._lines[stream] = line
        line.start()

    def close(self) -> None:
        """Hang up everywhere, and dial no more."""
        for line in self._lines.values():
            line.hang_up()
        for line in self._lines.values():
            line.join(5.0)


class _Line(threading.Thread):
    """Be one stream, in a thread and an event loop of its own: no two threads ever touch one TLS connection."""

    def __init__(
        self, hub: Hub, identity: Identity, submit: Submit, named: tuple[str, str, bytes], left_s: float
    ) -> None:
        super().__init__(name="stream", daemon=True)
        self._hub, self._identity, self._submit, self._named = hub, identity, submit, named
        self._until = time.monotonic() + left_s
        self._delay_s = FIRST_DELAY_S
        self._loop = asyncio.new_event_loop()
        self._dialling = self._loop.create_task(self._dial())

    def hang_up(self) -> None:
        """End the thread soon, from any other."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._dialling.cancel)

    def run(self) -> None:
        """Dial until the stream is over."""
        with self._loop_closed(), contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._dialling)

    @contextlib.contextmanager
    def _loop_closed(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._loop.close()

    @property
    def _left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    async def _dial(self) -> None:
        while self._left_s > 0:
            if await self._dial_once():
                LOG.info("a stream is over")
                return
            await asyncio.sleep(min(self._left_s, self._delay_s * _random.uniform(0.5, 1.0)))
            self._delay_s = min(2 * self._delay_s, MOST_DELAY_S)

    async def _dial_once(self) -> bool:
        """Dial, and stay as long as it lasts; return whether the stream is over for good."""
        try:
            async with asyncio.timeout(self._left_s), self._connected() as connection:
                async with asyncio.timeout(GREETING_S):
                    await self._greet(connection)
                LOG.info("on a stream")
                self._delay_s = FIRST_DELAY_S
                await self._answer(connection)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 0
            LOG.info("a stream was cut (%d)", code)
            return code in (road.OVER, road.REPLACED)
        except (PeerError, OSError, WebSocketException) as broken:  # a TimeoutError is an OSError
            LOG.warning("a stream does not stand (%s)", type(broken).__name__)
        return False

    def _connected(self) -> connect:
        tls = ssl.create_default_context(cafile=str(self._hub.ca))
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        return connect(
            f"wss://{self._hub.address}{road.PATH}",
            ssl=tls,
            proxy=None,
            compression=None,  # its result's length would tell of what it compresses
            open_timeout=GREETING_S,
            close_timeout=2.0,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            max_size=road.MOST_FRAME_BYTES,
            max_queue=4,
            user_agent_header=None,
            logger=_MUTE,
        )

    async def _greet(self, connection: ClientConnection) -> None:
        """Prove who we are to whoever proves to be the coordinator. Raises: PeerError."""
        stream, member, ticket = self._named
        shown = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        channel = Channel(stream, member, hashlib.sha256(shown).digest(), ticket)
        nonce = os.urandom(road.NONCE_BYTES)
        await connection.send(road.WIRE.encode(channel.hello(nonce)))
        challenge = road.WIRE.decode(_bytes(await connection.recv()))
        if not isinstance(challenge, Challenge):
            raise PeerError("not a challenge")
        await connection.send(road.WIRE.encode(channel.proof(nonce, challenge, self._hub.key, self._identity)))
        if not isinstance(road.WIRE.decode(_bytes(await connection.recv())), Welcome):
            raise PeerError("not a welcome")

    async def _answer(self, connection: ClientConnection) -> None:
        """Answer one letter after another; the next one is read when the last is answered.

        Raises: ConnectionClosed, PeerError.
        """
        pieces = Pieces()
        while True:
            whole = pieces.add(await connection.recv())
            if whole is None:
                continue
            number, sealed = whole
            begun = time.monotonic()
            answer = await asyncio.shield(asyncio.wrap_future(self._submit(sealed)))
            if answer is None:
                await asyncio.sleep(to_the_grain(time.monotonic() - begun))
            for frame in road.frames(number, answer or b""):
                await connection.send(frame)


def _bytes(said: bytes | str) -> bytes:
    if not isinstance(said, bytes):
        raise PeerError("not bytes")
    return said
