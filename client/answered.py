"""Remember what was answered at the logit level, so that no two answers can be subtracted."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from protocols.faults import PeerError
from protocols.logits.block import Batch

_MOST_REMEMBERED = 2**16  # positions: some 10 MB
_MOST_PAID = 1024  # sessions


@dataclass(slots=True)
class Answered:
    """Remember in which crowds each position was answered by an exact sum, and which letter paid for a session.

    In memory alone, and the last 65,536 positions: a restart forgets. A sum and the same less one member are two
    equations for that member's own value, whatever the sessions they were asked in. A session whose payment is
    forgotten has lost its keys, too.
    """

    _crowds: OrderedDict[bytes, frozenset[bytes]] = field(default_factory=OrderedDict)
    _paid: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def require(self, batch: Batch, members: Sequence[str], attempts: int) -> None:
        """Return if every position was answered in this crowd alone, or in few enough. Raises: PeerError."""
        crowd = _crowd(members)
        for position in _positions(batch):
            known = self._crowds.get(position, frozenset())
            if crowd not in known and len(known) >= attempts:
                raise PeerError("a position that was answered in another crowd before")

    def note(self, batch: Batch, members: Sequence[str]) -> None:
        """Remember that these positions are answered in this crowd."""
        crowd = _crowd(members)
        for position in _positions(batch):
            self._crowds[position] = self._crowds.pop(position, frozenset()) | {crowd}
            while len(self._crowds) > _MOST_REMEMBERED:
                self._crowds.popitem(last=False)

    def paid(self, session: str) -> int | None:
        """Return the number of the letter whose charge paid for the session, if one has."""
        return self._paid.get(session)

    def pay(self, session: str, number: int) -> None:
        """Remember that this letter's charge pays for its session."""
        self._paid[session] = number
        while len(self._paid) > _MOST_PAID:
            self._paid.popitem(last=False)


def _positions(batch: Batch) -> Iterator[bytes]:
    """Yield a digest for each position: of what stands before it, and of what is asked there, whatever else is."""
    question = batch.question
    kind = hashlib.sha256(f"{question.base}/{question.alphabet.value}/{question.sends.value}/".encode())
    for asked in batch.strands:
        state = kind.copy()
        state.update(np.ascontiguousarray(asked.context, dtype="<i4").tobytes())
        yield state.digest()
        for draft in asked.drafts:
            state.update(np.asarray(draft, dtype="<i4").tobytes())
            yield state.digest()


def _crowd(members: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(members).encode()).digest()[:16]
