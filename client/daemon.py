"""Answer letters on a Unix socket, one after another; whatever goes wrong looks the same from outside.

    POST /letter   sealed bytes -> sealed bytes, or SILENCE: one status, one word, at a multiple of `GRAIN_S`
    anything else  SILENCE

The coordinator's code can reach this socket (Flower runs it in the SuperNode). So a refusal, a letter that is no
letter, a bug, a full disk and a busy daemon have one answer; why is in the daemon's own log and counts.

Learns: whoever may open the socket: answers that are sealed for the coordinator, and how long there was none.
Trusts: the file permissions of the socket.
"""

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from client.mailbox import ShelfUnavailable
from client.quiet import LOG, describe
from privacy.config import ConfigError
from privacy.refusal import Refused
from protocols.carriers.flower_road import LETTER_PATH, NO_ANSWER
from protocols.faults import PeerError

MOST_LETTER_BYTES = 256 * 2**20  # an adapter of 64 million entries
MOST_WAITING = 32
SILENCE_STATUS = 503
GRAIN_S = 0.5  # how long a letter was looked at before it got no answer is told no finer than this

BUSY, CLOSED, TOO_LARGE, FAULT = "Busy", "Closed", "TooLarge", "Fault"  # reasons that are no exception of ours


class Mailbox(Protocol):
    """Where letters are opened and answered."""

    def deliver(self, sealed: bytes, /) -> bytes:
        """Return the sealed answer; for the same letter again, the same bytes."""


@runtime_checkable
class Streaming(Protocol):
    """Where letters may come over a stream, too."""

    def answer_by(self, submit: "Submit", /) -> None:
        """Be told what a letter is handed to, once: the desk, whatever its road."""


@runtime_checkable
class Resting(Protocol):
    """Where there is something to do between letters."""

    def rest(self) -> None:
        """Do what can wait until an answer is on its way."""


Submit = Callable[[bytes], Future[bytes | None]]


class Counts:
    """Count what the daemon has done since it started: letters answered, and those that were not, by reason."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._answered = 0
        self._silent: Counter[str] = Counter()

    @property
    def answered(self) -> int:
        """Return how many letters were answered."""
        return self._answered

    @property
    def silent(self) -> Mapping[str, int]:
        """Return how many letters were not, by the name of the reason."""
        with self._lock:
            return dict(sorted(self._silent.items()))

    @property
    def uptime_s(self) -> int:
        """Return how long the daemon has been there."""
        return int(time.monotonic() - self.started)

    def answer(self) -> None:
        """Count a letter that was answered."""
        with self._lock:
            self._answered += 1

    def silence(self, reason: str) -> None:
        """Count a letter that was not."""
        with self._lock:
            self._silent[reason] += 1


class Desk:
    """Open the home in a thread of its own, then answer letters there, in the order in which they came.

    One thread does all the work: a session's letters never overlap, the model is used by one thread only,
    and the socket stays responsive while a letter is being trained for.
    """

    def __init__(self, open_home: Callable[[], Mailbox], closed: Callable[[BaseException], None]) -> None:
        self.counts = Counts()
        self.loaded = threading.Event()
        self._waiting: queue.Queue[tuple[bytes, Future[bytes | None]]] = queue.Queue(MOST_WAITING)
        self._open_home, self._closed = open_home, closed
        self._failed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)

    def start(self) -> None:
        """Begin to open the home; letters may come before it is open."""
        self._thread.start()

    def submit(self, sealed: bytes) -> Future[bytes | None]:
        """Queue a letter; the future holds its answer, or None if it gets none."""
        answer: Future[bytes | None] = Future()
        if self._failed.is_set():
            self.turn_away(CLOSED)
            answer.set_result(None)
            return answer
        try:
            self._waiting.put_nowait((sealed, answer))
        except queue.Full:
            self.turn_away(BUSY)
            answer.set_result(None)
        return answer

    def turn_away(self, reason: str) -> None:
        """Note that a letter gets no answer, before anybody looked at it."""
        self.counts.silence(reason)
        LOG.warning("a letter was turned away: %s", reason)

    def _work(self) -> None:
        try:
            mailbox = self._open_home()
        except BaseException as broken:  # noqa: BLE001 - nobody else is in this thread to hear it
            self._failed.set()
            self._closed(broken)
            self._turn_all_away()
            return
        if isinstance(mailbox, Streaming):
            mailbox.answer_by(self.submit)
        self.loaded.set()
        while True:
            sealed, answer = self._waiting.get()
            if answer.set_running_or_notify_cancel():
                answer.set_result(self._answer(mailbox, sealed))
            if isinstance(mailbox, Resting):
                self._rest(mailbox)

    def _answer(self, mailbox: Mailbox, sealed: bytes) -> bytes | None:
        begun = time.monotonic()
        try:
            answer = mailbox.deliver(sealed)
        except BaseException as error:  # noqa: BLE001 - whatever went wrong, its text stays here
            reason = reason_of(error)
            self.counts.silence(reason)
            LOG.warning("a letter of %d bytes: no answer, %s: %s", len(sealed), reason, describe(error))
            return None
        self.counts.answer()
        seconds = time.monotonic() - begun
        LOG.info("a letter of %d bytes: answered with %d bytes in %.1f s", len(sealed), len(answer), seconds)
        return answer

    def _rest(self, mailbox: Resting) -> None:
        try:
            mailbox.rest()
        except BaseException as error:  # noqa: BLE001 - the next letter is answered all the same
            LOG.warning("between letters: %s", describe(error))

    def _turn_all_away(self) -> None:
        while True:
            _, answer = self._waiting.get()
            if answer.set_running_or_notify_cancel():
                self.turn_away(CLOSED)
                answer.set_result(None)


def make_app(desk: Desk, grain_s: float = GRAIN_S) -> FastAPI:
    """Return the service for letters, and for nothing else."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.post(LETTER_PATH)
    async def letter(request: Request) -> Response:
        sealed = await _body(request, MOST_LETTER_BYTES)
        begun = time.monotonic()  # after the body: its sender chooses how long that takes
        answer = None
        if sealed is None:
            desk.turn_away(TOO_LARGE)
        else:
            answer = await asyncio.shield(asyncio.wrap_future(desk.submit(sealed)))
        if answer is not None:
            return Response(answer, media_type="application/octet-stream")
        await asyncio.sleep(to_the_grain(time.monotonic() - begun, grain_s))
        return _silence()

    @app.exception_handler(HTTPException)
    @app.exception_handler(Exception)
    async def anything_else(_request: Request, _error: Exception) -> Response:
        return _silence()

    return app


def reason_of(error: BaseException) -> str:
    """Return the name of what went wrong: of our own kinds of error, and of no one else's."""
    ours = isinstance(error, (Refused, PeerError, ShelfUnavailable, ConfigError))
    return type(error).__name__ if ours else FAULT


def _silence() -> Response:
    return Response(NO_ANSWER, status_code=SILENCE_STATUS, media_type="text/plain")


def to_the_grain(spent_s: float, grain_s: float = GRAIN_S) -> float:
    """Return how long to wait until `spent_s` is a whole number of grains, at least one."""
    return -spent_s % grain_s


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
