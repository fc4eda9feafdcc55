"""Dial a stream from home, if the policy lets this partner have one: see `protocols/stream.py`."""

from dataclasses import dataclass

from client.visit import Visit
from privacy.gate import Said
from protocols.stream import Dialling


@dataclass(frozen=True, slots=True)
class StreamVisit(Visit):
    """Say that this home dials, and do."""

    def dial(self, stream: str, ticket: bytes, expires: int) -> Said[Dialling]:
        """Begin to dial, through the gate.

        Learns:  the coordinator: that this member is there.
        Raises:  PeerError for a stream that is none, or where there is no road for one; Refused: nobody dials.
        """

        def make() -> Dialling:
            self.house.dial(stream, ticket, expires)
            return Dialling(stream)

        return self.gate.say(make, self.account, self.occasion)
