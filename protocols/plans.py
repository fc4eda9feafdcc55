"""Put public terms into words: a plan for whoever approves them, and a context for the masks of a sum."""

import hashlib
import json
from dataclasses import fields
from enum import Enum
from typing import Any

_LONGEST_NAMES = 1024  # characters of target modules that a plan spells out


def plan_of(terms: Any, targets: tuple[str, ...] = ()) -> str:
    """Return public terms, a dataclass, as canonical JSON of at most 4 KiB, very many `targets` by their digest."""
    tree = {f.name: _plain(getattr(terms, f.name)) for f in fields(terms)}
    names = ",".join(targets)
    if len(names) > _LONGEST_NAMES:
        tree["targets"] = f"{len(targets)} modules, sha256 {hashlib.sha256(names.encode()).hexdigest()}"
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def context(name: str, ask: bytes) -> bytes:
    """Return the digest (32 bytes) of an encoded ask, without its request and slips, for the masks of its sum."""
    return hashlib.sha256(f"parley/v1/{name}/context\0".encode() + ask).digest()


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
