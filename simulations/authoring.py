"""Let a public model write: first texts in the manner of public examples, then variations of the best of them.

A text is varied as Aug-PE's fill-in does with a model that only goes on: its first half, or any part up to a space,
stands, and the model goes on from there anew. Nothing here has seen a record: votes were noised.
Cites:  Xie et al. 2024, Aug-PE (variation by blanks that are filled in anew).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from client.experts.view import View
from client.model import Base

_random = secrets.SystemRandom()


@dataclass
class ModelAuthor:
    """Write texts of at most `tokens` tokens with a public model, as `examples` begin, at a `temperature`."""

    base: Base
    examples: Sequence[str]
    tokens: int = 64
    temperature: float = 1.0
    threads: int = 1
    _view: View = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not any(example.strip() for example in self.examples):
            raise ValueError("examples: expected at least one text")
        if self.tokens < 2 or not 0 < self.temperature <= 10:
            raise ValueError("tokens: expected at least 2; temperature: above 0, and 10 at most")
        self._view = View(self.base, threads=self.threads)

    def begin(self, count: int) -> Sequence[str]:
        """Return so many texts, each going on from the beginning of an example."""
        examples = [e for e in self.examples if e.strip()]
        return self._written([_beginning(examples[i % len(examples)]) for i in range(count)])

    def vary(self, texts: Sequence[str]) -> Sequence[str]:
        """Return one variation of each text."""
        return self._written([_beginning(text) for text in texts])

    def _written(self, beginnings: Sequence[str]) -> list[str]:
        return [self._one(text) for text in beginnings]

    def _one(self, beginning: str) -> str:
        tokenizer, model = self.base.tokenizer, self.base.model
        begun = tokenizer(beginning, add_special_tokens=False)["input_ids"][: self.tokens - 1]
        begun = begun or [tokenizer.eos_token_id or 0]
        with self._view.running(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(secrets.randbits(63))
            ids = torch.tensor([begun[-(self._view.window - 1) :]], device=model.device)
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max(1, min(self.tokens, self._view.window) - ids.shape[1]),
                do_sample=True,
                temperature=self.temperature,
                top_k=0,
                pad_token_id=tokenizer.eos_token_id or 0,
            )
        return str(tokenizer.decode(out[0], skip_special_tokens=True)).strip() or beginning


def _beginning(text: str) -> str:
    """Return a text up to some space in its first two thirds, or the first half of one without any."""
    spaces = [i for i, c in enumerate(text[: max(2, 2 * len(text) // 3)]) if c.isspace() and i]
    return text[: _random.choice(spaces)] if spaces else text[: max(1, len(text) // 2)]
