"""Make a round's local training ready, as a recipe asks for it and as far as this home's own rank goes."""

from dataclasses import dataclass, replace

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from client.adapter import Layout
from client.declared import Declared
from client.dp_training import DpSgd, Kept, Schedule, UnsafePlainSgd, kept
from client.training.noise import noise_multiplier, opened
from client.training.objectives import loss_of
from client.visit import House
from privacy.ledger import Account
from privacy.randomness import Randomness
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.weights.ranks import column_of, columns
from protocols.weights.recipe import Chosen, Half, Objective, Recipe

Vector = NDArray[np.float32]
MOST_STEPS = 100_000  # in one round; a letter may still keep a home busy for very long (THREATS.md)
_TOKENS_AT_ONCE = 1024  # activations of more cost memory and, on a processor, win no time
_ENTRIES_AT_ONCE = 2**26  # of records' gradients: 256 MiB
_MOST_AT_ONCE = 16
MOST_ROWS = 64  # of one group in a step: a huge one would take for ever, and its clipped gradient counts no more


@dataclass(frozen=True, slots=True)
class Placed:
    """Draw a delta of some of the entries that a round chose, and put zeros at the others.

    Shapes:  `where` (entries,) bool: which of the chosen entries the inner delta has, in order.
    """

    inner: DpSgd | UnsafePlainSgd
    where: NDArray[np.bool_]

    def draw(self, randomness: Randomness) -> Vector:
        """Return the delta, shape (entries,) float32."""
        delta = np.zeros(self.where.size, np.float32)
        delta[self.where] = self.inner.draw(randomness)
        return delta


@dataclass(frozen=True, slots=True)
class PlacedRelease(Placed):
    """Do so with a delta that has its noise: where the zeros are follows from this home's rank, which is public."""

    inner: DpSgd

    @property
    def event(self) -> DpEvent:
        """Return the inner event."""
        return self.inner.event


def training(
    house: House, account: Account, recipe: Recipe, round_: int, adapter: Vector, letter: tuple[str, int] = ("", 0)
) -> DpSgd | UnsafePlainSgd | Placed:
    """Return this round's training: by DP-SGD, where records are to be protected.

    A clipping norm that is sought goes on from where the session's former `letter` left it.
    Raises: PeerError for a recipe that does not fit this home.
    """
    if recipe.half is Half.BOTH:
        raise PeerError("the mean of products is not the product of means: not both halves in one round")
    schedule, fitted = schedule_of(house, recipe), house.fit(recipe)
    house.shared = recipe, adapter
    loss = loss_of(recipe.objective, recipe.beta, adapter)
    own, where = trained_here(house, recipe, fitted.adapted.layout, round_)
    made: DpSgd | UnsafePlainSgd
    if recipe.epsilon is None or recipe.noise_multiplier is not None:
        if recipe.target_quantile is not None:
            raise PeerError("a clipping norm to be sought, and no gradients that are clipped")
        made = UnsafePlainSgd(fitted.adapted, fitted.records, adapter, schedule, loss, own)
    else:
        sigma = noise_multiplier(recipe, recipe.epsilon, schedule.rate, opened(house.ledger, account))
        made = DpSgd(fitted.adapted, fitted.records, adapter, schedule, sigma, loss, own)
        if recipe.target_quantile is not None:
            before = kept(house.states.before(*letter))

            def keep(left: Kept) -> None:
                house.states.keep(*letter, Kept(left.norm).arrays())

            made = replace(made, before=before, keep=keep)
    if where is None:
        return made
    return PlacedRelease(made, where) if isinstance(made, DpSgd) else Placed(made, where)


def trained_here(
    house: House, recipe: Recipe, layout: Layout, round_: int
) -> tuple[Chosen, NDArray[np.bool_] | None]:
    """Return which of the entries that a round chose this home trains, and where they are among them, None for all.

    A home of a smaller rank trains so many columns of every B (rows of every A), other ones each round
    (`protocols/weights/ranks.py`), and adds zeros elsewhere: every B meets the A that it was trained on.
    Raises: PeerError if none of them is.
    """
    most, chosen = house.most_rank, recipe.chosen(round_)
    if most is None or most >= recipe.rank:
        return chosen, None
    entries = np.arange(layout.size)[chosen]
    of = column_of(layout.rank, layout.b_entries, layout.inputs)
    where = columns(recipe, house.member, most, round_)[of[entries]]
    if not where.any():
        raise PeerError("a round that chose nothing within this home's rank")
    return entries[where], where


def schedule_of(house: House, recipe: Recipe) -> Schedule:
    """Return the public parameters of a round of training here. Raises: PeerError."""
    if recipe.steps > MOST_STEPS:
        raise PeerError(f"{recipe.steps} steps in a round, at most {MOST_STEPS} here")
    try:
        return Schedule(
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            declared_records=units_of(recipe, house.declared),
            most_rows=MOST_ROWS if recipe.unit is Unit.GROUP else None,
            learning_rate=recipe.learning_rate,
            clipping_norm=recipe.clipping_norm,
            optimizer=recipe.optimizer,
            micro_batch=rows_at_once(recipe, recipe.length),
            threads=house.threads,
            running=house.running,
            proximal=recipe.proximal,
            target_quantile=recipe.target_quantile,
        )
    except ValueError as wrong:  # its words are keys and public limits
        raise PeerError(f"a recipe whose batches are larger than this data, or else wrong: {wrong}") from None


def units_of(recipe: Recipe, declared: Declared) -> int:
    """Return about how many units (of a whole member, its records) a step of this recipe is sampled from."""
    windows = recipe.objective is Objective.TEXT
    return declared.units(recipe.unit, recipe.record_tokens, windows=windows)


def rows_at_once(recipe: Recipe, entries: int) -> int:
    """Return how many records are run at once: as fit by their activations, and by gradients of so many entries."""
    return max(1, min(_MOST_AT_ONCE, _TOKENS_AT_ONCE // recipe.record_tokens, _ENTRIES_AT_ONCE // entries))
