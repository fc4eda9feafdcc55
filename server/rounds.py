"""Run one collaboration from its order to its result, in a folder from which it can be resumed."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

from privacy.config import ConfigError
from privacy.refusal import Refused
from protocols.catalog import CATALOG
from protocols.faults import Abort, ProtocolError
from protocols.keys import Identity, PublicKey
from protocols.post import Outbox
from protocols.session import Carrier, MemberId, drive
from server.journal import Journal, Silent, write_whole
from server.orders import ORDERS, Order, RunFolder, Who, read_order

__all__ = ["NAME", "ORDERS", "Order", "RunFolder", "Who", "read_order", "run"]

NAME = "coordinator"  # how the coordinator signs its letters


def _in_no_hurry() -> None:
    """Wait for the last receipts as long as for any answer."""


def run(folder: RunFolder, road: Carrier, silent: Silent = dict, hurry: Callable[[], None] = _in_no_hurry) -> None:
    """Run the folder's order over `road` until there is a result or a failure; resume what was begun.

    `hurry` is called before the last trip, which closes the session and for which nobody should have to wait long.
    Learns:  what the collaboration's own module says. The folder keeps every sealed answer.
    """
    with (folder.root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: the run may have been started anew beside us
        if folder.ended:
            return
        try:
            write_whole(folder.result, _drive(folder, road, silent, hurry))
        except (ProtocolError, Refused, ConfigError) as ours:  # their texts hold names, counts and limits
            folder.fail(type(ours).__name__, str(ours))
        except OSError:
            raise  # a full disk is no end: the run is started again, and resumes
        except Exception as bug:
            folder.fail(type(bug).__name__, "")  # a stranger's text may hold anything
            raise


def _drive(folder: RunFolder, road: Carrier, silent: Silent, hurry: Callable[[], None]) -> bytes:
    order, who = folder.order(), folder.who()
    collaboration = CATALOG.get(order.collaboration)
    if collaboration is None:
        raise ConfigError(folder.spec.name, "collaboration", f"one of {', '.join(sorted(CATALOG))}")
    keys = {MemberId(m): PublicKey.parse(who.keys[m]) for m in order.members if m in who.keys}
    if len(keys) < len(order.members):
        raise ConfigError(folder.spec.name, "members", f"all enrolled; {len(keys)} of {len(order.members)} are")
    outbox = Outbox(
        Journal(folder.journal, folder.progress, road, silent),
        Identity.from_pem(Path(who.identity_key).read_bytes()),
        NAME,
        who.session,
        order.collaboration,
        keys,
        order.purpose,
    )
    task = collaboration.wire.decode(order.task)
    coordinator = collaboration.coordinate([MemberId(m) for m in order.members], task)
    try:
        result = drive(coordinator, outbox, collaboration.wire)
    except Abort:
        _part(outbox, hurry)
        raise
    _part(outbox, hurry)
    return collaboration.wire.encode(result)


def _part(outbox: Outbox, hurry: Callable[[], None]) -> None:
    """Close the session, which brings everybody the receipt for the last answer."""
    hurry()
    outbox.close()
