"""Show the operator how the daemon is and what has left: on a socket of the operator's own, and on no other.

    GET /status       {"member": ..., "loaded": true, "letters": 3, "silent": {"BudgetExceeded": 1}, ...}
    GET /ledger.json  what the ledger holds
    GET /metrics      for Prometheus
    GET /             the page

Nothing here changes anything. On a port of the loopback device, for a browser, all of it is behind `Guarded`.

Learns: whoever may open the socket, or has the token: all that `parley member ledger` and `status` print.
Trusts: the file permissions of the socket and of the token; the operator's browser.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from client import metrics, page
from client.daemon import Desk
from privacy.config import ConfigError
from privacy.refusal import Refused

if TYPE_CHECKING:
    from client.ledger_view import Seen

Said = Mapping[str, str | int]
Status = Mapping[str, str | int | Mapping[str, int]]
COOKIE = "parley_page"
_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Sights:
    """List what there is to see; each is looked up anew when it is asked for."""

    home: Callable[[], Said]
    ledger: Callable[[], Seen]


def status_of(desk: Desk, home: Callable[[], Said]) -> Status:
    """Return how the daemon is; `home` says what the home is."""
    counts = desk.counts
    return {
        **home(),
        "loaded": desk.loaded.is_set(),
        "letters": counts.answered,
        "silent": counts.silent,
        "uptime_s": counts.uptime_s,
    }


def make_window(desk: Desk, sights: Sights) -> FastAPI:
    """Return the service for the operator."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/status")
    def status() -> Response:
        return _response(json.dumps(status_of(desk, sights.home)), "application/json")

    @app.get("/ledger.json")
    def ledger() -> Response:
        from client.ledger_view import as_json

        seen, wrong = _look(sights)
        if seen is None:
            return _response(json.dumps({"error": wrong}), "application/json", 503)
        return _response(as_json(seen), "application/json")

    @app.get("/metrics")
    def figures() -> Response:
        return _response(metrics.exposition(status_of(desk, sights.home), _look(sights)[0]), metrics.CONTENT_TYPE)

    @app.get("/")
    def whole() -> Response:
        drawn = page.draw(status_of(desk, sights.home), *_look(sights))
        return _response(drawn, "text/html; charset=utf-8", more=page.HEADERS)

    return app


class Guarded:
    """Let in a browser that brings the token: once in the address, from then on in a cookie.

    A name that is not the loopback's own is turned away, so that no site can have its name point here (DNS
    rebinding), and so is whatever another page asks for. Cookies know no ports: a service of somebody else on this
    machine's loopback gets the cookie if the operator's browser visits it. It opens this page alone, until the daemon
    is started anew.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            return
        answer = self._judged(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, send)

    def _judged(self, request: Request) -> Response | None:
        hosts, headers = request.headers.getlist("host"), request.headers
        if len(hosts) != 1 or hosts[0] not in self._hosts or request.method not in ("GET", "HEAD"):
            return _response("forbidden", "text/plain", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _response("forbidden", "text/plain", 403)
        if self._is_token(request.query_params.get("token", "")):
            kept = f"{COOKIE}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
            return _response("", "text/plain", 303, {"Location": "/", "Set-Cookie": kept})
        if self._is_token(request.cookies.get(COOKIE, "")):
            return None
        return _response("forbidden: parley member status prints the address", "text/plain", 403)

    def _is_token(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(), self._token)


def _look(sights: Sights) -> tuple[Seen | None, str]:
    """Return what the ledger holds, or why it cannot be read: in words of ours."""
    try:
        return sights.ledger(), ""
    except (ConfigError, Refused) as wrong:
        return None, str(wrong)


def _response(body: str, kind: str, status: int = 200, more: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, {**_PRIVATE, **(more or {})}, kind)
