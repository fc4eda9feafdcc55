"""Say which vector an experiment trains, and put one that it came to into the model."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.adapter import Layout
from client.model import Adapted, Base, layout_of, longest
from client.training.whole import Whole
from privacy.config import ConfigError
from protocols.weights.recipe import Half, Objective
from simulations.experiment import Experiment
from simulations.tables import What


def is_whole(experiment: Experiment) -> bool:
    """Return whether all parameters are trained, and no adapter."""
    return experiment.collaboration.name == "pretrain" and experiment.pretrain.what is What.FULL


def require_readable(experiment: Experiment, file: Path, base: Base) -> None:
    """Refuse records that the base model cannot read: every home would, in silence. Raises: ConfigError."""
    if not 2 <= experiment.training.record_tokens <= longest(base):
        said = f"expected 2 to {longest(base)}, the most that the base model reads at once"
        raise ConfigError(file, "training.record_tokens", said)


def record_of(objective: Objective, record_tokens: int) -> str:
    """Return what one record is."""
    match objective:
        case Objective.TEXT:
            return f"{record_tokens} tokens of one document"
        case Objective.ANSWERS:
            return f"one conversation of at most {record_tokens} tokens"
    return f"one choice between two answers, each with its prompt at most {record_tokens} tokens"


def layout_for(experiment: Experiment, base: Base) -> Layout:
    """Return the layout of the experiment's adapter. Raises: ConfigError, naming a target that the model has not."""
    lora = experiment.lora
    return layout_of(
        base,
        rank=lora.rank,
        alpha=lora.alpha,
        targets=lora.targets,
        adapter_seed=experiment.seed,
        half_a=lora.half is not Half.B,
    )


def trained(experiment: Experiment, base: Base, vector: NDArray[np.float32]) -> Any:
    """Return the transformers model with the vector in it; an adapter is put into the base's own model."""
    if is_whole(experiment):
        whole = Whole(base)
        whole.set(vector)
        return whole.model
    adapted = Adapted(base, layout_for(experiment, base))
    adapted.set(vector)
    return adapted.model
