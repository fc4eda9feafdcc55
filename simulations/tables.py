"""Read the tables of an experiment file that only some collaborations have."""

from dataclasses import dataclass

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


TASK_ARITHMETIC = MergeTable()
