"""Save what a run came to: an adapter that PeftModel.from_pretrained loads, with a card that says what it cost."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.adapter import save
from client.card import Card
from client.model import Base
from privacy.units import Guarantee
from simulations.experiment import Experiment
from simulations.shape import is_whole, layout_for, trained


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
    facts = (
        ("experiment", experiment.name),
        ("collaboration", f"{experiment.collaboration.name}, {experiment.collaboration.rounds} rounds"),
        ("sum", _sum(experiment)),
        ("local training", f"{training.steps} steps a round, {training.batch_size} records a step on average"),
        ("members asked", ", ".join(m.name for m in experiment.members)),
        ("members in each round's mean", ", ".join(map(str, answered))),
    )
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(experiment.name, experiment.model_path, base.digest, facts, tuple(guarantees.items()))
    if is_whole(experiment):
        trained(experiment, base, adapter).save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(card.markdown(), encoding="utf-8")
        return
    save(folder, layout_for(experiment, base), adapter, card)


def _sum(experiment: Experiment) -> str:
    terms = experiment.terms
    if terms is None:
        return "UNSAFE plain sum: the coordinator saw every member's contribution by itself"
    return (
        f"secure ({terms.mode.value}), at least {terms.smallest_crowd} members, at most {terms.colluding} of them"
        " colluding with the coordinator; a sum without noise has no epsilon"
    )
