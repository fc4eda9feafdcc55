"""Let private models speak together: symbol after symbol, several positions a round trip, to the end of an answer.

    coordinator                                         member
      the public model drafts T - 1 symbols of each answer
      Think(question, contexts, drafts, ...) ──────────▶ see block.py: one forward pass for each, one masked answer
      ◀───────────────────────────────────────────────── Upload
      drafts that stand by the members' distribution,
      and one symbol after them: shown to who asked

Several prompts are answered in the same blocks, each as it would be by itself. One that begins as another does waits
until that one's answer is another text, or whole: till then they could ask for the same positions.

How symbols are drawn from the sums: sampling.py. Where the members' privacy rests on the sampling, drafts are
matched; else accepted by chance, which keeps more of them. Either way the answer is distributed as without drafts.

Who asks at a home of its own mixes the sums with its own model's word there: at_home.py. It has the prompt's symbols
summed over too, in the first block, since they say which of the two to believe.

Learns:  who asked: the symbols. The coordinator: the sums too. Members: the prompt, and the answer as it grows.
Trusts:  as the collaboration whose question it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.logits.asking import NO_SUPPORT, Blocks
from protocols.logits.block import MOST_STRANDS, Asked, Reals, Support
from protocols.logits.question import Question
from protocols.logits.sampling import accepted, combined, matched
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.wire import Message

Rows = NDArray[np.floating[Any]]
Reals64 = NDArray[np.float64]
_LEAST = -1e4  # nats


class Thought(Protocol):
    """Hold what a model says of a context and its drafts, as logarithms of probabilities."""

    @property
    def told(self) -> Rows:
        """Return (context,): of each symbol given those before; the first is 0."""

    @property
    def drafted(self) -> Rows:
        """Return (drafts,): the same of the drafts."""

    @property
    def next(self) -> Rows:
        """Return (drafts + 1, symbols): of every symbol after the context, and after each draft."""


class Public(Protocol):
    """Be the coordinator's own side: the public model, what drafts, the randomness, and who is shown the answer."""

    ends: frozenset[int]

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what the public model says. Raises: PeerError for an empty context, or one that is too long."""

    def draft(self, context: Sequence[int], count: int, *, greedy: bool) -> tuple[list[int], Rows]:
        """Return at most `count` guesses of what follows, and the probabilities (count, V) that each was drawn from.

        If `greedy` the likeliest, of which the rows say nothing: a fixed guess is as if drawn from certainty.
        """

    def uniform(self) -> float:
        """Return a number from 0 to below 1, that nobody else can predict."""

    def emit(self, symbols: Sequence[int]) -> None:
        """Show who asked the next symbols."""


class Home(Protocol):
    """Be the asker's own home, if it has one: see `at_home.py`."""

    def mixed(self, context: Sequence[int], drafts: Sequence[int], together: Reals64) -> Reals64:
        """Return the distributions (T, V) to draw from, of what the sums say. Raises: PeerError."""


@dataclass(frozen=True, slots=True)
class Spoken(Message):
    """Hold an answer: its symbols, how many of them each block gave, its members, and its trips."""

    symbols: tuple[int, ...]
    given: tuple[int, ...]
    answered: tuple[int, ...]
    trips: tuple[int, ...]


def _nobody() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Ask for one answer: to `prompt`, by the coordinator's own side for it, and at the asker's home if there is one.

    Several may share a model, but not who is shown the answer. `ended` is called when it is whole.
    """

    prompt: Sequence[int]
    public: Public
    home: Home | None = None
    ended: Callable[[], None] = _nobody

    @property
    def first(self) -> int:
        """Return how many of the prompt's symbols have no position: all, but where who asks has a home."""
        return len(self.prompt) if self.home is None else 1


def speak(
    name: str,
    members: Sequence[MemberId],
    question: Question,
    terms: Terms,
    quorum: int,
    prompt: Sequence[int],
    public: Public,
    home: Home | None = None,
) -> Coordinator[Spoken]:
    """Return an answer to `prompt` of all positions that the question leaves, or up to the first symbol that ends it.

    With a `home` each symbol of the prompt but the first has a position, of `question.most` and of a first block.
    Raises: Abort, if too few are there or a sum is dead; PeerError for a prompt that the public model cannot read;
            LocalError for an empty one, or a home where a sample of the sum alone protects.
    """
    talk = Talk(prompt, public, home)
    (spoken,) = yield from speak_together(name, members, question, terms, quorum, (talk,))
    return spoken


def speak_together(
    name: str, members: Sequence[MemberId], question: Question, terms: Terms, quorum: int, talks: Sequence[Talk]
) -> Coordinator[tuple[Spoken, ...]]:
    """Return an answer to each talk's prompt, in their order.

    What a block and a session have beyond the prompts' own positions is shared out evenly among the answers.
    Raises: as `speak`; LocalError where there is nothing to share out.
    """
    at_once, reach, most = _shared_out(question, talks)
    answers = [_Answer.begun(question, talk, reach, most) for talk in talks]  # before anybody is asked: it must fit
    opened = yield from open_session(members, terms)
    blocks = Blocks(name, opened, question, quorum, len(members))
    waiting, going = list(answers), list[_Answer]()
    while waiting or going:
        for answer in list(waiting):
            if len(going) < at_once and not any(answer.meets(other) for other in going):
                answer.strand = blocks.begin()
                going.append(answer)
                waiting.remove(answer)
        block = yield from blocks.sum(*[answer.asked() for answer in going])
        for answer, total in zip(going, block.totals, strict=True):
            answer.hear(total, len(block.members), block.trips)
        going = [answer for answer in going if not answer.complete]
    return tuple(answer.spoken for answer in answers)


@dataclass(slots=True)
class _Answer:
    """Be one answer as it grows: at most `most` symbols, `reach` positions beyond what is `ahead` in one block."""

    question: Question
    talk: Talk
    reach: int
    most: int
    context: list[int]
    ahead: list[int]
    told: Reals
    strand: int = 0
    said: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    trips: list[int] = field(default_factory=list)
    _block: "_Block | None" = None

    @classmethod
    def begun(cls, question: Question, talk: Talk, reach: int, most: int) -> "_Answer":
        """Return it with nothing said. Raises: PeerError."""
        prompt, first = talk.prompt, talk.first
        told = _told(talk.public.block(prompt, ()).told)[:first]
        return cls(question, talk, reach, most, list(prompt[:first]), list(prompt[first:]), told)

    @property
    def complete(self) -> bool:
        """Tell whether it is at its end."""
        return len(self.said) >= self.most or bool(self.talk.public.ends.intersection(self.said[-1:]))

    @property
    def spoken(self) -> Spoken:
        """Return it."""
        return Spoken(tuple(self.said), tuple(self.given), tuple(self.answered), tuple(self.trips))

    def meets(self, other: "_Answer") -> bool:
        """Tell whether both can have a position in common, now or later: then one block cannot have both.

        They cannot where their texts part before one of them goes on: contexts only grow.
        """
        mine, others = [*self.context, *self.ahead], [*other.context, *other.ahead]
        shorter = min(len(mine), len(others))
        alike = next((n for n in range(shorter) if mine[n] != others[n]), shorter)
        return alike == shorter or max(len(self.context), len(other.context)) <= alike

    def asked(self) -> Asked:
        """Draft, and return what is asked of the next block."""
        question, public = self.question, self.talk.public
        count = min(self.reach, self.most - len(self.said)) - 1
        drafts, proposals = public.draft([*self.context, *self.ahead], count, greedy=question.central)
        thought = public.block(self.context, guesses := [*self.ahead, *drafts])
        support = likeliest(thought.next, question.support)
        self._block = _Block(drafts, guesses, np.asarray(proposals, np.float64), thought, support)
        symbols = np.array(self.context, np.int32), self.told, np.array(guesses, np.int32), _told(thought.drafted)
        return Asked(question, *symbols, support, self.strand)

    def hear(self, total: Reals64, members: int, trips: int) -> None:
        """Draw from the sums of what was asked, and go on."""
        (block, self._block), public = (self._block, None), self.talk.public
        if block is None:
            raise LocalError("sums that were not asked for")
        targets = combined(self.question, block.thought.next, total, block.support)
        if self.talk.home is not None:
            targets = self.talk.home.mixed(self.context, block.guesses, targets)
        new = _drawn(self.question, targets[len(self.ahead) :], block.proposals, block.drafts, public.uniform)
        new = _ended(new, public.ends)
        heard = [*self.ahead, *new]
        told = _told(block.thought.next[np.arange(len(heard)), heard])
        self.told = np.concatenate([self.told, told])  # as it was told before
        self.context, self.ahead, self.said = [*self.context, *heard], [], [*self.said, *new]
        public.emit(new)
        self.given.append(len(new))
        self.answered.append(members)
        self.trips.append(trips)
        if self.complete:
            self.talk.ended()


@dataclass(frozen=True, slots=True)
class _Block:
    """Hold what the coordinator knows of an answer's block while its sums are on their way."""

    drafts: Sequence[int]
    guesses: Sequence[int]
    proposals: Reals64
    thought: Thought
    support: Support


def _shared_out(question: Question, talks: Sequence[Talk]) -> tuple[int, int, int]:
    """Return how many answers are in a block, and each one's positions in it, and in the session. Raises: LocalError.

    Beside them there is room for the prompts' own, where there is a home.
    """
    if not all(len(talk.prompt) for talk in talks):
        raise LocalError("an empty prompt")
    if question.central and any(talk.home is not None for talk in talks):
        raise LocalError("a sample of the sum alone protects: nothing is mixed into it")
    ahead = sum(len(talk.prompt) - talk.first for talk in talks)
    block, most = question.block - ahead, question.most - ahead
    at_once = min(len(talks), block, MOST_STRANDS)
    if at_once < 1 or most < len(talks):
        raise LocalError("expected prompts, and room in a block and a session for them and an answer to each")
    return at_once, block // at_once, most // len(talks)


def likeliest(rows: Rows, count: int) -> Support:
    """Return the `count` likeliest symbols of each row, in the order of their numbers; nothing for 0."""
    if not count:
        return NO_SUPPORT
    best = np.argsort(-np.asarray(rows, np.float64), axis=1, kind="stable")[:, :count]
    return np.sort(best, axis=1).astype(np.uint32)


def _told(logs: Rows) -> Reals:
    """Return log-probabilities as they are told: what the public model finds impossible as a number, too."""
    return np.maximum(logs, _LEAST).astype(np.float32)


def _drawn(
    question: Question,
    targets: NDArray[np.float64],
    proposals: NDArray[np.float64],
    drafts: Sequence[int],
    uniform: Callable[[], float],
) -> list[int]:
    if question.central:
        return matched(targets, drafts, uniform)
    return accepted(targets, proposals, drafts, uniform)


def _ended(symbols: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Return the symbols up to the first that ends an answer, with it."""
    last = next((i for i, symbol in enumerate(symbols) if symbol in ends), len(symbols) - 1)
    return list(symbols[: last + 1])
