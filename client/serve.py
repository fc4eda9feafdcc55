"""Run the daemon of one home: `python -m client.serve HOME`. Its sockets are there at once, the model comes later."""

from __future__ import annotations

import argparse
import grp
import logging
import os
import resource
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from client.daemon import Desk, Mailbox, make_app
from client.folder import Folder, replace_private
from client.lock import only_one
from client.quiet import LOG, describe, log_quietly
from client.settings import LOOPBACK, Settings, require_private
from client.supervisor import WRONG_SETTINGS
from client.window import Guarded, Sights, make_window
from privacy.config import ConfigError

if TYPE_CHECKING:
    from client.ledger_view import Seen
    from client.opening import Opened

_SHUTDOWN_S = 2


def main() -> None:
    """Serve the home that the command line names until SIGTERM."""
    parser = argparse.ArgumentParser(description="Answer letters for one member's home.")
    parser.add_argument("home", type=Path)
    log_quietly()
    status = 1
    try:
        status = serve(Folder(parser.parse_args().home.absolute()))
    except ConfigError as wrong:  # its text names files, keys and what was expected, never values
        LOG.error("%s", wrong)
        status = WRONG_SETTINGS
    except Exception as error:  # noqa: BLE001 - the last chance to keep its text out of the log
        LOG.error("stopped: %s", describe(error))
    logging.shutdown()
    os._exit(status)  # a letter may be in the middle of being trained for; what is on disk is enough


def serve(folder: Folder) -> int:
    """Serve one home; return the exit status."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no memory of ours in a core file
    settings = Settings.load(folder.settings)
    require_private(folder.identity)

    opened: list[Opened] = []

    def open_it() -> Opened:
        from client.opening import open_home  # late: seconds of imports, while the socket is there already

        opened.append(open_home(folder, settings))
        return opened[0]

    def describe_home() -> dict[str, str | int]:
        return described(settings, opened[0] if opened else None)

    def look_into_ledger() -> Seen:
        from client.ledger_view import look  # late, too

        return look(folder.root)

    with only_one(folder.run / "daemon.lock"):
        letters = listen(settings.socket_in(folder.root), settings.door.group)
        operator = listen(settings.operator_socket_in(folder.root), None)
        port = settings.page.port
        page = None if port is None else offer_page(folder.settings, folder.page_token, port)
        return run(open_it, Sights(describe_home, look_into_ledger), letters, operator, page)


def described(settings: Settings, opened: Opened | None) -> dict[str, str | int]:
    """Return what the operator is told of a home: names, digests and numbers, and never content."""
    said: dict[str, str | int] = {"member": settings.member, "model": settings.model.name}
    if opened is not None:
        said |= {"model_digest": opened.model_digest, "sessions": opened.shelf.sessions()}
        left_out = opened.house.left_out
        if left_out is not None:  # the data is read when the first recipe says how
            said |= {"documents_left_out": left_out}
    return said


@dataclass(frozen=True, slots=True)
class Page:
    """Hold where a browser finds the operator's page, and what it must bring."""

    listener: socket.socket
    token: str


def run(
    open_home: Callable[[], Mailbox],
    sights: Sights,
    letters: socket.socket,
    operator: socket.socket,
    page: Page | None = None,
) -> int:
    """Serve until SIGTERM, or until the home turns out not to open; return the exit status."""
    broken: list[BaseException] = []

    def closed(error: BaseException) -> None:
        broken.append(error)
        server.should_exit = True

    desk = Desk(open_home, closed)
    server = _server(make_app(desk))
    desk.start()
    window = make_window(desk, sights)
    with ExitStack() as beside:
        beside.enter_context(_beside(window, operator))
        if page is not None:
            guarded = Guarded(window, page.token, page.listener.getsockname()[1])
            beside.enter_context(_beside(guarded, page.listener))
        server.run(sockets=[letters])
    for error in broken:
        LOG.error("the home does not open: %s", error if isinstance(error, ConfigError) else describe(error))
        return WRONG_SETTINGS if isinstance(error, ConfigError) else 1
    return 0


@contextmanager
def _beside(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve `app` in a thread of its own, so that whoever looks keeps no letter waiting."""
    server = _server(app)
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="window", daemon=True).start()
    try:
        yield
    finally:
        server.should_exit = True


def _server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
    )


def listen(path: Path, group: str | None) -> socket.socket:
    """Return a socket that listens at `path`, open to its owner alone, or to `group` too.

    Call it while holding the home's lock: what lies at `path` from before is taken for a dead daemon's.
    """
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # so that there is no moment at which others can connect
    try:
        listener.bind(str(path))
    except OSError as refused:
        raise ConfigError(path, "door.socket", f"no socket can be made here ({refused.strerror})") from None
    finally:
        os.umask(before)
    if group is not None:
        _open_to(path, group)
    return listener


def offer_page(settings: Path, token: Path, port: int) -> Page:
    """Return the page's port on the loopback device, and write a fresh token for it. Raises: ConfigError."""
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as refused:
        raise ConfigError(settings, "page.port", f"cannot be had ({refused.strerror})") from None
    fresh = secrets.token_urlsafe(32)  # whoever had the port while the daemon was away may know the last one
    replace_private(token, fresh.encode())
    return Page(listener, fresh)


def _open_to(path: Path, group: str) -> None:
    try:
        number = grp.getgrnam(group).gr_gid
        os.chown(path, -1, number)
    except (KeyError, PermissionError):
        raise ConfigError(path, "door.group", "no such group, or not one of yours") from None
    path.chmod(0o660)


if __name__ == "__main__":
    main()
