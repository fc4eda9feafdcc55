"""Say what a run is, and name the files of its folder.

Loads no collaboration: so the coordinator's own process is up in a second, and never decodes a task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from privacy.config import build
from protocols.wire import Message, Wire
from server.journal import write_whole


class Road(Enum):
    """Name what carries a run's letters: Flower's messages, or streams that Flower's messages open."""

    FLOWER = "flower"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Order(Message):
    """Say what to run: the collaboration, who takes part, its encoded task, how long one trip may take, and why.

    `purpose` is what the members are told, and keep in their ledgers; `carrier` says on which road.
    """

    collaboration: str
    members: tuple[str, ...]
    task: bytes
    deadline_s: float
    purpose: str = ""
    carrier: Road = Road.FLOWER

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) < len(self.members) or self.deadline_s <= 0:
            raise ValueError("nobody to ask, a member twice, or no time to answer")


ORDERS = Wire(Order)


def read_order(spec: bytes) -> Order:
    """Return the order that `spec` is. Raises: WireError."""
    order = ORDERS.decode(spec)
    assert isinstance(order, Order)  # noqa: S101  the vocabulary has one word
    return order


@dataclass(frozen=True, slots=True)
class Who:
    """Be what a run must know of the world: its session, the signing key's file, and the members.

    `nodes` holds Flower node ids as text (JSON has no 64-bit integers), `coordinator` the coordinator's folder; both
    are empty in a simulation.
    """

    session: str
    identity_key: str
    keys: Mapping[str, str]
    nodes: Mapping[str, str]
    coordinator: str = ""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Name the files of one run."""

    root: Path

    @classmethod
    def make(cls, root: Path, spec: bytes, who: Who) -> RunFolder:
        """Make the folder of a new run."""
        folder = cls(root)
        folder.journal.mkdir(mode=0o700, parents=True)
        root.chmod(0o700)
        write_whole(folder.who_file, json.dumps(asdict(who)).encode())
        write_whole(folder.spec, spec)
        return folder

    @property
    def spec(self) -> Path:
        """Return the file of the order."""
        return self.root / "spec.bin"

    @property
    def who_file(self) -> Path:
        """Return the file of the session, keys and nodes."""
        return self.root / "who.json"

    @property
    def journal(self) -> Path:
        """Return the folder of the trips."""
        return self.root / "journal"

    @property
    def progress(self) -> Path:
        """Return the file with one JSON line for each trip."""
        return self.root / "progress.jsonl"

    @property
    def stream(self) -> Path:
        """Return the file with the name of the stream that the run's letters travel on, if one is open."""
        return self.root / "stream"

    @property
    def result(self) -> Path:
        """Return the file of the encoded result; it exists once the run has succeeded."""
        return self.root / "result.bin"

    @property
    def failure(self) -> Path:
        """Return the file that says why there is no result; it exists once the run has failed for good."""
        return self.root / "failure.json"

    @property
    def ended(self) -> bool:
        """Say whether there is nothing left to do."""
        return self.result.exists() or self.failure.exists()

    def who(self) -> Who:
        """Read the session, keys and nodes. Raises: ConfigError."""
        return build(Who, json.loads(self.who_file.read_bytes()), self.who_file)

    def order(self) -> Order:
        """Read the order. Raises: WireError."""
        return read_order(self.spec.read_bytes())

    def trips(self) -> list[dict[str, object]]:
        """Return the lines of progress so far."""
        try:
            lines = self.progress.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def why(self) -> dict[str, str]:
        """Return what failed; empty if nothing has."""
        if not self.failure.exists():
            return {}
        why: dict[str, str] = json.loads(self.failure.read_bytes())
        return why

    def fail(self, kind: str, message: str) -> None:
        """Write down that there will be no result, and why."""
        write_whole(self.failure, json.dumps({"error": kind, "message": message}).encode())
