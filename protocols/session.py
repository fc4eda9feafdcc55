"""One session: a coordinator that asks, members that answer, and the loop that joins them. No I/O of its own.

    coordinator (a generator)                members (immutable values)
        yield {member: ask}   ─── carrier ──▶   answer(ask, home) -> (next state, what home's gate let go)
        {member: answer}      ◀── carrier ───

One yield is one round trip. A member that is silent, late or sends garbage is missing from the answers.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NewType, Protocol, TypeVar

from protocols.faults import LocalError, WireError
from protocols.wire import Message, Wire

if TYPE_CHECKING:
    from privacy.cleared import Cleared

MemberId = NewType("MemberId", str)
Asks = Mapping[MemberId, Message]
Answers = Mapping[MemberId, Message]
Carrier = Callable[[Mapping[MemberId, bytes]], Mapping[MemberId, bytes]]
AsyncCarrier = Callable[[Mapping[MemberId, bytes]], Awaitable[Mapping[MemberId, bytes]]]

R = TypeVar("R")
H_contra = TypeVar("H_contra", contravariant=True)
Coordinator = Generator[Asks, Answers, R]


class Member(Protocol[H_contra]):
    """Be a member's side of a session at one moment: a frozen message that says what the member knows."""

    def answer(self, ask: Message, home: H_contra) -> "tuple[Member[H_contra], Cleared[Any]]":
        """Return the next state and the answer, a message that the home's gate let go.

        Raises: PeerError for an ask that is out of order, unknown or unacceptable; Refused from the gate.
        """


def drive(coordinator: Coordinator[R], carrier: Carrier, wire: Wire) -> R:
    """Run `coordinator` to its result over `carrier`.

    Raises: Abort, if the coordinator gives up; whatever the carrier raises.
    """
    try:
        asks = next(coordinator)
        while True:
            replies = dict(carrier(Encoded(asks, wire)))
            asks = coordinator.send(_decode(replies, asks, wire))
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        coordinator.close()


async def adrive(coordinator: Coordinator[R], carrier: AsyncCarrier, wire: Wire) -> R:
    """Do what `drive` does where the carrier is a coroutine."""
    try:
        asks = next(coordinator)
        while True:
            replies = dict(await carrier(Encoded(asks, wire)))
            asks = coordinator.send(_decode(replies, asks, wire))
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        coordinator.close()


class Encoded(Mapping[MemberId, bytes]):
    """Map each member to its encoded ask, made when it is looked up: all of them at once are a member's bytes times
    the members. The same ask to many (the usual case) is encoded once.

    Raises: LocalError if there is no ask, or, at the look-up, for an ask that is not in the vocabulary.
    """

    def __init__(self, asks: Asks, wire: Wire) -> None:
        if not asks:
            raise LocalError("a coordinator must ask somebody")
        self._asks, self._wire = asks, wire
        self._last: tuple[Message, bytes] | None = None

    def __getitem__(self, member: MemberId) -> bytes:
        ask = self._asks[member]
        if self._last is None or self._last[0] is not ask:
            self._last = ask, self._wire.encode(ask)
        return self._last[1]

    def __iter__(self) -> Iterator[MemberId]:
        return iter(self._asks)

    def __len__(self) -> int:
        return len(self._asks)


def _decode(replies: dict[MemberId, bytes], asks: Asks, wire: Wire) -> dict[MemberId, Message]:
    """Decode what came from those who were asked, and drop each reply that is read; garbage counts as silence."""
    answers: dict[MemberId, Message] = {}
    for member in list(replies):
        data = replies.pop(member)
        if member in asks:
            try:
                answers[member] = wire.decode(data)
            except WireError:
                continue
    return answers
