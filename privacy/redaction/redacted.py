"""Hold text that a redactor has been over. Only `Redactor` makes one, and only the gate lets one go."""

from collections import Counter
from dataclasses import dataclass, field

from privacy.redaction.measured import Protection
from privacy.redaction.spans import Entity


@dataclass(frozen=True, slots=True)
class Replaced:
    """Say that a token stands for original[start:end]; `at` is where that stands in the redacted text."""

    start: int
    end: int
    at: int
    token: str
    kind: Entity
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class Redacted:
    """Hold redacted text, what was replaced in it, and what that is worth.

    Units:   `masked` is the share of the original's characters that were replaced.
    Learns:  whoever gets the text: all of it that was not detected. It is a disclosure; it has no epsilon.
    """

    text: str = field(repr=False)
    replaced: tuple[Replaced, ...] = field(repr=False)
    masked: float
    protection: Protection

    @property
    def profile(self) -> str:
        """Return the name of the settings it was redacted by: what a policy's `redaction` is compared with."""
        return self.protection.profile

    @property
    def counts(self) -> Counter[str]:
        """Return how many identifiers of each kind were replaced."""
        return Counter(r.kind.value for r in self.replaced)
