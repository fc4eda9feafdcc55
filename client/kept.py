"""Train an adapter at home and keep it there: charged like any release, before its first draw.

What is made of it later, in a merge, costs nothing more: the ledger knows it by its digest. What was trained without
noise is in no ledger: it may be asked (the logit level), in a sum that is charged or told apart, and nothing derived.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.adapter import Layout, layout_from, save
from client.artefacts import is_name
from client.card import Card
from client.dp_training import LARGEST_NORM, SMALLEST_NORM, UnsafePlainSgd
from client.folder import Folder
from client.home import House
from client.homes.average import AverageVisit
from client.homes.local import Placed
from client.model import layout_of, longest
from client.opening import identity_of, open_house
from client.settings import Settings
from client.shards import Shards, shards_of
from client.training.optimisers import OPTIMISERS
from privacy.artefact import Artefact
from privacy.config import ConfigError, read_config
from privacy.gate import Released
from privacy.ledger import Statement
from privacy.occasion import Occasion
from privacy.policy import Permission, Policy
from privacy.units import Level, Unit
from protocols.faults import PeerError
from protocols.weights.recipe import Recipe

PARTNER, COLLABORATION = "home", "train"  # no coordinator's key is a word, and no collaboration has this name
_UNPROTECTED = "without noise: it protects nobody"


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Give the adapter's shape; two adapters of one shape and seed can be merged entry by entry."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError("rank: expected at least 1")
        if not self.alpha > 0:
            raise ValueError("alpha: expected a number above 0")
        if not self.targets:
            raise ValueError("targets: expected at least one")


@dataclass(frozen=True, slots=True)
class StepSettings:
    """Give the training: `batch_size` records a step on average."""

    record_tokens: int
    steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    clipping_norm: float

    def __post_init__(self) -> None:
        for name, least in (("record_tokens", 2), ("steps", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}")
        if self.optimizer not in OPTIMISERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")
        if not self.learning_rate > 0:
            raise ValueError("learning_rate: expected a number above 0")
        if not SMALLEST_NORM <= self.clipping_norm <= LARGEST_NORM:
            raise ValueError(f"clipping_norm: expected a number from {SMALLEST_NORM:g} to {LARGEST_NORM:g}")


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Give the guarantee of the whole training, per record."""

    epsilon: float
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError("epsilon: expected a number above 0")
        if not 0 < self.delta < 1:
            raise ValueError("delta: expected a number above 0 and below 1")


@dataclass(frozen=True, slots=True)
class Exercise:
    """Hold one training file: the tables of an experiment, without anybody else in it.

    Without [privacy] it is trained without noise and nothing is charged: it may leave only in a sum that has noise
    for whole members, or as a disclosure.
    """

    seed: int
    lora: LoraSettings
    training: StepSettings
    privacy: PrivacySettings | None = None

    def recipe(self, base: str, layout: Layout, unit: Unit = Unit.RECORD) -> Recipe:
        """Return the recipe for a model of this digest. Raises: ValueError."""
        step = self.training
        return Recipe(
            base=base,
            layout=layout.digest,
            length=layout.size,
            rank=self.lora.rank,
            alpha=self.lora.alpha,
            targets=self.lora.targets,
            adapter_seed=self.seed,
            record_tokens=step.record_tokens,
            rounds=1,
            steps=step.steps,
            batch_size=step.batch_size,
            optimizer=step.optimizer,
            learning_rate=step.learning_rate,
            clipping_norm=step.clipping_norm,
            unit=unit,
            epsilon=None if self.privacy is None else self.privacy.epsilon,
            delta=1e-5 if self.privacy is None else self.privacy.delta,
        )


@dataclass(frozen=True, slots=True)
class AtHome(AverageVisit):
    """Be the visit of nobody: what is trained stays here."""

    def keep(self, recipe: Recipe, layout: Layout) -> Released[Artefact]:
        """Train from zeros by DP-SGD, through the gate. Raises: PeerError, Refused: nothing was charged."""
        occasion = replace(self.occasion, plan=recipe.plan)
        self.require_unit(recipe.unit, recipe.record_tokens, (Unit.RECORD,))
        task = self.protected(recipe, 0, np.zeros(recipe.length, np.float32))
        return self.gate.keep(task, layout.to_json(), self.account, occasion)

    def practise(self, recipe: Recipe, layout: Layout, dealt: tuple[Shards, int] | None = None) -> Artefact:
        """Train from zeros without noise: nothing was charged for it, and no gate derives anything from it.

        With `dealt` on one shard of the records alone. Raises: PeerError for batches above a shard's size.
        """
        task = self._task(recipe, 0, np.zeros(recipe.length, np.float32))
        if dealt is not None:
            inner = task.inner if isinstance(task, Placed) else task
            on_shard = _on_shard(inner, *dealt)
            task = replace(task, inner=on_shard) if isinstance(task, Placed) else on_shard
        return Artefact(layout.to_json(), task.draw(self.gate.randomness))


def _on_shard(task: object, shards: Shards, number: int) -> UnsafePlainSgd:
    """Return a training on the records of one shard alone. Raises: PeerError."""
    if not isinstance(task, UnsafePlainSgd):
        raise PeerError("only a training without noise is dealt out")
    declared = task.schedule.declared_records // shards.count
    if declared < task.schedule.batch_size:
        raise PeerError(f"batches larger than one of {shards.count} shards")
    schedule = replace(task.schedule, declared_records=declared)
    return replace(task, records=shards.of(task.records, number), schedule=schedule)


def train(house: House, name: str, exercise: Exercise, folder: Path) -> Statement | None:
    """Train the adapter `name` into `folder`; return what the account has spent since, or None without noise.

    The operator who asks is the policy's own author: the account's budget is all that bounds it.
    Raises: ConfigError, PeerError, Refused; then nothing was charged.
    """
    _require_new(folder, name)
    layout, recipe = _planned(house, exercise)
    noised = exercise.privacy is not None
    with _at_home(house, name) as visit:
        artefact = visit.keep(recipe, layout).value if noised else visit.practise(recipe, layout)
    statement = house.ledger.statement(house.account(house.policy().budget)) if noised else None
    how = "by DP-SGD, charged before it was drawn" if noised else _UNPROTECTED
    _save(house, folder / name, artefact, (("trained", f"at home, {how}"), ("plan", f"`{recipe.plan}`")), statement)
    return statement


def train_shards(house: House, name: str, exercise: Exercise, folder: Path, shards: Shards) -> list[str]:
    """Train an adapter without noise on each shard of the records, into `folder`; return their names.

    No record is in two shards, nor is a group if the budget is per group: one of them changes one adapter alone.
    Nothing is charged, and nothing leaves. Raises: ConfigError, PeerError; then nothing was written.
    """
    if exercise.privacy is not None:
        raise ConfigError(
            "the training file", "privacy", "shards are trained without noise: what is asked is charged"
        )
    names = [f"{name}-{number + 1}" for number in range(shards.count)]
    for one in names:
        _require_new(folder, one)
    unit = Unit.GROUP if house.policy().budget.unit is Unit.GROUP else Unit.RECORD
    layout, recipe = _planned(house, exercise, unit)
    with _at_home(house, name) as visit:
        made = [visit.practise(recipe, layout, (shards, number)) for number in range(shards.count)]
    for number, (one, artefact) in enumerate(zip(names, made, strict=True)):
        which = f"at home, on shard {number + 1} of {shards.count}, {_UNPROTECTED}"
        _save(house, folder / one, artefact, (("trained", which), ("plan", f"`{recipe.plan}`")), None)
    return names


def _require_new(folder: Path, name: str) -> None:
    if not is_name(name):
        raise ConfigError(folder, "name", "expected letters, digits, hyphens and underscores, at most 64")
    if (folder / name).exists():
        raise ConfigError(folder / name, "", "there is one already: what was charged for it would be lost")


def _planned(house: House, exercise: Exercise, unit: Unit = Unit.RECORD) -> tuple[Layout, Recipe]:
    lora, most = exercise.lora, longest(house.base)
    if not 2 <= exercise.training.record_tokens <= most:
        what = f"expected 2 to {most}, which is what the base model reads at once"
        raise ConfigError("the training file", "training.record_tokens", what)
    try:
        layout = layout_of(
            house.base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=exercise.seed
        )
        return layout, exercise.recipe(house.base.digest, layout, unit)
    except ValueError as wrong:
        raise ConfigError("the training file", "lora, training or privacy", str(wrong)) from None


@contextmanager
def _at_home(house: House, name: str) -> Iterator[AtHome]:
    """Let the home visit itself while the block lasts."""
    asked = house.policy
    occasion = Occasion(f"{PARTNER}/{name}/{secrets.token_hex(8)}", 0, COLLABORATION, Level.WEIGHTS, PARTNER, 1)
    house.policy = lambda: _with_home(asked())
    try:
        yield house.at_home(occasion, AtHome)
    finally:
        house.policy = asked


def _save(
    house: House, folder: Path, artefact: Artefact, facts: tuple[tuple[str, str], ...], statement: Statement | None
) -> None:
    guarantee = ((str(house.member), None if statement is None else statement.spent),)
    card = Card(folder.name, house.base.source, house.base.digest, facts, guarantee)
    save(folder, layout_from(artefact.shape), artefact.values, card)


def train_in(
    home: Path, name: str, plan: Path, shards: int | None = None, *, noise: bool = True
) -> tuple[list[str], Statement | None]:
    """Train the adapter `name` in the home at `home` by the training file `plan`; return what was made, and spent.

    With `shards` one for each of them. Without `noise` whatever [privacy] the file has is left out, and so are any
    charge and any guarantee. Raises: ConfigError, Refused.
    """
    folder = Folder(home)
    exercise = read_config(Exercise, plan)
    exercise = exercise if noise else replace(exercise, privacy=None)
    house, shelf = open_house(folder, Settings.load(folder.settings))
    try:
        if shards is None:
            return [name], train(house, name, exercise, folder.adapters)
        try:
            dealt = shards_of(identity_of(folder), shards)
        except ValueError as wrong:
            raise ConfigError("--shards", "", str(wrong)) from None
        return train_shards(house, name, exercise, folder.adapters, dealt), None
    except PeerError as wrong:
        raise ConfigError(plan, "", str(wrong)) from None
    finally:
        house.close()
        shelf.close()


def _with_home(policy: Policy) -> Policy:
    own = Permission(PARTNER, Level.WEIGHTS, (COLLABORATION,), smallest_crowd=1, unsafe_plain_sum=True)
    return replace(policy, allow=(*policy.allow, own))
