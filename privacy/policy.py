"""Read what a home agrees to: the operator's own `policy.toml`, which denies whatever it does not allow."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from dp_accounting import DpEvent

from privacy import rules
from privacy.config import ConfigError, read_config
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.refusal import CrowdTooSmall, LevelForbidden, Refused
from privacy.rules import AllOf, Asked, misses
from privacy.units import Kind, Level, Relation, Unit


@dataclass(frozen=True, slots=True)
class Budget:
    """Bound what all releases from one data set may add up to.

    Units:  epsilon in nats at `delta`; `orders` are the Renyi orders of the filter, at most four, chosen
            from epsilon and delta when empty; one record is `record_tokens` tokens of one document;
            `approximate_delta` is the part of `delta` kept for mechanisms that have a delta of their own. All of
            these but epsilon are fixed once the account is open: a partner that chose them could make a record of
            one word. At most `disclosures` releases have no epsilon.
    """

    epsilon: float
    delta: float
    unit: Unit = Unit.RECORD
    relation: Relation = Relation.ADD_OR_REMOVE
    orders: tuple[float, ...] = ()
    record_tokens: int = 128
    approximate_delta: float = 0.0
    disclosures: int = 1000

    def __post_init__(self) -> None:
        if self.record_tokens < 2:
            raise ValueError("record_tokens: expected at least 2")
        if not 0 < self.epsilon < 1000:
            raise ValueError("epsilon: expected a number above 0 and below 1000")
        if not 0 < self.delta < 1e-2:
            raise ValueError("delta: expected a number above 0 and below 0.01")
        if len(self.orders) > 4 or any(not 1.05 <= a <= 1024 for a in self.orders):
            raise ValueError("orders: expected at most four numbers from 1.05 to 1024")
        if not 0 <= self.approximate_delta < self.delta:
            raise ValueError("approximate_delta: expected at least 0, and less than delta")
        if self.disclosures < 0:
            raise ValueError("disclosures: expected at least 0")


@dataclass(frozen=True, slots=True)
class Permission:
    """Allow one partner some collaborations at one level.

    `partner` is the coordinator's public key. `smallest_crowd` counts the members that take part, this one
    included: in a secure sum those of the approved roster. `colluding` of them, at least, are taken to work with
    the coordinator; one sum is tried `attempts` times at most. `unsafe_without_noise` allows what has no epsilon: a
    disclosure. `unsafe_plain_sum` lets the coordinator see this member's own values, to add them up itself. With
    `trusts_coordinator` it may draw the randomness that protects: it sees the sum as it is, and tells only a sample.

    Of the budget this permission's releases may take `epsilon` in all; None does not bound, here as in the rest.
    `least_noise` is asked of each mechanism before any amplification. Text leaves only redacted by the profile
    `redaction`, or as it is by `unsafe_unredacted_text`. `purposes` are compared to the letter; None allows any.
    With `approval` the operator is asked before a piece of work gets anything. Counts, metrics, timings and
    capabilities leave only if `tells` names them. After the day `expires`, by UTC, nothing is allowed.
    """

    partner: str
    level: Level
    collaborations: tuple[str, ...]
    smallest_crowd: int = 2
    unsafe_without_noise: bool = False
    colluding: int = 1
    attempts: int = 1
    unsafe_plain_sum: bool = False
    epsilon: float | None = None
    least_noise: float | None = None
    redaction: str = ""
    releases_per_day: int | None = None
    bytes_per_day: int | None = None
    disclosures: int | None = None
    expires: date | None = None
    purposes: tuple[str, ...] | None = None
    approval: bool = False
    tells: tuple[Kind, ...] = ()
    unsafe_unredacted_text: bool = False
    trusts_coordinator: bool = False

    def __post_init__(self) -> None:
        if not self.collaborations:
            raise ValueError("collaborations: expected at least one name")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected at least {least}")
        if self.epsilon is not None and not 0 < self.epsilon < 1000:
            raise ValueError("epsilon: expected a number above 0 and below 1000")
        if len(self.collaborations) > 1 and replace(self.limits, approval=False) != NO_LIMITS:
            raise ValueError("collaborations: expected one collaboration beside a limit: each has a share of its own")
        if self.least_noise is not None and not (math.isfinite(self.least_noise) and self.least_noise > 0):
            raise ValueError("least_noise: expected a number above 0")
        if self.least_noise is not None and self.unsafe_without_noise:
            raise ValueError("least_noise: expected none beside unsafe_without_noise")
        if self.redaction and self.unsafe_unredacted_text:
            raise ValueError("redaction: expected none beside unsafe_unredacted_text")
        if self.purposes is not None and not (self.purposes and all(self.purposes)):
            raise ValueError("purposes: expected at least one, none of them empty; without the key any is allowed")
        rules.TellsOnly(self.tells)

    @property
    def limits(self) -> Limits:
        """Return what the ledger has to check in the transaction that charges."""
        return Limits(self.epsilon, self.releases_per_day, self.bytes_per_day, self.disclosures, self.approval)

    @property
    def named(self) -> AllOf:
        """Return the rules about who asks, for what purpose, and when."""
        who = (rules.PartnerIs(self.partner), rules.LevelIs(self.level), rules.CollaborationIs(self.collaborations))
        when = () if self.expires is None else (rules.NotAfter(self.expires),)
        why = () if self.purposes is None else (rules.PurposeIs(self.purposes),)
        return AllOf((*who, *when, *why))

    @property
    def foreseen(self) -> AllOf:
        """Return the rules that can be judged before any work: all but those of the noise floor and of redaction."""
        crowd = rules.CrowdAtLeast(self.smallest_crowd)
        noise = rules.UnsafeWithoutNoise() if self.unsafe_without_noise else rules.NoisyOnly()
        sums = rules.UnsafePlainSum() if self.unsafe_plain_sum else rules.SummedOnly()
        return AllOf((self.named, crowd, noise, sums, rules.TellsOnly(self.tells)))

    @property
    def whole(self) -> AllOf:
        """Return every rule: only what none of them objects to may leave."""
        text = rules.UnsafeUnredactedText() if self.unsafe_unredacted_text else rules.RedactedBy(self.redaction)
        floor = () if self.least_noise is None else (rules.NoiseAtLeast(self.least_noise),)
        return AllOf((self.foreseen, text, *floor))


_LEAST = {
    "smallest_crowd": 1,
    "colluding": 0,
    "attempts": 1,
    "releases_per_day": 1,
    "bytes_per_day": 1,
    "disclosures": 0,
}


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

    def permit(
        self,
        occasion: Occasion,
        noisy: bool,
        summed: bool = False,
        event: DpEvent | None = None,
        kind: Kind = Kind.VALUE,
        at: datetime | None = None,
    ) -> Limits:
        """Return what the ledger has to check, if this occasion is allowed; otherwise refuse, saying why.

        `summed` says that nobody sees this member's values but within a sum. `event` is what would be charged: where
        the policy asks for `least_noise`, one that is not known is refused. Without `at` it is now.
        Raises: LevelForbidden, CrowdTooSmall, NotRedacted, Expired.
        """
        permission = self.permission(occasion)
        permission.whole.judge(_asked(occasion, noisy, summed, event, kind, at))
        return permission.limits

    def consider(
        self,
        occasion: Occasion,
        noisy: bool,
        summed: bool = False,
        kind: Kind = Kind.VALUE,
        at: datetime | None = None,
    ) -> Limits:
        """Return if this occasion may be worked on; whether its result may leave is for `permit` to say.

        How much noise there will be, and what is redacted, is known only after the work.
        Raises: LevelForbidden, CrowdTooSmall, Expired.
        """
        permission = self.permission(occasion)
        permission.foreseen.judge(_asked(occasion, noisy, summed, None, kind, at))
        return permission.limits

    def permit_sum(
        self,
        occasion: Occasion,
        smallest_crowd: int,
        colluding: int,
        attempts: int,
        local_noise: bool,
        shared_noise: bool = False,
        at: datetime | None = None,
    ) -> None:
        """Return if a secure sum on these terms is allowed: none is laxer than this home's; otherwise refuse.

        `local_noise` says that this member's noise is enough by itself, `shared_noise` that it adds a share: then no
        more members are counted on than this policy does. Without local noise two members at least must be
        honest, and three must take part: the sum less all the others' values would be this member's.
        Raises: LevelForbidden, CrowdTooSmall, Expired.
        """
        terms = (smallest_crowd, colluding, attempts)
        for objection in self.sum_objections(occasion, *terms, local_noise, shared_noise, at):
            raise objection

    def sum_objections(
        self,
        occasion: Occasion,
        smallest_crowd: int,
        colluding: int,
        attempts: int,
        local_noise: bool,
        shared_noise: bool = False,
        at: datetime | None = None,
    ) -> Iterator[Refused]:
        """Yield everything that `permit_sum` would refuse these terms for. Raises: LevelForbidden for a stranger."""
        permission = self.permission(occasion)
        yield from misses(permission.named, _asked(occasion, True, True, None, Kind.KEYS, at))
        alone = 0 if local_noise else max(3, colluding + 2)
        if smallest_crowd < permission.smallest_crowd:
            asked_for = f"the policy asks for {permission.smallest_crowd}"
            yield CrowdTooSmall(f"terms for sums of {smallest_crowd} members, {asked_for}")
        if occasion.crowd < smallest_crowd:
            yield CrowdTooSmall(f"{occasion.crowd} members, the terms of the sum ask for {smallest_crowd}")
        if smallest_crowd < alone:
            yield CrowdTooSmall(
                f"terms for sums of {smallest_crowd} members, {colluding} of them colluding: where a member's own"
                f" noise is not enough by itself, it takes {alone}"
            )
        if colluding < permission.colluding:
            yield LevelForbidden(f"terms for {colluding} colluding, the policy asks for {permission.colluding}")
        if attempts > permission.attempts:
            yield LevelForbidden(f"terms for {attempts} attempts, the policy allows {permission.attempts}")
        honest, most = smallest_crowd - colluding, permission.smallest_crowd - permission.colluding
        if shared_noise and honest > most:
            yield LevelForbidden(f"noise that rests on {honest} honest members, the policy counts on {most}")

    def permit_central(self, occasion: Occasion) -> None:
        """Return if this partner may draw the randomness that protects, from the sum as it is.

        Raises: LevelForbidden.
        """
        if not self.permission(occasion).trusts_coordinator:
            raise LevelForbidden("randomness that the coordinator draws, and trusts_coordinator is not set")

    def require_named(self, occasion: Occasion) -> None:
        """Return if this partner may have this collaboration for this purpose, today.

        Raises: LevelForbidden, Expired.
        """
        self.permission(occasion).named.judge(_asked(occasion, True, occasion.summed, None, Kind.KEYS, None))

    def permission(self, occasion: Occasion) -> Permission:
        """Return the one entry for this partner, level and collaboration. Raises: LevelForbidden if there is none."""
        for p in self.allow:
            named = (p.partner, p.level) == (occasion.partner, occasion.level)
            if named and occasion.collaboration in p.collaborations:
                return p
        raise LevelForbidden(f"no entry allows this collaboration at level {occasion.level.value} with this partner")


def _asked(
    occasion: Occasion, noisy: bool, summed: bool, event: DpEvent | None, kind: Kind, at: datetime | None
) -> Asked:
    return Asked(replace(occasion, summed=summed), event, kind, at or datetime.now(UTC), noisy)
