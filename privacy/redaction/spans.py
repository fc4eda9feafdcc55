"""Name what is looked for in text, and where it was found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from privacy.refusal import Refused

if TYPE_CHECKING:
    from privacy.redaction.view import View


class Entity(StrEnum):
    """Name a kind of identifier. The value is what stands in a token, as in [PERSON_1]."""

    PERSON = "PERSON"
    ORGANIZATION = "ORGANIZATION"
    LOCATION = "LOCATION"
    GROUP = "GROUP"  # nationality, faith, origin
    MISC = "MISC"  # works, events, products
    TITLE = "TITLE"
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    HANDLE = "HANDLE"
    URL = "URL"
    IP = "IP"
    MAC = "MAC"
    DATE = "DATE"
    AGE = "AGE"
    ADDRESS = "ADDRESS"
    POSTCODE = "POSTCODE"
    CARD = "CARD"
    IBAN = "IBAN"
    ACCOUNT = "ACCOUNT"
    WALLET = "WALLET"
    SSN = "SSN"
    NATIONAL_ID = "NATIONAL_ID"
    PASSPORT = "PASSPORT"
    LICENCE = "LICENCE"
    RECORD = "RECORD"  # a patient's, customer's or employee's number
    PLATE = "PLATE"
    SECRET = "SECRET"  # noqa: S105 - keys, passwords, access tokens
    TOKEN = "TOKEN"  # noqa: S105 - text that looked like a vault's token before there was one
    CUSTOM = "CUSTOM"
    CAPITALISED = "CAPITALISED"  # strict mode's: whatever is written like a name


NAMES = frozenset({Entity.PERSON, Entity.ORGANIZATION, Entity.LOCATION, Entity.MISC})


class Unreadable(Refused):
    """What was to be redacted is no text: nothing of it may leave."""


@dataclass(frozen=True, slots=True)
class Span:
    """Say that text[start:end] is of a kind; `why` names the rule, and never what it found.

    Units:   score from 0 to 1: how sure the rule is. It is no probability but where a recogniser says so.
    """

    start: int
    end: int
    kind: Entity
    score: float
    why: str = field(compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError("a span: expected 0 <= start < end")


class Detector(Protocol):
    """Find identifiers of some kinds."""

    @property
    def name(self) -> str:
        """Return what a report calls this detector."""

    def find(self, view: "View") -> Iterable[Span]:
        """Yield what is found, in places of `view.text`; the spans may overlap."""


def settle(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order that do not overlap and hide every place that `spans` hide.

    Where some overlap they become one, of the kind of the surest; of equals, of the longest.
    """
    settled: list[Span] = []
    group: list[Span] = []
    end = 0
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if group and span.start >= end:
            settled.append(_joined(group))
            group = []
        group.append(span)
        end = max(end, span.end) if len(group) > 1 else span.end
    return [*settled, _joined(group)] if group else settled


def _joined(group: Sequence[Span]) -> Span:
    best = max(group, key=lambda s: (s.score, s.end - s.start))
    return Span(min(s.start for s in group), max(s.end for s in group), best.kind, best.score, best.why)
