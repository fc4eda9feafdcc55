"""Federated averaging of FFA-LoRA adapters: each round every member trains, and the mean of the deltas is added.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Contribute(recipe, round, adapter, request) ─────▶ checks recipe and request against its own model, policy
                                                         and budget, trains on its own records, and masks, all
                                                         through its gate
      adapter += rule(sum of deltas / their number)◀──── Upload(masked delta)
      (in RESILIENT mode the survivors agree, and reveal: protocols/secure_sum/aggregation.py)

A of every LoRA pair is frozen and drawn from a public seed; only B is trained and sent. The map from B to the model
is then linear, so the mean of the adapters is the adapter of the mean: nothing is lost to (mean B)(mean A). Where A
is trained too it has rounds of its own, with B as it was (`Half.ALTERNATE`): each round is linear by itself. A member
of a smaller rank trains some of the columns, other ones each round, sends zeros elsewhere, and answers
Ranked(rank, upload): the mean over a column is of those who trained it (`ranks.py`), and stays exact. What the
coordinator makes of the mean is its own rule (`server_rules.py`), which looks at nothing else.

Without terms for a sum (`unsafe_plain_sum`, by name) each member answers Contributed(round, delta, rank), which the
coordinator can read.

Learns:  the coordinator: the sum of the deltas of each round, after the members' gates, and who answered; each
         member's rank; with an unsafe plain sum every delta by itself. Members: the mean so far.
Trusts:  for record-level privacy nobody: the noise is added at the member. That only the sum is seen, and privacy of
         whole members: no more than terms.colluding members work with the coordinator. For the result: everybody.
Cites:   McMahan et al. 2017, algorithm 1 (one mean a round, uniform weights: record counts are private);
         Sun et al. 2024, FFA-LoRA; Chen et al. 2025, RoLoRA; Li et al. 2020, FedProx; Reddi et al. 2021 (the
         coordinator's rule); McMahan et al. 2018 (a member's whole delta clipped, for the unit "member").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from protocols.faults import Abort, LocalError, PeerError
from protocols.plans import context
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.rounds import Rounds, Sum, require_quorum
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights import ranks
from protocols.weights.recipe import Half, Recipe
from protocols.weights.server_rules import FEDAVG, ServerRule, Stepping
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Vector = NDArray[np.float32]
_LARGEST_PLAIN = 1e6  # no sum of entries below it leaves float32


@dataclass(frozen=True, slots=True)
class Contribute(Message):
    """Ask for one round's delta, starting from `adapter` (length,): into the sum `request`, or else plainly.

    `slips` are what the member has yet to know of its peers.
    """

    recipe: Recipe
    round: int
    adapter: Vector
    request: Request | None
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Contributed(Message):
    """Answer plainly with what the gate let go: the member's delta (recipe.entries(round),).

    `rank` is the member's, if it is smaller than the recipe's.
    """

    round: int
    delta: Vector
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Ranked(Message):
    """Answer with an upload whose words are of so many columns, fewer than the recipe's, and of zeros elsewhere."""

    rank: int
    upload: Upload


@dataclass(frozen=True, slots=True)
class Average(Message):
    """Be the task: train by `recipe` from `adapter` (length,), each round with at least `quorum` members.

    `terms` are those of the secure sum; None asks for an unsafe plain sum. `rule` is the coordinator's own. `inputs`
    are the widths of the A's in order, where they are trained: members of smaller ranks train some rows of each.
    """

    recipe: Recipe
    quorum: int
    adapter: Vector
    terms: Terms | None
    rule: ServerRule = FEDAVG
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Averaged(Message):
    """Be the result: the adapter (length,), and for each round how many members are in its mean (0 if it was lost)
    and how many trips it took. Trips before the first round opened the secure sum.
    """

    adapter: Vector
    answered: tuple[int, ...]
    trips: tuple[int, ...]


def context_of(recipe: Recipe, round_: int, adapter: Vector, name: str = "average") -> bytes:
    """Return the digest (32 bytes) of all that a round's delta is made from, but the private records.

    `name` is the collaboration's: one that builds on this asks for the same, and adds it to no sum of another.
    """
    return context(name, WIRE.encode(Contribute(recipe, round_, np.ascontiguousarray(adapter), None, ())))


class Home(seat.Seat, Protocol):
    """What an average asks of a member's home."""

    def contribution(self, recipe: Recipe, round_: int, adapter: Vector) -> "Released[Vector] | Disclosed[Vector]":
        """Train from `adapter` and return the delta (entries,) for all to see, through the gate.

        Raises: PeerError for a recipe that does not fit this home's model; Refused.
        """

    def masked(
        self, recipe: Recipe, round_: int, adapter: Vector, request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Train from `adapter` and return the delta masked for the sum `request`, through the gate.

        Raises: PeerError for a recipe or a request that this home would not make itself; Refused.
        """

    def rank(self, recipe: Recipe) -> int | None:
        """Return the rank that this home trains, a public number, if it is smaller than the recipe's."""

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Idle(Message):
    """Wait for a round not before `next_round`. A member that was away skips what it missed.

    This is all of a member that outlives a crash; the keys of its sums are at its home, in memory.
    """

    next_round: int

    def answer(self, ask: Message, home: Home) -> "tuple[Idle, Cleared[Any]]":
        """Train one round and answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Contribute):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        recipe, round_, adapter = ask.recipe, ask.round, ask.adapter
        if not self.next_round <= round_ < recipe.rounds:
            raise PeerError("a round out of order")
        if adapter.shape != (recipe.length,):
            raise PeerError(f"an adapter of shape {adapter.shape}, the recipe says {recipe.length}")
        rank = home.rank(recipe)
        if ask.request is None:
            plain = home.contribution(recipe, round_, adapter)
            return Idle(round_ + 1), plain.then(lambda delta: Contributed(round_, delta, rank))
        masked = home.masked(recipe, round_, adapter, ask.request, ask.slips)
        return Idle(round_ + 1), masked if rank is None else masked.then(lambda upload: Ranked(rank, upload))


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Train for `task.recipe.rounds` rounds and return the `Averaged` adapter.

    A round in which a sum fails is lost: it was charged, so it is not asked for again.
    Raises: Abort if fewer than the quorum answered in a round, or if every round was lost.
    """
    return (yield from averaged(NAME, members, task))


def averaged(name: str, members: Sequence[MemberId], task: Message) -> Coordinator[Averaged]:
    """Do so for the collaboration `name`. Raises: Abort."""
    if not isinstance(task, Average) or task.adapter.shape != (task.recipe.length,):
        raise LocalError("this collaboration runs an Average whose adapter fits its recipe")
    if task.recipe.half is Half.BOTH:
        raise LocalError("the mean of products is not the product of means: train both halves by turns, or pooled")
    adapter, answered, trips = np.array(task.adapter), list[int](), list[int]()
    stepping = Stepping(task.rule, task.recipe.length)
    if task.terms is not None:
        opened = yield from open_session(members, task.terms)
        rounds = Rounds(name, "round", opened, task.quorum, len(members))
    for round_ in range(task.recipe.rounds):
        if task.terms is None:
            made = yield from _plain(members, task, round_, adapter)
        else:
            made = yield from _summed(rounds, task.recipe, round_, adapter)
        if made.count:
            stated = {m: _rank_in(a) for m, a in made.answers.items()}
            mean, chosen = ranks.mean(made.total, task.recipe, round_, stated, task.inputs)
            adapter = adapter.copy()  # the one before is in an ask that may be sent again
            adapter[chosen] += stepping.step(mean, chosen).astype(np.float32)
        answered.append(made.count)
        trips.append(made.trips)
    if not any(answered):
        raise Abort(f"not one of {len(answered)} rounds had all that it needs of {len(members)} members")
    return Averaged(adapter, tuple(answered), tuple(trips))


def _plain(members: Sequence[MemberId], task: Average, round_: int, adapter: Vector) -> Coordinator[Sum]:
    """Add up what the members say in the open.

    A delta of another shape or round, of no such rank, or with an entry beyond `_LARGEST_PLAIN`, counts as silence.
    """
    answers = yield dict.fromkeys(members, Contribute(task.recipe, round_, adapter, None, ()))
    said = {
        m: a
        for m, a in sorted(answers.items())  # in a fixed order: a float sum depends on it
        if isinstance(a, Contributed) and a.round == round_ and _sane(a, task.recipe)
    }
    require_quorum(len(said), len(members), max(task.quorum, 1), f"round {round_ + 1}")
    return Sum(np.sum([a.delta for a in said.values()], axis=0, dtype=np.float64), len(said), 1, said)


def _summed(rounds: Rounds, recipe: Recipe, round_: int, adapter: Vector) -> Coordinator[Sum]:
    """Add up by a secure sum."""

    def spec_for(members: int) -> FixedPoint:
        return recipe.spec(rounds.opened.terms, members, round_)

    def ask(request: Request, slips: tuple[Slip, ...]) -> Contribute:
        return Contribute(recipe, round_, adapter, request, slips)

    def upload_in(answer: Message) -> Message:
        return answer.upload if isinstance(answer, Ranked) and 1 <= answer.rank < recipe.rank else answer

    made_of = context_of(recipe, round_, adapter, rounds.purpose)
    return (yield from rounds.sum(round_, spec_for, made_of, ask, upload_in))


def _rank_in(answer: Message) -> int | None:
    return answer.rank if isinstance(answer, Ranked | Contributed) else None


def _sane(answer: Contributed, recipe: Recipe) -> bool:
    known = answer.rank is None or 1 <= answer.rank < recipe.rank
    fits = answer.delta.shape == (recipe.entries(answer.round),)
    return known and fits and float(np.abs(answer.delta).max()) <= _LARGEST_PLAIN


NAME = "average"
BEGIN = Idle(0)
STATES = Wire(Idle)
WIRE = Wire(Contribute, Contributed, Ranked, Average, Averaged, *messages.KINDS)
