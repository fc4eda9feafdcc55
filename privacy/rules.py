"""Judge what is asked for by small rules that are put together: each returns, or says by name why it refuses.

Nothing is left out by leaving something empty: an empty `AllOf` or `AnyOf` cannot be made, and what lets a thing pass
unjudged is called `Unsafe...`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from dp_accounting import DpEvent, GaussianDpEvent

from privacy.accounting.curves import unamplified
from privacy.accounting.events import require_known
from privacy.occasion import Occasion
from privacy.refusal import CrowdTooSmall, Expired, LevelForbidden, NotRedacted, Refused
from privacy.units import Kind, Level

_CONTENT = (Kind.VALUE, Kind.TEXT)  # what is computed from the records, rather than told about the work
_TOLD = (Kind.COUNT, Kind.METRIC, Kind.TIMING, Kind.CAPABILITY)


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold all that a rule may look at. `event` is what would be charged, and None for what has no epsilon."""

    occasion: Occasion
    event: DpEvent | None
    kind: Kind
    at: datetime
    noisy: bool

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("at: expected a time with its offset")


class Rule(Protocol):
    """Be one thing that a policy asks for."""

    def judge(self, asked: Asked) -> None:
        """Return if this rule has no objection. Raises: Refused, by name."""


def misses(rule: Rule, asked: Asked) -> tuple[Refused, ...]:
    """Return every objection that `rule` has, and not only the first; of alternatives those of the nearest."""
    match rule:
        case AllOf(rules):
            return tuple(miss for inner in rules for miss in misses(inner, asked))
        case AnyOf(rules):
            return min((misses(inner, asked) for inner in rules), key=len)
    try:
        rule.judge(asked)
    except Refused as refused:
        return (refused,)
    return ()


@dataclass(frozen=True, slots=True)
class AllOf:
    """Ask for every one of `rules`. No rules at all would ask for nothing: that cannot be made."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("all of: expected at least one rule")

    def judge(self, asked: Asked) -> None:
        """Return if no rule objects; the first that does is raised."""
        for rule in self.rules:
            rule.judge(asked)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Ask for one of `rules`; refuse with the first objection of the one that has the fewest."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("any of: expected at least one rule")

    def judge(self, asked: Asked) -> None:
        """Return if some rule has no objection."""
        if nearest := misses(self, asked):
            raise nearest[0]


@dataclass(frozen=True, slots=True)
class PartnerIs:
    """Ask that the coordinator with this public key asks."""

    partner: str

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.occasion.partner != self.partner:
            raise LevelForbidden("another partner than the one allowed")


@dataclass(frozen=True, slots=True)
class LevelIs:
    """Ask for one level."""

    level: Level

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.occasion.level is not self.level:
            raise LevelForbidden(f"level {asked.occasion.level.value}, the policy allows {self.level.value}")


@dataclass(frozen=True, slots=True)
class CollaborationIs:
    """Ask for one of the named collaborations."""

    names: tuple[str, ...]

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.occasion.collaboration not in self.names:
            raise LevelForbidden("another collaboration than those allowed")


@dataclass(frozen=True, slots=True)
class PurposeIs:
    """Ask for one of the named purposes, to the letter. A partner that says none is refused."""

    purposes: tuple[str, ...]

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden, which does not repeat what the partner said."""
        if asked.occasion.purpose not in self.purposes:
            said = "another purpose than those allowed" if asked.occasion.purpose else "no purpose is given"
            raise LevelForbidden(said)


@dataclass(frozen=True, slots=True)
class NotAfter:
    """Allow until the end of `day`, in UTC."""

    day: date

    def judge(self, asked: Asked) -> None:
        """Raises: Expired."""
        if asked.at.astimezone(UTC).date() > self.day:
            raise Expired(f"allowed until {self.day.isoformat()}")


@dataclass(frozen=True, slots=True)
class CrowdAtLeast:
    """Ask that so many members take part, this one included."""

    least: int

    def judge(self, asked: Asked) -> None:
        """Raises: CrowdTooSmall."""
        if asked.occasion.crowd < self.least:
            raise CrowdTooSmall(f"{asked.occasion.crowd} members, the policy asks for {self.least}")


@dataclass(frozen=True, slots=True)
class NoisyOnly:
    """Ask that values and text have noise: without it they have no epsilon."""

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.kind in _CONTENT and not asked.noisy:
            raise LevelForbidden("a release without noise, and unsafe_without_noise is not set")


@dataclass(frozen=True, slots=True)
class NoiseAtLeast:
    """Ask of every mechanism for at least the noise of a Gaussian with this multiplier, amplified by nothing.

    Units:   a multiple of the sensitivity; another mechanism is compared by its zero-concentrated privacy loss.
    """

    multiplier: float

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden, also for an event whose noise is not known here."""
        if not asked.noisy and asked.event is None:
            return  # nothing with an epsilon; whether that may leave at all is another rule's
        if asked.event is None or not _loudest(asked.event) <= _loudest(GaussianDpEvent(self.multiplier)):
            raise LevelForbidden(
                f"less noise than the policy's least_noise, {self.multiplier:g}, or none that is known"
            )


def _loudest(event: DpEvent) -> float:
    """Return the largest loss of any mechanism in `event`, amplified by nothing; infinite where one is not known."""
    try:
        require_known(event)
    except ValueError:
        return float("inf")
    return max(unamplified(event))


@dataclass(frozen=True, slots=True)
class SummedOnly:
    """Ask that nobody sees this member's values but within a sum over the crowd."""

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.kind is Kind.VALUE and not asked.occasion.summed:
            raise LevelForbidden("a release that is not in a secure sum, and unsafe_plain_sum is not set")


@dataclass(frozen=True, slots=True)
class RedactedBy:
    """Ask that text was redacted by this profile; an empty one redacts nothing, and so allows no text."""

    profile: str

    def judge(self, asked: Asked) -> None:
        """Raises: NotRedacted. What leaves at the levels text and api counts as text, but for counts in a sum."""
        if asked.kind is not Kind.TEXT:
            wordless = asked.occasion.level not in (Level.TEXT, Level.API) or asked.occasion.summed
            if wordless or asked.kind not in _CONTENT:
                return
        if not self.profile:
            raise NotRedacted("text, and the policy names no redaction profile")
        if asked.occasion.redaction != self.profile:
            raise NotRedacted(f"text that the profile {self.profile} has not redacted")


@dataclass(frozen=True, slots=True)
class TellsOnly:
    """Ask that of counts, metrics, timings and capabilities only these kinds are told."""

    kinds: tuple[Kind, ...]

    def __post_init__(self) -> None:
        if not set(self.kinds) <= set(_TOLD):
            raise ValueError(f"tells: expected some of {', '.join(kind.value for kind in _TOLD)}")

    def judge(self, asked: Asked) -> None:
        """Raises: LevelForbidden."""
        if asked.kind in _TOLD and asked.kind not in self.kinds:
            raise LevelForbidden(f"a {asked.kind.value}, which is not in tells")


@dataclass(frozen=True, slots=True)
class UnsafeAnything:
    """Allow whatever is asked."""

    def judge(self, asked: Asked) -> None:
        """Return."""


@dataclass(frozen=True, slots=True)
class UnsafeWithoutNoise:
    """Stand where `NoisyOnly` would: what has no epsilon may leave."""

    def judge(self, asked: Asked) -> None:
        """Return."""


@dataclass(frozen=True, slots=True)
class UnsafePlainSum:
    """Stand where `SummedOnly` would: the coordinator may see this member's own values."""

    def judge(self, asked: Asked) -> None:
        """Return."""


@dataclass(frozen=True, slots=True)
class UnsafeUnredactedText:
    """Stand where `RedactedBy` would: text may leave as it is."""

    def judge(self, asked: Asked) -> None:
        """Return."""
