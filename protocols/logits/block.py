"""Ask members for a block of positions, and answer: one ask for all collaborations at the logit level.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Think(question, context from `start` on, ────────▶ is the context what I know, and more? was no position of it
            drafts, support, request)                    asked before? Then its experts read context and drafts, and
                                                         what they say of each position is bounded, added up, encoded
      ◀───────────────────────────────────────────────── and masked, all through its gate: Upload(masked entries)
      the sum over all experts, for each position

A block is for the position after the context and, since drafts are guesses of what comes next, for those after each
of them: one forward pass, one letter, one sum. A context only grows, and a position is answered once: a coordinator
that asks for it again, in a smaller crowd, could subtract.

Learns:  the coordinator: the sum over all experts, for each position. Members: the context and the drafts, which are
         the coordinator's to show. Nobody: what one member's model says.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.faults import PeerError
from protocols.logits.question import Question
from protocols.secure_sum import messages, seat
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Symbols = NDArray[np.int32]
Reals = NDArray[np.float32]
Support = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Think(Message):
    """Ask for the positions after a context (n,) and after each of its `drafts` (T - 1,), into the sum `request`.

    Shapes:  `tokens` (n - start,) are the context from `start` on; `support` (T, K) the symbols of each position, or
             (0, 0) for all; `told` (n - start,) and `drafted` (T - 1,) are log p0 of context and drafts, in nats.
    `number` counts the blocks of the session. A higher `turn` begins another context. What is told serves the
    members' weights alone: a lie scales them all alike. `slips` are what the member has yet to know of its peers.
    """

    question: Question
    number: int
    turn: int
    start: int
    tokens: Symbols
    told: Reals
    drafts: Symbols
    drafted: Reals
    support: Support
    request: Request
    slips: tuple[Slip, ...]

    @property
    def positions(self) -> int:
        """Return T."""
        return self.drafts.size + 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold all that a block's summands are made from, but the members' models: equal for every member of the sum."""

    question: Question
    context: Symbols
    told: Reals
    drafts: Symbols
    drafted: Reals
    support: Support

    def digest(self, name: str) -> bytes:
        """Return 32 bytes for the masks of this block's sum in the collaboration `name`.

        It does not depend on how the context reached a member: one that missed letters can be caught up.
        """
        state = hashlib.sha256(f"parley/v1/{name}/context\0".encode() + _QUESTIONS.encode(self.question))
        for array, kind in zip(self._arrays, ("<i4", "<f4", "<i4", "<f4", "<u4"), strict=True):
            state.update(repr(array.shape).encode() + np.ascontiguousarray(array, dtype=kind).tobytes())
        return state.digest()

    @property
    def positions(self) -> int:
        """Return T."""
        return self.drafts.size + 1

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return self.context, self.told, self.drafts, self.drafted, self.support


class Home(seat.Seat, Protocol):
    """What a block asks of a member's home."""

    def thought(
        self, asked: Asked, number: int, request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Return what this home's experts add at each position, masked for `request`, by the gate.

        Raises: PeerError for a question or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Thinking(Message):
    """Know the context so far (n,) of the present turn, and what was asked last; wait for block `next_number`.

    `origin` symbols began the turn; `spent` positions were used in those before. `drafts` were in the last block,
    whose digest is `last`, among `members`.
    """

    question: Question | None
    next_number: int
    turn: int
    origin: int
    spent: int
    tokens: Symbols
    told: Reals
    drafts: Symbols
    members: tuple[str, ...]
    last: bytes

    def answer(self, ask: Message, home: Home) -> "tuple[Thinking, Cleared[Any]]":
        """Answer a block with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Think):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        if self.question is not None and ask.question != self.question:
            raise PeerError("another question than this session's")
        _require_sound(ask)
        after, asked = self._heard(ask)
        return after, home.thought(asked, ask.number, ask.request, ask.slips)

    def _heard(self, ask: Think) -> "tuple[Thinking, Asked]":
        """Return the state after a block, and all that it asks about. Raises: PeerError."""
        question, again = ask.question, ask.request.attempt > 0
        if not again and (ask.number < self.next_number or ask.turn < self.turn):
            raise PeerError("a block out of order")
        if self.members and not set(ask.request.members) <= set(self.members):
            raise PeerError("a block that asks somebody new: a session's crowd only shrinks")
        tokens, told = self._joined(ask)
        asked = Asked(question, tokens, told, ask.drafts, ask.drafted, ask.support)
        digest = asked.digest("")
        anew = ask.turn > self.turn
        if again:
            self._require_same(ask, digest)
        elif not anew:
            self._require_grown(tokens)
        origin = tokens.size if anew or self.question is None else self.origin
        spent = self.spent + self._used if anew else self.spent
        if spent + tokens.size - origin + ask.positions > question.most:
            raise PeerError(f"more positions than the {question.most} of this session")
        members = ask.request.members
        after = Thinking(question, ask.number + 1, ask.turn, origin, spent, tokens, told, ask.drafts, members, digest)
        return after, asked

    def _joined(self, ask: Think) -> tuple[Symbols, Reals]:
        """Return the whole context, and what was told of it: what is known and what is new. Raises: PeerError."""
        here = ask.turn == self.turn
        tokens, told = (self.tokens, self.told) if here else (self.tokens[:0], self.told[:0])
        if not 0 <= ask.start <= tokens.size:
            raise PeerError(f"a gap in the context: {tokens.size} symbols are known here")
        both = min(tokens.size - ask.start, ask.tokens.size)
        known = slice(ask.start, ask.start + both)
        if not (np.array_equal(tokens[known], ask.tokens[:both]) and np.array_equal(told[known], ask.told[:both])):
            raise PeerError("another context than the one that is known here")
        whole = np.concatenate([tokens[: ask.start], ask.tokens])
        if whole.size < tokens.size:
            raise PeerError("a context shorter than the one that is known here")
        if whole.size == 0:
            raise PeerError("an empty context")
        return whole, np.concatenate([told[: ask.start], ask.told])

    def _require_same(self, ask: Think, digest: bytes) -> None:
        """Refuse, as another attempt, any but the last block. Raises: PeerError."""
        if ask.number != self.next_number - 1 or ask.turn != self.turn or digest != self.last:
            raise PeerError("another attempt at anything but the last block")

    def _require_grown(self, tokens: Symbols) -> None:
        """Refuse a position that was answered: the last context, or that with drafts of its block.

        No earlier block's drafts can come back: a context that left them only grows. Raises: PeerError.
        """
        known = self.tokens.size
        if self.question is None:
            return
        if tokens.size == known:
            raise PeerError("a context that has not grown")
        if np.array_equal(tokens[known:], self.drafts[: tokens.size - known]):
            raise PeerError("a position that was answered with the last block's drafts")

    @property
    def _used(self) -> int:
        """Return how many positions the present turn has used."""
        return 0 if self.question is None else self.tokens.size - self.origin + self.drafts.size + 1


def _require_sound(ask: Think) -> None:
    """Refuse a block that contradicts its own question. Raises: PeerError."""
    question, support, told = ask.question, ask.support, (ask.told, ask.drafted)
    if ask.number < 0 or ask.turn < 0 or ask.request.attempt < 0:
        raise PeerError("a block, a turn or an attempt below 0")
    if any(a.ndim != 1 for a in (ask.tokens, ask.drafts)) or (ask.tokens.shape, ask.drafts.shape) != (
        ask.told.shape,
        ask.drafted.shape,
    ):
        raise PeerError("symbols and what is told of them differ in shape")
    if ask.positions > question.block:
        raise PeerError(f"{ask.positions} positions in one block, the question says at most {question.block}")
    for symbols in (ask.tokens, ask.drafts, support):
        if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < question.symbols:
            raise PeerError(f"a symbol that is not one of the {question.symbols}")
    if not all(np.isfinite(t).all() for t in told):
        raise PeerError("what is told is not finite")
    if support.shape != ((ask.positions, question.support) if question.support else (0, 0)):
        raise PeerError("a support of another shape than the question's")
    if question.support and not (np.diff(np.sort(support.astype(np.int64), axis=1), axis=1) > 0).all():
        raise PeerError("a symbol twice in one position's support")


BEGIN = Thinking(None, 0, 0, 0, 0, np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32), (), b"")
STATES = Wire(Thinking)
KINDS = (Think, *messages.KINDS)  # what each collaboration here has beside its task
_QUESTIONS = Wire(Question)
