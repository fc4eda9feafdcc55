"""Find names by the recogniser that ships: whatever passes a low bar, not only what is likely a name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from privacy.redaction.ner import network
from privacy.redaction.ner.features import ends_a_sentence
from privacy.redaction.spans import Entity, Span
from privacy.redaction.view import View
from privacy.redaction.wordlists import plain_words

_KINDS = (Entity.PERSON, Entity.ORGANIZATION, Entity.LOCATION, Entity.MISC)
_NEVER = frozenset(
    """
    ssn iban bic swift id dob mrn cvv cvc pin zip tel phone fax mobile email e-mail mail url www ip
    mac api sql json xml html css http https pdf csv png jpg cpu gpu ram faq ceo cfo cto hr pr it ok
    re fwd cc bcc asap eta tbd q a i am pm select from where join group order by and or not null
    true false none def class return import if else for while
    """.split()
)
_LONGEST = 64  # words of a piece that is looked at as a whole
_HABITS = ("wikigold", "notes")
_SURELY = 0.8  # of what is named: then it is a work, and nothing that is private
_BAR = 0.4  # the score of a word that is a name with probability `least`: the default threshold


@dataclass(frozen=True, slots=True)
class NameDetector:
    """Find people, organisations, places and works.

    Units:   `least` is the probability from which a word is taken for part of a name; missing one costs more than
             hiding a word too many. For a word in small letters that is no plain one `small` is enough; one word of
             a run of nothing but plain words must reach `plain`. Scores run from 0.4 at `least` to 1. Languages,
             works and products, which the recogniser calls MISC, are found with `works` alone, but for those that
             may as well be something else.
    """

    least: float = 0.1
    plain: float = 0.95
    small: float = 0.01
    works: bool = False
    name: str = "names"

    def find(self, view: View) -> Iterator[Span]:
        """Yield runs of words that may be names, each of the kind that is likeliest in it."""
        text, places = view.text, view.words
        pieces = list(_pieces(text, places))
        words = [[text[a:b] for a, b in places[start:end]] for start, end in pieces]
        for (start, _), chances in zip(pieces, network.shipped().probabilities(words, _HABITS), strict=True):
            yield from self._runs(text, places, start, chances)

    def _runs(self, text: str, places: list[tuple[int, int]], first: int, chances: network.Floats) -> Iterator[Span]:
        named = 1 - chances[:, 0]
        kinds = chances[:, 1:].reshape(len(chances), 4, 2).sum(2)
        begins = chances[:, 1::2].sum(1) > chances[:, 2::2].sum(1)
        words = [text[a:b] for a, b in places[first : first + len(chances)]]
        passes = named >= [self.small if _is_small(w) else self.least for w in words]
        i = 0
        while i < len(chances):
            if not passes[i]:
                i += 1
                continue
            end = i + 1
            while end < len(chances) and passes[end] and not begins[end]:
                end += 1
            start, stop = places[first + i][0], places[first + end - 1][1]
            of = kinds[i:end].sum(0)
            surely_a_work = of[3] > _SURELY * of.sum() and not self.works
            sure = float(np.max(named[i:end]))
            likely = sure >= self.plain or not _is_plain(words[i:end])
            if likely and not surely_a_work and _is_a_name(text, start, stop):
                score = _BAR + (1 - _BAR) * max(0.0, sure - self.least) / (1 - self.least)
                yield Span(start, stop, _KINDS[int(of.argmax())], min(1.0, score), "recogniser of names")
            i = end


def _pieces(text: str, places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of the words of each sentence, none longer than may be looked at."""
    start = 0
    for i in range(1, len(places) + 1):
        if i == len(places) or i - start >= _LONGEST or ends_a_sentence(text, places[i - 1], places[i]):
            if i > start:
                yield start, i
            start = i


def _is_small(word: str) -> bool:
    return word.islower() and word not in plain_words()


def _is_plain(words: Iterable[str]) -> bool:
    """Say whether all words are plain ones in small letters; signs between them count for nothing."""
    return all(w in plain_words() or not w[0].isalnum() for w in words)


def _is_a_name(text: str, start: int, stop: int) -> bool:
    """Say whether this may be a name: it has a letter or digit, and is no attribute or call of a program."""
    word = text[start:stop]
    if not any(c.isalnum() for c in word) or any(c in word for c in "_(){}=<>;"):
        return False
    if word.casefold() in _NEVER:
        return False
    before, after = text[max(0, start - 2) : start], text[stop : stop + 2]
    attribute = before[-1:] in ("_", "$", "\\") or (before[-1:] == "." and before[:1].isalnum())
    goes_on = after[:1] in ("_", "(") or (after[:1] == "." and after[1:].isalnum())
    return not attribute and not goes_on and not ("." in word and word.islower())
