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
    included: in a secure sum those of the approved roster. `colluding` of them, at least, are taken to work with
    the coordinator; one sum is tried `attempts` times at most. `unsafe_without_noise` allows what has no epsilon: a
    disclosure. `unsafe_plain_sum` lets the coordinator see this member's own values, to add them up itself.
    """

    partner: str
    level: Level
    collaborations: tuple[str, ...]
    smallest_crowd: int = 2
    unsafe_without_noise: bool = False
    colluding: int = 1
    attempts: int = 1
    unsafe_plain_sum: bool = False

    def __post_init__(self) -> None:
        if not self.collaborations:
            raise ValueError("collaborations: expected at least one name")
        if self.smallest_crowd < 1:
            raise ValueError("smallest_crowd: expected at least 1")
        if self.colluding < 0:
            raise ValueError("colluding: expected at least 0")
        if self.attempts < 1:
            raise ValueError("attempts: expected at least 1")


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

    def permit(self, occasion: Occasion, noisy: bool, summed: bool = False) -> None:
        """Return if this occasion is allowed; otherwise refuse, saying which rule said no.

        `summed` says that nobody sees this member's values but within a sum.
        Raises: LevelForbidden, CrowdTooSmall.
        """
        permission = self._permission(occasion)
        _require_crowd(occasion.crowd, permission.smallest_crowd)
        if not noisy and not permission.unsafe_without_noise:
            raise LevelForbidden("a release without noise, and unsafe_without_noise is not set")
        if not summed and not permission.unsafe_plain_sum:
            raise LevelForbidden("a release that is not in a secure sum, and unsafe_plain_sum is not set")

    def permit_sum(
        self,
        occasion: Occasion,
        smallest_crowd: int,
        colluding: int,
        attempts: int,
        local_noise: bool,
        shared_noise: bool = False,
    ) -> None:
        """Return if a secure sum on these terms is allowed: none is laxer than this home's; otherwise refuse.

        `local_noise` says that this member's noise is enough by itself, `shared_noise` that it adds a share: then no
        more members are counted on than this policy does. Without local noise two members at least must be
        honest, and three must take part: the sum less all the others' values would be this member's.
        Raises: LevelForbidden, CrowdTooSmall.
        """
        permission = self._permission(occasion)
        _require_crowd(smallest_crowd, permission.smallest_crowd)
        _require_crowd(occasion.crowd, smallest_crowd)
        if colluding < permission.colluding:
            raise LevelForbidden(f"terms for {colluding} colluding, the policy asks for {permission.colluding}")
        if attempts > permission.attempts:
            raise LevelForbidden(f"terms for {attempts} attempts, the policy allows {permission.attempts}")
        if not local_noise:
            _require_crowd(smallest_crowd, max(3, colluding + 2))
        honest, most = smallest_crowd - colluding, permission.smallest_crowd - permission.colluding
        if shared_noise and honest > most:
            raise LevelForbidden(f"noise that rests on {honest} honest members, the policy counts on {most}")

    def _permission(self, occasion: Occasion) -> Permission:
        for p in self.allow:
            named = (p.partner, p.level) == (occasion.partner, occasion.level)
            if named and occasion.collaboration in p.collaborations:
                return p
        raise LevelForbidden(f"{occasion.collaboration} at level {occasion.level.value} with this partner")


def _require_crowd(crowd: int, least: int) -> None:
    if crowd < least:
        raise CrowdTooSmall(f"{crowd} members, the policy asks for {least}")
