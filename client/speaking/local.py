"""Let a model on this machine write: the home's base model, with an adapter of its own or without."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError

from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.speaking.prompts import UNSURE, Prompt
from client.speaking.speaker import Bounds, Shares, Silent
from protocols.faults import PeerError


class LocalSpeaker:
    """Be a causal language model: with its chat template if it has one, else it goes on from a plain text.

    It writes what it finds likeliest, word for word, so the same prompt gets the same text but for rounding.
    """

    def __init__(self, view: View, bounds: Bounds) -> None:
        self._view, self._bounds = view, bounds
        self._tokenizer = view.base.tokenizer
        self._chats = bool(getattr(self._tokenizer, "chat_template", None))
        self._expert = TokenExpert(view)
        self._special = _special(self._tokenizer)

    def say(self, prompt: Prompt) -> str:
        """Return what the model writes, up to its end or, of a plain text, the line's. Raises: PeerError, Silent."""
        tokens = self._tokens(prompt, self._bounds.tokens)
        stop = _Stop(self._tokenizer, len(tokens), self._bounds.seconds, lines=not self._chats)
        with self._view.running():
            ids = torch.tensor([tokens], device=self._view.base.model.device)
            out = self._view.base.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._bounds.tokens,
                do_sample=False,
                num_beams=1,
                stopping_criteria=[stop],
                pad_token_id=self._tokenizer.eos_token_id or 0,
            )
        if stop.late:
            raise Silent("the model did not finish in time")
        text = str(self._tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True))
        return text.strip() if self._chats else text.lstrip().partition("\n")[0].strip()

    def weigh(self, prompt: Prompt, options: Sequence[str]) -> Shares:
        """Return how probable the model writes each option, of them and of not knowing. Raises: PeerError."""
        ends = [self._ending(option) for option in (*options, UNSURE)]
        context = self._tokens(prompt, max(map(len, ends)))
        nats = np.array([self._written(context, end) for end in ends])
        shares = np.exp(nats - nats.max())
        return np.asarray(shares[:-1] / shares.sum(), np.float64)

    def _written(self, context: list[int], option: list[int]) -> float:
        """Return the logarithm of the probability that these tokens are written next, and nothing after them."""
        thought = self._expert.block(context, option)
        ends = self._ends() if self._chats else []  # of a plain text the line's end is among the tokens
        over = float(np.logaddexp.reduce(thought.next[-1][ends])) if ends else 0.0
        return float(thought.drafted.sum()) + over

    def _ends(self) -> list[int]:
        """Return the tokens at which this model stops."""
        made = self._view.base.model.generation_config.eos_token_id
        made = self._tokenizer.eos_token_id if made is None else made
        return [made] if isinstance(made, int) else list(made or ())

    def _ending(self, option: str) -> list[int]:
        """Return an option's tokens as they would follow a prompt. Raises: PeerError for none."""
        option = self._words(option)
        text = option if self._chats else f" {option}\n"
        tokens = [int(t) for t in self._tokenizer(text, add_special_tokens=False)["input_ids"]]
        if not tokens:
            raise PeerError("an option that this model has no token for")
        return tokens

    def _tokens(self, prompt: Prompt, room: int) -> list[int]:
        """Return the prompt's tokens, with as many notes and texts of others as there is room for. Raises: PeerError.

        The last of the home's own notes go first: they are the least near.
        """
        prompt = replace(
            prompt,
            question=self._words(prompt.question),
            draft=self._words(prompt.draft),
            heard=tuple(map(self._words, prompt.heard)),
            notes=tuple(map(self._words, prompt.notes)),
        )
        while True:
            tokens = self._rendered(prompt)
            if len(tokens) + room <= self._view.window:
                return tokens
            if prompt.notes:
                prompt = replace(prompt, notes=prompt.notes[:-1])
            elif prompt.heard:
                prompt = replace(prompt, heard=prompt.heard[1:])
            else:
                raise PeerError(f"a question longer than this model reads: {self._view.window} tokens at once")

    def _rendered(self, prompt: Prompt) -> list[int]:
        if not self._chats:
            return [int(t) for t in self._tokenizer(prompt.plain, add_special_tokens=False)["input_ids"]]
        try:
            return self._turned(prompt.messages)
        except TemplateError:  # of a model that knows no system
            return self._turned([{"role": "user", "content": f"{prompt.instruction}\n\n{prompt.body}"}])

    def _turned(self, messages: Sequence[dict[str, str]]) -> list[int]:
        made = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return [int(t) for t in made]

    def _words(self, text: str) -> str:
        """Return a text without what this model reads as more than words: nobody's text ends its own turn."""
        while self._special is not None and (plainer := self._special.sub(" ", text)) != text:
            text = plainer
        return text


def _special(tokenizer: Any) -> re.Pattern[str] | None:
    """Return what finds a tokenizer's special tokens in a text, and those that its chat template writes."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {str(t) for t in added if t.special or str(t) in template} | set(tokenizer.all_special_tokens)
    longest_first = sorted((n for n in names if n.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


class _Stop:
    """End a text where its time is up, or its line ends."""

    def __init__(self, tokenizer: Any, begun: int, seconds: float, *, lines: bool) -> None:
        self._tokenizer, self._begun, self._lines = tokenizer, begun, lines
        self._deadline = time.monotonic() + seconds
        self.late = False

    def __call__(self, ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        """Tell for each row whether it has ended."""
        self.late = time.monotonic() > self._deadline
        text = str(self._tokenizer.decode(ids[0, self._begun :])) if self._lines else ""
        return torch.tensor([self.late or "\n" in text.lstrip()], device=ids.device)
