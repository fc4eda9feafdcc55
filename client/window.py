"""Show the operator how the daemon is: on a socket of the operator's own, and on no other.

    GET /status       {"member": ..., "loaded": true, "letters": 3, "silent": {"BudgetExceeded": 1}, ...}

Nothing here changes anything.

Learns: whoever may open the socket: what `parley member status` prints.
Trusts: the file permissions of the socket.
"""

import json
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Response

from client.daemon import Desk

Said = Mapping[str, str | int]
Status = Mapping[str, str | int | Mapping[str, int]]


def status_of(desk: Desk, describe_home: Callable[[], Said]) -> Status:
    """Return how the daemon is; `describe_home` says what the home is."""
    counts = desk.counts
    return {
        **describe_home(),
        "loaded": desk.loaded.is_set(),
        "letters": counts.answered,
        "silent": counts.silent,
        "uptime_s": counts.uptime_s,
    }


def make_window(desk: Desk, describe_home: Callable[[], Said]) -> FastAPI:
    """Return the service for the operator."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/status")
    def status() -> Response:
        return Response(json.dumps(status_of(desk, describe_home)), media_type="application/json")

    return app
