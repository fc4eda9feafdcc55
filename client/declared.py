"""Declare in public, and only roughly, how much data there is: the sampling rate of DP-SGD rests on it.

A rate may not depend on the exact private count. So the count is made once, rounded down to two digits, written
where the operator sees it, and from then on it is a public constant.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from client.documents import Document, as_document
from privacy.units import Unit


@dataclass(frozen=True, slots=True)
class Declared:
    """Hold what is publicly said about the size of one data set; `groups` is 0 where rows belong to nobody."""

    documents: int
    tokens: int
    groups: int = 0

    def __post_init__(self) -> None:
        if self.documents < 1 or self.tokens < 1:
            raise ValueError("declared_documents, declared_tokens: expected at least 1")
        if self.groups < 0:
            raise ValueError("declared_groups: expected at least 0")

    def units(self, unit: Unit, record_tokens: int, *, windows: bool = True) -> int:
        """Return about how many privacy units there are to sample from; 0 for groups where there are none.

        With `windows` documents are cut into records; else each of them is one, as a conversation is.
        """
        if unit is Unit.GROUP:
            return self.groups
        return self.records(record_tokens) if windows else self.documents

    def records(self, record_tokens: int) -> int:
        """Return about how many records of this width there are: a function of the declared numbers alone.

        Each document ends in a record that is half full on average, and has one at least. Any number gives a valid
        guarantee; one that is close gives batches of the size that was asked for.
        """
        return max(self.documents, self.tokens // record_tokens + self.documents // 2)


def declare(documents: Iterable[str | Document], tokenizer: Any) -> Declared:
    """Count the documents, their tokens and their groups and round all down to two digits."""
    from client.data import Encoder  # late: settings, which know this class, are read by that file

    encode = Encoder(tokenizer)
    count, tokens, groups = 0, 0, set()
    for document in map(as_document, documents):
        if not document.text.strip():
            continue
        count += 1
        tokens += int(encode(document.text).size)
        if document.group is not None:
            groups.add(document.group)
    return Declared(coarse(count), coarse(tokens), coarse(len(groups)))


def coarse(count: int) -> int:
    """Return `count` rounded down to two significant digits."""
    step = 10 ** max(0, int(math.log10(count)) - 1) if count else 1
    return count // step * step
