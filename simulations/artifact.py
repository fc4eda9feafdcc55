"""Save what a run came to: an adapter that PeftModel.from_pretrained loads, with a card that says what it cost."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.adapter import save
from client.card import Card
from client.model import Base
from privacy.units import Guarantee, Unit
from simulations.experiment import Experiment
from simulations.shape import is_whole, layout_for, record_of, trained


def save_adapter(
    experiment: Experiment,
    base: Base,
    adapter: NDArray[np.float32],
    guarantees: Mapping[str, Guarantee | None],
    answered: tuple[int, ...],
    folder: Path,
) -> None:
    """Save the adapter (length,) into `folder`.

    `guarantees` are what each member's own ledger says, where it could be asked; `answered` how many members are in
    each round's mean.
    """
    training = experiment.training
    trained_by = f"{training.steps} steps a round, {training.batch_size} records a step on average"
    if _merges(experiment):
        trained_by = "by each member apart and beforehand"
    facts = (
        ("experiment", experiment.name),
        ("collaboration", f"{experiment.collaboration.name}, {experiment.collaboration.rounds} rounds"),
        ("sum", _sum(experiment)),
        ("local training", trained_by),
        ("members asked", ", ".join(m.name for m in experiment.members)),
        ("members in each round's mean", ", ".join(map(str, answered))),
    )
    folder.mkdir(parents=True, exist_ok=True)
    promise, given = _promise(experiment), tuple(guarantees.items())
    card = Card(experiment.name, experiment.model_path, base.digest, facts, given, promise)
    if is_whole(experiment):
        trained(experiment, base, adapter).save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(card.markdown(), encoding="utf-8")
        return
    save(folder, layout_for(experiment, base), adapter, card)


def _merges(experiment: Experiment) -> bool:
    return experiment.collaboration.name == "merge"


def _sum(experiment: Experiment) -> str:
    terms = experiment.terms
    if terms is None:
        return "UNSAFE plain sum: the coordinator saw every member's contribution by itself"
    return (
        f"secure ({terms.mode.value}), at least {terms.smallest_crowd} members, at most {terms.colluding} of them"
        " colluding with the coordinator"
        + "; a sum without noise has no epsilon"
        * (experiment.privacy.epsilon is None)
    )


def _promise(experiment: Experiment) -> str:
    """Return what the order asks of every member; whether it was kept, that member's own ledger shows."""
    privacy, rounds = experiment.privacy, experiment.collaboration.rounds
    if privacy.epsilon is None:
        return "The order asked for no noise: what each member sent is a disclosure, and no epsilon describes it."
    if _merges(experiment) and privacy.unit is not Unit.MEMBER:
        return (
            "The order asks for adapters that were trained and charged beforehand, each by its own plan at its own"
            " home: merging them costs no more, and promises no epsilon of its own. What each cost, that member's"
            " ledger shows."
        )
    of, relation, where = privacy.unit.value, "add-or-remove", ""
    if privacy.unit is Unit.RECORD:
        of += f" ({record_of(experiment.training.objective, experiment.training.record_tokens)})"
    if privacy.unit is Unit.MEMBER:
        relation = "zero-out"
    if experiment.noise_in_the_sum:
        where = ", each its share, so that only the sum has all of it"
    return (
        f"The order asks every member for at most epsilon {privacy.epsilon:g} at delta {privacy.delta:g} over all"
        f" {rounds} rounds, per {of}, {relation}: calibrated and charged by each member's own accountant, and the"
        f" noise added at home, before anything left{where}."
    )
