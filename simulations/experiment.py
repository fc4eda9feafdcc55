"""Read `experiment.toml`: what a run is. The same file goes through plan, simulate and run."""

from dataclasses import dataclass, replace
from pathlib import Path

from client.documents import CONTENT, Content
from client.training.optimisers import OPTIMISERS
from privacy.config import ConfigError, read_config
from privacy.units import Level, Unit
from protocols.catalog import CATALOG
from protocols.secure_sum.terms import Mode, Terms, mode_for
from protocols.weights.recipe import Half, Objective, Recipe, reach
from protocols.weights.server_rules import FEDAVG, ServerRule
from server.orders import Road
from simulations.tables import (
    ADAPTER_ALONE,
    POOLED,
    TASK_ARITHMETIC,
    THINKING,
    MergeTable,
    PooledTable,
    PretrainTable,
    ThinkingTable,
    UtilityTable,
)

SHIPPED_MODEL = "base"
SHIPPED = Path(__file__).parent / "base" / "model"
SUMS_ONLY = frozenset({"pooled", "soup", "search", "extrapolate"})  # what a member adds is protected in the sum alone
TOLD_APART = frozenset({"mixture", "product", "contrast"})  # by models that members train apart
AT_HOME = TOLD_APART | {"merge"}  # whose adapters members train at home first, as `parley member train` does
OBJECTIVES = frozenset({"average", "pooled"})  # whose homes train for answers and preferences, too
SILO = "silo:"  # before the name of a silo of the standard library
_LONGEST_PURPOSE = 256


@dataclass(frozen=True, slots=True)
class CollaborationTable:
    """Name the protocol, how many rounds it runs, and with how few members a round still counts.

    With `unsafe_plain_sum` the coordinator gets every member's contribution by itself: there is no secure sum.
    """

    name: str
    rounds: int
    quorum: int
    unsafe_plain_sum: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 100_000:
            raise ValueError("rounds: expected 1 to 100000")
        if self.quorum < 1:
            raise ValueError("quorum: expected at least 1")


@dataclass(frozen=True, slots=True)
class SecureSumTable:
    """Give the terms of the secure sum: see `protocols/secure_sum/terms.py`.

    Without a `mode` it is resilient where the threshold leaves room for a member to drop out, else strict. Entries of
    a delta are cut off at `largest`: the smaller it is, the finer are the words; without it, where the optimiser
    cannot reach.
    """

    smallest_crowd: int = 3
    colluding: int = 1
    bits: int = 32
    mode: Mode | None = None
    largest: float | None = None

    def __post_init__(self) -> None:
        if self.largest is not None and not self.largest > 0:
            raise ValueError("largest: expected a number above 0")

    def terms(self, members: int) -> Terms:
        """Return the terms for so many members. Raises: ValueError."""
        return Terms(self.mode or mode_for(members, self.colluding), self.smallest_crowd, self.colluding, self.bits)


@dataclass(frozen=True, slots=True)
class ModelTable:
    """Name the base model: `base` for the one shipped here, else a folder or an id."""

    path: str = SHIPPED_MODEL


@dataclass(frozen=True, slots=True)
class LoraTable:
    """Give the shape of the adapter, and which of its matrices are trained when."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    half: Half = Half.B

    def __post_init__(self) -> None:
        _require_above_0(self, "rank", "alpha")
        if not self.targets:
            raise ValueError("targets: expected at least one")


@dataclass(frozen=True, slots=True)
class TrainingTable:
    """Give each member's local training: `steps` a round, `batch_size` records a step on average.

    `proximal` is the weight of FedProx's pull to the round's start, `share` that of the entries a round trains.
    `target_quantile` of the gradients' norms is what the clipping norm seeks, beginning at `clipping_norm`.
    `objective` is what records are trained for; `beta` how closely preferences keep to the round's start.
    """

    record_tokens: int
    steps: int
    batch_size: int
    optimizer: str
    learning_rate: float
    clipping_norm: float
    proximal: float = 0.0
    share: float = 1.0
    target_quantile: float | None = None
    objective: Objective = Objective.TEXT
    beta: float = 0.1

    def __post_init__(self) -> None:
        _require_above_0(self, "steps", "batch_size", "learning_rate", "clipping_norm", "beta")
        if self.optimizer not in OPTIMISERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMISERS)}")


@dataclass(frozen=True, slots=True)
class PrivacyTable:
    """Give the guarantee to reach over all rounds, or say unsafely that there is none."""

    unit: Unit = Unit.RECORD
    epsilon: float | None = None
    delta: float = 1e-5
    unsafe_without_noise: bool = False

    def __post_init__(self) -> None:
        if (self.epsilon is None) is not self.unsafe_without_noise:
            raise ValueError("epsilon: expected a number, or unsafe_without_noise = true and no epsilon")
        if self.epsilon is not None and not 0 < self.epsilon < 1000:
            raise ValueError("epsilon: expected a number above 0 and below 1000")
        if not 0 < self.delta < 1e-2:
            raise ValueError("delta: expected a number above 0 and below 0.01")


@dataclass(frozen=True, slots=True)
class MemberTable:
    """Name a member and, for simulations, its data: `silo:NAME` of the standard library, or a path.

    `content` (by default what the objective takes) and `group_column` say what a row is, and whose. On real nodes the
    data is the member's own, and these three are not looked at; nor is `rank`, the most of an adapter's rank that the
    member trains: there its own `home.toml` says so. `weight` is its public one in a merge.
    """

    name: str
    data: str = ""
    rank: int | None = None
    weight: float = 1.0
    content: Content | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        if self.group_column == "":
            raise ValueError("group_column: expected the name of a column")
        if self.rank is not None and self.rank < 1:
            raise ValueError("rank: expected at least 1")
        if not 0 < self.weight <= 1:
            raise ValueError("weight: expected a number above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Experiment:
    """Hold one experiment file. `purpose` is what the members are told the work is for; a policy may ask for one.

    `carrier` is the road of the letters on real nodes; in a simulation they stay in the process, or with Flower.
    """

    version: int
    name: str
    seed: int
    collaboration: CollaborationTable
    lora: LoraTable
    training: TrainingTable
    privacy: PrivacyTable
    members: tuple[MemberTable, ...]
    model: ModelTable = ModelTable()
    secure_sum: SecureSumTable = SecureSumTable()
    server: ServerRule = FEDAVG
    merge: MergeTable = TASK_ARITHMETIC
    pretrain: PretrainTable = ADAPTER_ALONE
    utility: UtilityTable | None = None
    pooled: PooledTable = POOLED
    thinking: ThinkingTable = THINKING
    purpose: str = ""
    carrier: Road = Road.FLOWER
    unsafe_seeded_randomness: bool = False

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError("version: expected 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("seed: expected a whole number of at most 63 bits")
        if len(self.purpose) > _LONGEST_PURPOSE:
            raise ValueError(f"purpose: expected at most {_LONGEST_PURPOSE} characters")
        names = [m.name for m in self.members]
        if not names or len(set(names)) < len(names):
            raise ValueError("members: expected at least one, each with a name of its own")
        for member in self.members:
            if member.rank is not None and member.rank > self.lora.rank:
                raise ValueError(f"members.{member.name}.rank: expected at most {self.lora.rank}, as lora.rank says")
        if self.collaboration.quorum > len(names):
            raise ValueError(f"collaboration.quorum: expected at most {len(names)}, the number of members")
        if not self.collaboration.unsafe_plain_sum and self.secure_sum.smallest_crowd > len(names):
            raise ValueError(f"secure_sum.smallest_crowd: expected at most {len(names)}, the number of members")
        try:
            self.secure_sum.terms(len(names))
        except ValueError as wrong:
            raise ValueError(f"secure_sum.{wrong}") from None

    @property
    def model_path(self) -> str:
        """Return the folder or id that the model is loaded from."""
        return str(SHIPPED) if self.model.path == SHIPPED_MODEL else self.model.path

    @property
    def terms(self) -> Terms | None:
        """Return the terms of the secure sum, or None where there is none."""
        return None if self.collaboration.unsafe_plain_sum else self.secure_sum.terms(len(self.members))

    @property
    def noise_in_the_sum(self) -> bool:
        """Say whether what is protected is so by noise that only the members' sum has in full."""
        shared = self.privacy.unit is Unit.MEMBER or self.collaboration.name in SUMS_ONLY
        return shared and self.privacy.epsilon is not None

    def recipe(
        self, base: str, layout: str, length: int, noise_multiplier: float | None = None, b_entries: int = 0
    ) -> Recipe:
        """Return the public hyper-parameters for a model of digest `base` and an adapter of `length` entries.

        `noise_multiplier` is that of the sum, where only the sum has the noise; the plan finds it. `b_entries` are
        B's, where A's are trained too.
        """
        return Recipe(
            base=base,
            layout=layout,
            length=length,
            rank=self.lora.rank,
            alpha=self.lora.alpha,
            targets=self.lora.targets,
            adapter_seed=self.seed,
            record_tokens=self.training.record_tokens,
            rounds=self.collaboration.rounds,
            steps=self.training.steps,
            batch_size=self.training.batch_size,
            optimizer=self.training.optimizer,
            learning_rate=self.training.learning_rate,
            clipping_norm=self.training.clipping_norm,
            unit=self.privacy.unit,
            epsilon=self.privacy.epsilon,
            delta=self.privacy.delta,
            noise_multiplier=noise_multiplier,
            half=self.lora.half,
            b_entries=b_entries,
            proximal=self.training.proximal,
            share=self.training.share,
            target_quantile=self.training.target_quantile,
            objective=self.training.objective,
            beta=self.training.beta,
            largest=self._largest,
        )

    @property
    def _largest(self) -> float:
        """Return where entries of a delta are cut off: as the file says, or beyond the optimiser's reach."""
        t = self.training
        return self.secure_sum.largest or reach(t.optimizer, t.learning_rate, t.steps)

    @property
    def example(self) -> Recipe:
        """Return the recipe for a model and an adapter that are not known yet: to see what it asks of a home."""
        turns = self.lora.half is not Half.B
        return self.recipe("", "", 1 + turns, 1.0 if self.noise_in_the_sum else None, int(turns))


def _require_above_0(table: LoraTable | TrainingTable, *keys: str) -> None:
    """Refuse what is zero or less, by its key. Raises: ValueError."""
    for key in keys:
        if not getattr(table, key) > 0:
            raise ValueError(f"{key}: expected a number above 0")


def load_experiment(file: Path) -> Experiment:
    """Read and check `file`. Raises: ConfigError, which names the file, the key and the nearest known one."""
    experiment = read_config(Experiment, file)
    if experiment.lora.half is Half.BOTH and experiment.collaboration.name == "average":
        raise ConfigError(file, "lora.half", "expected b or alternate: the mean of products is not that of the means")
    known = sorted(TOLD_APART.union(name for name, c in CATALOG.items() if c.level is Level.WEIGHTS))
    alone = experiment.collaboration.unsafe_plain_sum
    if alone and experiment.collaboration.name in SUMS_ONLY:
        raise ConfigError(file, "collaboration.unsafe_plain_sum", "expected false: only the sum protects anything")
    if experiment.noise_in_the_sum and alone:
        raise ConfigError(file, "privacy.unit", "expected record: a plain sum has no noise for whole members")
    if experiment.collaboration.name not in known:
        raise ConfigError(file, "collaboration.name", f"expected one of {', '.join(known)}")
    try:
        _ = experiment.example
    except ValueError as wrong:
        raise ConfigError(file, "lora, training or privacy", str(wrong)) from None
    _require_fitting(experiment, file)
    if experiment.utility is not None:
        return replace(experiment, utility=experiment.utility.beside(file.parent))
    return experiment


def _require_fitting(experiment: Experiment, file: Path) -> None:
    """Refuse rows that are not for the objective, and what the collaboration's homes cannot train for."""
    objective, name = experiment.training.objective, experiment.collaboration.name
    if objective is not Objective.TEXT and name not in OBJECTIVES:
        raise ConfigError(file, "training.objective", f"expected text: {name} trains for nothing else")
    if experiment.privacy.unit is Unit.GROUP and name == "merge":
        raise ConfigError(file, "privacy.unit", "expected record or member: adapters of a merge know no groups")
    if name in AT_HOME:
        _require_plain(experiment.training, name, file)
    for member in experiment.members:
        if member.content not in (None, CONTENT[objective]):
            wanted = f'expected {CONTENT[objective].value}, for objective = "{objective.value}"'
            raise ConfigError(file, f"members.{member.name}.content", wanted)


def _require_plain(training: TrainingTable, name: str, file: Path) -> None:
    """Refuse what training at home, before any round, does not know. Raises: ConfigError."""
    for key, given, plain in (
        ("share", training.share, 1.0),
        ("proximal", training.proximal, 0.0),
        ("target_quantile", training.target_quantile, None),
    ):
        if given != plain:
            wanted = "none" if plain is None else f"{plain:g}"
            said = f"expected {wanted}: the adapters of a {name} are trained at home, before any round"
            raise ConfigError(file, f"training.{key}", said)
