"""Say what a redactor hides: an operator's choice, under a name that a policy can ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from privacy.redaction.patterns import BadPattern, Pattern, PatternDetector
from privacy.redaction.spans import Entity

THRESHOLD = 0.4
LANGUAGES = (
    "en",
)  # names are recognised in English text; structured identifiers in any Latin, Greek or Cyrillic text
PROFILES = ("default", "strict")
PLUGS = ("presidio", "spacy", "transformers", "gliner")


@dataclass(frozen=True, slots=True)
class Settings:
    """Choose what is hidden.

    `name` is what a policy's `redaction` asks for. The names "default" and "strict" stand for the settings below, to
    which only `deny` and `patterns` may be added; whoever leaves something out calls it by another name. What is
    found with a score below `threshold`, or its kind's own in `thresholds`, is not hidden. `allow` are strings that
    are never hidden, `deny` ones that always are; both whatever their case. `patterns` are names and expressions for
    RE2. `strict` also hides each run of words with capitals, all that is in another script, and every longer number.
    """

    name: str = "default"
    entities: tuple[Entity, ...] = tuple(Entity)
    threshold: float = THRESHOLD
    thresholds: Mapping[Entity, float] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    plugs: tuple[str, ...] = ()
    language: str = "en"
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: expected at least one letter")
        if not all(0 < value <= 1 for value in (self.threshold, *self.thresholds.values())):
            raise ValueError("threshold: expected a number above 0 and at most 1")
        if self.language not in LANGUAGES:
            raise ValueError(f"language: expected one of {', '.join(LANGUAGES)}; others have not been measured")
        if unknown := set(self.plugs) - set(PLUGS):
            raise ValueError(f"plugs: expected some of {', '.join(PLUGS)}; not {len(unknown)} other")
        if not all(self.allow) or not all(self.deny):
            raise ValueError("allow, deny: expected no empty string")
        self.custom()
        if self.name in PROFILES:
            self._require_nothing_less()

    def _require_nothing_less(self) -> None:
        for one in fields(self):
            if one.name in ("name", "deny", "patterns", "plugs"):
                continue
            wanted: object = self.name == "strict" if one.name == "strict" else _default(one.name)
            if getattr(self, one.name) != wanted:
                raise ValueError(
                    f"{one.name}: settings other than those of the profile {self.name} need another name"
                )

    def custom(self) -> tuple[PatternDetector, ...]:
        """Return the operator's own patterns. Raises: ValueError, by the pattern's name."""
        try:
            own = tuple(Pattern(Entity.CUSTOM, f"own pattern {n}", regex, 1.0) for n, regex in self.patterns)
            return (PatternDetector("own patterns", own),) if own else ()
        except BadPattern as bad:
            raise ValueError(f"patterns: {bad}") from None

    def hides(self, kind: Entity, score: float) -> bool:
        """Say whether a span of this kind and score is hidden."""
        if kind in (Entity.TOKEN, Entity.CUSTOM):
            return True
        return kind in self.entities and score >= self.thresholds.get(kind, self.threshold)


def _default(name: str) -> object:
    return {"entities": tuple(Entity), "threshold": THRESHOLD, "thresholds": {}, "allow": (), "language": "en"}[name]


def profile(name: str) -> Settings:
    """Return the settings that a built-in profile stands for. Raises: ValueError."""
    if name not in PROFILES:
        raise ValueError(f"expected one of {', '.join(PROFILES)}")
    return Settings(name=name, strict=name == "strict")
