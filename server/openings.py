"""Remember which streams are open, with their tickets, so that members find them again after a restart."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from protocols.carriers.stream_road import LONGEST_S, TICKET_BYTES
from protocols.faults import WireError
from protocols.keys import PublicKey
from protocols.session import MemberId
from protocols.wire import Message, Wire
from server.journal import write_whole

_MOST_OPEN = 256


class TooManyStreams(Exception):
    """More streams are open than a coordinator keeps."""


@dataclass(frozen=True, slots=True)
class Opening(Message):
    """Hold one stream: who may dial it, by which keys and tickets, in one order, and until when (since 1970, UTC)."""

    stream: str
    expires: int
    members: tuple[str, ...]
    keys: tuple[str, ...]
    tickets: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not len(self.members) == len(self.keys) == len(self.tickets):
            raise ValueError("a member, a key and a ticket belong together")

    def ticket(self, member: str) -> bytes | None:
        """Return the member's ticket; None if it has none here."""
        return self.tickets[self.members.index(member)] if member in self.members else None

    def key(self, member: str) -> PublicKey:
        """Return by which key the member was enrolled when the stream was opened. Raises: ValueError."""
        return PublicKey.parse(self.keys[self.members.index(member)])


_WIRE = Wire(Opening)


class Openings:
    """Keep openings in a folder, a file for each, for its owner's eyes only. Safe to use from several threads."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock, self._lock = folder, clock, threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        self._open = {o.stream: o for o in self._read()}

    def open(self, keys: Mapping[MemberId, PublicKey], lasts_s: float) -> Opening:
        """Open a stream for those members, durably. Raises: TooManyStreams; ValueError for no time, or too much."""
        if not (keys and 1 <= lasts_s <= LONGEST_S):
            raise ValueError(f"a stream is for somebody, and lasts 1 to {LONGEST_S:.0f} seconds")
        names, tickets = tuple(keys), tuple(secrets.token_bytes(TICKET_BYTES) for _ in keys)
        expires = int(self._clock() + lasts_s)
        opening = Opening(secrets.token_hex(16), expires, names, tuple(str(keys[n]) for n in names), tickets)
        with self._lock:
            self._forget_expired()
            if len(self._open) >= _MOST_OPEN:
                raise TooManyStreams
            write_whole(self._folder / opening.stream, _WIRE.encode(opening))
            self._open[opening.stream] = opening
        return opening

    def find(self, stream: str) -> Opening | None:
        """Return the opening, if it is known and has not expired."""
        opening = self._open.get(stream)
        return opening if opening is not None and self.left_s(opening) > 0 else None

    def all(self) -> tuple[Opening, ...]:
        """Return what is open, whoever is there."""
        return tuple(o for o in list(self._open.values()) if self.left_s(o) > 0)

    def left_s(self, opening: Opening) -> float:
        """Return how long the stream is open still."""
        return opening.expires - self._clock()

    def close(self, stream: str) -> None:
        """Forget a stream."""
        with self._lock:
            if self._open.pop(stream, None) is not None:
                (self._folder / stream).unlink(missing_ok=True)

    def _forget_expired(self) -> None:
        for opening in [o for o in self._open.values() if self.left_s(o) <= 0]:
            del self._open[opening.stream]
            (self._folder / opening.stream).unlink(missing_ok=True)

    def _read(self) -> Iterator[Opening]:
        """Yield what is open still; what cannot be read, or has expired, is thrown away."""
        for file in sorted(self._folder.iterdir()):
            opening = None
            with contextlib.suppress(OSError, WireError):
                opening = _WIRE.decode(file.read_bytes())
            if isinstance(opening, Opening) and opening.stream == file.name and self.left_s(opening) > 0:
                yield opening
            else:
                with contextlib.suppress(OSError):
                    os.unlink(file)
