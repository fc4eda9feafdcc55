"""Say which adapter an experiment trains."""

from client.adapter import Layout
from client.model import Base, layout_of
from protocols.weights.recipe import Half
from simulations.experiment import Experiment


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
