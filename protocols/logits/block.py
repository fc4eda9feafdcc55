"""Ask members for a block of positions, and answer: one ask for all collaborations at the logit level.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Think(question, of each strand its context from ──▶ is each context what I know, and more? was no position of it
            `start` on, drafts and support; request)     asked before? Then its experts read contexts and drafts, and
                                                         what they say of each position is bounded, added up, encoded
      ◀───────────────────────────────────────────────── and masked, all through its gate: Upload(masked entries)
      the sum over all experts, for each position

A strand is one context that grows, with its drafts: guesses of what comes next. Its positions are the one after the
context and those after each draft: one forward pass. A block has the positions of several strands, one behind the
other in one letter and one sum, so that many prompts cost the round trips of one; what is summed for a strand is what
would be for it alone. A strand that a block leaves out has ended, and others may begin.

A context only grows, and a position is answered once: a coordinator that asks for it again, in a smaller crowd, could
subtract. `question.block` and `question.most` count the positions of all strands.

Learns:  the coordinator: the sum over all experts, for each position. Members: the contexts and the drafts, which are
         the coordinator's to show. Nobody: what one member's model says.
Trusts:  that only sums are seen: no more than terms.colluding members work with the coordinator.
"""

import hashlib
import itertools
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
MOST_STRANDS = 64  # in one block: what a home keeps of each grows with its context
_MOST_NUMBERS = 2**31


@dataclass(frozen=True, slots=True)
class Strand(Message):
    """Ask for the positions after one context (n,) and after each of its `drafts` (T - 1,).

    Shapes:  `tokens` (n - start,) are the context from `start` on; `support` (T, K) the symbols of each position, or
             (0, 0) for all; `told` (n - start,) and `drafted` (T - 1,) are log p0 of context and drafts, in nats.
    `number` names the context in its session. What is told serves the members' weights alone: a lie scales them all
    alike.
    """

    number: int
    start: int
    tokens: Symbols
    told: Reals
    drafts: Symbols
    drafted: Reals
    support: Support

    @property
    def positions(self) -> int:
        """Return T."""
        return self.drafts.size + 1


@dataclass(frozen=True, slots=True)
class Think(Message):
    """Ask for the positions of all `strands`, in the order of their numbers, into the one sum `request`.

    `number` counts the blocks of the session. A strand that is left out of a block has ended; a new one has a higher
    number than any before. `slips` are what the member has yet to know of its peers.
    """

    question: Question
    number: int
    strands: tuple[Strand, ...]
    request: Request
    slips: tuple[Slip, ...]

    @property
    def positions(self) -> int:
        """Return how many positions all strands have."""
        return sum(strand.positions for strand in self.strands)


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold all that a strand's summands are made from, but the members' models: equal for every member of the sum."""

    question: Question
    context: Symbols
    told: Reals
    drafts: Symbols
    drafted: Reals
    support: Support
    strand: int = 0

    @property
    def positions(self) -> int:
        """Return T."""
        return self.drafts.size + 1

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return all arrays, as they are hashed."""
        found = self.context, self.told, self.drafts, self.drafted, self.support
        kinds = ("<i4", "<f4", "<i4", "<f4", "<u4")
        return tuple(np.ascontiguousarray(array, dtype=kind) for array, kind in zip(found, kinds, strict=True))


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold all strands of a block: at least one, by one question."""

    strands: tuple[Asked, ...]

    @property
    def question(self) -> Question:
        """Return the question."""
        return self.strands[0].question

    @property
    def positions(self) -> int:
        """Return how many positions all strands have."""
        return sum(strand.positions for strand in self.strands)

    def digest(self, name: str) -> bytes:
        """Return 32 bytes for the masks of this block's sum in the collaboration `name`.

        It does not depend on how the contexts reached a member: one that missed letters can be caught up.
        """
        state = hashlib.sha256(f"parley/v1/{name}/contexts\0".encode() + _QUESTIONS.encode(self.question))
        for asked in self.strands:
            state.update(f"strand {asked.strand}\0".encode())
            for array in asked.arrays:
                state.update(repr(array.shape).encode() + array.tobytes())
        return state.digest()


class Home(seat.Seat, Protocol):
    """What a block asks of a member's home."""

    def thought(
        self, batch: Batch, number: int, request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Return what this home's experts add at each position of each strand, masked for `request`, by the gate.

        Raises: PeerError for a question or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Known(Message):
    """Know one context so far (n,): `origin` symbols began it, and `drafts` were in its last block."""

    number: int
    origin: int
    tokens: Symbols
    told: Reals
    drafts: Symbols

    @property
    def used(self) -> int:
        """Return how many positions it has used."""
        return self.tokens.size - self.origin + self.drafts.size + 1


@dataclass(frozen=True, slots=True)
class Thinking(Message):
    """Know the strands of the last block, whose digest is `last`, among `members`; wait for block `next_number`.

    A strand that begins has at least the number `next_strand`. Those that have ended used `spent` positions.
    """

    question: Question | None
    next_number: int
    next_strand: int
    spent: int
    strands: tuple[Known, ...]
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
        after, batch = self._heard(ask)
        return after, home.thought(batch, ask.number, ask.request, ask.slips)

    def _heard(self, ask: Think) -> "tuple[Thinking, Batch]":
        """Return the state after a block, and all that it asks about. Raises: PeerError."""
        question, members, again = ask.question, ask.request.members, ask.request.attempt > 0
        if not again and ask.number < self.next_number:
            raise PeerError("a block out of order")
        if self.members and not set(members) <= set(self.members):
            raise PeerError("a block that asks somebody new: a session's crowd only shrinks")
        known = {strand.number: strand for strand in self.strands}
        batch = Batch(tuple(self._joined(question, strand, known.get(strand.number)) for strand in ask.strands))
        digest = batch.digest("")
        if again and (ask.number != self.next_number - 1 or digest != self.last):
            raise PeerError("another attempt at anything but the last block")
        if not again:
            for asked in batch.strands:
                _require_grown(asked, known.get(asked.strand))
        _require_apart(batch.strands)
        now = tuple(_known(asked, known.get(asked.strand)) for asked in batch.strands)
        ended = known.keys() - {strand.number for strand in now}
        spent = self.spent + sum(known[number].used for number in ended)
        if spent + sum(strand.used for strand in now) > question.most:
            raise PeerError(f"more positions than the {question.most} of this session")
        begun = max(self.next_strand, now[-1].number + 1)
        return Thinking(question, ask.number + 1, begun, spent, now, members, digest), batch

    def _joined(self, question: Question, strand: Strand, known: Known | None) -> Asked:
        """Return one strand whole: what is known of its context, and what is new. Raises: PeerError."""
        if known is None and strand.number < self.next_strand:
            raise PeerError("a strand that has ended, or was not begun in its order")
        tokens, told = (strand.tokens[:0], strand.told[:0]) if known is None else (known.tokens, known.told)
        if not 0 <= strand.start <= tokens.size:
            raise PeerError(f"a gap in the context: {tokens.size} symbols are known here")
        both = min(tokens.size - strand.start, strand.tokens.size)
        here = slice(strand.start, strand.start + both)
        same = np.array_equal(tokens[here], strand.tokens[:both]) and np.array_equal(told[here], strand.told[:both])
        if not same:
            raise PeerError("another context than the one that is known here")
        whole = np.concatenate([tokens[: strand.start], strand.tokens])
        if whole.size < tokens.size:
            raise PeerError("a context shorter than the one that is known here")
        if whole.size == 0:
            raise PeerError("an empty context")
        told = np.concatenate([told[: strand.start], strand.told])
        return Asked(question, whole, told, strand.drafts, strand.drafted, strand.support, strand.number)


def _known(asked: Asked, before: Known | None) -> Known:
    """Return what is known of a strand after its block."""
    origin = asked.context.size if before is None else before.origin
    return Known(asked.strand, origin, asked.context, asked.told, asked.drafts)


def _require_grown(asked: Asked, before: Known | None) -> None:
    """Refuse a position that was answered: the last context, or that with drafts of its block.

    No earlier block's drafts can come back: a context that left them only grows. Raises: PeerError.
    """
    if before is None:
        return
    known = before.tokens.size
    if asked.context.size == known:
        raise PeerError("a context that has not grown")
    if np.array_equal(asked.context[known:], before.drafts[: asked.context.size - known]):
        raise PeerError("a position that was answered with the last block's drafts")


def _require_apart(strands: Sequence[Asked]) -> None:
    """Refuse a position that two strands of a block have both. Raises: PeerError.

    They have one if the longer context is where the other one is, or has a draft: positions of a strand have no gap.
    """
    wholes = [(asked.context, np.concatenate([asked.context, asked.drafts])) for asked in strands]
    for (one, first), (other, second) in itertools.combinations(wholes, 2):
        longer, whole = (one, second) if one.size >= other.size else (other, first)
        if np.array_equal(longer, whole[: longer.size]):
            raise PeerError("a position that two strands of one block ask for")


def _require_sound(ask: Think) -> None:
    """Refuse a block that contradicts its own question. Raises: PeerError."""
    question, numbers = ask.question, [strand.number for strand in ask.strands]
    if ask.number < 0 or ask.request.attempt < 0:
        raise PeerError("a block or an attempt below 0")
    if not 1 <= len(numbers) <= MOST_STRANDS:
        raise PeerError(f"{len(numbers)} strands in one block, expected 1 to {MOST_STRANDS}")
    if not 0 <= numbers[0] <= numbers[-1] < _MOST_NUMBERS or any(a >= b for a, b in itertools.pairwise(numbers)):
        raise PeerError("strands that are not in the order of their numbers, from 0 on")
    if ask.positions > question.block:
        raise PeerError(f"{ask.positions} positions in one block, the question says at most {question.block}")
    for strand in ask.strands:
        _require_sound_strand(question, strand)


def _require_sound_strand(question: Question, strand: Strand) -> None:
    support, told = strand.support, (strand.told, strand.drafted)
    if any(a.ndim != 1 for a in (strand.tokens, strand.drafts)) or (strand.tokens.shape, strand.drafts.shape) != (
        strand.told.shape,
        strand.drafted.shape,
    ):
        raise PeerError("symbols and what is told of them differ in shape")
    for symbols in (strand.tokens, strand.drafts, support):
        if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < question.symbols:
            raise PeerError(f"a symbol that is not one of the {question.symbols}")
    if not all(np.isfinite(t).all() for t in told):
        raise PeerError("what is told is not finite")
    if support.shape != ((strand.positions, question.support) if question.support else (0, 0)):
        raise PeerError("a support of another shape than the question's")
    if question.support and not (np.diff(np.sort(support.astype(np.int64), axis=1), axis=1) > 0).all():
        raise PeerError("a symbol twice in one position's support")


BEGIN = Thinking(None, 0, 0, 0, (), (), b"")
STATES = Wire(Thinking)
KINDS = (Think, *messages.KINDS)  # what each collaboration here has beside its task
_QUESTIONS = Wire(Question)
