"""Coordinate secure sums: straight-line generators that a collaboration runs with `yield from`.

    opened  = yield from open_session(members, terms)
    request = opened.request(purpose, spec, context, query)
    answers = yield {m: MyAsk(..., request, opened.slips(m)) for m in request.members}
    total   = yield from finish(opened, request, answers)

Deterministic: nothing is drawn here, so a coordinator that crashed replays its journal and goes on.
Learns:  who took part, sizes, timing, and the sum of each request. No term of it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from privacy.fixed_point import FixedPoint
from protocols.faults import Abort, WireError
from protocols.secure_sum.aggregation import sign, wanted
from protocols.secure_sum.layout import Layout, layout_of
from protocols.secure_sum.masks import Words, add_masks, dtype_of, sum_words, unpack
from protocols.secure_sum.messages import (
    ANNOUNCEMENTS,
    Acknowledge,
    Acknowledged,
    Agree,
    Agreed,
    Announcement,
    Introduce,
    Introduced,
    Request,
    Reveal,
    Revealed,
    Slip,
    Upload,
    session_id,
)
from protocols.secure_sum.recovery import recovered
from protocols.secure_sum.session import CLOCK_SKEW_S, sound
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import Answers, Coordinator, MemberId
from protocols.wire import Message

_SHORT = 32


class DeadSum(Abort):
    """This sum cannot be finished, and nothing of it was revealed; the session may ask for another.

    `trips` were made in vain after the uploads.
    """

    trips = 0

    def after(self, trips: int) -> "DeadSum":
        """Return this fault, noting how many trips it took."""
        self.trips = trips
        return self


@dataclass(frozen=True, slots=True)
class Summed:
    """Hold a sum: words (length,), the members (sorted) whose values are in it, and the trips after the uploads."""

    words: Words
    members: tuple[str, ...]
    trips: int


@dataclass(slots=True)
class Opened:
    """Hold an open session at the coordinator: who has joined, and the slips that not everybody has yet."""

    terms: Terms
    sid: bytes
    members: tuple[str, ...]
    _slips: dict[str, tuple[Slip, ...]] = field(repr=False)
    number: int = 0

    def request(
        self,
        purpose: str,
        spec: FixedPoint,
        context: bytes,
        query: int,
        members: Sequence[str] = (),
        attempt: int = 0,
    ) -> Request:
        """Return the next request, to all who have joined or to some of them."""
        asked = tuple(sorted(members)) if members else self.members
        number, self.number = self.number, self.number + 1
        return Request(self.sid, number, purpose, asked, spec, context, query, attempt)

    def slips(self, member: str) -> tuple[Slip, ...]:
        """Return what `member` must know of its peers; nothing once it has shown that it does."""
        return self._slips.get(member, ())

    def heard(self, member: str) -> None:
        """Note that `member` has answered a request, and so has its slips."""
        self._slips.pop(member, None)


def open_session(members: Sequence[MemberId], terms: Terms) -> Coordinator[Opened]:
    """Have the members agree on keys, in two trips; who is silent or garbled is left out.

    Raises: Abort if fewer than the smallest crowd are left.
    """
    answers = yield dict.fromkeys(members, Introduce(terms))
    introduced = _of_one_mind(answers, terms)
    _enough(introduced, members, terms, "introduced themselves")
    answers = yield dict.fromkeys(introduced, Acknowledge(tuple(introduced.values())))
    slips = {m: _slips(m, a, introduced) for m, a in sorted(answers.items())}
    joined = {m: s for m, s in slips.items() if s is not None}
    _enough(joined, members, terms, "acknowledged the others")
    routed = {str(m): tuple(s[m] for peer, s in joined.items() if peer != m) for m in joined}
    return Opened(terms, session_id(tuple(introduced.values())), tuple(routed), routed)


def usable(opened: Opened, request: Request, answers: Answers) -> dict[str, Upload]:
    """Return the uploads among `answers`, by member in order, that can be added up."""
    return _consistent(request, opened.terms, layout_of(request, opened.terms), answers)


def finish(opened: Opened, request: Request, answers: Answers) -> Coordinator[Summed]:
    """Return the sum of the uploads among `answers`; in RESILIENT mode after two more trips.

    Learns:  the coordinator: the sum over the survivors.
    Raises:  DeadSum if somebody is missing (STRICT), or too many are.
    """
    layout = layout_of(request, opened.terms)
    for member, answer in answers.items():
        if isinstance(answer, Upload):
            opened.heard(member)
    uploads = _consistent(request, opened.terms, layout, answers)
    if opened.terms.mode is Mode.STRICT:
        if len(uploads) < len(request.members):
            raise DeadSum(f"{len(uploads)} of {len(request.members)} members uploaded; all must")
        return Summed(_total(request, uploads), request.members, 0)
    seeds = yield from _recover(opened.terms, request, layout, uploads)
    total = _total(request, uploads)
    add_masks(total, seeds)
    return Summed(total, tuple(uploads), 2)


def _recover(
    terms: Terms, request: Request, layout: Layout, uploads: Mapping[str, Upload]
) -> Coordinator[list[tuple[int, bytes]]]:
    """Return the masks to add to the total so that none is left: minus the own ones, and those with the dropped."""
    survivors, everyone = tuple(uploads), len(request.members)
    least = max(terms.smallest_crowd, terms.threshold(everyone))
    if len(survivors) < least:
        raise DeadSum(f"{len(survivors)} of {everyone} members uploaded, need {least}")
    digests = b"".join(u.digest(request.ctx) for u in uploads.values())
    agreed = yield dict.fromkeys(map(MemberId, survivors), Agree(request.number, survivors, digests))
    signed = {m: s for m in survivors if (s := _agreement(agreed.get(MemberId(m)), request))}
    if len(signed) < terms.threshold(everyone):
        raise DeadSum(f"{len(signed)} of {everyone} members agreed, need {terms.threshold(everyone)}").after(1)
    boxed = {d: dict(zip(layout.dealing(d).boxed, u.boxes, strict=True)) for d, u in uploads.items()}
    asks = {MemberId(m): _reveal(m, request, layout, boxed, signed) for m in signed}
    revealed = yield asks
    shares = {
        str(m): a for m, a in sorted(revealed.items()) if isinstance(a, Revealed) and a.number == request.number
    }
    found = recovered(layout, uploads, shares)
    if found.lost:
        raise DeadSum(f"{found.lost} of {everyone} members' masks cannot be recovered").after(2)
    own = [(-1, found.keys[s, 0]) for s in survivors]
    pairs = [
        (-sign(s, layout.neighbours[s][row - 1]), found.keys[s, row])
        for s in survivors
        for row in wanted(layout, s, survivors)[1:]
    ]
    return own + pairs


def _reveal(
    holder: str,
    request: Request,
    layout: Layout,
    boxed: Mapping[str, Mapping[str, bytes]],
    signed: Mapping[str, bytes],
) -> Reveal:
    near = set(layout.neighbours[holder])
    boxes = [held.get(holder, b"") for dealer, held in boxed.items() if dealer in near]
    return Reveal(request.number, tuple(signed), b"".join(signed.values()), tuple(boxes))


def _agreement(answer: Message | None, request: Request) -> bytes:
    """Return the signature in an agreement on this sum, or nothing."""
    right = isinstance(answer, Agreed) and answer.number == request.number and len(answer.signature) == 2 * _SHORT
    return answer.signature if right and isinstance(answer, Agreed) else b""


def _of_one_mind(answers: Answers, terms: Terms) -> dict[MemberId, Introduced]:
    """Return the introductions of those who have approved the roster that most have approved.

    What the others would refuse is left out, as far as it shows without their keys: one member must not stop all.
    """
    found: dict[MemberId, Introduced] = {}
    rosters: dict[MemberId, str] = {}
    expires: dict[MemberId, int] = {}
    keys: set[bytes] = set()
    for member, answer in sorted(answers.items()):
        if isinstance(answer, Introduced):
            try:
                said = ANNOUNCEMENTS.decode(answer.announcement)
            except WireError:
                continue
            new = isinstance(said, Announcement) and not keys & {said.exchange_key, said.kem_key}
            if isinstance(said, Announcement) and new and said.member == member and sound(said, terms):
                found[member], rosters[member], expires[member] = answer, said.roster, said.expires
                keys |= {said.exchange_key, said.kem_key}
    if not found:
        return {}
    middle = sorted(expires.values())[len(expires) // 2]
    common = max(sorted(set(rosters.values())), key=Counter(rosters.values()).__getitem__)
    return {m: i for m, i in found.items() if rosters[m] == common and abs(expires[m] - middle) <= CLOCK_SKEW_S}


def _slips(member: str, answer: object, introduced: Mapping[MemberId, Introduced]) -> dict[str, Slip] | None:
    """Return the member's slips by addressee, each now naming its author; None if one is missing."""
    if not isinstance(answer, Acknowledged) or member not in introduced:
        return None
    slips = {s.member: Slip(member, s.proof, s.ciphertext) for s in answer.slips}
    return slips if set(slips) == set(introduced) - {member} else None


def _enough(left: Mapping[MemberId, object], members: Sequence[MemberId], terms: Terms, did: str) -> None:
    if len(left) < terms.smallest_crowd:
        raise Abort(f"{len(left)} of {len(members)} members {did}, need {terms.smallest_crowd}")


def _consistent(request: Request, terms: Terms, layout: Layout, answers: Answers) -> dict[str, Upload]:
    """Return the uploads, by member in order, that can be added up: who quarrels with most neighbours is left out.

    Of two that quarrel with each other alone both are: nobody can tell who lied, and the liar cannot be unmasked.
    """
    uploads = {m: a for m, a in sorted(answers.items()) if _fits(a, m, request, terms, layout)}
    kept: dict[str, Upload] = {str(m): a for m, a in uploads.items() if isinstance(a, Upload)}
    while quarrels := _quarrels(kept, layout):
        most = max(quarrels.values())
        kept = {m: u for m, u in kept.items() if quarrels[m] < most}
    return kept


def _fits(answer: object, member: str, request: Request, terms: Terms, layout: Layout) -> bool:
    if not isinstance(answer, Upload) or member not in request.members:
        return False
    spec, near = request.spec, len(layout.neighbours[member])
    resilient = terms.mode is Mode.RESILIENT
    return (
        answer.number == request.number
        and answer.words.shape == (spec.length * spec.bits // 8,)
        and len(answer.commitments) == _SHORT * near
        and len(answer.own) == (_SHORT if resilient else 0)
        and len(answer.boxes) == (len(layout.dealing(member).boxed) if resilient else 0)
    )


def _quarrels(uploads: Mapping[str, Upload], layout: Layout) -> Counter[str]:
    """Count, by member, the neighbours whose commitment to the common mask is not the same."""
    said = {
        (m, peer): u.commitments[_SHORT * i : _SHORT * (i + 1)]
        for m, u in uploads.items()
        for i, peer in enumerate(layout.neighbours[m])
        if peer in uploads
    }
    return Counter(m for (m, peer), c in said.items() if said[peer, m] != c)


def _total(request: Request, uploads: Mapping[str, Upload]) -> Words:
    spec = request.spec
    return sum_words((unpack(u.words, spec.bits) for u in uploads.values()), spec.length, dtype_of(spec.bits))
