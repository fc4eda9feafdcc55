"""Find again what was found once: every other place where the same string, or a part of a person's name, stands.

One pass over the words with a table, whatever the number of strings: linear in the text.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from privacy.redaction.ner.features import folded, tokens
from privacy.redaction.spans import NAMES, Entity, Span
from privacy.redaction.view import View

_LONGEST = 12  # words of a string that is looked for again
_TOO_COMMON = frozenset(
    """
    the a an and of for in on at to by or as is it he she we i you my our his her new old north south east
    west saint san st de la el le van von der den dr mr mrs ms inc ltd co company bank group university
    college school hospital street road first last no yes not all may will can do us who what when where this
    that these those day week month year monday tuesday wednesday thursday friday saturday sunday jan feb mar
    apr jun jul aug sep oct nov dec dear hi hello please thanks best regards city state county national
    international one two three black white green blue red young man woman art mark
""".split()
)


@dataclass(frozen=True, slots=True)
class _Known:
    kind: Entity
    score: float
    capital: bool  # only where it is written with a capital


class Restated:
    """Remember strings by their words, and find them in text."""

    def __init__(self) -> None:
        self._table: dict[str, dict[tuple[str, ...], _Known]] = {}

    def add(self, string: str, kind: Entity, score: float, parts: bool = True) -> None:
        """Remember a string; of a person's name, each part that is no common word as well."""
        words = [string[a:b] for a, b in tokens(string)]
        letters = [w for w in words if w[:1].isalnum()]
        if not letters or len(words) > _LONGEST:
            return
        single = len(letters) == 1 and (len(letters[0]) < 3 or folded(letters[0]) in _TOO_COMMON)
        if not single:
            self._put(words, _Known(kind, score, kind in NAMES and words[0][:1].isupper() and len(words) == 1))
        if parts and kind is Entity.PERSON and len(letters) > 1:
            for word in letters:
                if len(word) > 2 and word[0].isupper() and folded(word) not in _TOO_COMMON:
                    self._put([word], _Known(kind, score, True))

    def _put(self, words: list[str], known: _Known) -> None:
        key = tuple(map(folded, words))
        table = self._table.setdefault(key[0], {})
        if key not in table or table[key].score < known.score:
            table[key] = known

    def find(self, view: View) -> Iterator[Span]:
        """Yield every place where a remembered string stands, of several at one place the longest."""
        text, places, low = view.text, view.words, view.folded
        for i, first in enumerate(low):
            for key, known in self._table.get(first, _NONE).items():
                if tuple(low[i : i + len(key)]) == key:
                    start, end = places[i][0], places[i + len(key) - 1][1]
                    if not known.capital or not text[start].islower():
                        yield Span(start, end, known.kind, known.score, "found once")


_NONE: Mapping[tuple[str, ...], _Known] = {}


def again(view: View, spans: Iterable[Span]) -> list[Span]:
    """Return every place where a string of `spans` stands as well, but for what is too common or too unsure."""
    known = Restated()
    for span in spans:
        if (span.kind in _LASTING and span.score >= 0.6) or span.score >= 0.75:
            known.add(view.text[span.start : span.end], span.kind, min(0.9, span.score))
    return list(known.find(view))


_LASTING = NAMES | {
    Entity.EMAIL,
    Entity.PHONE,
    Entity.HANDLE,
    Entity.ADDRESS,
    Entity.SECRET,
    Entity.RECORD,
    Entity.CUSTOM,
}
