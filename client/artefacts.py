"""Read the adapters that were trained at home and stay there, for what is made of them."""

import re
from pathlib import Path

from client.adapter import load
from privacy.artefact import Artefact
from privacy.config import ConfigError
from protocols.faults import PeerError

is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}").fullmatch


def read_artefact(folder: Path, name: str) -> Artefact:
    """Return the adapter `name`. Raises: PeerError, which says no more than that there is none."""
    if not is_name(name):
        raise PeerError("no adapter has such a name")
    try:
        layout, vector = load(folder / name)
    except ConfigError:
        raise PeerError("no adapter of this name was trained here, or it was damaged") from None
    return Artefact(layout.to_json(), vector)
