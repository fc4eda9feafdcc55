"""Declare in public, and only roughly, how much data there is: the sampling rate of DP-SGD rests on it.

A rate may not depend on the exact private count. So the count is made once, rounded down to two digits, written
where the operator sees it, and from then on it is a public constant.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Declared:
    """Hold what is publicly said about the size of one data set."""

    documents: int
    tokens: int

    def __post_init__(self) -> None:
        if self.documents < 1 or self.tokens < 1:
            raise ValueError("declared_documents, declared_tokens: expected at least 1")

    def records(self, record_tokens: int) -> int:
        """Return about how many records of this width there are: a function of the declared numbers alone.

        Each document ends in a record that is half full on average, and has one at least. Any number gives a valid
        guarantee; one that is close gives batches of the size that was asked for.
        """
        return max(self.documents, self.tokens // record_tokens + self.documents // 2)


def declare(documents: Iterable[str], tokenizer: Any) -> Declared:
    """Count the documents and their tokens and round both down to two digits."""
    from client.data import encode  # late: settings, which know this class, are read by that file

    count, tokens = 0, 0
    for document in documents:
        count += 1
        tokens += int(encode(document, tokenizer).size)
    return Declared(coarse(count), coarse(tokens))


def coarse(count: int) -> int:
    """Return `count` rounded down to two significant digits."""
    step = 10 ** max(0, int(math.log10(count)) - 1) if count else 1
    return count // step * step
