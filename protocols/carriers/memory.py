"""Carry letters inside one process, with the losses, delays and wire-taps that a test or a simulation asks for."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum

from privacy.refusal import Refused
from protocols.faults import PeerError
from protocols.post import Deliver
from protocols.session import MemberId


class Way(Enum):
    """Name the direction of a letter."""

    OUT = "to the member"
    BACK = "to the coordinator"


def nothing_is_lost(_trip: int, _member: MemberId, _way: Way) -> bool:
    """Lose no letter."""
    return False


def nobody_listens(_member: MemberId, _way: Way, _letter: bytes) -> None:
    """Hear nothing."""


@dataclass
class MemoryRoad:
    """Be a carrier between one coordinator and mailboxes in the same process.

    `lost` says which letter does not arrive; `tap` sees every byte that crosses, lost or not; `pool` delivers to
    several members at once. A member that refuses, or finds the coordinator at fault, is silent: as on every road.
    """

    ends: Mapping[MemberId, Deliver]
    lost: Callable[[int, MemberId, Way], bool] = nothing_is_lost
    tap: Callable[[MemberId, Way, bytes], None] = nobody_listens
    pool: Executor | None = None
    trip: int = 0

    def __call__(self, letters: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Deliver one letter to each member and return the replies that survived."""
        trip, self.trip = self.trip, self.trip + 1
        one_by_one = ((trip, m, letter) for m, letter in letters.items())  # none is held longer than it takes
        carried = self.pool.map(self._carry, one_by_one) if self.pool else map(self._carry, one_by_one)
        return {m: reply for m, reply in zip(letters, carried, strict=True) if reply is not None}

    def _carry(self, one: tuple[int, MemberId, bytes]) -> bytes | None:
        trip, member, letter = one
        self.tap(member, Way.OUT, letter)
        if member not in self.ends or self.lost(trip, member, Way.OUT):
            return None
        try:
            reply = self.ends[member](letter)
        except (Refused, PeerError):
            return None
        self.tap(member, Way.BACK, reply)
        return None if self.lost(trip, member, Way.BACK) else reply
