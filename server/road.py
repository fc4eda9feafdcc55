"""Carry rounds of letters on a stream: from the operator's program over the control socket to the hub, and back."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, unix_connect

from protocols.carriers.stream_road import LONGEST_S, MOST_LETTER_BYTES
from protocols.faults import PeerError
from protocols.session import MemberId
from protocols.wire import Message, Wire

MOST_BYTES = MOST_LETTER_BYTES + 2**16  # of one message on the control socket
_AGAIN_S = 0.2
_LATE = "late"  # of whom the hub has said nothing
_MUTE = logging.Logger("road", logging.CRITICAL)  # the library's own would write down frames


@dataclass(frozen=True, slots=True)
class Post(Message):
    """Bring one letter: `number` is the sender's own, by which it knows the reply."""

    number: int
    member: str
    deadline_s: float
    sealed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.deadline_s) and 0 < self.deadline_s <= LONGEST_S):
            raise ValueError("deadline_s: expected seconds, and some")


@dataclass(frozen=True, slots=True)
class Reply(Message):
    """Bring the answer to one letter, or no bytes and why, in a fixed word."""

    number: int
    answer: bytes = field(repr=False)
    silent: str


TRIPS = Wire(Post, Reply, max_bytes=MOST_BYTES)


class StreamRoad:
    """Be a carrier on an open stream. One call takes at most `deadline_s`, and never raises for a silent member.

    While the coordinator restarts, it tries again: the hub finds the stream in its folder, the members dial anew, and
    the same letters get the same answers. Not for use from several threads; any number of roads may share a stream.
    """

    def __init__(self, control_socket: Path, stream: str, deadline_s: float) -> None:
        self._socket, self._stream = control_socket, stream
        self.deadline_s = deadline_s
        self.silent: dict[MemberId, str] = {}  # of the last call: why, in a fixed word
        self._numbers = itertools.count()
        self._connection: ClientConnection | None = None

    def __enter__(self) -> StreamRoad:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, letters: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Send each member its letter, and return what came back in time."""
        deadline, answers = time.monotonic() + self.deadline_s, dict[MemberId, bytes]()
        self.silent = dict.fromkeys(letters, _LATE)
        while self.silent and (left_s := deadline - time.monotonic()) > 0:
            waiting = {m: letters[m] for m in letters if m not in answers}
            try:
                if self._trip(waiting, left_s, answers):
                    break
            except (ConnectionClosed, InvalidHandshake, OSError, PeerError):
                self.close()
                time.sleep(min(_AGAIN_S, max(0.0, deadline - time.monotonic())))
        return answers

    def close(self) -> None:
        """Hang up; the stream itself stays open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _trip(self, letters: Mapping[MemberId, bytes], left_s: float, answers: dict[MemberId, bytes]) -> bool:
        """Post all letters and take each one's reply as it comes; return True when all are there."""
        connection = self._connected()
        numbered = dict(zip(self._numbers, letters, strict=False))
        until = time.monotonic() + left_s
        for number, member in numbered.items():
            connection.send(TRIPS.encode(Post(number, member, left_s, letters[member])))
        while numbered:
            said = connection.recv(max(0.0, until - time.monotonic()) + 1.0)  # the hub keeps the deadline
            reply = TRIPS.decode(said if isinstance(said, bytes) else b"")
            if not isinstance(reply, Reply) or (member := numbered.pop(reply.number, MemberId(""))) == "":
                continue  # to a letter of an earlier call
            if reply.silent:
                self.silent[member] = reply.silent
            else:
                answers[member] = reply.answer
                del self.silent[member]
        return True

    def _connected(self) -> ClientConnection:
        if self._connection is None:
            self._connection = unix_connect(
                str(self._socket),
                f"ws://coordinator/streams/{self._stream}/letters",
                compression=None,
                max_size=MOST_BYTES,
                proxy=None,
                open_timeout=10.0,
                close_timeout=1.0,
                ping_interval=None,  # the same machine
                user_agent_header=None,
                logger=_MUTE,
            )
        return self._connection
