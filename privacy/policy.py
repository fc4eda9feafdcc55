"""Read what a home agrees to: the operator's own `policy.toml`, which denies whatever it does not allow."""

from dataclasses import dataclass
from pathlib import Path

from privacy.config import ConfigError, read_config
from privacy.occasion import Occasion
from privacy.refusal import CrowdTooSmall, LevelForbidden
from privacy.units import Level, Relation, Unit


@dataclass(frozen=True, slots=True)
class Budget:
    """Bound what all releases from one data set may add up to.

    Units:  epsilon in nats at `delta`; `orders` are the Renyi orders of the filter, at most four, chosen
            from epsilon and delta when empty; one record is `record_tokens` tokens of one document. All but
            epsilon are fixed once the account is open: a partner that chose them could make a record of one word.
    """

    epsilon: float
    delta: float
    unit: Unit = Unit.RECORD
    relation: Relation = Relation.ADD_OR_REMOVE
    orders: tuple[float, ...] = ()
    record_tokens: int = 128

    def __post_init__(self) -> None:
        if self.record_tokens < 2:
            raise ValueError("record_tokens: expected at least 2")
        if not 0 < self.epsilon < 1000:
            raise ValueError("epsilon: expected a number above 0 and below 1000")
        if not 0 < self.delta < 1e-2:
            raise ValueError("delta: expected a number above 0 and below 0.01")
        if len(self.orders) > 4 or any(not 1.05 <= a <= 1024 for a in self.orders):
            raise ValueError("orders: expected at most four numbers from 1.05 to 1024")


@dataclass(frozen=True, slots=True)
class Permission:
    """Allow one partner some collaborations at one level.

    `partner` is the coordinator's public key. `smallest_crowd` counts the members that take part, this one
    included. `unsafe_without_noise` allows what has no epsilon: a disclosure.
    """

    partner: str
    level: Level
    collaborations: tuple[str, ...]
    smallest_crowd: int = 2
    unsafe_without_noise: bool = False

    def __post_init__(self) -> None:
        if not self.collaborations:
            raise ValueError("collaborations: expected at least one name")
        if self.smallest_crowd < 1:
            raise ValueError("smallest_crowd: expected at least 1")


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold a home's whole agreement. What no `allow` entry names is refused."""

    version: int
    budget: Budget
    allow: tuple[Permission, ...] = ()
    unsafe_seeded_randomness: bool = False

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError("version: expected 1")

    @classmethod
    def load(cls, file: Path) -> "Policy":
        """Read and check `file`. Raises: ConfigError, which names the key."""
        policy = read_config(cls, file)
        pairs = [(p.partner, p.level, c) for p in policy.allow for c in p.collaborations]
        if len(set(pairs)) < len(pairs):
            raise ConfigError(file, "allow", "two entries for one partner, level and collaboration")
        return policy

    def permit(self, occasion: Occasion, noisy: bool) -> None:
        """Return if this occasion is allowed; otherwise refuse, saying which rule said no.

        Raises: LevelForbidden, CrowdTooSmall.
        """
        for p in self.allow:
            named = (p.partner, p.level) == (occasion.partner, occasion.level)
            if named and occasion.collaboration in p.collaborations:
                return _permit(p, occasion, noisy)
        raise LevelForbidden(f"{occasion.collaboration} at level {occasion.level.value} with this partner")


def _permit(permission: Permission, occasion: Occasion, noisy: bool) -> None:
    if occasion.crowd < permission.smallest_crowd:
        raise CrowdTooSmall(f"{occasion.crowd} members, the policy asks for {permission.smallest_crowd}")
    if not noisy and not permission.unsafe_without_noise:
        raise LevelForbidden("a release without noise, and unsafe_without_noise is not set")
