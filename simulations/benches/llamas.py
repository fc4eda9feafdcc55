"""Make the Llamas of the benches: any size, with random weights that a seed decides."""

from typing import Any, Protocol

import torch


class Sizes(Protocol):
    """Be how large a model is."""

    @property
    def vocabulary(self) -> int:
        """Return how many tokens there are."""

    @property
    def hidden(self) -> int:
        """Return the width between layers."""

    @property
    def inner(self) -> int:
        """Return the width within a layer."""

    @property
    def layers(self) -> int:
        """Return how many layers there are."""

    @property
    def heads(self) -> int:
        """Return how many heads of attention a layer has."""


def llama(sizes: Sizes, longest: int, seed: int, **config: object) -> Any:
    """Return a model that reads up to `longest` tokens, in evaluation mode; `config` is LlamaConfig's own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        max_position_embeddings=longest,
        **config,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(made).eval()
