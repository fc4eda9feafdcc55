"""Find text that two corpora share, by runs of eight words: what keeps private text out of the public corpus."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

RUN = 8  # words; shorter runs are idioms that any two programs share
SAMPLE = 4  # keep one run in four, chosen by its own hash, so that both sides keep the same ones
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Shingles:
    """The sampled runs of words of a body of text, as hashes."""

    hashes: frozenset[int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Shingles:
        """Collect the runs of all texts; a run never spans two of them."""
        return cls(frozenset(h for text in texts for h in runs(text)))

    def share(self, text: str) -> float:
        """Return the share of the text's sampled runs that occur here; 0.0 for a text too short to have any."""
        mine = runs(text)
        return sum(h in self.hashes for h in mine) / len(mine) if mine else 0.0


def runs(text: str) -> list[int]:
    """Return the sampled runs of a text: layout, case and punctuation do not count."""
    words = _WORD.findall(text.lower())
    hashed = (zlib.crc32(" ".join(words[i : i + RUN]).encode()) for i in range(len(words) - RUN + 1))
    return [h for h in hashed if h % SAMPLE == 0]
