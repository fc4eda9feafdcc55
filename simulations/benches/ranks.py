"""Measure members of different ranks in one average, on the twelve silos of `pooling.toml`, without DP.

mixed_ranks_vs_uniform    the perplexity on all held-out text after ranks {4, 8, 16}, a third of the members each,
                          beside rank 16 everywhere.
uniform_rank_vs_base      the latter over that of the base: how much there was to learn.
aggregation_error         one round in a secure sum: the adapter's products B A, beside the float64 mean of the
                          members' own products B_i A_i, as a share of that mean's norm; the mean of each column b of
                          a B, times its row of A, is over the members whose b moved.
"""

import copy
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.adapter import Layout
from client.home import House, unsafe_seed
from client.homes.local import training as task_of
from client.model import Base, load_base
from client.training.clipping import torch_threads
from privacy.randomness import UnsafeSeededRandomness
from protocols.session import MemberId
from protocols.weights.recipe import Recipe
from simulations.benches.pooling import FILE
from simulations.benches.rows import Row, at_most
from simulations.collaborations.average import AverageRun
from simulations.engine import complete, simulate
from simulations.experiment import Experiment, PrivacyTable, SecureSumTable, load_experiment
from simulations.shape import layout_for
from simulations.texts import MemberText, lay_out, training
from simulations.yardsticks import Job, judge

RANKS = (4, 8, 16)
_FIRST_ROUND = 2  # its letter's number: two trips open the secure sum


@dataclass(frozen=True, slots=True)
class Size:
    """Say how long the runs are that are compared."""

    rounds: int = 4
    steps: int = 5
    batch_size: int = 12  # of each member
    learning_rate: float = 0.03
    held_out: int = 6_000  # characters of each member
    seed: int = 7  # of the adapter, and of all randomness


@dataclass(frozen=True, slots=True)
class Scene:
    """Hold an experiment without DP, its texts and its base model."""

    experiment: Experiment
    texts: Mapping[str, MemberText]
    base: Base


def ranks(size: Size | None = None, file: Path = FILE) -> list[Row]:
    """Return all rows."""
    size = size or Size()
    with tempfile.TemporaryDirectory(prefix="parley-") as folder, torch_threads(1):
        scene = _scene(file, size, Path(folder))
        loss = {
            "mixed": _loss(_of_ranks(scene, RANKS), Path(folder) / "mixed"),
            "uniform": _loss(scene, Path(folder) / "uniform"),
            "base": _judged(scene, None),
        }
        error = aggregation_error(_of_ranks(scene, RANKS), Path(folder) / "error")
    ratio, learnt = math.exp(loss["mixed"] - loss["uniform"]), math.exp(loss["uniform"] - loss["base"])
    peer = "rank 16 everywhere, nats per token"
    return [
        Row(
            "mixed_ranks_vs_uniform", ratio, "x", peer, loss["uniform"], goal="at most 1.02 x", met=ratio <= 1.02,
            ours=loss["mixed"],
        ),
        Row(
            "uniform_rank_vs_base", learnt, "x", "the base, nats per token", loss["base"], goal="for comparison",
            ours=loss["uniform"],
        ),
        at_most("aggregation_error", error, 1e-6, "1"),
    ]  # fmt: skip


def aggregation_error(scene: Scene, folder: Path) -> float:
    """Return the relative Frobenius error of one round's products, over all adapted modules together."""
    one = replace(scene.experiment, collaboration=replace(scene.experiment.collaboration, rounds=1))
    outcome, village = simulate(one, training(scene.texts), scene.base, folder)
    layout = layout_for(one, scene.base)
    recipe = AverageRun().recipe(one, scene.base)
    deltas = [_delta(v.house, one, recipe, m, layout.size) for m, v in village.villagers.items()]
    village.close()
    wanted = _products(layout, _mean_of_those_who_trained(layout, deltas))
    found = _products(layout, layout.split(outcome.adapter))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _delta(house: House, experiment: Experiment, recipe: Recipe, member: MemberId, size: int) -> NDArray[np.float32]:
    """Return what the member added in the first round: the same seed, so the same records and the same bits."""
    task = task_of(house, house.account(house.policy().budget), recipe, 0, np.zeros(size, np.float32))
    return task.draw(UnsafeSeededRandomness(unsafe_seed(experiment.seed, member, _FIRST_ROUND)))


def _mean_of_those_who_trained(
    layout: Layout, deltas: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Return each slot's mean B, every column's over the deltas that have anything in it: no rank is asked for."""
    found = {}
    for slot in layout.slots:
        each = np.stack([layout.split(delta)[slot.name] for delta in deltas]).astype(np.float64)
        found[slot.name] = each.sum(axis=0) / np.maximum(1, each.any(axis=1).sum(axis=0))
    return found


def _products(layout: Layout, matrices: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    parts = [matrices[s.name].astype(np.float64) @ layout.frozen(s).astype(np.float64) for s in layout.slots]
    return np.concatenate([part.ravel() for part in parts])


def _loss(scene: Scene, folder: Path) -> float:
    """Run, and return the loss over all held-out text of all members, in nats per token."""
    outcome, village = simulate(scene.experiment, training(scene.texts), scene.base, folder)
    village.close()
    return _judged(scene, outcome.adapter)


def _judged(scene: Scene, adapter: NDArray[np.float32] | None) -> float:
    apart = replace(scene.base, model=copy.deepcopy(scene.base.model))  # what is judged stays in its model
    losses = judge(Job("", scene.experiment, scene.texts), apart, adapter)
    return float(np.mean(list(losses.values())))


def _scene(file: Path, size: Size, folder: Path) -> Scene:
    experiment = load_experiment(file)
    plan = replace(
        experiment.training, steps=size.steps, batch_size=size.batch_size, learning_rate=size.learning_rate
    )
    bare = replace(
        experiment,
        seed=size.seed,
        collaboration=replace(experiment.collaboration, name="average", rounds=size.rounds),
        training=plan,
        lora=replace(experiment.lora, rank=max(RANKS)),
        privacy=PrivacyTable(unsafe_without_noise=True),
        secure_sum=SecureSumTable(largest=1.0),  # two would not do for a sum without noise
        unsafe_seeded_randomness=True,
    )
    laid, base = lay_out(bare, file, folder / "data"), load_base(experiment.model_path)
    texts = {name: replace(text, held_out=text.held_out[: size.held_out]) for name, text in laid.items()}
    return Scene(complete(bare, training(texts), base), texts, base)


def _of_ranks(scene: Scene, each: tuple[int, ...]) -> Scene:
    """Deal the ranks out to the members, over and over."""
    members = tuple(replace(m, rank=r) for m, r in zip(scene.experiment.members, cycle(each), strict=False))
    return replace(scene, experiment=replace(scene.experiment, members=members))
