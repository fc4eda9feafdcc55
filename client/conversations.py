"""Turn a member's rows into records for an objective: texts are cut, conversations are rendered, pairs stay together.

In a conversation only what the assistant says is counted, and the token that ends its turn. Where that stands in
what the tokenizer's chat template makes of it is found by rendering once more with a mark in the answer's place: so
it is exact whatever the template strips, merges or repeats, and a template that hides it is refused.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data import Owners, Records, cut
from client.documents import ASSISTANT, CONTENT, Document, Turn, as_document
from client.fitted import Cutting
from client.quiet import LOG
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.weights.recipe import Objective

Tokens = tuple[NDArray[np.int32], NDArray[np.bool_]]  # of a conversation, and which of them are counted


def records_of(recipe: Cutting, documents: Iterable[str | Document], tokenizer: Any) -> Records:
    """Return the records that `recipe` trains on, the rows of a privacy unit knowing their owner.

    A conversation longer than a record is left out, and the operator's log names its line. It is no fault: where a
    partner chooses the width, who heard of it could search for the longest one.
    Raises: PeerError for a recipe that is not for data of this kind; ConfigError, naming the line, for a conversation
            that the template cannot render.
    """
    fitting = _fitting(recipe, documents)
    grouped = recipe.unit is Unit.GROUP
    if recipe.objective is Objective.TEXT:
        return cut(fitting, tokenizer, recipe.record_tokens, grouped=grouped)
    stack = _Stack(recipe.record_tokens, grouped, paired=recipe.objective is Objective.PREFERENCE)
    for document in fitting:
        sides = (document.turns, document.rejected) if stack.paired else (document.turns,)
        stack.add(document, [render(turns, tokenizer, document) for turns in sides])
    return stack.records()


def render(turns: Sequence[Turn], tokenizer: Any, document: Document) -> Tokens:
    """Return a conversation's tokens (tokens,), and which of them the assistant says.

    A pair's prompt may hold answers, too: of a pair only the last turn is counted, since the rest is no one's choice.
    Raises: ConfigError, naming the document's place.
    """
    counted = [i for i, turn in enumerate(turns) if turn.role == ASSISTANT and turn.content.strip()]
    if document.rejected:
        counted = counted[-1:] if counted and counted[-1] == len(turns) - 1 else []
    if getattr(tokenizer, "chat_template", None) is None:
        return _plain(turns, counted, tokenizer)
    text = _text(turns, tokenizer, document)
    spans = [span for i in counted for span in _span(text, turns, i, tokenizer, document)]
    if any(end > start for (_, end), (start, _) in pairwise(sorted(spans))):
        raise ConfigError(document.file, document.place, "answers that the chat template writes into each other")
    return _tokens(text, sorted(spans), tokenizer)


def _fitting(recipe: Cutting, documents: Iterable[str | Document]) -> Iterable[Document]:
    wanted = CONTENT[recipe.objective]
    for document in map(as_document, documents):
        if document.content is not wanted:
            raise PeerError(f"a recipe for {wanted.value}, and data that is {document.content.value}")
        if recipe.unit is Unit.GROUP and document.group is None:
            raise PeerError("a recipe for groups, and data that names none")
        yield document


class _Stack:
    """Collect rendered conversations of at most `width` tokens."""

    def __init__(self, width: int, grouped: bool, paired: bool) -> None:
        self.width, self.paired = width, paired
        self._owners = Owners() if grouped else None
        self._rows: list[Tokens] = []
        self._owner: list[int] = []
        self._left_out = 0
        self._too_long: list[Document] = []

    def add(self, document: Document, sides: Sequence[Tokens]) -> None:
        """Add the rows of one document; without an answer in each, or with one too long, it is left out."""
        if not all(counted[1:].any() for _, counted in sides):
            self._left_out += 1
            return
        if max(tokens.size for tokens, _ in sides) > self.width:
            self._left_out += 1
            self._too_long.append(document)
            return
        number = len(self._rows) // len(sides) if self._owners is None else self._owners.number(document)
        self._rows += sides
        self._owner += [number] * len(sides)

    def records(self) -> Records:
        """Return what was added, and name in the log what was too long."""
        if self._too_long:
            first, others = self._too_long[0], len(self._too_long) - 1
            LOG.warning(
                "%s: %s: longer than a record of %d tokens: left out, and %d others",
                first.file, first.place, self.width, others,
            )  # fmt: skip
        tokens = np.zeros((len(self._rows), self.width), np.int32)
        counted = np.zeros(tokens.shape, np.bool_)
        for i, (row, said) in enumerate(self._rows):
            tokens[i, : row.size], counted[i, : row.size] = row, said
        lengths = np.array([row.size for row, _ in self._rows], np.int32)
        owned = self._owners is not None or self.paired
        owner = np.array(self._owner, np.int32) if owned else None
        return Records(tokens, lengths, owner, counted, paired=self.paired, left_out=self._left_out)


def _plain(turns: Sequence[Turn], counted: Sequence[int], tokenizer: Any) -> Tokens:
    """Render without a template: "role: content", a line each; an answer ends in the end-of-text token, if any."""
    frame = list(tokenizer("")["input_ids"])
    text, spans = "", []
    for i, turn in enumerate(turns):
        text += f"{turn.role}: "
        start = len(text)
        text += turn.content
        if turn.role == ASSISTANT:
            text += tokenizer.eos_token or ""
        text += "\n"
        if i in counted:  # what follows an answer tells that it is over: its last character is counted with it
            spans.append((start, len(text) - (1 if tokenizer.eos_token else 0)))
    tokens, said = _tokens(text, spans, tokenizer)
    if not frame or frame[0] != tokenizer.bos_token_id:
        return tokens, said
    return np.concatenate([np.array(frame[:1], np.int32), tokens]), np.concatenate([np.zeros(1, np.bool_), said])


def _text(turns: Sequence[Turn], tokenizer: Any, document: Document) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = None
    with suppress(
        Exception
    ):  # a template raises what it likes, and may quote the messages: it is said below, without
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if text is None:
        raise ConfigError(
            document.file, document.place, "the model's chat template does not take such a conversation"
        )
    return text


def _span(text: str, turns: Sequence[Turn], index: int, tokenizer: Any, document: Document) -> list[tuple[int, int]]:
    """Return where the template wrote the turn's content, and what it wrote because of it, if it wrote it at all."""
    before, after = _around(turns, index, tokenizer, document, ())
    if before == after == "":
        return []  # the template leaves it out: there is nothing to learn
    start, end = len(before), len(text) - len(after)
    if start <= end and text.startswith(before) and text.endswith(after):
        return [(start, end)]
    # More than the content is another: a template may open a thought, say. It must be so within this turn alone.
    near = tuple(i for i in (index - 1, index + 1) if 0 <= i < len(turns))
    lead, trail = _around(turns, index, tokenizer, document, near)
    start, end = _common(text, before), len(text) - _common(text[::-1], after[::-1])
    if end < start or len(before) - start > len(lead) or len(text) - end < len(after) - len(trail):
        raise ConfigError(
            document.file, document.place, "an answer that cannot be found in the model's chat template"
        )
    return [(start, end)]


def _around(
    turns: Sequence[Turn], index: int, tokenizer: Any, document: Document, near: tuple[int, ...]
) -> tuple[str, str]:
    """Return what the template writes before and after the turn's content; from and up to the turns `near` it."""
    marks = {i: f"mark{secrets.token_hex(16)}" for i in (index, *near)}  # words that stand nowhere else
    marked = [Turn(turn.role, marks[i]) if i in marks else turn for i, turn in enumerate(turns)]
    pieces = _text(marked, tokenizer, document).split(marks[index])
    if len(pieces) > 2:
        raise ConfigError(document.file, document.place, "an answer that the model's chat template writes twice")
    if len(pieces) == 1:
        return "", ""
    before, after = pieces
    for i in near:
        if marks[i] not in (before if i < index else after):
            raise ConfigError(document.file, document.place, "turns that the model's chat template leaves out")
        if i < index:
            before = before.rpartition(marks[i])[2]
        else:
            after = after.partition(marks[i])[0]
    return before, after


def _common(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _tokens(text: str, spans: Sequence[tuple[int, int]], tokenizer: Any) -> Tokens:
    """Return the tokens of `text`; those in a span are counted, and a special one that ends it."""
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, places = np.array(found["input_ids"], np.int32), list(found["offset_mapping"])
    else:
        ids, places = _by_pieces(text, spans, tokenizer)
    said = np.array([any(s < end and e > start for start, end in spans) for s, e in places], np.bool_)
    special = set(tokenizer.all_special_ids)
    for end in (end for _, end in spans):
        after = next((k for k, (s, e) in enumerate(places) if s >= end and text[s:e].strip()), None)
        if after is not None and int(ids[after]) in special:
            said[after] = True
    return ids, said


def _by_pieces(text: str, spans: Sequence[tuple[int, int]], tokenizer: Any) -> tuple[Any, list[tuple[int, int]]]:
    """Tokenize for a tokenizer that cannot say where its tokens stand: answers, special tokens and the rest apart.

    A token's place is then that of its piece, which is all that counting needs.
    """
    special = "|".join(re.escape(token) for token in tokenizer.all_special_tokens)
    found = (match.span() for match in re.finditer(special, text)) if special else ()
    edges = sorted({0, len(text), *(edge for span in (*spans, *found) for edge in span)})
    ids: list[int] = []
    places: list[tuple[int, int]] = []
    for start, end in pairwise(edges):
        new = tokenizer(text[start:end], add_special_tokens=False, verbose=False)["input_ids"]
        ids += new
        places += [(start, end)] * len(new)
    return np.array(ids, np.int32), places
