"""Let the operator's own programs open streams and send letters on them, over the control socket.

    POST   /streams            {"members": [...], "lasts_s": S} -> {"stream": NAME}
    GET    /streams            every open stream: NAME -> who is there
    GET    /streams/NAME/task  what the collaboration `stream` is run with, so that the members dial
    GET    /streams/NAME       who is there
    DELETE /streams/NAME       the end
    WebSocket /streams/NAME/letters   `Post` in, exactly one `Reply` for each out, in any order

Learns:  who may open the control socket, that is the operator: tickets, sealed letters, sealed answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Request, Response, WebSocket, WebSocketDisconnect

from protocols.faults import WireError
from protocols.keys import PublicKey
from protocols.stream import WIRE, Tickets
from server.hub import Hub, Silence
from server.openings import Opening, Openings, TooManyStreams
from server.road import TRIPS, Post, Reply
from server.store import Store


def streams(store: Store, openings: Openings, hub: Callable[[], Hub | None]) -> APIRouter:
    """Return the routes. `hub` says where the members are, once the front is up."""
    router = APIRouter(prefix="/streams")
    _for_orders(router, store, openings, hub)

    @router.websocket("/{stream}/letters")
    async def letters(socket: WebSocket, stream: str) -> None:
        found = hub()
        if found is None or openings.find(stream) is None:
            await socket.close()  # before it is accepted: no such stream
            return
        await socket.accept()
        await _carry(socket, stream, found)

    return router


def _for_orders(router: APIRouter, store: Store, openings: Openings, hub: Callable[[], Hub | None]) -> None:

    def there() -> Hub:
        found = hub()
        if found is None:
            raise HTTPException(503, "the front is starting")
        return found

    def known(stream: str) -> Opening:
        opening = openings.find(stream)
        if opening is None:
            raise HTTPException(404)
        return opening

    @router.post("")
    async def open_(request: Request) -> dict[str, str]:
        there()
        return {"stream": _opened(openings, store, *_wishes(await request.json()))}

    @router.get("")
    def every() -> dict[str, list[str]]:
        return {o.stream: sorted(there().here(o.stream)) for o in openings.all()}

    @router.get("/{stream}/task")
    def task(stream: str) -> Response:
        opening = known(stream)
        encoded = WIRE.encode(Tickets(stream, opening.tickets, opening.expires))
        return Response(encoded, media_type="application/octet-stream")

    @router.get("/{stream}")
    def view(stream: str) -> dict[str, object]:
        opening = known(stream)
        return {"members": opening.members, "here": sorted(there().here(stream)), "expires": opening.expires}

    @router.delete("/{stream}")
    def close(stream: str) -> dict[str, bool]:
        there().hang_up(stream)
        return {"closed": True}


def _opened(openings: Openings, store: Store, members: frozenset[str], lasts_s: float) -> str:
    """Open a stream for members that have enrolled; return its name. Raises: HTTPException."""
    keys = {m.name: PublicKey.parse(m.keys.identity) for m in store.members() if m.keys and m.name in members}
    if len(keys) < len(members):
        raise HTTPException(422, f"{len(members) - len(keys)} of {len(members)} members have not enrolled")
    try:
        return openings.open(keys, lasts_s).stream
    except ValueError as wrong:
        raise HTTPException(422, str(wrong)) from None
    except TooManyStreams:
        raise HTTPException(429, "too many streams are open") from None


async def _carry(socket: WebSocket, stream: str, hub: Hub) -> None:
    """Carry letters and their answers until the operator's program hangs up."""
    under_way: set[asyncio.Task[None]] = set()
    try:
        while True:
            post = TRIPS.decode(await socket.receive_bytes())
            if not isinstance(post, Post):
                raise WireError("not a letter")
            task = asyncio.create_task(_one(socket, stream, hub, post))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    except (WebSocketDisconnect, KeyError):  # KeyError: a text
        pass
    except WireError:
        await socket.close(1008)
    finally:
        for task in under_way:
            task.cancel()


async def _one(socket: WebSocket, stream: str, hub: Hub, post: Post) -> None:
    found = await asyncio.wrap_future(hub.ask(stream, post.member, post.sealed, post.deadline_s))
    silent = found.value if isinstance(found, Silence) else ""
    answer = b"" if isinstance(found, Silence) else found
    await socket.send_bytes(TRIPS.encode(Reply(post.number, answer, silent)))


def _wishes(tree: object) -> tuple[frozenset[str], float]:
    """Return the members and the seconds that were asked for. Raises: HTTPException."""
    match tree:
        case {"members": [*names], "lasts_s": int() | float() as lasts_s} if all(isinstance(n, str) for n in names):
            return frozenset(map(str, names)), float(lasts_s)
    raise HTTPException(422, "expected members and lasts_s")
