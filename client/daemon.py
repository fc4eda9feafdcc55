"""Answer letters on a Unix socket, one after another, and say nothing else about what is inside.

    POST /letter   sealed bytes -> sealed bytes, or one fixed word with an HTTP status
    GET  /status   {"member": ..., "model": ..., "loaded": true, "letters": 3, ...}

Learns: whoever may open the socket: the coarse status, and answers that are sealed for the coordinator.
Trusts: the file permissions of the socket.
"""

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import FastAPI, Request, Response

from client.mailbox import ShelfUnavailable
from client.quiet import LOG, describe
from privacy.refusal import LedgerUnavailable, Refused
from protocols.faults import PeerError

MOST_LETTER_BYTES = 256 * 2**20  # an adapter of 64 million entries
MOST_WAITING = 32


class Mailbox(Protocol):
    """Where letters are opened and answered."""

    def deliver(self, sealed: bytes, /) -> bytes:
        """Return the sealed answer; for the same letter again, the same bytes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Say that there is no answer, in one word that was fixed beforehand."""

    status: int
    word: str

    def response(self) -> Response:
        """Return the word as HTTP."""
        return Response(self.word, status_code=self.status, media_type="text/plain")


REFUSED = Fault(403, "refused")
MALFORMED = Fault(400, "malformed")
TOO_LARGE = Fault(413, "too-large")
FAULT = Fault(500, "fault")
BUSY = Fault(503, "busy")
CLOSED = Fault(503, "closed")
STORAGE = Fault(507, "storage")


@dataclass(slots=True)
class Counts:
    """Count what the daemon has done since it started."""

    started: float = field(default_factory=time.monotonic)
    letters: int = 0
    faults: int = 0


class Desk:
    """Open the home in a thread of its own, then answer letters there, in the order in which they came.

    One thread does all the work: a session's letters never overlap, the model is used by one thread only,
    and the socket stays responsive while a letter is being trained for.
    """

    def __init__(self, open_home: Callable[[], Mailbox], closed: Callable[[BaseException], None]) -> None:
        self.counts = Counts()
        self.loaded = threading.Event()
        self._waiting: queue.Queue[tuple[bytes, Future[bytes | Fault]]] = queue.Queue(MOST_WAITING)
        self._open_home, self._closed = open_home, closed
        self._failed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)

    def start(self) -> None:
        """Begin to open the home; letters may come before it is open."""
        self._thread.start()

    def submit(self, sealed: bytes) -> Future[bytes | Fault]:
        """Queue a letter; the future holds its answer or the fault."""
        answer: Future[bytes | Fault] = Future()
        if self._failed.is_set():
            answer.set_result(CLOSED)
            return answer
        try:
            self._waiting.put_nowait((sealed, answer))
        except queue.Full:
            answer.set_result(BUSY)
        return answer

    def _work(self) -> None:
        try:
            mailbox = self._open_home()
        except BaseException as broken:  # noqa: BLE001 - nobody else is in this thread to hear it
            self._failed.set()
            self._closed(broken)
            self._turn_away()
            return
        self.loaded.set()
        while True:
            sealed, answer = self._waiting.get()
            if answer.set_running_or_notify_cancel():
                answer.set_result(self._answer(mailbox, sealed))

    def _answer(self, mailbox: Mailbox, sealed: bytes) -> bytes | Fault:
        begun = time.monotonic()
        try:
            answer = mailbox.deliver(sealed)
        except BaseException as error:  # noqa: BLE001 - whatever went wrong, its text stays here
            self.counts.faults += 1
            fault = _fault(error)
            LOG.warning("a letter of %d bytes: %s: %s", len(sealed), fault.word, describe(error))
            return fault
        self.counts.letters += 1
        seconds = time.monotonic() - begun
        LOG.info("a letter of %d bytes: answered with %d bytes in %.1f s", len(sealed), len(answer), seconds)
        return answer

    def _turn_away(self) -> None:
        while True:
            _, answer = self._waiting.get()
            if answer.set_running_or_notify_cancel():
                answer.set_result(CLOSED)


def make_app(desk: Desk, describe_home: Callable[[], Mapping[str, str | int]]) -> FastAPI:
    """Return the service; `describe_home` gives the public part of the status."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.post("/letter")
    async def letter(request: Request) -> Response:
        sealed = await _body(request, MOST_LETTER_BYTES)
        if sealed is None:
            return TOO_LARGE.response()
        answer = await asyncio.shield(asyncio.wrap_future(desk.submit(sealed)))
        if isinstance(answer, Fault):
            return answer.response()
        return Response(answer, media_type="application/octet-stream")

    @app.get("/status")
    async def status() -> Response:
        uptime = int(time.monotonic() - desk.counts.started)
        counted = {"letters": desk.counts.letters, "faults": desk.counts.faults, "uptime_s": uptime}
        body = {**describe_home(), "loaded": desk.loaded.is_set(), **counted}
        return Response(json.dumps(body), media_type="application/json")

    return app


async def _body(request: Request, limit: int) -> bytes | None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _fault(error: BaseException) -> Fault:
    """Return the word for `error`: whose fault it was, and nothing more."""
    if isinstance(error, (LedgerUnavailable, ShelfUnavailable)):
        return STORAGE
    if isinstance(error, Refused):
        return REFUSED
    return MALFORMED if isinstance(error, PeerError) else FAULT
