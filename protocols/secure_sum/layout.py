"""Say who masks with whom, and who holds whose shares, in one sum: derived by everybody alike, chosen by nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from protocols.faults import PeerError
from protocols.secure_sum import graph
from protocols.secure_sum.boxes import Dealing
from protocols.secure_sum.messages import Request
from protocols.secure_sum.terms import Mode, Terms

ASSUMED_DROPOUT = 0.1  # of the members, in sums of more than graph.COMPLETE_UP_TO
_SECURITY = 80  # bits: 40, and as many for a coordinator that tries numbers or crowds until it likes the order


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold each member's neighbours, sorted, and how many holders open what one of them dealt.

    A holder's point is its place among the members, counted from 1.
    """

    neighbours: Mapping[str, tuple[str, ...]]
    threshold: int
    place: Mapping[str, int]

    @classmethod
    def among(cls, members: tuple[str, ...], near: Mapping[str, tuple[str, ...]], threshold: int) -> "Layout":
        """Return the layout among sorted members."""
        return cls(near, threshold, {m: i + 1 for i, m in enumerate(members)})

    def points(self, holders: Sequence[str]) -> tuple[int, ...]:
        """Return the holders' points."""
        return tuple(self.place[h] for h in holders)

    def dealing(self, dealer: str) -> Dealing:
        """Return who holds shares of `dealer`'s secrets: its neighbours and itself."""
        holders = tuple(sorted((*self.neighbours[dealer], dealer)))
        return Dealing(dealer, holders, self.points(holders), self.threshold)


def layout_of(request: Request, terms: Terms) -> Layout:
    """Return the layout of a request: complete for a small crowd or in STRICT mode, else a Harary graph.

    Above, `whole` keeps a sum from falling apart into sums of parts, whoever colludes or is declared dropped.
    Raises: PeerError for a crowd in which no graph is safe.
    """
    return _layout(request.members, request.sid, request.number, terms)


@lru_cache(maxsize=8)
def _layout(members: tuple[str, ...], sid: bytes, number: int, terms: Terms) -> Layout:
    if terms.mode is Mode.STRICT or len(members) <= graph.COMPLETE_UP_TO:
        return _complete(members, terms.threshold(len(members)))
    corrupt = terms.colluding / len(members)
    try:
        found = graph.parameters(len(members), corrupt, ASSUMED_DROPOUT, security=_SECURITY, whole=True)
    except ValueError:
        raise PeerError(f"no graph of {len(members)} members is safe against {terms.colluding} of them") from None
    near = graph.neighbours(graph.order(members, sid, number), found.degree)
    # One more than the bound for neighbours asks for, since a dealer holds a share of its own secrets too.
    return Layout.among(members, {m: tuple(sorted(near[m])) for m in members}, found.threshold + 1)


@lru_cache(maxsize=32)
def _complete(members: tuple[str, ...], threshold: int) -> Layout:
    return Layout.among(members, {m: tuple(o for o in members if o != m) for m in members}, threshold)
