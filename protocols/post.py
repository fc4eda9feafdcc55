"""Letters: signed, numbered, and answered once. A letter delivered twice gets the same bytes, never a second answer.

    coordinator                                                member
    Outbox: seal(letter n, ask) ────────── road ─────────▶ Mailbox: signature, recipient, order
                                                           Shelf: accept(n) on disk, then work, then keep(answer)
                                                           Evidence: what leaves, on disk and signed
            open(letter n, answer) ◀────── road ────────── the same bytes for the same letter, for ever
            letter n + 1 says, signed, that answer n is there; the last letter has no ask: it closes the session

A letter whose work breaks is never worked on again. A crash between accept and keep loses the answer, not the order:
the same letter is worked on again, under the same occasion, so the ledger charges it once. Another letter under an
accepted number is refused.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from privacy.cleared import Cleared
from privacy.config import ConfigError
from privacy.occasion import Occasion
from privacy.refusal import Refused
from protocols.catalog import Collaboration
from protocols.faults import LocalError, PeerError, WireError
from protocols.keys import Identity, PublicKey
from protocols.session import Carrier, Member, MemberId
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no ledger, and starts seconds sooner without
    from privacy.evidence import Evidence

Deliver = Callable[[bytes], bytes]
_LABEL = b"parley/v1/letter"
TAKEN = b"parley/v1/taken"
SIGNATURE = 64
_FAILED = b""  # kept as the answer of a letter whose work broke: no letter has it, and none is worked on again
_OVER = b""  # kept as the state of a session that is over: no state has it, and no letter goes on from it
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Taken(Message):
    """Say that the answer to letter `number` is there: its sealed bytes' digest, and a signature on both."""

    number: int
    answer: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Letter(Message):
    """Carry one encoded message of one session. `members` are all who take part in it; `number` only grows.

    `purpose` is what the sender says the session is for. `taken` is the receipt for the recipient's last answer, in
    letters from the coordinator. A letter with an empty body closes the session.
    """

    session: str
    collaboration: str
    number: int
    sender: str
    recipient: str
    members: tuple[str, ...]
    body: bytes
    purpose: str = ""
    taken: Taken | None = None

    def __post_init__(self) -> None:
        names = (self.session, self.collaboration, self.sender, self.recipient, self.purpose, *self.members)
        if max(map(len, names)) > _LONGEST_NAME:  # a session's name is kept for ever
            raise ValueError(f"a name of more than {_LONGEST_NAME} characters")


_WIRE = Wire(Letter)


def taken_bytes(session: str, number: int, member: str, answer: bytes) -> bytes:
    """Return what the coordinator signs to say that it has an answer; every part has a fixed or a stated length."""
    names = b"".join(len(n.encode()).to_bytes(4, "big") + n.encode() for n in (session, member))
    return names + number.to_bytes(8, "big") + answer


def seal(letter: Letter, identity: Identity) -> bytes:
    """Return the letter's bytes behind the sender's signature."""
    data = _WIRE.encode(letter)
    return identity.sign(_LABEL, data) + data


def unseal(sealed: bytes, key: PublicKey) -> Letter:
    """Return the letter that the owner of `key` sealed. Raises: PeerError, WireError."""
    data = sealed[SIGNATURE:]
    key.verify(_LABEL, data, sealed[:SIGNATURE])  # first: nothing unsigned reaches the decoder
    letter = _WIRE.decode(data)
    if not isinstance(letter, Letter):
        raise WireError("not a letter")
    return letter


@dataclass
class Outbox:
    """Be a carrier of message bodies over a road of sealed letters: number, seal, carry, open, check.

    Deterministic: the same session on the same answers seals the same bytes, which is what lets a coordinator
    resume after a crash. A reply that is not the addressee's signed answer to this letter counts as silence.
    """

    road: Carrier
    identity: Identity
    name: str
    session: str
    collaboration: str
    keys: Mapping[MemberId, PublicKey]
    purpose: str = ""
    number: int = 0
    _taken: dict[MemberId, Taken] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, bodies: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Send one body to each member and return the bodies of the answers that came back."""
        strangers = set(bodies) - set(self.keys)
        if strangers:
            raise LocalError(f"{len(strangers)} members have no key in this session")
        letters = Letters(bodies, self._blank(), dict(self._taken), self.identity)
        replies = dict(self.road(letters))  # a receipt is sent until the next answer is there: it may have been lost
        number, self.number = self.number, self.number + 1
        answers: dict[MemberId, bytes] = {}
        for member in list(replies):
            reply = replies.pop(member)  # each is dropped when it is read
            if member in bodies:
                try:
                    answers[member] = self._open(member, number, reply)
                except PeerError:
                    continue
                self._taken[member] = self._receipt(member, number, reply)
        return answers

    def close(self) -> None:
        """Tell everybody who answered that the session is over, with a receipt for the last answer."""
        if self._taken:
            self(dict.fromkeys(self._taken, b""))

    def _receipt(self, member: MemberId, number: int, reply: bytes) -> Taken:
        answer = hashlib.sha256(reply).digest()
        signed = self.identity.sign(TAKEN, taken_bytes(self.session, number, member, answer))
        return Taken(number, answer, signed)

    def _blank(self) -> Letter:
        """Return what all letters of this trip have in common."""
        everyone = tuple(sorted(self.keys))
        return Letter(self.session, self.collaboration, self.number, self.name, "", everyone, b"", self.purpose)

    def _open(self, member: MemberId, number: int, reply: bytes) -> bytes:
        letter = unseal(reply, self.keys[member])
        expected = (self.session, self.collaboration, number, member, self.name)
        if (letter.session, letter.collaboration, letter.number, letter.sender, letter.recipient) != expected:
            raise PeerError("an answer to another letter")
        return letter.body


@dataclass(frozen=True, slots=True)
class Letters(Mapping[MemberId, bytes]):
    """Map each member to its sealed letter, made when it is looked up, the same each time; none of them is held.

    A letter is `blank`, addressed to the member, with its body and the receipt for its last answer.
    """

    bodies: Mapping[MemberId, bytes] = field(repr=False)
    blank: Letter
    taken: Mapping[MemberId, Taken] = field(repr=False)
    identity: Identity

    def __getitem__(self, member: MemberId) -> bytes:
        letter = replace(self.blank, recipient=member, body=self.bodies[member], taken=self.taken.get(member))
        return seal(letter, self.identity)

    def __iter__(self) -> Iterator[MemberId]:
        return iter(self.bodies)

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass(frozen=True, slots=True)
class Shelved:
    """Hold what a member keeps of one session: the last accepted letter, the state, the answer if there is one.

    `state` is the encoded state *before* the letter while `answer` is None, and *after* it once it is there. Of a
    session that is over it is empty: what was heard in it, such as a prompt, is not kept.
    """

    number: int
    digest: bytes
    state: bytes | None
    answer: bytes | None


class Shelf(Protocol):
    """Keep sessions durably; each call is on disk when it returns."""

    def fetch(self, session: str) -> Shelved | None:
        """Return what is kept of `session`."""

    def keep(self, session: str, shelved: Shelved) -> None:
        """Replace what is kept of `session`, atomically."""


@dataclass
class MemoryShelf:
    """Keep sessions as long as the process lives: for simulations, where a crash ends everything."""

    sessions: dict[str, Shelved] = field(default_factory=dict)

    def fetch(self, session: str) -> Shelved | None:
        """Return what is kept of `session`."""
        return self.sessions.get(session)

    def keep(self, session: str, shelved: Shelved) -> None:
        """Replace what is kept of `session`."""
        self.sessions[session] = shelved


@dataclass
class Mailbox:
    """Answer the letters of one pinned coordinator to one member, each once, and only with what a gate let go.

    `open_home` gives a collaboration the powers it may use on this occasion, and no others; it also closes sessions.
    `evidence` is on disk before an answer leaves.
    Learns:  the coordinator: that the member exists and answered; whatever `open_home` lets through its gate.
    Raises:  PeerError, WireError, Refused; the caller answers any of them with one fixed word.
    """

    me: MemberId
    identity: Identity
    coordinator: PublicKey
    catalog: Mapping[str, Collaboration]
    open_home: Callable[[Occasion], Any]
    shelf: Shelf
    evidence: "Evidence"
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def deliver(self, sealed: bytes) -> bytes:
        """Return the sealed answer to a sealed letter: the same bytes for the same letter."""
        letter = unseal(sealed, self.coordinator)
        collaboration = self._check(letter)
        occasion = self._occasion(letter, collaboration)
        with self._lock:
            try:
                return self._deliver(letter, occasion, collaboration, hashlib.sha256(sealed).digest())
            except (Refused, PeerError) as no:
                self.evidence.refused(occasion, type(no).__name__)
                raise

    def _deliver(self, letter: Letter, occasion: Occasion, collaboration: Collaboration, asked: bytes) -> bytes:
        """Answer from the shelf, or by work; write the evidence, then let the answer go."""
        ask = collaboration.wire.decode(letter.body) if letter.body else None
        self._take(letter, occasion)
        shelved = self._accept(letter, asked)
        if shelved.answer == _FAILED:
            raise PeerError("a letter that failed here before")
        answer = shelved.answer
        if answer is None:
            self.evidence.require_unanswered(occasion)
            answer = self._answer(letter, occasion, ask, collaboration, shelved)
        else:
            self.evidence.require_allowed(occasion)
        self.evidence.emit(occasion, asked, hashlib.sha256(answer).digest(), len(answer))
        return answer

    def _check(self, letter: Letter) -> Collaboration:
        if letter.recipient != self.me or self.me not in letter.members:
            raise PeerError("a letter to somebody else")
        if len(set(letter.members)) < len(letter.members):
            raise PeerError("a member is named twice")
        collaboration = self.catalog.get(letter.collaboration)
        if collaboration is None:
            raise PeerError("no such collaboration here")
        return collaboration

    def _occasion(self, letter: Letter, collaboration: Collaboration) -> Occasion:
        return Occasion(
            letter.session,
            letter.number,
            collaboration.name,
            collaboration.level,
            str(self.coordinator),
            len(letter.members),
            letter.members,
            purpose=letter.purpose,
        )

    def _take(self, letter: Letter, occasion: Occasion) -> None:
        """Keep the coordinator's receipt for an earlier answer. Raises: PeerError, RolledBack."""
        taken = letter.taken
        if taken is None:
            return
        if not 0 <= taken.number < letter.number or len(taken.answer) != hashlib.sha256().digest_size:
            raise PeerError("a receipt for an answer that cannot be there")
        signed = taken_bytes(letter.session, taken.number, self.me, taken.answer)
        self.coordinator.verify(TAKEN, signed, taken.signature)
        self.evidence.taken(occasion, taken.number, taken.answer, taken.signature)

    def _accept(self, letter: Letter, digest: bytes) -> Shelved:
        """Bind the letter to its number, durably, before any work; refuse another letter under that number."""
        old = self.shelf.fetch(letter.session)
        if old is not None and letter.number == old.number:
            if old.digest != digest:
                raise PeerError("another letter under the same number")
            return old
        if letter.number < 0 or (old is not None and letter.number < old.number):
            raise PeerError("a letter from the past")
        if old is not None and old.state == _OVER:
            raise PeerError("a letter after the end of its session")
        if old is None and not letter.body:
            raise PeerError("the end of a session that never began here")
        # A letter that was lost, or accepted and never answered, leaves a gap: its trip is over for this member.
        accepted = Shelved(letter.number, digest, old.state if old else None, None)
        self.shelf.keep(letter.session, accepted)
        return accepted

    def _answer(
        self, letter: Letter, occasion: Occasion, ask: Message | None, collaboration: Collaboration, shelved: Shelved
    ) -> bytes:
        member: Member[Any] = collaboration.begin
        if shelved.state is not None:
            member = collaboration.state(shelved.state)
        try:
            home = self.open_home(occasion)
            after, answer = (member, home.close()) if ask is None else member.answer(ask, home)
            body = _encoded(answer, collaboration.wire, self.evidence.own(occasion))
        except (Refused, PeerError, ConfigError):
            raise  # all come before any draw: the same letter may be asked again
        except Exception:
            # Perhaps in the draw, after its charge: to draw again would be a second look at the data for one price.
            self.shelf.keep(letter.session, replace(shelved, answer=_FAILED))
            raise
        reply = Letter(
            letter.session,
            letter.collaboration,
            letter.number,
            self.me,
            letter.sender,
            letter.members,
            body,
        )
        sealed = seal(reply, self.identity)
        state = _OVER
        if ask is not None:
            state = collaboration.states.encode(after)  # type: ignore[arg-type]  # a Message by the catalog
        self.shelf.keep(letter.session, Shelved(letter.number, shelved.digest, state, sealed))
        return sealed


def _encoded(answer: object, wire: Wire, occasion: Occasion) -> bytes:
    """Return the body of what a gate has let go on this occasion. Raises: LocalError for anything else."""
    if not isinstance(answer, Cleared):
        raise LocalError("an answer that no gate let go")
    if answer.receipt is None or (answer.receipt.session, answer.receipt.number) != occasion.key:
        raise LocalError("an answer that was let go on another occasion")  # this one has paid for something else
    return answer.value if answer.value == b"" else wire.encode(answer.value)
