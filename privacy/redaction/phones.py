"""Find telephone numbers: candidates by shape, judged by what stands before them, grouping and numbering plans."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import phonenumbers
import re2

from privacy.redaction.spans import Entity, Span
from privacy.redaction.view import View

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "AU", "IN", "BR", "CH", "SE", "PL", "JP", "MX", "ZA")
_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_CANDIDATE = re2.compile(
    rb"(?:\+|\b00|\(|\b)\d(?:[ \t]?[().\-/ ]?[ \t]?[(]?\d){5,16}(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?\b", _OPTIONS
)
_SAID = (
    b"call",
    b"phone",
    b"tel",
    b"mobile",
    b"cell",
    b"fax",
    b"whatsapp",
    b"ring",
    b"dial",
    b"text me",
    b"reach",
    b"contact",
    b"number",
    b"sms",
    b"messages to",
    b"answering at",
    b"desk",
    b"office",
    b"handy",
    b"me on",
    b"me at",
    b"hotline",
    b"registered",
)
_NOT_BEFORE = (b"-", b".", b"/", b"_", b"=", b"#", b"$")
_NOT_AFTER = (b"_", b"%", b":")
_DAY = re.compile(r"(?:(?:19|20)\d\d[-/.][01]?\d[-/.][0-3]?\d|[0-3]?\d[-/.][0-3]?\d[-/.](?:19|20)\d\d)(?!\d)")
_DECIMAL = re.compile(r"\d+\.\d+")
_GROUPS = re.compile(r"\d+")
_SHAPES = {
    (3, 4),
    (3, 3, 4),
    (2, 2, 2, 2),
    (3, 3, 3),
    (2, 3, 3),
    (3, 3, 2, 2),
    (4, 2, 2, 2),
    (2, 2, 2, 2, 2),
    (4, 3, 3),
    (5, 3, 3),
    (3, 4, 4),
    (2, 3, 2, 2),
    (2, 3, 3, 4),
    (4, 7),
    (3, 2, 3),
    (2, 6),
    (2, 3, 4),
    (3, 3, 2),
    (3, 3, 3, 3),
    (5, 6),
    (1, 3, 3, 4),
    (2, 4, 4),
    (4, 4),
    (2, 3, 3, 2),
}


@dataclass(frozen=True, slots=True)
class PhoneDetector:
    """Find telephone numbers of any country when they are said to be one, written as one, or begin with a plus."""

    regions: tuple[str, ...] = REGIONS
    name: str = "phones"

    def find(self, view: View) -> Iterator[Span]:
        """Yield telephone numbers."""
        found = list(self._in(view, broken=False))
        yield from found
        for by in (b" ", b""):
            if joined := view.joined(by):
                taken = {place for s in found for place in (s.start, s.end)}
                for span in self._in(joined, broken=True):
                    if span.score >= 0.8 and not taken & {span.start, span.end}:
                        yield span

    def _in(self, view: View, broken: bool) -> Iterator[Span]:
        """Yield numbers; with `broken`, those alone in which a line ends or a mark stands."""
        letters = view.letters
        for match in _CANDIDATE.finditer(letters):
            start, end = match.span()
            before, after = letters[start - 1 : start], letters[end : end + 1]
            if (
                before in (b"-", b".", b"/", b"_", b"=", b"#", b"$")
                or before.isalnum()
                or after in (b"_", b"%", b":")
            ):
                continue
            place = view.span(start, end)
            if broken and not _is_broken(view.text[place[0] : place[1]]):
                continue
            text = letters[start:end].decode("latin-1")
            if score := self._score(text, letters[max(0, start - 40) : start]):
                yield Span(*place, Entity.PHONE, score, "telephone number")

    def _score(self, text: str, before: bytes) -> float:
        groups = _GROUPS.findall(re.split(r"[xe]", text)[0])
        digits = sum(map(len, groups))
        if not 7 <= digits <= 15 or _DAY.match(text) or (len(groups) == 2 and _DECIMAL.fullmatch(text)):
            return 0.0
        if (text[0] == "+" and digits >= 8) or (text[:2] == "00" and digits >= 10 and len(groups) > 1):
            return 0.95 if len(groups) < 7 else 0.0
        before = before.lower()
        return 0.85 if any(word in before for word in _SAID) else self._unsaid(text, groups, digits)

    def _unsaid(self, text: str, groups: list[str], digits: int) -> float:
        """Score a number of which nobody says that it is a telephone's."""
        sizes = tuple(map(len, groups))
        grouped = sizes in _SHAPES and len(groups) > 1
        if grouped and self._is_valid(text):
            return 0.8
        if text[0] in "(0" and len(groups) > 1 and digits >= 8:
            return 0.6
        if grouped and (len(groups) > 2 or sizes == (3, 4) or "-" in text or "(" in text):
            return 0.5
        return 0.45 if len(groups) == 1 and 10 <= digits < 12 and self._is_valid(text) else 0.0

    def _is_valid(self, text: str) -> bool:
        for region in self.regions:
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                    return True
            except phonenumbers.NumberParseException:
                return False
        return False


def _is_broken(number: str) -> bool:
    return "\n" in number or "*" in number
