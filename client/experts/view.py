"""Run a causal language model forward: as it is, or with an adapter in it that it shares with others."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.experts.expert import Rows, normalised
from client.model import Base, longest
from protocols.faults import PeerError

_TRIED = 8  # tokens on which it is seen whether what is kept of a forward can be cut and gone on from
_ALIKE = 1e-2  # of logits' largest: low-precision weights round, a wrong position or mask is far off


@dataclass(slots=True)
class Count:
    """Count what was run: forward passes, and the tokens in them that were not kept from earlier ones."""

    forwards: int = 0
    tokens: int = 0


class View:
    """Be one model, or one adapter of a model: several views may share the weights.

    `dress` puts into the model what this view means, and is called before each run of forwards; `count` is public.
    """

    def __init__(self, base: Base, dress: Callable[[], None] = lambda: None, threads: int = 1) -> None:
        self.base, self.dress, self.threads = base, dress, threads
        self.count = Count()
        self.window = longest(base)
        self.vocabulary = int(base.model.get_output_embeddings().weight.shape[0])
        self._keeps: bool | None = None
        self._takes = "logits_to_keep" in inspect.signature(base.model.forward).parameters

    @property
    def keeps(self) -> bool:
        """Tell whether this model can go on from keys and values that were kept, and cut; found out once."""
        if self._keeps is None:
            before = self.count
            self.count = Count()  # nobody asked for what is run to find out
            with self.running():
                self._keeps = self._tried()
            self.count = before
        return self._keeps

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let forwards run on this view while the block lasts, on as many threads as the home gives."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            self.dress()
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(threads)

    def rows(self, tokens: NDArray[np.int64], cache: Any, last: int, **where: Any) -> Rows:
        """Return the distributions after each of the `last` of these tokens, which go on from `cache`.

        Shapes:  tokens (n,); the rows (last, vocabulary), logarithms, each normalised.
        """
        self.count.forwards += 1
        self.count.tokens += int(tokens.size)
        model = self.base.model
        ids = torch.from_numpy(tokens[None]).to(model.device)
        kept = {"past_key_values": cache} if cache is not None else {"use_cache": False}
        if self._takes:  # the output layer is a good part of a small model's work
            where["logits_to_keep"] = last
        logits = model(input_ids=ids, **kept, **where).logits[0, -last:]
        return normalised(logits.double().cpu().numpy())

    def require_room(self, tokens: int) -> None:
        """Refuse more tokens than the model reads at once. Raises: PeerError."""
        if tokens > self.window:
            raise PeerError(f"{tokens} tokens of context and drafts, and this model reads {self.window} at once")

    def _tried(self) -> bool:
        """Compare a forward in two pieces, with something cut off in between, to the forward in one."""
        size = min(_TRIED, self.window)
        if size < 4:
            return False
        tokens = np.arange(size, dtype=np.int64) * 7 % self.vocabulary
        whole = self.rows(tokens, None, 2)
        cache = new_cache()
        try:
            self.rows(np.concatenate([tokens[:-2], tokens[:1]]), cache, 1)
            cache.crop(-1)
            parts = self.rows(tokens[-2:], cache, 2)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # a model with a memory of its own
            return False
        return alike(whole, parts)


def new_cache() -> Any:
    """Return where keys and values are kept: all of them, since a sliding window could not be cut."""
    from transformers import DynamicCache  # late, like all of transformers

    return DynamicCache()


def alike(one: Rows, other: Rows) -> bool:
    """Tell whether two sets of distributions are the same but for rounding."""
    return float(np.abs(np.exp(one) - np.exp(other)).max()) < _ALIKE
