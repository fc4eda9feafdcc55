"""The private utility: how much better candidate adapters do on data that nobody else sees, summed and noised.

    coordinator                                         member
      Score(trial, number, reference, candidates, ───▶ checks them against its own model, policy and budget, and
            request)                                    scores each candidate on each validation record that it
                                                        holds back from training, all through its gate
      a noised sum for each candidate              ◀─── Upload(masked sums and a share of the noise)

A record's score is how much less loss a candidate has on it than the reference, cut off at `clip`; K candidates make
a vector of norm at most clip sqrt(K), encoded as integers record by record, so that the bound holds in whole numbers.
A group's score is the mean over its records; for the unit "member" a member's mean is all that it adds.
`soup.py`, `search.py` and `extrapolate.py` choose their candidates; here stands what they have in common.

Learns:  the coordinator: the noised sum of the scores of each evaluation. Members: the candidates that are tried.
Trusts:  that no more than terms.colluding members work with the coordinator: the noise is theirs together.
Cites:   Kairouz, Liu and Steinke 2021 (the noise of the sum).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from privacy.units import Unit
from protocols.faults import LocalError, PeerError
from protocols.plans import context, plan_of
from protocols.secure_sum import messages, seat
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.secure_sum.rounds import Rounds, spec_of_units
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.weights.recipe import Objective
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed, Released, Said

Vector = NDArray[np.float32]
Reals = NDArray[np.float64]
MOST_CANDIDATES = 64
MOST_EVALUATIONS = 1000
_MOST_RECORDS = 2**24


@dataclass(frozen=True, slots=True)
class Trial(Message):
    """State by which public terms candidates are scored: the same for every member and every evaluation.

    Shapes:  candidates of `length` entries in the layout whose digest is `layout`.
    Units:   `record_tokens` tokens a record; `clip` in nats a token, the most that one record says for or against a
             candidate; at most `candidates` of them in each of `evaluations`; about `population` validation records
             or groups at all members together, for which words are sized; `epsilon` over all evaluations at `delta`,
             or None for no noise (then a disclosure); `noise_multiplier` of a sum, in units of clip sqrt(candidates).
    """

    base: str
    layout: str
    length: int
    rank: int
    alpha: float
    targets: tuple[str, ...]
    adapter_seed: int
    record_tokens: int
    clip: float
    candidates: int
    evaluations: int
    population: int
    unit: Unit
    epsilon: float | None
    delta: float
    noise_multiplier: float | None
    objective: Objective = Objective.TEXT

    def __post_init__(self) -> None:
        if min(self.length, self.rank, self.record_tokens) < 1 or not _positive(self.alpha, self.clip):
            raise ValueError("a count, a scale or a clip that is not positive")
        if not 1e-3 <= self.clip <= 1e3:
            raise ValueError("clip: expected a number from 0.001 to 1000")
        if not 1 <= len(self.targets) <= 256 or max(map(len, self.targets)) > 256:
            raise ValueError("targets out of range: none, too many or too long")
        if not 0 < self.delta < 1 or not 0 <= self.adapter_seed < 2**63:
            raise ValueError("a delta or a seed out of range")
        if not 1 <= self.candidates <= MOST_CANDIDATES or not 1 <= self.evaluations <= MOST_EVALUATIONS:
            raise ValueError(f"expected 1 to {MOST_CANDIDATES} candidates, in 1 to {MOST_EVALUATIONS} evaluations")
        if not 1 <= self.population <= _MOST_RECORDS:
            raise ValueError(f"population: expected 1 to {_MOST_RECORDS}")
        if (self.epsilon is None) is not (self.noise_multiplier is None):
            raise ValueError("epsilon and noise_multiplier: expected both or neither")
        if self.epsilon is not None and not _positive(self.epsilon):
            raise ValueError("an epsilon that is not positive")
        if self.noise_multiplier is not None and not 0 < self.noise_multiplier < 1e6:
            raise ValueError("a noise multiplier out of range")

    @property
    def rounds(self) -> int:
        """Return how often the members are asked: once for each evaluation."""
        return self.evaluations

    def spec(self, terms: Terms, members: int, candidates: int) -> FixedPoint:
        """Return how the scores of so many candidates become words where `members` add up.

        Raises:  ValueError if the words are too narrow.
        """
        norm = self.clip * math.sqrt(candidates)
        return spec_of_units(self, terms, members, candidates, coordinate=self.clip, norm=norm)

    @property
    def plan(self) -> str:
        """Return the trial as canonical JSON of at most 4 KiB, for whoever approves or audits it."""
        return plan_of(self, self.targets)


@dataclass(frozen=True, slots=True)
class Score(Message):
    """Ask for the scores of `candidates` (K, length) over `reference` (length,), into the sum `request`.

    `number` counts the evaluations from 0; `slips` are what the member has yet to know of its peers.
    """

    trial: Trial
    number: int
    reference: Vector
    candidates: Vector
    request: Request | None
    slips: tuple[Slip, ...]


@dataclass(frozen=True, slots=True)
class Verdict(Message):
    """Hold what one evaluation came to: `gains` (K,), in nats a token and declared record, of the `mixes` (K, M).

    `over` (M,) is the mix of the reference; `members` are in the sum, 0 if it was lost, and it took so many trips.
    """

    over: Reals
    mixes: Reals
    gains: Reals
    members: int
    trips: int


@dataclass(frozen=True, slots=True)
class Found(Message):
    """Be the result: the adapter (length,), which is the mix `weights` (M,) of the ingredients, and all verdicts."""

    adapter: Vector
    weights: Reals
    verdicts: tuple[Verdict, ...]


class Home(seat.Seat, Protocol):
    """What a private utility asks of a member's home."""

    def scored(
        self, trial: Trial, number: int, points: Sequence[Vector], request: Request, slips: Sequence[Slip]
    ) -> "Released[Upload] | Disclosed[Upload]":
        """Score points[1:] over points[0], each (length,), and return the sums masked for `request`, by the gate.

        Raises: PeerError for a trial or a request that this home would not make itself; Refused.
        """

    def say(self, make: Callable[[], Message]) -> "Said[Message]":
        """Let a message go that says nothing about the data. Raises: Refused."""


@dataclass(frozen=True, slots=True)
class Judging(Message):
    """Wait for an evaluation not before `next_number`. None is answered twice, nor one beyond the trial's last."""

    next_number: int

    def answer(self, ask: Message, home: Home) -> "tuple[Judging, Cleared[Any]]":
        """Score the candidates and answer with what the gate let go; or take part in the sum around it."""
        if isinstance(ask, seat.ASKS):
            return self, home.say(lambda: seat.answer(ask, home))
        if not isinstance(ask, Score):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        trial, shape = ask.trial, ask.candidates.shape
        if not self.next_number <= ask.number < trial.evaluations:
            raise PeerError("an evaluation out of order, or beyond the last")
        if ask.reference.shape != (trial.length,) or len(shape) != 2 or shape[1] != trial.length:
            raise PeerError(f"candidates of another length than the trial's {trial.length}")
        if not 1 <= shape[0] <= trial.candidates:
            raise PeerError(f"{shape[0]} candidates, the trial says 1 to {trial.candidates}")
        if ask.request is None:
            raise PeerError("scores are let go into a secure sum alone")
        points = (ask.reference, *ask.candidates)
        return Judging(ask.number + 1), home.scored(trial, ask.number, points, ask.request, ask.slips)


def context_of(name: str, trial: Trial, number: int, reference: Vector, candidates: Vector) -> bytes:
    """Return the digest (32 bytes) of all that an evaluation's scores are made from, but the private records."""
    whole, among = np.ascontiguousarray(reference), np.ascontiguousarray(candidates)
    ask = _ASKS.encode(Score(trial, number, whole, among, None, ()))
    return context(name, ask)


@dataclass
class Panel:
    """Have the members judge mixes of the ingredients (M, length), one evaluation after the other."""

    trial: Trial
    rounds: Rounds
    ingredients: Vector
    verdicts: list[Verdict] = field(default_factory=list)

    def judge(self, mixes: Reals, over: Reals) -> Coordinator[Reals | None]:
        """Return the gains (K,) of the mixes (K, M) over the mix `over` (M,); None if the sum was lost.

        A sum that is lost was charged, so it is not asked for again.
        Raises: Abort below the quorum.
        """
        number, trial, terms = len(self.verdicts), self.trial, self.rounds.opened.terms
        if number >= trial.evaluations or len(mixes) > trial.candidates:
            raise LocalError("more evaluations or candidates than the trial has noise for")
        reference, candidates = self.mixed(over), self.mixed(mixes)

        def spec_for(members: int) -> FixedPoint:
            return trial.spec(terms, members, len(mixes))

        def ask(request: Request, slips: tuple[Slip, ...]) -> Score:
            return Score(trial, number, reference, candidates, request, slips)

        asked_of = context_of(self.rounds.purpose, trial, number, reference, candidates)
        made = yield from self.rounds.sum(number, spec_for, asked_of, ask)
        of = made.count if trial.unit is Unit.MEMBER and made.count else trial.population
        gains = made.total / of
        self.verdicts.append(Verdict(over, mixes, gains, made.count, made.trips))
        return gains if made.count else None

    def mixed(self, mixes: Reals) -> Vector:
        """Return mixes (..., M) of the ingredients: exact for FFA-LoRA, whose A is the same in all of them."""
        return np.ascontiguousarray(mixes @ self.ingredients.astype(np.float64), dtype=np.float32)

    def found(self, weights: Reals) -> Found:
        """Return the result. Raises: Abort if not one evaluation had all that it needs."""
        self.rounds.require_any([v.members for v in self.verdicts])
        return Found(self.mixed(weights), weights, tuple(self.verdicts))


def convene(
    name: str, members: Sequence[MemberId], trial: Trial, quorum: int, terms: Terms, ingredients: Vector
) -> Coordinator[Panel]:
    """Open a secure sum with the members and return them as a panel. Raises: LocalError, Abort."""
    if ingredients.ndim != 2 or ingredients.shape[1] != trial.length or not len(ingredients):
        raise LocalError("expected ingredients of the trial's length, one at least")
    opened = yield from open_session(members, terms)
    return Panel(trial, Rounds(name, "evaluation", opened, quorum, len(members)), ingredients)


def _positive(*numbers: float) -> bool:
    return all(math.isfinite(x) and x > 0 for x in numbers)


BEGIN = Judging(0)
STATES = Wire(Judging)
KINDS = (Score, Found, *messages.KINDS)  # what each collaboration here has beside its task
_ASKS = Wire(Score)
