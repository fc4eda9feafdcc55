"""Consult the members of a coordinator that is up on this machine, from a home of one's own: `parley consult`.

    the question ──▶ redacted, and let go by the home's own gate ──▶ a stream ──▶ the members' models
    the answer   ◀── made at home by its own model, tokens put back ◀── redacted texts and tallies

Learns:  as the collaboration (`protocols/text/`); nobody but the asker: the question as it was, and the answer.
"""

from __future__ import annotations

import json
from pathlib import Path

from client.asker import asking_at
from protocols.catalog import CATALOG
from protocols.session import drive
from protocols.wire import Message
from server.control import Client
from server.folder import Folder
from simulations.asking import keys_of, open_stream, session
from simulations.talks import Consultation, Consulted, consulted, kind_of


def consult_town(
    town: Path, home: Path, question: str, wishes: Consultation, json_file: Path | None = None
) -> Consulted:
    """Answer a question with the members of the coordinator in the folder `town`, and write the figures if asked to.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few reply.
    """
    kind_of(wishes.collaboration)
    client = Client(Folder.open(town))
    keys = keys_of(client, wishes)
    with asking_at(home) as asker:

        def carry(task: Message) -> Message:
            entry = CATALOG[wishes.collaboration]
            stream_name = open_stream(client, tuple(keys), wishes.purpose)
            with session(client, stream_name, keys, wishes) as outbox:
                return drive(entry.coordinate(tuple(keys), task), outbox, entry.wire)

        found = consulted(asker, question, wishes, tuple(keys), carry)
    if json_file is not None:
        figures = {"text": found.concluded.text, "support": dict(found.concluded.support), "epsilon": wishes.epsilon}
        crossed = {"tally": found.claim, "texts": len(found.result.entries), "guarantee": "none"}
        json_file.write_text(json.dumps(figures | crossed, indent=2) + "\n", encoding="utf-8")
    return found
