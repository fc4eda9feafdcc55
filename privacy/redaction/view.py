"""Look at text as a machine reads it that is not fooled: one byte a letter, disguises undone, every place known.

Look-alike letters and other scripts' digits become ASCII; characters without width vanish; typographic dashes, quotes
and spaces become the plain ones. RE2 reads these bytes as Latin-1, so that a place in them is a letter's number.
"""

import re
import unicodedata
from dataclasses import dataclass, field

import numpy as np
import re2
from numpy.typing import NDArray

from privacy.redaction.ner.features import folded, tokens

_UPPER, _LOWER, _SIGN = "\xde", "\xfe", "\xa4"  # what stands for letters and signs that Latin-1 does not have
_LOOK_ALIKES = str.maketrans(
    "АВЕЅКМНОРСТХІЈаеорсухіјѕԁһӏԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρτυακιɡ",
    "ABESKMHOPCTXIJaeopcyxijsdhlqwABEZHIKMNOPTYXovptuakig",
)
_PLAIN = {
    **dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－"), "-"),
    **dict.fromkeys(map(ord, "‘’‚‛′ʼ´`"), "'"),
    **dict.fromkeys(map(ord, "“”„‟″«»"), '"'),
    **dict.fromkeys(map(ord, "․。｡﹒·"), "."),
    ord("∕"): "/", ord("⁄"): "/", ord("\x0b"): "\n", ord("\x0c"): "\n", ord("\u2028"): "\n", ord("\u2029"): "\n",
}  # fmt: skip
_MARKS = b"*`~\\"


class _Folding(dict[int, str]):
    """Fold each character once: a table for `str.translate` that fills itself."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def _fold(char: str) -> str:
    """Return "" for what has no width, else one character of Latin-1."""
    category = unicodedata.category(char)
    if ord(char) not in _PLAIN and (category in ("Cf", "Mn", "Me", "Cs") or char in "\u115f\u1160\u3164\uffa0"):
        return ""
    alike = char.translate(_LOOK_ALIKES)
    plain = unicodedata.normalize("NFKD", char)[:1] or char
    if ord(char) in _PLAIN:
        folded = _PLAIN[ord(char)]
    elif category in ("Zs", "Nd"):
        folded = " " if category == "Zs" else str(unicodedata.decimal(char))
    elif alike != char or ord(char) < 256:
        folded = alike
    else:
        folded = _fold(plain) if plain != char else _letter(category)
    return folded


def _letter(category: str) -> str:
    if category in ("Lu", "Lt"):
        return _UPPER
    return _LOWER if category.startswith("L") or category == "Mc" else _SIGN


_OTHER = re.compile(r"[^\x00-\x7f]+")  # what the table is for: most of a text is ASCII, and stays as it is
_TABLE = _Folding({code: chr(code) for code in range(128)} | {11: "\n", 12: "\n", 0x60: "`"})


@dataclass(frozen=True, slots=True)
class View:
    """Hold text beside what the patterns read of it.

    Shapes:  letters (n,) bytes; places (n + 1,) int64, where in `text` each of them stands; None: at the same.
    """

    text: str = field(repr=False)
    letters: bytes = field(repr=False)
    places: NDArray[np.int64] | None = field(repr=False, default=None)
    _words: list[list[tuple[int, int]]] = field(default_factory=list, init=False, repr=False, compare=False)
    _joined: "dict[bytes, View | None]" = field(default_factory=dict, init=False, repr=False, compare=False)
    _folded: list[list[str]] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, text: str) -> "View":
        """Return the view of `text`."""
        if text.isascii():
            return cls(text, text.encode("ascii").translate(_VERTICAL))
        folded = _OTHER.sub(lambda run: run[0].translate(_TABLE), text)
        if len(folded) == len(text):
            return cls(text, folded.encode("latin-1").translate(_VERTICAL))
        kept = np.flatnonzero([_TABLE[ord(c)] != "" for c in text])
        return cls(text, folded.encode("latin-1").translate(_VERTICAL), np.append(kept, len(text)))

    @property
    def words(self) -> list[tuple[int, int]]:
        """Return the places of the words of `text`; found once."""
        if not self._words:
            self._words.append(tokens(self.text))
        return self._words[0]

    @property
    def folded(self) -> list[str]:
        """Return the words of `text` in small letters; found once."""
        if not self._folded:
            self._folded.append([folded(self.text[a:b]) for a, b in self.words])
        return self._folded[0]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where in `text` the letters from `start` to `end` stand, with what has no width between them."""
        if self.places is None:
            return start, end
        return int(self.places[start]), int(self.places[end - 1]) + 1

    def joined(self, by: bytes) -> "View | None":
        """Return what stands around the breaks inside words and numbers, as if there were none; or None.

        A break is a line's end, or markdown's marks; `by`, a space or nothing, comes in place of a line's end.
        """
        if not self._joined:
            self._joined.update(self._without_breaks())
        return self._joined[by]

    def _without_breaks(self) -> "dict[bytes, View | None]":
        windows = _windows(self.letters)
        if not windows:
            return {b" ": None, b"": None}
        kept = np.zeros(len(self.letters), bool)
        found = np.frombuffer(self.letters, np.uint8).copy()
        breaks: list[int] = []
        for start, end in windows:
            kept[start:end] = True
            for match in _BREAK.finditer(self.letters, start, end):
                first, last = match.span()
                kept[first:last] = False
                breaks.append(first)
            if end < len(found):
                found[end - 1] = 10  # nothing is found across two windows
                kept[end - 1] = True
        kept &= ~_IS_A_MARK[found]
        tight = self._of(found, kept)
        found[breaks] = 32
        kept[breaks] = True
        return {b"": tight, b" ": self._of(found, kept)}

    def _of(self, letters: NDArray[np.uint8], kept: NDArray[np.bool_]) -> "View":
        here = np.flatnonzero(kept)
        places = here if self.places is None else self.places[here]
        return View(self.text, letters[here].tobytes(), np.append(places, len(self.text)))


def _windows(letters: bytes) -> list[tuple[int, int]]:
    """Return the places around breaks that something with digits or an @ may go across."""
    windows: list[tuple[int, int]] = []
    for match in _BROKEN.finditer(letters):
        start, end = max(0, match.start() - _AROUND), min(len(letters), match.end() + _AROUND)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


_AROUND = 72
_LATIN = re2.Options()
_LATIN.encoding = re2.Options.Encoding.LATIN1
_CUT = r"(?:[*`~\\]{1,3}|[ \t]{0,8}[\r\n][ \t\r\n>|]{0,16}[*`~\\]{0,3})"
_BREAK = re2.compile(rb"[ \t]{0,8}[\r\n][ \t\r\n>|]{0,16}", _LATIN)
_BROKEN = re2.compile(
    (
        rf"[0-9][ -]?{_CUT}[ -]?[0-9A-Za-z@.]|[A-Za-z]{_CUT}[0-9]"
        rf"|@[\w.-]{{0,30}}{_CUT}[\w.-]|[\w.-]{_CUT}[\w.+-]{{0,30}}@"
    ).encode(),
    _LATIN,
)
_IS_A_MARK = np.isin(np.arange(256), np.frombuffer(_MARKS, np.uint8))
_VERTICAL = bytes.maketrans(b"\x0b\x0c", b"\n\n")
