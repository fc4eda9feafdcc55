"""Judge a model on what no member trained on: by its text, its answers, or the answers that were chosen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.conversations import records_of
from client.data import Records
from client.model import Adapted, Base
from client.training.evaluation import counted_loss, held_out_loss, row_nats
from privacy.config import ConfigError
from protocols.weights.recipe import Objective
from simulations.experiment import Experiment
from simulations.shape import layout_for
from simulations.texts import MemberText, originals


def require_rows(experiment: Experiment, file: Path, texts: Mapping[str, MemberText], tokenizer: Any) -> None:
    """Refuse rows that a home would refuse, before anything is run. Raises: ConfigError, naming their place."""
    if experiment.training.objective is Objective.TEXT:
        return
    for rows in originals(experiment, file).values():
        records_of(experiment.example, rows, tokenizer)
    for name, text in texts.items():
        if not len(records_of(experiment.example, text.held, tokenizer)):
            raise ConfigError(file, f"members.{name}.data", "no held-out row has an answer to be judged by")


def loss_on(experiment: Experiment, model: Any, tokenizer: Any, text: MemberText) -> float:
    """Return the mean loss on a member's held-out rows, in nats per counted token; of choices, on those chosen."""
    if experiment.training.objective is Objective.TEXT:
        return held_out_loss(model, tokenizer, [text.held_out])
    records = records_of(experiment.example, text.held, tokenizer)
    if experiment.training.objective is Objective.PREFERENCE:
        records = _alone(records, np.arange(0, len(records), 2))
    return counted_loss(_nats(model, records), records)


def preferred(experiment: Experiment, model: Any, tokenizer: Any, texts: Mapping[str, MemberText]) -> float:
    """Return the share of all held-out pairs whose chosen answer is likelier than the rejected one."""
    found: list[bool] = []
    for text in texts.values():
        nats = _nats(model, records_of(experiment.example, text.held, tokenizer))
        found += (nats[0::2] < nats[1::2]).tolist()
    return sum(found) / len(found)


def notes_on(
    experiment: Experiment, base: Base, texts: Mapping[str, MemberText], adapter: NDArray[np.float32]
) -> tuple[str, ...]:
    """Return what there is to say of the held-out pairs, if the experiment is about preferences."""
    if experiment.training.objective is not Objective.PREFERENCE:
        return ()
    before = preferred(experiment, base.model, base.tokenizer, texts)
    adapted = Adapted(base, layout_for(experiment, base))
    try:
        adapted.set(adapter)
        after = preferred(experiment, adapted.model, base.tokenizer, texts)
    finally:
        adapted.remove()
    return (f"held-out pairs whose chosen answer is the likelier: {before:.1%} before, {after:.1%} together",)


def _nats(model: Any, records: Records) -> NDArray[np.float64]:
    return row_nats(model, records, next(model.parameters()).device)


def _alone(records: Records, rows: NDArray[np.intp]) -> Records:
    taken = records.take(rows)
    return Records(taken.tokens, taken.lengths, None, taken.counted)
