"""Let the operator's own programs order and watch runs, over a Unix socket that only its owner may open.

Not on the public address: members reach the front and nothing else.
"""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

from server.runs import BadOrder, Runs, State, UnknownRun, plain
from server.store import Store
from server.superlink import SuperLink, Unreachable

LARGEST_ORDER = 1024 * 2**20


def service(
    store: Store, runs: Runs, superlink: SuperLink, ready: Callable[[], bool], streams: APIRouter | None = None
) -> FastAPI:
    """Return the ASGI application of the control socket; `streams` are its routes to the hub."""
    app = FastAPI(title="Parley coordinator", docs_url=None, redoc_url=None, openapi_url=None)
    if streams is not None:
        app.include_router(streams)

    @app.get("/status")
    def status() -> dict[str, object]:
        online = superlink.online() if ready() else frozenset()
        members = [
            {"name": m.name, "enrolled": m.keys is not None, "online": m.node in online} for m in store.members()
        ]
        views = [runs.view(r.id) for r in store.runs()]
        return {"ready": ready(), "members": members, "runs": [plain(v) | {"trips": len(v.trips)} for v in views]}

    @app.post("/runs")
    async def submit(request: Request) -> dict[str, str]:
        if int(request.headers.get("content-length", LARGEST_ORDER + 1)) > LARGEST_ORDER:
            raise HTTPException(413)
        return {"run": await asyncio.to_thread(runs.submit, await request.body())}

    @app.get("/runs/{run}")
    def view(run: str) -> dict[str, object]:
        return plain(runs.view(run))

    @app.get("/runs/{run}/result")
    def result(run: str) -> FileResponse:
        if runs.view(run).state is not State.SUCCEEDED:
            raise HTTPException(409, "no result")
        return FileResponse(runs.folder(run).result, media_type="application/octet-stream")

    @app.post("/runs/{run}/stop")
    def stop(run: str) -> dict[str, bool]:
        runs.stop(run)
        return {"stopped": True}

    for kind, status_code in ((UnknownRun, 404), (BadOrder, 422), (Unreachable, 503)):
        app.add_exception_handler(kind, _answer(status_code))
    return app


def _answer(status: int) -> Callable[[Request, Exception], JSONResponse]:
    return lambda _request, error: JSONResponse({"error": str(error) or type(error).__name__}, status)
