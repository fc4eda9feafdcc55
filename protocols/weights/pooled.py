"""Train on the union of all members' records, which never meet: each step is one DP-SGD step on all of them.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Step(recipe, step, point, request)       ────────▶ checks recipe and request against its own model, policy
                                                         and budget; samples its own records with the public
                                                         probability q, clips each one's gradient at `point`, adds
                                                         them up as integers, adds its share of the noise, and
                                                         masks, all through its gate
      point -= rule(sum / expected batch)      ◀──────── Upload(masked sum)
      (in RESILIENT mode the survivors agree, and reveal: protocols/secure_sum/aggregation.py)

What the coordinator decodes is the sum of clipped gradients over a Poisson sample of everybody's records, with noise
that the members made together: what DP-SGD on the pooled data would have used, and nobody holds the pool. All records
have one q and one noise, whoever's they are, so a small member spends no more than a large one.

Of a record (or a group) one gradient is clipped; of a whole member, the mean over its own sample.

Learns:  the coordinator: each step's noised sum, and who answered. Members: the points.
Trusts:  no more than terms.colluding members work with the coordinator, or tell it their noise: the others' noise
         alone is enough for the guarantee. For the result: everybody.
Cites:   Abadi et al. 2016, algorithm 1; Kairouz, Liu and Steinke 2021 (noise in shares); Zhu and Wang 2019 (what
         sampling is worth for any mechanism).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, largest_sample, sized
from privacy.units import Unit
from protocols.faults import Abort, LocalError, PeerError
from protocols.plans import context
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.rounds import Rounds, Sum
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights.descent import RULES, Descent
from protocols.weights.recipe import Recipe
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step(Message):
    """Ask for a member's part of one step at `point` (length,), into the sum `request`.

    `slips` are what the member has yet to know of its peers. Without a request it is what the masks depend on.
    """

    recipe: Recipe
    step: int
    point: Vector
    request: Request | None
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Pool(Message):
    """Be the task: train by `recipe` from `point` (length,), one step a round, each with `quorum` members or more."""

    recipe: Recipe
    quorum: int
    point: Vector
    terms: Terms


@dataclass(frozen=True, slots=True)
class Pooled(Message):
    """Be the result: the last point (length,), and for each step how many members are in its sum (0 if it was lost)
    and how many trips it took. Trips before the first step opened the secure sum.
    """

    point: Vector
    answered: tuple[int, ...]
    trips: tuple[int, ...]


def rate_of(recipe: Recipe) -> float:
    """Return q, the public probability with which every member's every record is in a step's sample."""
    return recipe.batch_size / recipe.population


def spec_of(recipe: Recipe, terms: Terms, members: int, step: int) -> FixedPoint:
    """Return how one record's gradient (or one whole member's) becomes words where `members` add up.

    The words hold any sample but one in 2**60; a larger one spoils its step, and protects as well.
    Raises: ValueError if their words are too narrow.
    """
    vectors = 0 if recipe.unit is Unit.MEMBER else largest_sample(recipe.batch_size, recipe.population)
    return sized(
        length=recipe.entries(step),
        bits=terms.bits,
        members=members,
        coordinate=recipe.clipping_norm,
        norm=recipe.clipping_norm,
        noise_multiplier=recipe.noise_multiplier or 0.0,
        honest=terms.honest,
        vectors=vectors,
    )


def context_of(recipe: Recipe, step: int, point: Vector) -> bytes:
    """Return the digest (32 bytes) of all that a step's sum is made from, but the private records."""
    return context(NAME, WIRE.encode(Step(recipe, step, np.ascontiguousarray(point), None, ())))


def require_sampled(recipe: Recipe) -> None:
    """Return if a recipe can be followed step by step, on samples of everybody's records. Raises: ValueError."""
    if recipe.steps != 1:
        raise ValueError("steps: expected 1, a round is a step")
    if recipe.population < 1:
        raise ValueError("population: expected the declared records of all members together")
    if recipe.optimizer not in RULES:
        raise ValueError(f"optimizer: expected one of {', '.join(RULES)}")
    if (recipe.epsilon is None) is not (recipe.noise_multiplier is None):
        raise ValueError("noise_multiplier: expected one where there is an epsilon: the sum alone has the noise")
    if recipe.target_quantile is not None or recipe.proximal:
        raise ValueError("target_quantile, proximal: expected none, there is no training between two sums")


class Home(seat.Seat, Protocol):
    """What a step asks of a member's home."""

    def stepped(
        self, recipe: Recipe, step: int, point: Vector, request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Return this member's part of the step, masked for the sum `request`, through the gate.

        Raises: PeerError for a recipe or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Idle(Message):
    """Wait for a step not before `next_step`. A member that was away skips what it missed, and repeats nothing."""

    next_step: int

    def answer(self, ask: Message, home: Home) -> "tuple[Idle, Cleared[Any]]":
        """Answer with what the gate let go of one step; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Step):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        recipe, step, point = ask.recipe, ask.step, ask.point
        if not self.next_step <= step < recipe.rounds:
            raise PeerError("a step out of order")
        if point.shape != (recipe.length,) or not np.isfinite(point).all():
            raise PeerError(f"expected a point of {recipe.length} finite entries")
        if ask.request is None:
            raise PeerError("a step outside a sum")
        try:
            require_sampled(recipe)
        except ValueError as wrong:
            raise PeerError(str(wrong)) from None
        return Idle(step + 1), home.stepped(recipe, step, point, ask.request, ask.slips)


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Make `task.recipe.rounds` steps and return the point that was reached, `Pooled`.

    A step whose sum fails is lost: it was charged, so it is not asked for again.
    Raises: Abort if fewer than the quorum answered a step, or if every step was lost.
    """
    if not isinstance(task, Pool) or task.point.shape != (task.recipe.length,):
        raise LocalError("this collaboration runs a Pool whose point fits its recipe")
    recipe, point = task.recipe, np.array(task.point, dtype=np.float64)
    require_sampled(recipe)
    descent, answered, trips = Descent(recipe.optimizer, recipe.learning_rate, recipe.length), [0] * 0, [0] * 0
    opened = yield from open_session(members, task.terms)
    rounds = Rounds(NAME, "step", opened, task.quorum, len(members))
    for step in range(recipe.rounds):
        made = yield from _summed(rounds, recipe, step, point.astype(np.float32))
        if made.count:
            chosen = recipe.chosen(step)
            whole = recipe.unit is Unit.MEMBER  # else the batch expected of those in the sum: the true one is private
            over = made.count if whole else recipe.batch_size * made.count / len(members)
            point[chosen] += descent.step(made.total / over, chosen)
        answered.append(made.count)
        trips.append(made.trips)
    if not any(answered):
        raise Abort(f"not one of {len(answered)} steps had all that it needs of {len(members)} members")
    return Pooled(point.astype(np.float32), tuple(answered), tuple(trips))


def _summed(rounds: Rounds, recipe: Recipe, step: int, point: Vector) -> Coordinator[Sum]:
    """Add up by a secure sum."""

    def spec_for(members: int) -> FixedPoint:
        return spec_of(recipe, rounds.opened.terms, members, step)

    def ask(request: Request, slips: tuple[Slip, ...]) -> Step:
        return Step(recipe, step, point, request, slips)

    return (yield from rounds.sum(step, spec_for, context_of(recipe, step, point), ask))


NAME = "pooled"
BEGIN = Idle(0)
STATES = Wire(Idle)
WIRE = Wire(Step, Pool, Pooled, *messages.KINDS)
