"""Take private spans out of text: run the detectors, settle what overlaps, put tokens in their place."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from privacy.redaction.banking import BANKING
from privacy.redaction.contacts import CONTACTS
from privacy.redaction.cues import ListDetector, cues
from privacy.redaction.identities import IDENTITIES
from privacy.redaction.measured import Protection, shipped
from privacy.redaction.names import NameDetector
from privacy.redaction.ner.features import folded
from privacy.redaction.patterns import PatternDetector
from privacy.redaction.phones import PhoneDetector
from privacy.redaction.redacted import Redacted, Replaced
from privacy.redaction.restated import Restated, again
from privacy.redaction.settings import PROFILES, Settings
from privacy.redaction.spans import NAMES, Detector, Entity, Span, Unreadable, settle
from privacy.redaction.streets import STREETS
from privacy.redaction.strict import StrictDetector
from privacy.redaction.times import TIMES
from privacy.redaction.vault import LOOKS_LIKE_A_TOKEN, Vault, named_in
from privacy.redaction.view import View

LEAST, LEAST_STRICT = 0.1, 0.05  # from this probability on a word is hidden as part of a name
SMALL, SMALL_STRICT = 0.01, 0.005  # the same, of a word in small letters that is no plain one
PLAIN, PLAIN_STRICT = 0.95, 0.9  # the same, of runs of plain words in small letters
LONGEST = 64 * 2**20  # characters of one text


def structured() -> tuple[Detector, ...]:
    """Return the detectors of structured identifiers: what has a shape, and no name."""
    patterns = (*CONTACTS, *BANKING, *IDENTITIES, *TIMES, *STREETS)
    return (PatternDetector("patterns", patterns), PhoneDetector())


class Redactor:
    """Hide identifiers in text, by some settings.

    Trusts:  nobody; but what it does not detect leaves. Redaction is not anonymity.
    """

    def __init__(self, settings: Settings | None = None, plugs: Sequence[Detector] = ()) -> None:
        self.settings = settings or Settings()
        own = self.settings.custom()
        strict = (StrictDetector(),) if self.settings.strict else ()
        names = NameDetector(LEAST, PLAIN, SMALL)
        if self.settings.strict:
            names = NameDetector(LEAST_STRICT, PLAIN_STRICT, SMALL_STRICT, works=True)
        self.detectors: tuple[Detector, ...] = (*structured(), cues(), ListDetector(), names, *own, *strict, *plugs)
        self._allowed = frozenset(map(folded, self.settings.allow))
        self._denied = Restated()
        for string in self.settings.deny:
            self._denied.add(string, Entity.CUSTOM, 1.0, parts=False)
        if missing := set(self.settings.plugs) - {d.name for d in plugs}:
            raise ValueError(f"plugs: {', '.join(sorted(missing))} was asked for and not given")

    def redact(self, text: str, vault: Vault, given: Collection[str] = (), longest: int | None = None) -> Redacted:
        """Return the text with a token for whatever was detected; `vault.restore` undoes it, to the byte.

        Tokens whose names are `given` came from whoever the text is for, and stay as they are. What is longer than
        `longest` is cut off after it was redacted, and no token is cut in two.
        Raises: Unreadable for what is no text, and then nothing was put into the vault.
        """
        spans = self.find(text) if not given else list(_around(text, self.find(text), given))
        tokens = vault.tokens((text[s.start : s.end], s.kind) for s in spans)
        out: list[str] = []
        replaced: list[Replaced] = []
        at = length = 0
        for span, token in zip(spans, tokens, strict=True):
            out += [text[at : span.start], token]
            length += span.start - at
            replaced.append(Replaced(span.start, span.end, length, token, span.kind, span.score, span.why))
            length, at = length + len(token), span.end
        masked = sum(s.end - s.start for s in spans) / max(1, len(text))
        whole = Redacted("".join([*out, text[at:]]), tuple(replaced), masked, self.protection)
        return whole if longest is None else _cut(whole, longest)

    @property
    def protection(self) -> Protection:
        """Return what these settings are worth: what was measured of them, and no guarantee."""
        own = self.settings.name not in PROFILES  # of an operator's own settings nothing was measured
        return Protection(self.settings.name, () if own else shipped(self.settings.strict))

    def find(self, text: str) -> list[Span]:
        """Return what would be hidden, in order and without overlaps. Raises: Unreadable."""
        require_text(text)
        view = View.of(text)
        found = [s for d in self.detectors for s in d.find(view) if self._is_hidden(view, s)]
        found += [s for s in again(view, found) if self._is_hidden(view, s)]
        found += self._denied.find(view)
        found += _tokens_in(text)
        firm = settle(s for s in found if s.kind not in NAMES)
        return settle(_neighbours(text, [*firm, *settle(_outside(text, found, firm))]))

    def _is_hidden(self, view: View, span: Span) -> bool:
        if not self.settings.hides(span.kind, span.score):
            return False
        return not self._allowed or folded(view.text[span.start : span.end].strip()) not in self._allowed


def require_text(text: str) -> None:
    """Return if this is text that can be redacted. Raises: Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable(f"{len(text)} characters, at most {LONGEST} are redacted at once")
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in ("" if text.isascii() else text)):
        raise Unreadable("binary data, which no detector can read")


def _outside(text: str, found: Iterable[Span], firm: Sequence[Span]) -> Iterator[Span]:
    """Yield the names in `found`, without what something with a shape of its own covers: the title in "Dr. Lee"."""
    starts, ends = [s.start for s in firm], [s.end for s in firm]
    for span in found:
        if span.kind not in NAMES:
            continue
        at = span.start
        for i in range(bisect_right(ends, span.start), bisect_left(starts, span.end)):
            yield from _piece(text, span, at, starts[i])
            at = ends[i]
        yield from _piece(text, span, at, span.end)


def _piece(text: str, span: Span, start: int, end: int) -> Iterator[Span]:
    piece = text[start:end]
    if any(c.isalnum() for c in piece):
        first = start + len(piece) - len(piece.lstrip())
        yield Span(first, start + len(piece.rstrip()), span.kind, span.score, span.why)


def _around(text: str, spans: Sequence[Span], given: Collection[str]) -> Iterator[Span]:
    """Yield the spans, without the tokens in them that are given."""
    known = [(start, end) for start, end, name in named_in(text) if name in given]
    for span in spans:
        at = span.start
        for start, end in known:
            if start < span.end and end > span.start:
                yield from _piece(text, span, at, max(at, start))
                at = max(at, end)
        yield from _piece(text, span, at, max(at, span.end))


def _cut(redacted: Redacted, longest: int) -> Redacted:
    """Return at most so many characters of it: up to the token that does not fit, if one is there."""
    if len(redacted.text) <= longest:
        return redacted
    end = next((start for start, stop, _ in named_in(redacted.text) if start < longest < stop), longest)
    kept = tuple(r for r in redacted.replaced if r.at < end)
    return replace(redacted, text=redacted.text[:end], replaced=kept)


def _tokens_in(text: str) -> Iterable[Span]:
    """Yield what looks like a vault's token in the original: it becomes a value like any other, and so comes back."""
    for match in LOOKS_LIKE_A_TOKEN.finditer(text):
        yield Span(match.start(), match.end(), Entity.TOKEN, 2.0, "looks like a token")


def _neighbours(text: str, spans: list[Span]) -> list[Span]:
    """Join a person's name that was found in pieces: with nothing but a space between them, they are one."""
    joined = list(spans)
    for one, other in pairwise(sorted(spans, key=lambda s: s.start)):
        if one.kind is other.kind is Entity.PERSON and text[one.end : other.start] == " ":
            joined.append(Span(one.start, other.end, one.kind, max(one.score, other.score), one.why))
    return joined
