"""Write down every round trip of a run, so that a coordinator that was killed goes on where it stopped.

Coordinators are deterministic: fed the same answers, they ask the same again. So to resume is to replay. The trip
that was under way is sent once more, the same bytes, and members answer the same letter with the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from protocols.faults import LocalError
from protocols.session import Carrier, MemberId

Silent = Callable[[], Mapping[MemberId, str]]


@dataclass
class Journal:
    """Be a carrier that remembers: a trip in the folder is replayed, any other is carried and written down.

    Learns:  who reads the folder: the sealed letters of the members, as the coordinator does.
    Raises:  LocalError if a replayed coordinator asks something else than it did.
    """

    folder: Path
    progress: Path
    road: Carrier
    silent: Silent = dict
    trip: int = field(default=0, init=False)

    def __call__(self, asks: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Return the answers to `asks`, from the folder or from the road."""
        file = self.folder / f"{self.trip:06d}.trip"
        asks = dict(asks)  # looked at more than once: each letter is sealed when it is looked up
        digest = _digest(asks)
        self.trip += 1
        with contextlib.suppress(FileNotFoundError):
            return _replayed(file, digest)
        began = time.monotonic()
        answers = dict(self.road(asks))
        write_whole(file, msgpack.packb([digest, {str(m): a for m, a in answers.items()}]))
        self._note(asks, answers, time.monotonic() - began)
        return answers

    def _note(self, asks: Mapping[MemberId, bytes], answers: Mapping[MemberId, bytes], seconds: float) -> None:
        """Append one line for whoever watches; it holds counts and names."""
        line = {
            "trip": self.trip,
            "asked": len(asks),
            "answered": sorted(answers),
            "silent": {m: why for m, why in self.silent().items() if m not in answers},
            "bytes_sent": sum(map(len, asks.values())),
            "bytes_received": sum(map(len, answers.values())),
            "seconds": round(seconds, 3),
        }
        with self.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whenever we are killed."""
    part = file.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _replayed(file: Path, digest: bytes) -> dict[MemberId, bytes]:
    """Return the answers in `file`. Raises: FileNotFoundError; LocalError if they answer something else."""
    asked, answers = msgpack.unpackb(file.read_bytes())
    if asked != digest:
        raise LocalError("a replayed coordinator asked something else than it did")
    return {MemberId(m): a for m, a in answers.items()}


def _digest(asks: Mapping[MemberId, bytes]) -> bytes:
    """Return 32 bytes that change with every member asked and every byte asked of it."""
    digest = hashlib.sha256()
    for member, data in sorted(asks.items()):
        digest.update(hashlib.sha256(member.encode()).digest() + hashlib.sha256(data).digest())
    return digest.digest()
