"""A coordinator that keeps to no rule: every trip by hand, every message open to change. And members that lie."""

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from crowd import CONTEXT, PURPOSE, Crowd, One, crowd

from protocols.secure_sum.aggregation import Consenting, Uploaded
from protocols.secure_sum.layout import layout_of
from protocols.secure_sum.masks import add_masks, dtype_of, sum_words, unpack
from protocols.secure_sum.messages import (
    ANNOUNCEMENTS,
    Acknowledge,
    Agree,
    Introduced,
    Request,
    Reveal,
    Slip,
    Upload,
    label,
    session_id,
)
from protocols.secure_sum.session import Joined
from protocols.secure_sum.terms import Mode

ANNOUNCE = label("announcement")
# What could be part of a key, a vector or another's text: long runs of letters and digits, escapes, quoted strings.
_LOOKS_PRIVATE = re.compile(r"[A-Za-z0-9+/=_-]{20}|\\x|b'|array\(|\[|-?\d\.\d")


@contextmanager
def refused(kind: type[Exception], match: str, *closed: One):
    """Be refused with this class of error, for this reason, saying nothing private; `closed` hold no keys after."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert type(caught.value) is kind
    assert not _LOOKS_PRIVATE.search(str(caught.value)), str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for one in closed:
        assert len(one.sums) == 0
        assert not one.sums._open


def resigned(one: One, introduced: Introduced, **changes) -> Introduced:
    """What `one` signs if it says something else than it should."""
    data = ANNOUNCEMENTS.encode(replace(ANNOUNCEMENTS.decode(introduced.announcement), **changes))
    return Introduced(data, one.identity.sign(ANNOUNCE, data))


def announced(introduced: Introduced):
    return ANNOUNCEMENTS.decode(introduced.announcement)


def changed(data: bytes, at: int = 0) -> bytes:
    """The same bytes but for one bit."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def reworded(upload: Upload, how: Callable[[bytes], bytes]) -> Upload:
    """The same upload with other words."""
    return replace(upload, words=np.frombuffer(how(bytes(upload.words)), np.uint8))


@dataclass
class Hand:
    """One session, each trip of it a method; what the members said is kept by name."""

    there: Crowd
    introduced: dict[str, Introduced] = field(default_factory=dict)
    written: dict[str, dict[str, Slip]] = field(default_factory=dict)
    sid: bytes = b""
    number: int = 0

    def __getitem__(self, name: str) -> One:
        return self.there.members[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.there.members)

    def introduce(self) -> "Hand":
        self.introduced = {m: one.introduce(self.there.terms) for m, one in self.there.members.items()}
        return self

    def introduce_again(self, member: str) -> One:
        """Have one member forget its keys and make others."""
        self[member].sums.close()
        self.introduced[member] = self[member].introduce(self.there.terms)
        return self[member]

    def manifest(self, **instead: Introduced) -> Acknowledge:
        """All announcements, in order; some replaced, or added, by name."""
        return Acknowledge(tuple(i for _, i in sorted((self.introduced | instead).items())))

    def join(self, *members: str, manifest: Acknowledge | None = None) -> "Hand":
        shown = manifest or self.manifest()
        self.sid = session_id(shown.introduced)
        for m in members or self.names:
            answer = self[m].acknowledge(shown)
            self.written[m] = {s.member: Slip(m, s.proof, s.ciphertext) for s in answer.slips}
        return self

    def slips(self, to: str) -> tuple[Slip, ...]:
        return tuple(self.written[m][to] for m in self.written if to in self.written[m])

    def spec(self, members: int | None = None, **changes):
        return self.there.spec(len(self.names) if members is None else members, **changes)

    def request(self, **changes) -> Request:
        given = {
            "sid": self.sid, "number": self.number, "purpose": PURPOSE, "members": self.names,
            "spec": self.spec(max(1, len(changes.get("members", self.names)))), "context": CONTEXT,
            "query": self.number, "attempt": 0,
        }  # fmt: skip
        self.number += 1
        return Request(**(given | changes))

    def ask(self, member: str, request: Request, slips=None, spec=None, query: int | None = None) -> Upload:
        own = self.spec(len(request.members)) if spec is None else spec
        return self[member].upload(request, self.slips(member) if slips is None else slips, own, query)

    def upload(self, request: Request) -> dict[str, Upload]:
        return {m: self.ask(m, request) for m in request.members}

    def survivors(self, request: Request, uploads: dict[str, Upload]) -> Agree:
        kept = sorted(uploads)
        return Agree(request.number, tuple(kept), b"".join(uploads[m].digest(request.ctx) for m in kept))

    def agree(self, ask: Agree) -> dict[str, bytes]:
        return {m: self[m].agree(ask).signature for m in ask.survivors}

    def reveal(self, to: str, request: Request, uploads: dict[str, Upload], signed: dict[str, bytes]) -> Reveal:
        """The right ask to one holder; `uploads` are those of the survivors."""
        layout, boxes = layout_of(request, self.there.terms), []
        for dealer in sorted(uploads):
            if dealer != to and to in layout.neighbours[dealer]:
                boxed = layout.dealing(dealer).boxed
                boxes.append(uploads[dealer].boxes[boxed.index(to)] if to in boxed else b"")
        who = sorted(signed)
        return Reveal(request.number, tuple(who), b"".join(signed[m] for m in who), tuple(boxes))

    def agreed(self, gone: tuple[str, ...] = ()):
        """A sum up to the moment before the shares are asked for: request, survivors' uploads, signatures."""
        request = self.request()
        uploads = self.upload(request)
        left = {m: u for m, u in uploads.items() if m not in gone}
        return request, left, self.agree(self.survivors(request, left))

    def stage(self, member: str) -> Uploaded | Consenting:
        return self[member].sums._open[self[member].session]

    def joined(self, member: str) -> Joined:
        held = self[member].sums._sessions[self[member].session]
        assert isinstance(held, Joined)
        return held


def hand(count: int, mode: Mode = Mode.RESILIENT, length: int = 7, **terms) -> Hand:
    """`count` members that have introduced themselves."""
    return Hand(crowd(count, mode, length, **terms)).introduce()


def opened(count: int, mode: Mode = Mode.RESILIENT, length: int = 7, **terms) -> Hand:
    """`count` members that have joined one session."""
    return hand(count, mode, length, **terms).join()


def total(request: Request, uploads, masks=()) -> np.ndarray:
    """What the coordinator gets that adds up these uploads, and takes these masks into account."""
    spec = request.spec
    words = sum_words((unpack(u.words, spec.bits) for u in uploads), spec.length, dtype_of(spec.bits))
    add_masks(words, list(masks))
    return words


def looks_uniform(words: np.ndarray) -> bool:
    """A chi-square test of the bytes at a level of about 1e-9: whoever fails it carries something of a value."""
    seen = np.bincount(np.ascontiguousarray(words).view(np.uint8), minlength=256)
    expected = seen.sum() / 256
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return bool(abs(statistic - 255) < 6.5 * np.sqrt(2 * 255))
