"""Find identifiers by their shape, in linear time: patterns for RE2, gated by one pass over them all.

A pattern has no look-around. What may not stand beside a match is said in `apart`; what makes a weak match sure, in
`context`: words that are looked for in the 60 letters before it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import re2

from privacy.redaction.spans import Entity, Span
from privacy.redaction.view import View

_BEFORE = 60  # letters before a match in which its context is looked for
Measure = Callable[[str], int]  # how many of the match's letters are the identifier; 0 refuses it
_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 26
_GATED = 1 << 14  # letters: in a longer text most patterns match somewhere, and the gate saves nothing


class BadPattern(ValueError):
    """A pattern that RE2 does not take; the text says which, by its name."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Describe one shape.

    `score` counts where one of `context` stands before the match, or none is asked for; `bare` where none does; 0
    refuses. `measure` says how much of the match counts. The span is that of `group`. With `across`, it is also
    looked for across line breaks and markdown's marks.
    """

    kind: Entity
    name: str
    regex: str
    score: float
    context: tuple[str, ...] = ()
    bare: float = 0.0
    measure: Measure | None = None
    group: int = 0
    apart: str = ""
    across: bool = False


@dataclass(frozen=True, slots=True)
class PatternDetector:
    """Find all that some patterns describe."""

    name: str
    patterns: tuple[Pattern, ...]
    _compiled: "tuple[_Compiled, ...]" = field(init=False, repr=False, compare=False)
    _gate: re2.Set = field(init=False, repr=False, compare=False)
    _across: "PatternDetector | None" = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", tuple(_Compiled.of(p) for p in self.patterns))
        gate = re2.Set.SearchSet(_OPTIONS)
        for pattern in self.patterns:
            gate.Add(pattern.regex.encode("latin-1"))
        gate.Add(rb"(?s).")
        gate.Compile()
        object.__setattr__(self, "_gate", gate)
        across = tuple(p for p in self.patterns if p.across)
        if across and len(across) < len(self.patterns):
            object.__setattr__(self, "_across", PatternDetector(self.name, across))

    def find(self, view: View) -> Iterator[Span]:
        """Yield what the patterns find, and what some of them find across breaks where nothing was found before."""
        found = list(self._in(view))
        yield from found
        across = self._across or (self if all(p.across for p in self.patterns) else None)
        if across is None:
            return
        taken = sorted(found, key=lambda s: s.start)
        for by in (b" ", b""):
            if joined := view.joined(by):
                yield from _apart(across._in(joined), taken)

    def _in(self, view: View) -> Iterator[Span]:
        for number in self._gated(view.letters):
            yield from self._compiled[number].find(view)

    def _gated(self, letters: bytes) -> Sequence[int]:
        """Return the numbers of the patterns that may match; all, in a long text or without memory."""
        everything = len(self._compiled)
        numbers = self._gate.Match(letters) or () if len(letters) <= _GATED else ()
        if everything not in numbers:  # the last of the gate's patterns matches whatever there is
            return range(everything)
        return [n for n in numbers if n < everything]


def _apart(spans: Iterable[Span], taken: Sequence[Span]) -> Iterator[Span]:
    """Yield the spans that touch none of their own kind among those taken, in one pass over both."""
    last: dict[Entity, int] = {}
    following = iter([*taken, None])
    upcoming = next(following)
    for span in sorted(spans, key=lambda s: s.start):
        while upcoming is not None and upcoming.start < span.end:
            last[upcoming.kind] = max(last.get(upcoming.kind, 0), upcoming.end)
            upcoming = next(following)
        if last.get(span.kind, 0) <= span.start:
            yield span


@dataclass(frozen=True, slots=True)
class _Compiled:
    pattern: Pattern
    regex: "re2._Regexp"
    context: tuple[bytes, ...]
    apart: bytes

    @classmethod
    def of(cls, pattern: Pattern) -> "_Compiled":
        """Compile a pattern. Raises: BadPattern."""
        try:
            regex = re2.compile(pattern.regex.encode("latin-1"), _OPTIONS)
        except (re2.error, UnicodeEncodeError):
            raise BadPattern(f"the pattern {pattern.name} is none that RE2 takes, in Latin-1") from None
        words = tuple(w.lower().encode("latin-1") for w in pattern.context)
        return cls(pattern, regex, words, pattern.apart.encode("latin-1"))

    def find(self, view: View) -> Iterator[Span]:
        """Yield what matches."""
        letters, pattern = view.letters, self.pattern
        for match in self.regex.finditer(letters):
            start, end = match.span()
            if pattern.group:
                start, end = match.span(pattern.group)
            if start < 0 or end <= start:
                continue
            if _touches(letters, start, end, self.apart):
                continue
            if pattern.measure is not None:
                length = pattern.measure(letters[start:end].decode("latin-1"))
                if not length:
                    continue
                end = start + length
            if score := self._score(letters, start):
                yield Span(*view.span(start, end), pattern.kind, score, pattern.name)

    def _score(self, letters: bytes, start: int) -> float:
        if not self.context:
            return self.pattern.score
        before = letters[max(0, start - _BEFORE) : start].lower()
        return self.pattern.score if any(word in before for word in self.context) else self.pattern.bare


def _touches(letters: bytes, start: int, end: int, apart: bytes) -> bool:
    """Say whether one of `apart` stands beside a match; a full stop or a comma that ends a sentence is none."""
    if start and letters[start - 1] in apart:
        return True
    if end >= len(letters) or letters[end] not in apart:
        return False
    ends = letters[end : end + 1] in b".:-/" and not letters[end + 1 : end + 2].isalnum()
    return not ends
