"""Stand between the internet and the SuperLink: what is not a fleet route does not exist.

Flower's one port also serves the Control API (submit and stop runs) and the Runtime API (take tasks), without
credentials. Members dial this front instead. It matches the raw bytes of the request line against a closed list, so
that no encoding, dot segment, case or absolute form can name another route; bodies are streamed, never kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import httpx

from protocols.carriers.flower_road import ENROL_PATH
from protocols.carriers.stream_road import PATH as STREAM_PATH
from server.enrolment import LARGEST, Reply

Scope = MutableMapping[str, Any]  # ASGI
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Enrol = Callable[[bytes], Awaitable[Reply]]
Stream = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 * 2**20  # Flower sends arrays in chunks of 5 MB
PATIENCE_S = 30.0  # between two pieces of a body

_FLEET = re.compile(rb"/v1/fleet/[a-z]+(?:-[a-z]+)*")
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_DROPPED = _HOP_BY_HOP | frozenset(b"host forwarded authorization cookie expect".split())


class _TooLarge(Exception):
    """The body is longer than we carry."""


class _Gone(Exception):
    """The client left, or fell silent, in the middle of its body."""


class Front:
    """Be the ASGI application on the public address.

    Learns:  whoever reaches the port: that a coordinator is here. Not even the SuperLink's version.
    Trusts:  the SuperLink to authenticate SuperNodes by key on the fleet routes.
    """

    def __init__(
        self, superlink: httpx.AsyncClient, enrol: Enrol, largest: int = LARGEST_BODY, stream: Stream | None = None
    ) -> None:
        self._superlink = superlink
        self._enrol = enrol
        self._stream = stream
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or close what is none."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._dialled(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._route(scope, receive, send)
            except _TooLarge:
                await _answer(send, 413)
            except _Gone:
                await _answer(send, 408)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Hang up on the SuperLink at the end: a server that stops waits for its TLS connections to say good-bye."""
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{event['type']}.complete"})
        await self._superlink.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _dialled(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a WebSocket to the hub; there is one path for it, and it has one spelling."""
        if self._stream is None or scope.get("raw_path") != STREAM_PATH.encode() or scope.get("query_string"):
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._stream(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, asked = scope.get("raw_path") or b"", (scope["method"], bool(scope.get("query_string")))
        if asked == ("POST", False) and path == ENROL_PATH.encode():
            body = b"".join([piece async for piece in _body(scope, receive, LARGEST)])
            reply = await self._enrol(body)
            await _answer(send, reply.status, reply.body)
        elif (asked == ("POST", False) and _FLEET.fullmatch(path)) or (
            asked == ("GET", False) and path == b"/health"
        ):
            await self._forward(scope, path.decode("ascii"), receive, send)
        else:
            await _answer(send, 404)

    async def _forward(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """Stream the request to the SuperLink and its response back."""
        content = None if scope["method"] == "GET" else _body(scope, receive, self._largest)
        headers = [(k, v) for k, v in scope["headers"] if k not in _DROPPED and not k.startswith(b"x-forwarded")]
        request = self._superlink.build_request(scope["method"], path, headers=headers, content=content)
        try:
            response = await self._superlink.send(request, stream=True)
        except httpx.TimeoutException:
            return await _answer(send, 504)
        except httpx.HTTPError:
            return await _answer(send, 502)  # Flower's clients try again
        try:
            kept = _kept(response.headers.raw)
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


def _body(scope: Scope, receive: Receive, largest: int) -> AsyncIterator[bytes]:
    """Return the request's body as it comes. Raises: _TooLarge at once, if it says so itself."""
    declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    if not declared.isdigit() or int(declared) > largest:
        raise _TooLarge
    return _pieces(receive, largest)


async def _pieces(receive: Receive, largest: int) -> AsyncIterator[bytes]:
    """Yield the body's pieces. Raises: _TooLarge, _Gone."""
    more = True
    while more:
        try:
            event = await asyncio.wait_for(receive(), PATIENCE_S)
        except TimeoutError:
            raise _Gone from None
        if event["type"] != "http.request":
            raise _Gone
        body, more = event.get("body", b""), event.get("more_body", False)
        largest -= len(body)
        if largest < 0:
            raise _TooLarge
        if body:
            yield body


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(k, v) for k, v in headers if k.lower() not in _HOP_BY_HOP and k.lower() != b"server"]


async def _answer(send: Send, status: int, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
