"""Let private models speak together: symbol after symbol, several positions a round trip, to the end of an answer.

    coordinator                                         member
      the public model drafts T - 1 symbols
      Think(question, context, drafts, ...) ───────────▶ see block.py: one forward pass, one masked answer
      ◀───────────────────────────────────────────────── Upload
      drafts that stand by the members' distribution,
      and one symbol after them: shown to who asked

How symbols are drawn from the sums: sampling.py. Where the members' privacy rests on the sampling, drafts are
matched; else accepted by chance, which keeps more of them. Either way the answer is distributed as without drafts.

Who asks at a home of its own mixes the sums with its own model's word there: at_home.py. It has the prompt's symbols
summed over too, in the first block, since they say which of the two to believe.

Learns:  who asked: the symbols. The coordinator: the sums too. Members: the prompt, and the answer as it grows.
Trusts:  as the collaboration whose question it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.faults import LocalError
from protocols.logits.asking import NO_SUPPORT, Blocks
from protocols.logits.block import Reals, Support
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

    With a `home` each symbol of the prompt but the first has a position, of `question.most` and of its first block.
    Raises: Abort, if too few are there or a sum is dead; PeerError for a prompt that the public model cannot read;
            LocalError for an empty one, or a home where a sample of the sum alone protects.
    """
    first = _first(question, prompt, home)
    told = _told(public.block(prompt, ()).told)[:first]  # before anybody is asked: it must fit
    opened = yield from open_session(members, terms)
    blocks = Blocks(name, opened, question, quorum, len(members))
    context, ahead, said = list(prompt[:first]), list(prompt[first:]), list[int]()
    reach, most = question.block - len(ahead), question.most - len(ahead)
    given, answered, trips = list[int](), list[int](), list[int]()
    while len(said) < most and not public.ends.intersection(said[-1:]):
        count = min(reach, most - len(said)) - 1
        drafts, proposals = public.draft([*context, *ahead], count, greedy=question.central)
        thought = public.block(context, guesses := [*ahead, *drafts])
        support = likeliest(thought.next, question.support)
        symbols = np.array(context, np.int32), told, np.array(guesses, np.int32), _told(thought.drafted)
        block = yield from blocks.sum(*symbols, support)
        targets = combined(question, thought.next, block.total, support)
        if home is not None:
            targets = home.mixed(context, guesses, targets)
        rows = np.asarray(proposals, np.float64)
        new = _ended(_drawn(question, targets[len(ahead) :], rows, drafts, public.uniform), public.ends)
        heard, ahead = [*ahead, *new], []
        told = np.concatenate([told, _told(thought.next[np.arange(len(heard)), heard])])  # as it was told before
        context, said = [*context, *heard], [*said, *new]
        public.emit(new)
        given.append(len(new))
        answered.append(len(block.members))
        trips.append(block.trips)
    return Spoken(tuple(said), tuple(given), tuple(answered), tuple(trips))


def _first(question: Question, prompt: Sequence[int], home: Home | None) -> int:
    """Return how many of the prompt's symbols have no position. Raises: LocalError."""
    if not len(prompt):
        raise LocalError("an empty prompt")
    if home is None:
        return len(prompt)
    if question.central:
        raise LocalError("a sample of the sum alone protects: nothing is mixed into it")
    if question.block < len(prompt):
        raise LocalError("a question whose block has no room for the prompt")
    return 1


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
