"""Read the tables of an experiment file that only some collaborations have."""

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from protocols.weights import merge, search
from protocols.weights.utility import MOST_CANDIDATES

BASE = "base"  # among the ingredients: the base model as it is


@dataclass(frozen=True, slots=True)
class MergeTable:
    """Say how adapters become one, and what each member calls its own: `parley member train HOME NAME`.

    Units:  `bound` cuts off entries of a weighted adapter where the sum has no noise; else clipping_norm, in L2.
    """

    method: merge.Method = merge.Method.ARITHMETIC
    adapter: str = "merging"
    density: float = 1.0
    scale: float = 1.0
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.method is merge.Method.SKETCH:
            raise ValueError("method: expected arithmetic, dare or ties; an experiment's adapters have one A")


class What(Enum):
    """Name what is trained from few synchronisations."""

    FULL = "full"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class PretrainTable:
    """Say what is trained: all parameters of the model, or the adapter of [lora]."""

    what: What = What.ADAPTER


@dataclass(frozen=True, slots=True)
class ThinkingTable:
    """Say how models think together, and on how much held-out text a simulation reads them.

    Units:  `windows` of `window` tokens of each member's text; `weight_bound` and `decay` of a mixture's weights;
            `clip` in nats and `strength` of a product's log-ratios; `plausible`, a contrast's share of the likeliest.
    """

    windows: int = 24
    window: int = 128
    weight_bound: float = 2.0
    decay: float = 0.9
    clip: float = 4.0
    strength: float = 1.0
    plausible: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.windows <= 100_000 or not 2 <= self.window <= 65_536:
            raise ValueError("windows: expected 1 to 100000; window: 2 to 65536")


TASK_ARITHMETIC = MergeTable()
THINKING = ThinkingTable()
ADAPTER_ALONE = PretrainTable()


@dataclass(frozen=True, slots=True)
class UtilityTable:
    """Say what a soup, a search or an extrapolation mixes, and how it is judged.

    `ingredients` are folders of adapters (or `base`); `validation` is the share of its records that a simulated
    member holds back, `population` about how many those are at all members (0 leaves it to what a simulation's data
    says); `clip` the most, in nats a token, that one record says for or against a candidate. A search tries
    `candidates` at a time by `method`; an extrapolation goes by each of `alphas`.
    """

    ingredients: tuple[str, ...]
    clip: float = 0.5
    validation: float = 0.1
    population: int = 0
    candidates: int = 8
    method: search.Method = search.Method.EVOLUTION
    alphas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        if not 1 <= len(self.ingredients) <= MOST_CANDIDATES:
            raise ValueError(f"ingredients: expected 1 to {MOST_CANDIDATES}")
        if not 0 < self.validation < 1 or self.population < 0:
            raise ValueError("validation: expected a number above 0 and below 1; population: at least 0")
        if not self.alphas or not 1 <= self.candidates <= MOST_CANDIDATES:
            raise ValueError(f"alphas: expected at least one; candidates: 1 to {MOST_CANDIDATES}")

    def beside(self, folder: Path) -> "UtilityTable":
        """Return the table with every ingredient's folder found from the experiment file's."""
        return replace(self, ingredients=tuple(i if i == BASE else str(folder / i) for i in self.ingredients))


@dataclass(frozen=True, slots=True)
class PooledTable:
    """Give the declared records of all members together, for `pooled`; 0 leaves it to what a simulation's data says.

    On real nodes only the members know their data: `parley plan` says the number for data like theirs.
    """

    population: int = 0

    def __post_init__(self) -> None:
        if self.population < 0:
            raise ValueError("population: expected at least 0")


POOLED = PooledTable()
