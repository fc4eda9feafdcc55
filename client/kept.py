"""Train an adapter at home and keep it there: charged like any release, before its first draw.

What is made of it later, in a merge, costs nothing more: the ledger knows it by its digest.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.adapter import Layout, save
from client.artefacts import is_name
from client.card import Card
from client.dp_training import LARGEST_NORM, SMALLEST_NORM
from client.folder import Folder
from client.home import House
from client.homes.average import AverageVisit
from client.model import layout_of
from client.opening import open_house
from client.settings import Settings
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

    def recipe(self, base: str, layout: Layout) -> Recipe:
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
            unit=Unit.RECORD,
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

    def practise(self, recipe: Recipe, layout: Layout) -> Artefact:
        """Train from zeros without noise: nothing was charged for it, and no gate derives anything from it."""
        task = self._task(recipe, 0, np.zeros(recipe.length, np.float32))
        return Artefact(layout.to_json(), task.draw(self.gate.randomness))


def train(house: House, name: str, exercise: Exercise, folder: Path) -> Statement | None:
    """Train the adapter `name` into `folder`; return what the account has spent since, or None without noise.

    The operator who asks is the policy's own author: the account's budget is all that bounds it.
    Raises: ConfigError, PeerError, Refused; then nothing was charged.
    """
    if not is_name(name):
        raise ConfigError(folder, "name", "expected letters, digits, hyphens and underscores, at most 64")
    if (folder / name).exists():
        raise ConfigError(folder / name, "", "there is one already: what was charged for it would be lost")
    lora = exercise.lora
    try:
        layout = layout_of(
            house.base, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, adapter_seed=exercise.seed
        )
        recipe = exercise.recipe(house.base.digest, layout)
    except ValueError as wrong:
        raise ConfigError("the training file", "lora, training or privacy", str(wrong)) from None
    asked = house.policy
    occasion = Occasion(f"{PARTNER}/{name}/{secrets.token_hex(8)}", 0, COLLABORATION, Level.WEIGHTS, PARTNER, 1)
    house.policy = lambda: _with_home(asked())
    try:
        visit = house.at_home(occasion, AtHome)
        noised = exercise.privacy is not None
        artefact = visit.keep(recipe, layout).value if noised else visit.practise(recipe, layout)
    finally:
        house.policy = asked
    statement = house.ledger.statement(house.account(asked().budget)) if noised else None
    how = "by DP-SGD, charged before it was drawn" if noised else "without noise: it protects nobody"
    facts = (("trained", f"at home, {how}"), ("plan", f"`{recipe.plan}`"))
    guarantee = ((str(house.member), None if statement is None else statement.spent),)
    card = Card(name, house.base.source, house.base.digest, facts, guarantee)
    save(folder / name, layout, artefact.values, card)
    return statement


def train_in(home: Path, name: str, plan: Path) -> Statement | None:
    """Train the adapter `name` in the home at `home` by the training file `plan`. Raises: ConfigError, Refused."""
    folder = Folder(home)
    exercise = read_config(Exercise, plan)
    house, shelf = open_house(folder, Settings.load(folder.settings))
    try:
        return train(house, name, exercise, folder.adapters)
    except PeerError as wrong:
        raise ConfigError(plan, "", str(wrong)) from None
    finally:
        house.close()
        shelf.close()


def _with_home(policy: Policy) -> Policy:
    own = Permission(PARTNER, Level.WEIGHTS, (COLLABORATION,), smallest_crowd=1, unsafe_plain_sum=True)
    return replace(policy, allow=(*policy.allow, own))
