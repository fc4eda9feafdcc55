"""Find the home's own documents that bear on a question, to show them to its model. Nothing of this leaves by itself.

Cites:  Robertson et al. 1994 (Okapi BM25).
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

_WORDS = re.compile(r"\w+").findall
_SATURATION, _LENGTH = 1.5, 0.75  # BM25's k1 and b


class Notes:
    """Rank documents by the words that they share with a question, rare ones counting for more."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._documents = tuple(documents)
        counts = [Counter(_folded(d)) for d in self._documents]
        self._lengths = [c.total() for c in counts]
        self._mean = max(1.0, sum(self._lengths) / max(1, len(counts)))
        self._holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, count in enumerate(counts):
            for word, times in count.items():
                self._holders[word].append((at, times))

    def near(self, question: str, count: int) -> tuple[str, ...]:
        """Return at most `count` documents, the nearest first; none that shares no word with the question."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in set(_folded(question)):
            holders = self._holders.get(word, [])
            rarity = math.log1p((len(self._documents) - len(holders) + 0.5) / (len(holders) + 0.5))
            for at, times in holders:
                share = 1 - _LENGTH + _LENGTH * self._lengths[at] / self._mean
                scores[at] += rarity * times * (_SATURATION + 1) / (times + _SATURATION * share)
        best = sorted(scores, key=lambda at: (-scores[at], at))[:count]
        return tuple(self._documents[at] for at in best)


def _folded(text: str) -> list[str]:
    return _WORDS(unicodedata.normalize("NFKC", text).casefold())
