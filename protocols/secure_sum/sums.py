"""Keep one member's part in its secure sums, in memory alone: who holds this, and nobody else, can unmask a pair.

A check that fails closes its session: the keys are dropped, and the coordinator has to introduce everybody anew.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from privacy.refusal import Refused, RosterNotApproved
from protocols.faults import LocalError, PeerError
from protocols.roster import Roster
from protocols.secure_sum import aggregation, session
from protocols.secure_sum.aggregation import Begun, Consenting, Expected, Uploaded
from protocols.secure_sum.messages import (
    Acknowledge,
    Acknowledged,
    Agree,
    Agreed,
    Introduced,
    Request,
    Reveal,
    Revealed,
    Slip,
    Upload,
)
from protocols.secure_sum.session import Announced, Joined, Place, Signer
from protocols.secure_sum.terms import Terms

S = TypeVar("S")
MOST_SESSIONS = 64  # of a member at a time; the oldest is closed


@dataclass(slots=True, repr=False)
class Sums:
    """Hold the open sessions of one member by a name that its home gives them. One thread at a time.

    `closed` counts sessions by what closed them: the class of the fault, never its text.
    """

    identity: Signer
    now: Callable[[], float]
    closed: Counter[str] = field(default_factory=Counter)
    _sessions: OrderedDict[str, Announced | Joined] = field(default_factory=OrderedDict)
    _begun: dict[str, Begun] = field(default_factory=dict)
    _open: dict[str, Uploaded | Consenting] = field(default_factory=dict)

    def introduce(self, name: str, place: Place, terms: Terms, roster: Roster) -> Introduced:
        """Make keys for a session that is not open yet. Raises: PeerError, Refused."""
        if name in self._sessions:
            self._close(name, "introduced twice")
            raise PeerError("a session that is open already")
        for other in [n for n, s in self._sessions.items() if _expires(s) < self.now()]:
            self._close(other, "expired")
        announced, answer = session.introduce(place, terms, roster, self.identity, self.now())
        self._sessions[name] = announced
        while len(self._sessions) > MOST_SESSIONS:
            self._close(next(iter(self._sessions)), "too many")
        return answer

    def acknowledge(self, name: str, ask: Acknowledge) -> Acknowledged:
        """Check everybody's announcements. Raises: PeerError, Refused."""
        with self._closing(name):
            announced = self._session(name, Announced)
            self._sessions[name], answer = announced.acknowledge(ask, self.now())
            return answer

    def terms(self, name: str, roster: Roster) -> Terms:
        """Return the terms of an open session.

        Raises: PeerError; RosterNotApproved if another roster has been approved since.
        """
        with self._closing(name):
            held = self._sessions.get(name)
            if held is None:
                raise PeerError("no such session here: a restart forgets all keys")
            known = held.roster if isinstance(held, Announced) else held.ready.roster
            if known.digest != roster.digest:
                raise RosterNotApproved("another roster has been approved since this session was opened")
            return held.terms if isinstance(held, Announced) else held.ready.terms

    def begin(self, name: str, request: Request, slips: Sequence[Slip], expected: Expected) -> Begun:
        """Check a request, and confirm peers. What was begun before and not uploaded is void.

        Raises: PeerError, Refused.
        """
        with self._closing(name):
            joined = self._session(name, Joined).confirm(slips)
            self._sessions[name] = joined
            self._begun[name] = aggregation.begin(joined.ready, request, expected, self.now())
            return self._begun[name]

    def upload(self, name: str, begun: Begun, values: NDArray[np.signedinteger[Any]], threads: int = 1) -> Upload:
        """Mask `values` for a request that was begun, once. Call it after the charge. Raises: LocalError."""
        joined = self._sessions.get(name)
        if self._begun.pop(name, None) is not begun or not isinstance(joined, Joined):
            raise LocalError("a sum that is not the one begun last, or was uploaded before")
        self._sessions[name] = joined.at(begun.ready)  # first: whatever happens below, this number is used up
        self._open.pop(name, None)
        stage, answer = begun.upload(values, threads)
        if stage is not None:
            self._open[name] = stage
        return answer

    def agree(self, name: str, ask: Agree) -> Agreed:
        """Sign who is in the sum. Raises: PeerError, Refused."""
        with self._closing(name):
            self._session(name, Joined)
            self._open[name], answer = self._stage(name, Uploaded).agree(ask, self.identity)
            return answer

    def reveal(self, name: str, ask: Reveal) -> Revealed:
        """Reveal shares, once for each sum. Raises: PeerError."""
        with self._closing(name):
            stage, joined = self._stage(name, Consenting), self._session(name, Joined)
            del self._open[name]  # first: there is no second time
            self._sessions[name] = joined.at(replace(joined.ready, revealed=stage.request.query))
            return stage.reveal(ask)

    def leave(self, name: str) -> None:
        """Drop the keys of one session, if it is open."""
        self._sessions.pop(name, None)
        self._begun.pop(name, None)
        self._open.pop(name, None)

    def close(self) -> None:
        """Drop all keys."""
        self._sessions.clear()
        self._begun.clear()
        self._open.clear()

    def __len__(self) -> int:
        return len(self._sessions)

    def _session(self, name: str, kind: type[S]) -> S:
        held = self._sessions.get(name)
        if held is not None and _expires(held) < self.now():
            raise PeerError("the keys of this session have expired")
        if not isinstance(held, kind):
            raise PeerError("no such session here, or not at that stage: a restart forgets all keys")
        return held

    def _stage(self, name: str, kind: type[S]) -> S:
        held = self._open.get(name)
        if not isinstance(held, kind):
            raise PeerError("no sum here at that stage")
        return held

    @contextmanager
    def _closing(self, name: str) -> Iterator[None]:
        try:
            yield
        except (PeerError, Refused) as fault:
            self._close(name, type(fault).__name__)
            raise

    def _close(self, name: str, why: str) -> None:
        self.closed[why] += name in self._sessions
        self.leave(name)


def _expires(held: Announced | Joined) -> float:
    return held.expires if isinstance(held, Announced) else held.ready.expires
