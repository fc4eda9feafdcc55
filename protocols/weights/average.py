"""Federated averaging of FFA-LoRA adapters: each round every member trains, and the mean of the deltas is added.

    coordinator                                         member
      Contribute(recipe, round, adapter) ──────────────▶ checks the recipe against its own model and budget,
                                                         trains on its own records, releases through its gate
      adapter += mean(deltas)  ◀──────────────────────── Contributed(round, delta)

A of every LoRA pair is frozen and drawn from a public seed; only B is trained and sent. The map from B to the model
is then linear, so the mean of the adapters is the adapter of the mean: nothing is lost to (mean B)(mean A).

Learns:  the coordinator: each member's delta, after the member's gate (noised, if the recipe has an epsilon), and
         who answered. Members: the mean so far.
Trusts:  nobody, for record-level privacy: the noise is added at the member. For the result: every member.
Cites:   McMahan et al. 2017, algorithm 1 (one mean a round, uniform weights: record counts are private);
         Sun et al. 2024, FFA-LoRA.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.units import Unit
from protocols.faults import Abort, LocalError, PeerError
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.gate import Disclosed, Released

Vector = NDArray[np.float32]
_LARGEST = 1e6  # no honest entry comes near it, and no sum of entries below it leaves float32


@dataclass(frozen=True, slots=True)
class Recipe(Message):
    """State the public hyper-parameters of a run; every member trains by the same recipe.

    Shapes:  `length` entries in the flat vector of all B's, in the layout whose digest is `layout`.
    Units:   `record_tokens` tokens a record; `steps` a round; `batch_size` the expected number of records a step;
             `clipping_norm` in L2; `epsilon` over all `rounds` at `delta`, or None for no noise (then a disclosure).
    """

    base: str
    layout: str
    length: int
    rank: int
    alpha: float
    targets: tuple[str, ...]
    adapter_seed: int
    record_tokens: int
    rounds: int
    steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    clipping_norm: float
    unit: Unit
    epsilon: float | None
    delta: float

    def __post_init__(self) -> None:
        counts = (self.length, self.rank, self.record_tokens, self.rounds, self.steps, self.batch_size)
        scales = (self.alpha, self.learning_rate, self.clipping_norm)
        if min(counts) < 1 or not all(math.isfinite(s) and s > 0 for s in scales):
            raise ValueError("a count, a rate or a norm that is not positive")
        if not 1 <= len(self.targets) <= 256 or max(map(len, self.targets)) > 256:
            raise ValueError("targets out of range: none, too many or too long")
        if not 0 < self.delta < 1 or not 0 <= self.adapter_seed < 2**63:
            raise ValueError("a delta or a seed out of range")
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError("an epsilon that is not positive")


@dataclass(frozen=True, slots=True)
class Contribute(Message):
    """Ask for one round's delta, starting from `adapter` (length,)."""

    recipe: Recipe
    round: int
    adapter: Vector


@dataclass(frozen=True, slots=True)
class Contributed(Message):
    """Answer with what the gate let go: the member's delta (length,)."""

    round: int
    delta: Vector


@dataclass(frozen=True, slots=True)
class Average(Message):
    """Be the task: train by `recipe` from `adapter` (length,), each round with at least `quorum` members."""

    recipe: Recipe
    quorum: int
    adapter: Vector


@dataclass(frozen=True, slots=True)
class Averaged(Message):
    """Be the result: the adapter (length,), and how many members answered in each round."""

    adapter: Vector
    answered: tuple[int, ...]


class Home(Protocol):
    """What an average asks of a member's home."""

    def contribution(self, recipe: Recipe, round_: int, adapter: Vector) -> "Released[Vector] | Disclosed[Vector]":
        """Train from `adapter` and return the delta (length,), through the gate.

        Raises: PeerError for a recipe that does not fit this home's model; Refused.
        """


@dataclass(frozen=True, slots=True)
class Idle(Message):
    """Wait for a round not before `next_round`. A member that was away skips what it missed."""

    next_round: int

    def answer(self, ask: Message, home: Home) -> "tuple[Idle, Contributed]":
        """Train one round and answer with the delta that the gate let go."""
        match ask:
            case Contribute(recipe, round_, adapter) if self.next_round <= round_ < recipe.rounds:
                if adapter.shape != (recipe.length,):
                    raise PeerError(f"an adapter of shape {adapter.shape}, the recipe says {recipe.length}")
                delta = home.contribution(recipe, round_, adapter).value
                return Idle(round_ + 1), Contributed(round_, delta)
            case Contribute():
                raise PeerError("a round out of order")
        raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Train for `task.recipe.rounds` rounds and return the `Averaged` adapter.

    A delta of another shape or round, or with an entry beyond `_LARGEST`, counts as silence.
    Raises: Abort if fewer than the quorum answered in a round.
    """
    if not isinstance(task, Average) or task.adapter.shape != (task.recipe.length,):
        raise LocalError("this collaboration runs an Average whose adapter fits its recipe")
    adapter, answered = task.adapter, []
    for round_ in range(task.recipe.rounds):
        ask = Contribute(task.recipe, round_, adapter)
        answers = yield dict.fromkeys(members, ask)
        deltas = [
            a.delta
            for _, a in sorted(answers.items())  # in a fixed order: a float sum depends on it
            if isinstance(a, Contributed) and a.round == round_ and _sane(a.delta, adapter)
        ]
        if len(deltas) < task.quorum:
            raise Abort(f"round {round_ + 1}: {len(deltas)} of {len(members)} members answered, need {task.quorum}")
        adapter = adapter + np.mean(deltas, axis=0, dtype=np.float64).astype(np.float32)
        answered.append(len(deltas))
    return Averaged(adapter, tuple(answered))


def _sane(delta: Vector, adapter: Vector) -> bool:
    return delta.shape == adapter.shape and float(np.abs(delta).max()) <= _LARGEST


BEGIN = Idle(0)
STATES = Wire(Idle)
WIRE = Wire(Contribute, Contributed, Average, Averaged)
