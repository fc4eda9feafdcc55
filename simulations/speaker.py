"""Be the coordinator's own side of an answer: the public model, what drafts, randomness, and who is shown the text.

A symbol is a token of the public model's vocabulary, or a byte. What drafts may be another model than the public one:
a student of the members' own mean (`simulations/student.py`) guesses better, and its guesses are judged all the same.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from client.experts.byte_expert import END, ByteExpert
from client.experts.expert import Expert, Thought
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base, longest
from protocols.logits.question import Alphabet
from protocols.logits.sampling import pick

_random = secrets.SystemRandom()


class Spelling(Protocol):
    """Say how text is spelled in symbols."""

    @property
    def ends(self) -> frozenset[int]:
        """Return the symbols that end an answer."""

    def symbols(self, text: str) -> list[int]:
        """Return the symbols of a text."""

    def text(self, symbols: Sequence[int]) -> str:
        """Return the text of symbols; a character that is not whole yet is U+FFFD."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Spell in tokens."""

    tokenizer: Any

    @property
    def ends(self) -> frozenset[int]:
        """Return the token that ends a text, if there is one."""
        end = self.tokenizer.eos_token_id
        return frozenset(() if end is None else (int(end),))

    def symbols(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return [int(s) for s in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def text(self, symbols: Sequence[int]) -> str:
        """Return the text of tokens. Those beyond the tokenizer have none: a model's vocabulary is often padded."""
        known = len(self.tokenizer)
        return str(self.tokenizer.decode([s for s in symbols if s < known], skip_special_tokens=True))


@dataclass(frozen=True, slots=True)
class Bytes:
    """Spell in the bytes of UTF-8, which all tokenizers share."""

    @property
    def ends(self) -> frozenset[int]:
        """Return the end of a text, 256."""
        return frozenset((END,))

    def symbols(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        return list(text.encode("utf-8"))

    def text(self, symbols: Sequence[int]) -> str:
        """Return the text of bytes."""
        return bytes(s for s in symbols if s != END).decode("utf-8", errors="replace")


def expert_over(alphabet: Alphabet, view: View) -> Expert:
    """Return a model as an expert over these symbols. Raises: ConfigError for tokens whose bytes are not known."""
    return ByteExpert(view) if alphabet is Alphabet.BYTES else TokenExpert(view)


@dataclass
class PublicModel:
    """Be the coordinator's side: the public model `expert`, `drafter` (the same, if none), and who is shown the text.

    Both are over the symbols of the alphabet.
    """

    base: Base
    say: Callable[[str], None]
    expert: Expert
    alphabet: Alphabet = Alphabet.TOKENS
    drafter: Expert | None = None
    spelling: Spelling = field(init=False)
    ends: frozenset[int] = field(init=False)
    _said: list[int] = field(default_factory=list, init=False)
    _shown: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.spelling = Bytes() if self.alphabet is Alphabet.BYTES else Tokens(self.base.tokenizer)
        self.ends = self.spelling.ends

    @property
    def window(self) -> int:
        """Return how many symbols the model surely reads at once."""
        return longest(self.base)

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what the public model says. Raises: PeerError."""
        return self.expert.block(context, drafts)

    def draft(self, context: Sequence[int], count: int, *, greedy: bool) -> tuple[list[int], NDArray[np.float64]]:
        """Return `count` guesses of what follows, and what each was drawn from. Raises: PeerError."""
        drafter = self.drafter or self.expert
        drafts, rows = list[int](), np.zeros((count, self.expert.symbols))
        for place in range(count):
            likely = np.exp(drafter.block([*context, *drafts], ()).next[-1])
            rows[place] = likely
            drafts.append(int(likely.argmax()) if greedy else pick(likely, self.uniform()))
        return drafts, rows

    def uniform(self) -> float:
        """Return a number from 0 to below 1 from the system's randomness."""
        return _random.random()

    def emit(self, symbols: Sequence[int]) -> None:
        """Show what is whole text by now: a character may take several symbols."""
        self._said += [s for s in symbols if s not in self.ends]
        text = self.text
        if not text.endswith("\ufffd"):
            self.say(text[len(self._shown) :])
            self._shown = text

    @property
    def text(self) -> str:
        """Return the answer so far."""
        return self.spelling.text(self._said)
