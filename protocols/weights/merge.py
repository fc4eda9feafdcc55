"""Merge adapters that were trained apart, once: task arithmetic, DARE, TIES, or a sketch where their A's differ.

    coordinator                                         member
      (a secure sum is opened: protocols/secure_sum/session.py)
      Combine(plan, step 0, (), request) ──────────────▶ checks plan and request against its own adapter and policy,
                                                         weighs, trims, drops or sketches its adapter, and masks it
      ◀───────────────────────────────────────────────── Upload(masked summand)
      TIES: the signs of the sum; sketch: its range
      Combine(plan, step 1, signs or basis, request) ──▶ what agrees with the signs, and how many; or its adapter
      ◀───────────────────────────────────────────────── within the basis: Upload(masked summand)

Nothing is trained here. An adapter that was trained by DP-SGD at home was charged there (`parley member train`):
what is made of it is post-processing, and the ledger derives it from that charge. Else whole members are protected
by noise that only the sum has in full, or it is a disclosure, by name.

Learns:  the coordinator: one or two sums over the members' adapters, and who answered. Members: the elected signs, or
         a basis of the sum's range. Nobody: one member's adapter, or which entries it kept. But where adapters are
         thinned (TIES, DARE) an entry of the sum is often one member's own, though not whose; TIES's count says so.
Trusts:  that only sums are seen, and privacy of whole members: no more than terms.colluding members work with the
         coordinator. For what was noised in training, nobody. For the result: everybody.
Cites:   Ilharco et al. 2023 (task arithmetic); Yadav et al. 2023 (TIES); Yu et al. 2024 (DARE); for sketches of
         products see `blending.py`.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint, sized
from protocols.faults import Abort, LocalError, PeerError
from protocols.plans import context
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import DeadSum, Opened, finish, open_session, usable
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights.blending import Sketch, mean_of_agreeing
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Vector = NDArray[np.float32]
_LIGHTEST = 10.0  # times lighter than an adapter another may be, and still hide it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}").fullmatch


class Method(Enum):
    """Name how adapters become one."""

    ARITHMETIC = "arithmetic"
    DARE = "dare"
    TIES = "ties"
    SKETCH = "sketch"


class Protection(Enum):
    """Name what protects the records: noise of the training, charged then; noise in the sum; or nothing, by name."""

    TRAINING = "training"
    SUM = "sum"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class MergePlan(Message):
    """State publicly what is merged, and how; every member goes by the same plan.

    `adapter` is the name of each member's own, in its home; `layout` the digest of their common layout, or empty
    where their A's differ (SKETCH): then `outputs` and `inputs` are the slots' widths, and `width` is the result's
    rank. `length` entries in the vector; `density` of them stay in TIES and DARE; the mean is taken times `scale`.
    `weights` are the members' public ones, in the order of `members`; without any all count alike.
    Units:  `bound` in L2 of a weighted adapter for noise in the sum, else in entries; `noise_multiplier` in bounds.
    """

    base: str
    adapter: str
    method: Method
    layout: str
    length: int
    protection: Protection
    bound: float = 16.0
    density: float = 1.0
    scale: float = 1.0
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    outputs: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    width: int = 0
    seed: int = 0
    epsilon: float | None = None
    delta: float = 1e-5
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        if not _NAME(self.adapter):
            raise ValueError("adapter: expected a name of letters, digits, hyphens and underscores, at most 64")
        if self.length < 1 or not 0 < self.density <= 1 or not 0 <= self.seed < 2**63:
            raise ValueError("length, density or seed out of range")
        if not (0 < self.bound < 1e6 and math.isfinite(self.scale)):
            raise ValueError("bound or scale out of range")
        if self.method is Method.TIES and self.bound < 1:
            raise ValueError("bound: expected at least 1 with ties, whose counts are cut off there too")
        if len(self.members) != len(self.weights) or not all(0 < w <= 1 for w in self.weights):
            raise ValueError("weights: expected one above 0 and at most 1 for each member")
        sketched, widths = self.method is Method.SKETCH, (*self.outputs, *self.inputs)
        if sketched is not bool(widths) or (sketched and (self.width < 1 or min(widths) < 1)):
            raise ValueError("outputs, inputs, width: expected with a sketch, and only there")
        if len(self.outputs) != len(self.inputs):
            raise ValueError("outputs, inputs: expected one of each for every slot")
        in_sum = self.protection is Protection.SUM
        if in_sum is (self.noise_multiplier is None) or in_sum is (self.epsilon is None):
            raise ValueError("epsilon, noise_multiplier: expected with noise in the sum, and only there")
        if in_sum and self.method not in (Method.ARITHMETIC, Method.DARE):
            raise ValueError("method: expected arithmetic or dare where the sum has the noise")

    @property
    def steps(self) -> int:
        """Return how many sums it takes."""
        return 2 if self.method in (Method.TIES, Method.SKETCH) else 1

    @property
    def sketch(self) -> Sketch:
        """Return what sketches the products."""
        return Sketch(self.outputs, self.inputs, self.width, self.seed)

    def entries(self, step: int) -> int:
        """Return how many entries a step's summand has."""
        if self.method is Method.SKETCH:
            return self.sketch.lengths[step]
        return 2 * self.length if step == 1 else self.length

    def known(self, step: int) -> int:
        """Return how many entries of what is known already a step's ask has: signs, or a basis."""
        return 0 if step == 0 else self.entries(0)

    def weight(self, member: str) -> float:
        """Return a member's weight."""
        return dict(zip(self.members, self.weights, strict=True)).get(member, 0.0) if self.members else 1.0

    def hidden_among(self, member: str, members: Sequence[str]) -> int:
        """Return how many of these a member's adapter is hidden among, itself included: those that weigh enough.

        With a weight of nearly nothing at the others', their sum would be the one adapter.
        """
        return sum(self.weight(other) >= self.weight(member) / _LIGHTEST for other in members)

    def spec(self, terms: Terms, members: int, step: int) -> FixedPoint:
        """Return how summands become words. Raises: ValueError if the words are too narrow."""
        size = {"length": self.entries(step), "bits": terms.bits, "members": members}
        if self.noise_multiplier is None:
            return sized(coordinate=self.bound, **size)
        bound, z = self.bound, self.noise_multiplier
        return sized(coordinate=bound, norm=bound, noise_multiplier=z, honest=terms.honest, **size)

    @property
    def text(self) -> str:
        """Return the plan as canonical JSON, for whoever approves or audits it; long lists by their digest."""
        tree = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}
        for name in ("members", "weights", "outputs", "inputs"):
            tree[name] = f"{len(tree[name])}, sha256 {hashlib.sha256(repr(tree[name]).encode()).hexdigest()}"
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Combine(Message):
    """Ask for one step's summand; `known` are the elected signs, or a basis: empty in the first step."""

    plan: MergePlan
    step: int
    known: Vector
    request: Request
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Merge(Message):
    """Be the task: merge by `plan` what at least `quorum` members have, in sums on these `terms`."""

    plan: MergePlan
    quorum: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class Merged(Message):
    """Be the result: the merged adapter (length,), or of a sketch all Q's and then all Z's; how many members are in
    each sum, and how many trips each took.
    """

    adapter: Vector
    answered: tuple[int, ...]
    trips: tuple[int, ...]


def context_of(plan: MergePlan, step: int, known: Vector) -> bytes:
    """Return the digest (32 bytes) of all that a summand is made from, but the member's adapter."""
    digest = hashlib.sha256(np.ascontiguousarray(known, dtype="<f4").tobytes()).digest()
    return context(NAME, _PLANS.encode(plan) + bytes([step]) + digest)


class Home(seat.Seat, Protocol):
    """What a merge asks of a member's home."""

    def combined(
        self, plan: MergePlan, step: int, known: Vector, request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Return what this member adds to a step's sum, masked, through the gate.

        Raises: PeerError for a plan that does not fit this home's adapter; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Apart(Message):
    """Wait for a step not before `next_step`."""

    next_step: int

    def answer(self, ask: Message, home: Home) -> "tuple[Apart, Cleared[Any]]":
        """Answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Combine):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        if not self.next_step <= ask.step < ask.plan.steps:
            raise PeerError("a step out of order")
        if ask.known.shape != (ask.plan.known(ask.step),):
            raise PeerError("signs or a basis of another shape than the plan's")
        return Apart(ask.step + 1), home.combined(ask.plan, ask.step, ask.known, ask.request, ask.slips)


@dataclass(frozen=True, slots=True)
class _Step:
    """Hold what a step came to: the mean or sum of its summands, the members in it, and its trips."""

    total: NDArray[np.float64]
    members: tuple[str, ...]
    trips: int


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Merge the members' adapters and return the `Merged` one.

    Raises: Abort if fewer than the quorum are in a sum, or if a sum cannot be finished: a merge has no other round.
    """
    if not isinstance(task, Merge):
        raise LocalError("this collaboration runs a Merge")
    plan, opened = task.plan, (yield from open_session(members, task.terms))
    first = yield from _summed(len(members), task, 0, np.zeros(0, np.float32), opened, opened.members)
    weight = math.fsum(plan.weight(m) for m in first.members)
    if plan.steps == 1:
        merged = plan.scale * first.total / weight
        return Merged(merged.astype(np.float32), (len(first.members),), (first.trips,))
    sketch = plan.method is Method.SKETCH
    known = (plan.sketch.bases(first.total) if sketch else np.sign(first.total)).astype(np.float32)
    second = yield from _summed(len(members), task, 1, known, opened, first.members)
    if sketch:  # of those who are in the second sum, within the range of the first's
        weight = math.fsum(plan.weight(m) for m in second.members)
        merged = np.concatenate([known, plan.scale * second.total / weight])
    else:
        merged = plan.scale * mean_of_agreeing(second.total)
    steps = (first, second)
    return Merged(merged.astype(np.float32), tuple(len(s.members) for s in steps), tuple(s.trips for s in steps))


def _summed(
    invited: int, task: Merge, step: int, known: Vector, opened: Opened, asked: Sequence[str]
) -> Coordinator[_Step]:
    """Add up one step's summands. Raises: Abort."""
    plan = task.plan
    spec = plan.spec(opened.terms, len(asked), step)
    request = opened.request(NAME, spec, context_of(plan, step, known), step, asked)
    answers = yield {MemberId(m): Combine(plan, step, known, request, opened.slips(m)) for m in asked}
    there = len(usable(opened, request, answers))
    try:
        summed = yield from finish(opened, request, answers)
    except DeadSum:
        raise Abort(f"step {step + 1}: {there} of {invited} members uploaded, too few to finish the sum") from None
    count, least = len(summed.members), max(task.quorum, opened.terms.smallest_crowd)
    if count < least:
        raise Abort(f"step {step + 1}: {count} of {invited} members answered, need {least}")
    return _Step(spec.decode(summed.words, count), summed.members, 1 + summed.trips)


NAME = "merge"
BEGIN = Apart(0)
STATES = Wire(Apart)
WIRE = Wire(Combine, Merge, Merged, *messages.KINDS)
_PLANS = Wire(MergePlan)
