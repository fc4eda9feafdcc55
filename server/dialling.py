"""Carry a run's letters on a stream that its members are asked, over Flower, to dial: when the first letter goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from privacy.config import ConfigError
from protocols import stream
from protocols.carriers.stream_road import LONGEST_S
from protocols.faults import Abort
from protocols.keys import Identity, PublicKey
from protocols.post import Outbox
from protocols.session import Carrier, MemberId, drive
from server.control import Client, ControlError
from server.folder import Folder
from server.journal import write_whole
from server.orders import RunFolder, Who
from server.road import StreamRoad
from server.rounds import NAME


class Dialled:
    """Be a carrier on a stream of the run's own, opened over `flower` once; a run that is resumed finds it again.

    Raises: Abort where there is no stream, or nobody dials; ConnectionError where no coordinator is up.
    """

    def __init__(self, folder: RunFolder, flower: Carrier) -> None:
        self._folder, self._flower = folder, flower
        self._client = Client(Folder(Path(folder.who().coordinator)))
        self._road: StreamRoad | None = None
        self.deadline_s = folder.order().deadline_s

    def __call__(self, letters: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Send each member its letter, and return what came back in time."""
        if self._road is None:
            try:
                name = self._found() or self._opened()
            except ConfigError:  # it is restarting, and will start this run anew
                raise ConnectionError("no coordinator is up") from None
            self._road = StreamRoad(self._client.folder.control_socket, name, self.deadline_s)
        self._road.deadline_s = self.deadline_s
        return self._road(letters)

    @property
    def silent(self) -> Mapping[MemberId, str]:
        """Return who was silent in the last trip, and why, in fixed words."""
        return {} if self._road is None else self._road.silent

    def close(self) -> None:
        """End the stream, if the run has ended; else it is resumed on it."""
        if self._road is not None:
            self._road.close()
        if self._folder.ended and self._folder.stream.exists():
            try:
                self._client.close_stream(self._folder.stream.read_text(encoding="ascii"))
            except (ControlError, ConfigError):
                return  # it expires by itself

    def _found(self) -> str | None:
        """Return the stream that this run has opened before, if it is open still."""
        if not self._folder.stream.exists():
            return None
        name = self._folder.stream.read_text(encoding="ascii")
        try:
            self._client.stream(name)
        except ControlError:
            return None
        return name

    def _opened(self) -> str:
        """Open a stream and have the members dial it. Raises: Abort."""
        order, who = self._folder.order(), self._folder.who()
        members = sorted(order.members)
        try:
            name = self._client.open_stream(members, LONGEST_S)
            tickets = self._client.tickets(name)
        except ControlError as no:
            raise Abort(f"no stream for {len(members)} members: {no}") from None
        ask_to_dial(who, members, tickets, self._flower, order.purpose)
        write_whole(self._folder.stream, name.encode("ascii"))
        return name


def ask_to_dial(who: Who, members: list[str], tickets: bytes, flower: Carrier, purpose: str) -> None:
    """Run the collaboration `stream`, in a session of its own. Raises: Abort if nobody dials."""
    task = stream.WIRE.decode(tickets)
    assert isinstance(task, stream.Tickets)  # noqa: S101  our own hub's
    keys = {MemberId(m): PublicKey.parse(who.keys[m]) for m in members}
    identity = Identity.from_pem(Path(who.identity_key).read_bytes())
    outbox = Outbox(flower, identity, NAME, f"stream-{task.stream}", stream.NAME, keys, purpose)
    drive(stream.coordinate([MemberId(m) for m in members], task), outbox, stream.WIRE)
    outbox.close()
