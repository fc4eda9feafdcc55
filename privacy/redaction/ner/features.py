"""Say what the network sees of a word: rows of hashed tables, its shape, and a few lists it stands on.

Training and use share this file: whatever changes here makes trained weights wrong, and so changes `VERSION`.
"""

import functools
import re
import unicodedata
import zlib
from dataclasses import dataclass

VERSION = 1
WORD_ROWS, PART_ROWS, SHAPE_ROWS = 1 << 15, 1 << 15, 1 << 10
FLAGS = 8
_LONGEST = 24  # letters of a word that are looked at from each end
_TOKEN = re.compile(
    r"[^\W_]+(?:[.&'’‐-][^\W_]+)*(?:(?<=\b[A-Z])\.|(?<=\.[A-Z])\.)?|\S"  # U.S., O'Neill, Jean-Luc, AT&T, J.
)
_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|S|re|ve|ll|d|m))$")
_ABBREVIATED = {
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
    "st",
    "inc",
    "ltd",
    "corp",
    "co",
    "jr",
    "sr",
    "vs",
    "gen",
    "col",
    "rev",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what the network sees of one word: row numbers of its three tables, and flags of shape (FLAGS,)."""

    word: int
    parts: tuple[int, ...]
    shape: int
    flags: tuple[float, ...]


def tokens(text: str) -> list[tuple[int, int]]:
    """Return the places (start, end) of the words and signs of `text`, clitics apart, in linear time."""
    found: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        if end - start > 2 and (clitic := _CLITIC.search(text, max(start, end - 4), end)) and clitic.start() > start:
            found += [(start, clitic.start()), (clitic.start(), end)]
        else:
            found.append((start, end))
    return found


def hashed(text: str) -> int:
    """Return 32 bits that are the same on every machine."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def folded(word: str) -> str:
    """Return the word in small letters, compatibility forms and digits made one."""
    return _DIGIT.sub("0", unicodedata.normalize("NFKC", word).casefold())


_DIGIT = re.compile(r"\d")


def seen(word: str, places: frozenset[int], given: frozenset[int]) -> Seen:
    """Return what the network sees of `word`; `places` and `given` are hashes of known places and first names."""
    low = folded(word)
    if len(low) > 2 * _LONGEST:
        low = low[:_LONGEST] + low[-_LONGEST:]
    marked = f"<{low}>"
    grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(max(1, len(marked) - n + 1))]
    parts = tuple(hashed(gram) % PART_ROWS for gram in grams)
    code = hashed(low)
    flags = (
        float(word[:1].isupper()),
        float(word.isupper() and len(word) > 1),
        float(any(c.isdigit() for c in word)),
        float(word.isalpha()),
        float(code in places),
        float(code in given),
        float(any(ord(c) > 0x24F for c in word)),
        float(any(c.isupper() for c in word[1:])),
    )
    return Seen(hashed("w" + low) % WORD_ROWS, parts, hashed(shape(word)) % SHAPE_ROWS, flags)


@functools.lru_cache(maxsize=1 << 16)
def shape(word: str) -> str:
    """Return the word with every letter as x or X and every digit as d, no sign more than three times in a row."""
    out: list[str] = []
    for c in word[:_LONGEST]:
        kind = "X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c
        if out[-3:] != [kind] * 3:
            out.append(kind)
    return "".join(out)


def ends_a_sentence(text: str, token: tuple[int, int], after: tuple[int, int]) -> bool:
    """Say whether a sentence ends between two neighbouring tokens: at a line's end, or at a stop before a capital."""
    between = text[token[1] : after[0]]
    if "\n" in between:
        return True
    last = text[token[0] : token[1]]
    if last in ("!", "?"):
        return bool(between)
    return last == "." and bool(between) and not text[after[0]].islower()
