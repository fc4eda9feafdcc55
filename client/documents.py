"""Say what stands in one row of a member's data: a text, a conversation, or a choice between two answers.

    text          {"text": "..."}
    chat          {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    preference    {"prompt": "...", "chosen": "...", "rejected": "..."}; each may be a list of messages, too

Learns:  who reads an error: the file, the line, a column's name; never content.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from privacy.config import ConfigError, nearest
from protocols.weights.recipe import Objective

ASSISTANT = "assistant"


class Content(Enum):
    """Name what the rows of a data set are."""

    TEXT = "text"
    CHAT = "chat"
    PREFERENCE = "preference"


CONTENT = {  # what the rows must be, for each objective
    Objective.TEXT: Content.TEXT,
    Objective.ANSWERS: Content.CHAT,
    Objective.PREFERENCE: Content.PREFERENCE,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold what one side says in a conversation."""

    role: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """Hold one row. `text` has all its words: by them a ledger knows it again.

    `turns` is the conversation, if it is one; with `rejected` beside it, the one that was chosen. `group` names
    whose row it is, where the data says so. `file` and `place` say where it stands.
    """

    text: str = field(repr=False)
    turns: tuple[Turn, ...] = field(default=(), repr=False)
    rejected: tuple[Turn, ...] = field(default=(), repr=False)
    group: str | None = field(default=None, repr=False)
    file: str = ""
    place: str = ""

    @property
    def content(self) -> Content:
        """Return what kind of row this is."""
        if self.rejected:
            return Content.PREFERENCE
        return Content.CHAT if self.turns else Content.TEXT


@dataclass(frozen=True, slots=True)
class Columns:
    """Say what the rows are, and in which column a text, or the group that a row belongs to, stands."""

    content: Content = Content.TEXT
    text: str = "text"
    group: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        match self.content:
            case Content.TEXT:
                needed: tuple[str, ...] = (self.text,)
            case Content.CHAT:
                needed = ("messages",)
            case Content.PREFERENCE:
                needed = ("prompt", "chosen", "rejected")
        return (*needed, self.group) if self.group else needed

    def document(self, row: Mapping[str, Any], file: str, place: str) -> Document:
        """Return what stands in a row. Raises: ConfigError, naming file, place and column."""
        at = _At(file, place, row)
        group = at.group(self.group) if self.group else None
        match self.content:
            case Content.TEXT:
                return Document(at.text(self.text), (), (), group, file, place)
            case Content.CHAT:
                turns = at.turns("messages", None)
                return Document(_words(turns), turns, (), group, file, place)
        prompt = at.turns("prompt", "user")
        chosen, rejected = (prompt + at.turns(name, ASSISTANT) for name in ("chosen", "rejected"))
        return Document(_words(chosen + rejected[len(prompt) :]), chosen, rejected, group, file, place)


def text_of(document: str | Document) -> str:
    """Return the words of a document."""
    return document if isinstance(document, str) else document.text


def as_document(document: str | Document) -> Document:
    """Return a plain text as a document."""
    return Document(document) if isinstance(document, str) else document


@dataclass(frozen=True, slots=True)
class _At:
    """Take values out of one row, and say where it stands if they are not what they should be."""

    file: str
    place: str
    row: Mapping[str, Any] = field(repr=False)

    def text(self, column: str) -> str:
        """Return a text."""
        value = self._value(column)
        if not isinstance(value, str):
            raise self._wrong(f"expected text in column {column}")
        return value

    def group(self, column: str) -> str:
        """Return the name or number of a group."""
        value = self._value(column)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self._wrong(f"expected a name or a number in column {column}")
        return str(value)

    def turns(self, column: str, role: str | None) -> tuple[Turn, ...]:
        """Return the turns of a list of messages, or, where a `role` is given, of its text."""
        value = self._value(column)
        if isinstance(value, str) and role is not None:
            return (Turn(role, value),)
        if not isinstance(value, list) or not value:
            raise self._wrong(f"expected a list of messages in column {column}")
        return tuple(self._turn(column, message) for message in value)

    def _turn(self, column: str, message: object) -> Turn:
        said = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(said[0], str) or not isinstance(said[1], str):
            raise self._wrong(f"expected role and content, both text, in each message of column {column}")
        return Turn(said[0], said[1])

    def _value(self, column: str) -> Any:
        if column not in self.row:
            raise self._wrong(f"no column {column} ({nearest(column, [str(name) for name in self.row])})")
        return self.row[column]

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(self.file, self.place, what)


def _words(turns: tuple[Turn, ...]) -> str:
    return "\n".join(turn.content for turn in turns)
