"""Be the post office: hand each letter to the member's daemon, hand its answer back, and know nothing else.

Flower runs this app in the SuperNode's name; the coordinator chooses its code. So it holds nothing: no key, no
model, no data. An exception's text would travel to the coordinator word for word: every failure, and every refusal,
becomes one and the same word here.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from protocols.carriers.flower_road import (
    BYTES,
    DAEMON,
    FAULT_RECORD,
    LETTER,
    LETTER_PATH,
    LETTER_RECORD,
    NO_ANSWER,
    PARTITION,
    VILLAGE,
    WHEREABOUTS,
    WORD,
    require_bundle,
)

app = ClientApp()


@app.query(LETTER.removeprefix("query."))  # type: ignore[untyped-decorator]
def letter(message: Message, context: Context) -> Message:
    """Forward one letter.

    Learns:  the coordinator: the daemon's sealed answer, or that there is none; never why.
    Trusts:  nothing in the letter: the daemon checks its signature, its addressee and its order.
    """
    content = RecordDict()
    try:
        require_bundle(__file__)
        asked = message.content.array_records[LETTER_RECORD][BYTES].numpy().tobytes()
        answered = _deliver(asked, _daemon(context), message.metadata.ttl)
        content[LETTER_RECORD] = ArrayRecord({BYTES: Array(np.frombuffer(answered, np.uint8))})
    except Exception:  # noqa: BLE001  whatever it says must not travel
        content[FAULT_RECORD] = ConfigRecord({WORD: NO_ANSWER})
    return Message(content, reply_to=message)


@app.query(WHEREABOUTS.removeprefix("query."))  # type: ignore[untyped-decorator]
def whereabouts(message: Message, context: Context) -> Message:
    """Say which partition this is; in a simulation only, where node ids are drawn anew each time."""
    simulated = bool(context.run_config.get(VILLAGE)) and not context.node_config.get(DAEMON)
    partition = context.node_config.get(PARTITION) if simulated else None
    content = RecordDict() if partition is None else RecordDict({PARTITION: ConfigRecord({PARTITION: partition})})
    return Message(content, reply_to=message)


def _daemon(context: Context) -> Path:
    """Return the daemon's socket: what the member's own SuperNode names, before what a run may name."""
    own = context.node_config.get(DAEMON)
    if own:
        return Path(str(own))
    return Path(str(context.run_config[VILLAGE])) / f"{int(context.node_config[PARTITION])}.sock"


def _deliver(asked: bytes, daemon: Path, timeout_s: float) -> bytes:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a socket needs no authorities, and to load them takes time
    road = httpx.HTTPTransport(verify=nobody, uds=str(daemon))
    with httpx.Client(transport=road, timeout=timeout_s, trust_env=False) as client:
        return client.post(f"http://daemon{LETTER_PATH}", content=asked).raise_for_status().content
