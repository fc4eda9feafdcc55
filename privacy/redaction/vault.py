"""Remember which token stands for what, for one partner, so that an answer can be restored at home.

A token names a kind and a number: [PERSON_1]. One thing has one number however it is written; another way of
writing it has a letter behind: "J. Smith" is [PERSON_1b] beside [PERSON_1]. So a reader sees who is who, and what
comes back is restored to the byte.
"""

import json
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import re2

from privacy.redaction.spans import Entity

_KINDS = "|".join(sorted((e.value for e in Entity), key=len, reverse=True))
# [PERSON_1], [person 1], \[PERSON\_1b\], <PERSON_1>, and PERSON_1 without brackets, in capitals
_TOKEN = re2.compile(
    r"(?i)\\?[\[<{]{1,2}[*_`\s]{0,4}("
    + _KINDS
    + r")(?:\\?[_ -]){1,2}(\d{1,9})([a-z]{0,3})(['\x{2019}]s)?[*_`\s]{0,4}\\?[\]>}]{1,2}"
    r"|\b(?-i:(" + _KINDS + r")\\?_(\d{1,9})([a-z]{0,3}))\b"
)
LOOKS_LIKE_A_TOKEN = re2.compile(
    r"(?i)\\?[\[<{]{1,2}[*_`\s]{0,4}(?:"
    + _KINDS
    + r")(?:\\?[_ -]){1,2}\d{1,9}[a-z]{0,3}(?:['\x{2019}]s)?[*_`\s]{0,4}\\?[\]>}]{1,2}"
    r"|(?-i:(?:" + _KINDS + r")\\?_\d{1,9}[a-z]{0,3})"
)
_EXACT = re2.compile(r"\[(" + _KINDS + r")_(\d{1,9})([a-z]{0,3})\]")
MOST_THINGS = 1_000_000  # that a vault holds
_HIGHEST = 10**9 - 1  # a token has nine digits at the most


class VaultFull(Exception):
    """A vault holds as many things as it may; the text says how many."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Say what a vault puts back: these kinds, and what it was given in the last `keep_s` seconds."""

    kinds: frozenset[Entity] = frozenset(Entity)
    keep_s: float = 90 * 86400.0

    def __post_init__(self) -> None:
        if not self.keep_s > 0:
            raise ValueError("keep_s: expected a number above 0")


@dataclass(slots=True)
class _Thing:
    """Hold every way in which one thing was written, in the order they were met, and when it was last met."""

    kind: Entity
    number: int
    forms: list[str]
    last: float


class _Read(NamedTuple):
    """Hold what a token says, as it stands in a text."""

    kind: str
    number: str
    letters: str
    possessive: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Hold restored text, how many tokens were put back, and how many stay: unknown, old, not to be revealed."""

    text: str = field(repr=False)
    restored: int
    left: int


class Vault:
    """Give and take tokens for one partner.

    Its numbers begin with `first`, so that several who write into one text need not give the same token.

    Learns:  the partner: which tokens stand for the same thing. Two partners' vaults know nothing of each other.
    Trusts:  whoever can read this process; at rest it is sealed (`client/vault.py`).
    """

    def __init__(
        self,
        partner: str,
        reveal: Reveal | None = None,
        clock: Callable[[], float] = time.time,
        *,
        first: int = 1,
    ) -> None:
        if not 1 <= first <= _HIGHEST - MOST_THINGS:
            raise ValueError(f"first: expected a number from 1 to {_HIGHEST - MOST_THINGS}")
        self.partner, self.reveal, self.first = partner, reveal or Reveal(), first
        self._clock, self._lock = clock, threading.RLock()
        self._things: dict[tuple[Entity, int], _Thing] = {}
        self._by_value: dict[tuple[Entity, str], _Thing] = {}
        self._by_word: dict[str, list[_Thing]] = {}
        self._next: dict[Entity, int] = {}

    def __len__(self) -> int:
        return len(self._things)

    def tokens(self, found: Iterable[tuple[str, Entity]]) -> list[str]:
        """Return a token for each string, in order; full names are taken first, so that parts of them are known.

        Raises: VaultFull.
        """
        wanted = list(found)
        given: list[str] = [""] * len(wanted)
        by_length = sorted(
            range(len(wanted)), key=lambda i: (-_words(wanted[i][0]) if _is_name(wanted[i][1]) else 0, i)
        )
        with self._lock:
            for i in by_length:
                given[i] = self._token(*wanted[i])
        return given

    def restore(self, text: str) -> str:
        """Return the text with everything put back that this vault gave and may reveal."""
        return self.restored(text).text

    def restored(self, text: str) -> Restored:
        """Put back what this vault gave, whatever was done to its tokens' case and marks; count what stays."""
        out: list[str] = []
        at = back = left = 0
        with self._lock:
            for start, end, read in _tokens_in(text):
                value = self._value(read)
                if value is None:
                    left += 1
                    continue
                out += [text[at:start], value]
                at, back = end, back + 1
        return Restored("".join([*out, text[at:]]), back, left)

    def forget(self) -> int:
        """Forget what has not been met for longer than may be kept; return how many things that were."""
        with self._lock:
            old = [t for t in self._things.values() if self._is_old(t)]
            kept = [t for t in self._things.values() if not self._is_old(t)]
            self._things, self._by_value, self._by_word = {}, {}, {}
            for thing in kept:
                self._enter(thing)
        return len(old)

    def to_bytes(self) -> bytes:
        """Return the whole vault, in clear: for sealing alone."""
        with self._lock:
            things = [[t.kind.value, t.number, t.forms, t.last] for t in self._things.values()]
            following = {kind.value: number for kind, number in self._next.items()}
        record = {"version": 1, "partner": self.partner, "next": following, "things": things}
        return json.dumps(record, ensure_ascii=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes, reveal: Reveal | None = None, clock: Callable[[], float] = time.time) -> "Vault":
        """Read what `to_bytes` wrote, and forget what is old. Raises: ValueError, without its words."""
        try:
            record: Mapping[str, object] = json.loads(data)
            vault = cls(_string(record["partner"]), reveal, clock)
            vault._fill(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("no vault") from None
        vault.forget()
        return vault

    def _fill(self, record: Mapping[str, object]) -> None:
        if record["version"] != 1:
            raise ValueError("version")
        for kind, number, forms, last in record["things"]:  # type: ignore[attr-defined]
            self._enter(_Thing(Entity(kind), int(number), [_string(f) for f in forms], float(last)))
        self._next = {Entity(k): int(n) for k, n in record["next"].items()}  # type: ignore[attr-defined]

    def _token(self, string: str, kind: Entity) -> str:
        thing = self._by_value.get((kind, _folded(string))) or self._linked(string, kind)
        if thing is None:
            if len(self._things) >= MOST_THINGS:
                raise VaultFull(f"{MOST_THINGS} things")
            number = self._next.get(kind, self.first)
            self._next[kind] = number + 1  # never given twice, also where what had it was forgotten
            thing = _Thing(kind, number, [], 0.0)
        thing.last = self._clock()
        if string not in thing.forms:
            thing.forms.append(string)
        self._enter(thing)
        return f"[{kind.value}_{thing.number}{_letters(thing.forms.index(string))}]"

    def _linked(self, string: str, kind: Entity) -> _Thing | None:
        """Return the one person that the parts of a name fit: a first or last name, or initials and a last name."""
        if kind is not Entity.PERSON:
            return None
        words = _split(string)
        if not words or len(words) > 6:
            return None
        near = {id(t): t for w in words for t in self._by_word.get(w, ())[:50]}
        fits = [t for t in near.values() if any(_fit(words, _split(form)) for form in t.forms)]
        return fits[0] if len(fits) == 1 else None

    def _enter(self, thing: _Thing) -> None:
        self._things[thing.kind, thing.number] = thing
        for form in thing.forms:
            self._by_value.setdefault((thing.kind, _folded(form)), thing)
            if thing.kind is Entity.PERSON:
                for word in _split(form):
                    near = self._by_word.setdefault(word, [])
                    if thing not in near:
                        near.append(thing)

    def _value(self, read: _Read) -> str | None:
        kind = Entity(read.kind.upper())
        thing = self._things.get((kind, int(read.number)))
        if thing is None or kind not in self.reveal.kinds or self._is_old(thing):
            return None
        form = _number(read.letters.lower())
        return None if form >= len(thing.forms) else thing.forms[form] + read.possessive

    def _is_old(self, thing: _Thing) -> bool:
        return self._clock() - thing.last > self.reveal.keep_s


def named_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, name) of every token in a text, however it is marked: the name is as in `PERSON_1b`."""
    for start, end, read in _tokens_in(text):
        yield start, end, f"{read.kind.upper()}_{int(read.number)}{read.letters.lower()}"


def _tokens_in(text: str) -> Iterator[tuple[int, int, _Read]]:
    """Yield (start, end, what it says) of every token: as given first, changed ones only in what is between.

    So a bracket that stood around a hidden name in the original stays where it was.
    """
    at = 0
    for exact in _EXACT.finditer(text):
        yield from _changed_in(text[at : exact.start()], at)
        yield exact.start(), exact.end(), _Read(exact[1], exact[2], exact[3], "")
        at = exact.end()
    yield from _changed_in(text[at:], at)


def _changed_in(piece: str, at: int) -> Iterator[tuple[int, int, _Read]]:
    for match in _TOKEN.finditer(piece):
        first = 1 if match[1] else 5
        read = _Read(match[first], match[first + 1], match[first + 2] or "", match[4] or "")
        yield at + match.start(), at + match.end(), read


def _is_name(kind: Entity) -> bool:
    return kind is Entity.PERSON


def _words(string: str) -> int:
    return len(_split(string))


def _split(string: str) -> list[str]:
    return [w for w in re.split(r"[\s.,'’()-]+", _folded(string)) if w]


def _fit(one: list[str], other: list[str]) -> bool:
    """Say whether two ways of writing a name may be of one person: parts of the longer, or its initials."""
    short, long = sorted((one, other), key=len)
    if not short or len(long) < 2:
        return False
    if len(short) == 1:
        return len(short[0]) > 1 and short[0] in (long[0], long[-1])
    if short[-1] != long[-1]:
        return False
    return (
        short[0] == long[0]
        or (len(short[0]) == 1 and long[0].startswith(short[0]))
        or (len(long[0]) == 1 and short[0].startswith(long[0]))
    )


def _folded(string: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", string).casefold().split())


def _letters(form: int) -> str:
    """Return "" for the first form, then b, c, ... z, ba, bb, ..."""
    out = ""
    while form:
        form, digit = divmod(form, 26)
        out = chr(97 + digit) + out
    return out


def _number(letters: str) -> int:
    found = 0
    for c in letters:
        found = found * 26 + ord(c) - 97
    return found


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no string")
    return value
