"""Read the tables of an experiment file that only some collaborations have."""

from dataclasses import dataclass
from enum import Enum

from protocols.weights.merge import Method


@dataclass(frozen=True, slots=True)
class MergeTable:
    """Say how adapters become one, and what each member calls its own: `parley member train HOME NAME`.

    Units:  `bound` cuts off entries of a weighted adapter where the sum has no noise; else clipping_norm, in L2.
    """

    method: Method = Method.ARITHMETIC
    adapter: str = "merging"
    density: float = 1.0
    scale: float = 1.0
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.method is Method.SKETCH:
            raise ValueError("method: expected arithmetic, dare or ties; an experiment's adapters have one A")


class What(Enum):
    """Name what is trained from few synchronisations."""

    FULL = "full"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class PretrainTable:
    """Say what is trained: all parameters of the model, or the adapter of [lora]."""

    what: What = What.ADAPTER


TASK_ARITHMETIC = MergeTable()
ADAPTER_ALONE = PretrainTable()
