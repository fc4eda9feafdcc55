"""Coordinate blocks: one secure sum after another, for as many positions as a question allows.

    blocks = Blocks(NAME, opened, question, quorum, len(members))
    strand = blocks.begin()
    block  = yield from blocks.sum(Asked(question, context, told, drafts, drafted, support, strand), ...)

Whoever is missing from a sum is out for the rest of the session. In STRICT mode such a sum is dead: the same
positions are asked again of those who were there, as often as the terms allow, else the session ends. In RESILIENT
mode those who stayed unmask their own sum, and it goes on. There is no third way: no distribution is made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.faults import Abort, LocalError
from protocols.logits.block import Asked, Batch, Reals, Strand, Support, Symbols, Think
from protocols.logits.packing import Stretch, pack
from protocols.logits.question import Question
from protocols.logits.sampling import folded
from protocols.secure_sum.coordinate import DeadSum, Opened, finish, open_session, usable
from protocols.secure_sum.messages import Request, Slip
from protocols.secure_sum.rounds import require_quorum
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.wire import Message

Rows = NDArray[np.float64]
NO_SUPPORT = np.zeros((0, 0), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Block:
    """Hold what a block came to: for each strand its positions' entries (T, width), summed over all `members`.

    It took so many trips, those of dead sums counted.
    """

    totals: tuple[Rows, ...]
    members: tuple[str, ...]
    trips: int

    @property
    def total(self) -> Rows:
        """Return the entries of all strands, one behind the other."""
        return np.concatenate(self.totals)


@dataclass(slots=True)
class Blocks:
    """Ask the members of an open session for blocks, of `invited` who were asked to join.

    At least `quorum` members are in every sum. `cohort` is who is asked next: it only shrinks.
    """

    purpose: str
    opened: Opened
    question: Question
    quorum: int
    invited: int
    cohort: tuple[str, ...] = ()
    number: int = 0
    begun: int = 0  # strands
    _known: dict[int, int] = field(default_factory=dict, init=False)  # of each strand, symbols that all have heard

    def __post_init__(self) -> None:
        self.cohort = self.cohort or self.opened.members

    def begin(self) -> int:
        """Return the number of a new strand."""
        self.begun += 1
        return self.begun - 1

    def sum(self, *strands: Asked) -> Coordinator[Block]:
        """Return the sums for the positions of these strands, which are in the order of their numbers.

        A strand of the last block that is not among them has ended.
        Raises: Abort below the quorum, or where a sum is dead and may not be asked for again.
        """
        batch = Batch(strands)
        digest, trips, there = batch.digest(self.purpose), 0, self.cohort
        for attempt in range(self.opened.terms.attempts):
            spec = self.question.spec(self.opened.terms, len(self.cohort), batch.positions)
            request = self.opened.request(self.purpose, spec, digest, self.number, self.cohort, attempt)
            answers = yield self._asks(batch, request)
            there = tuple(usable(self.opened, request, answers))
            trips, self._known = trips + 1, {asked.strand: asked.context.size for asked in strands}
            self._require(len(there))
            try:
                summed = yield from finish(self.opened, request, answers)
            except DeadSum as dead:
                trips, self.cohort = trips + dead.trips, there
                continue
            self.number, self.cohort = self.number + 1, summed.members
            total = folded(self.question, spec, spec.decode(summed.words, len(summed.members)))
            ends = np.cumsum([asked.positions for asked in strands])[:-1]
            totals = np.split(total.reshape(batch.positions, -1), ends)
            return Block(tuple(totals), summed.members, trips + summed.trips)
        raise Abort(
            f"block {self.number + 1}: {len(there)} of {self.invited} members answered, and the sum needs all it was"
            " asked of: ask again in a new session"
        )

    def _asks(self, batch: Batch, request: Request) -> dict[MemberId, Think]:
        strands = tuple(_new(asked, self._known.get(asked.strand, 0)) for asked in batch.strands)
        made: dict[tuple[Slip, ...], Think] = {}  # the same ask for all who need the same: it is encoded once
        for member in self.cohort:
            slips = self.opened.slips(member)
            if slips not in made:
                made[slips] = Think(self.question, self.number, strands, request, slips)
        return {MemberId(m): made[self.opened.slips(m)] for m in self.cohort}

    def _require(self, there: int) -> None:
        least = max(self.quorum, self.opened.terms.smallest_crowd)
        require_quorum(there, self.invited, least, f"block {self.number + 1}")


def _new(asked: Asked, known: int) -> Strand:
    """Return a strand as it is told to those who have heard so many symbols of its context."""
    tokens, told = asked.context[known:], asked.told[known:]
    return Strand(asked.strand, known, tokens, told, asked.drafts, asked.drafted, asked.support)


@dataclass(frozen=True, slots=True)
class Reading(Message):
    """Be the task: sum over given public texts, one position for each of their symbols but the first `given` ones.

    Shapes:  `tokens` (n,) are all texts, one after the other, of `lengths`; `told` (n,) log p0 of each symbol in its
             text, in nats; `support` (n, K) the symbols of each position by the symbol that stands there, or (0, 0).
    At least `quorum` members are in each sum, on these `terms`, and `block` positions, of several texts where they
    are short.
    """

    question: Question
    quorum: int
    terms: Terms
    tokens: Symbols
    lengths: tuple[int, ...]
    given: int
    told: Reals
    support: Support


@dataclass(frozen=True, slots=True)
class Read(Message):
    """Be the result: the sums (positions, width), and for each block how many members are in it, and its trips.

    Text after text, one row for each symbol but the first `given` ones.
    """

    sums: Rows
    answered: tuple[int, ...]
    trips: tuple[int, ...]


def read(name: str, members: Sequence[MemberId], task: Message) -> Coordinator[Read]:
    """Have the members read the task's texts, teacher-forced, and return the sums of all positions.

    Deterministic. Raises: Abort, LocalError.
    """
    if not isinstance(task, Reading):
        raise LocalError("this collaboration reads given texts")
    _require_whole(task)
    opened = yield from open_session(members, task.terms)
    blocks = Blocks(name, opened, task.question, task.quorum, len(members))
    sums = np.zeros((task.tokens.size - task.given * len(task.lengths), task.question.width))
    answered, trips, strands = list[int](), list[int](), dict[int, int]()
    packed = pack(task.tokens, task.told, task.support, task.lengths, task.given, task.question.block)
    for stretches in packed.blocks:
        strands = {s.text: strands[s.text] if s.text in strands else blocks.begin() for s in stretches}
        block = yield from blocks.sum(*(_asked(task, stretch, strands[stretch.text]) for stretch in stretches))
        for stretch, total in zip(stretches, block.totals, strict=True):
            sums[stretch.row : stretch.row + len(total)] = total
        answered.append(len(block.members))
        trips.append(block.trips)
    for row, same in packed.copies:
        sums[row] = sums[same]
    return Read(sums, tuple(answered), tuple(trips))


def _asked(task: Reading, stretch: Stretch, strand: int) -> Asked:
    start, first, last = stretch.start, stretch.start + stretch.first, stretch.start + stretch.last
    context, drafts = slice(start, first), slice(first, last - 1)
    support = task.support[first:last] if task.support.size else NO_SUPPORT
    tokens, told = task.tokens, task.told
    return Asked(task.question, tokens[context], told[context], tokens[drafts], told[drafts], support, strand)


def _require_whole(task: Reading) -> None:
    """Refuse a task that was not planned to its end. Raises: LocalError."""
    question, symbols = task.question, task.tokens.size
    if task.given < 1 or not task.lengths or min(task.lengths) <= task.given or sum(task.lengths) != symbols:
        raise LocalError("expected texts longer than what is given of each, and at least one symbol given")
    if task.told.shape != task.tokens.shape:
        raise LocalError("expected one log-probability for each symbol")
    if task.support.shape != ((symbols, question.support) if question.support else (0, 0)):
        raise LocalError("a support of another shape than the question's")
    if symbols - task.given * len(task.lengths) > question.most:
        raise LocalError("more positions than the question allows")
