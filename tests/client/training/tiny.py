"""Tiny real models with a byte-level tokenizer, saved to disk and loaded by path as any other."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from client.data import Records
from client.model import Adapted, layout_of, load_base

TARGETS = {
    "llama": ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "qwen2": ("q_proj", "k_proj", "v_proj", "down_proj"),
    "gpt2": ("c_attn", "c_fc", "attn.c_proj"),
    "half": ("q_proj", "down_proj"),
    "gemma": ("q_proj", "o_proj", "gate_proj"),
    "mistral": ("k_proj", "v_proj", "up_proj"),
}
FAMILIES = ("llama", "qwen2", "gpt2")
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 64}


def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def model(family):
    torch.manual_seed(7)
    match family:
        case "llama" | "half":
            config = LlamaConfig(vocab_size=256, num_attention_heads=4, tie_word_embeddings=True, **WIDTHS)
            made = LlamaForCausalLM(config)
            return made.to(torch.bfloat16) if family == "half" else made
        case "qwen2":  # grouped queries, biases in the attention
            config = Qwen2Config(vocab_size=256, num_attention_heads=4, num_key_value_heads=2, **WIDTHS)
            return Qwen2ForCausalLM(config)
        case "gpt2":  # Conv1D: the weight is transposed; dropout, which must be off
            return GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=32, n_layer=2, n_head=4, n_positions=64))
        case "gemma":  # heads wider than the model has room for; the embeddings are scaled, and tied
            heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16}
            return GemmaForCausalLM(GemmaConfig(vocab_size=256, **heads, **WIDTHS))
        case "mistral":  # a sliding window
            heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
            return MistralForCausalLM(MistralConfig(vocab_size=256, **heads, **WIDTHS))
    raise ValueError(family)


def save(family, folder: Path) -> Path:
    model(family).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def adapted(folder, family, *, rank=4, b_scale=0.05, half_a=False) -> Adapted:
    """Load a saved model and adapt it; B is not zero, so that the LoRA path carries something."""
    base = load_base(str(folder))
    layout = layout_of(base, rank=rank, alpha=8.0, targets=TARGETS[family], adapter_seed=11, half_a=half_a)
    made = Adapted(base, layout)
    made.set(np.random.default_rng(1).normal(size=made.layout.size) * b_scale)
    return made


def records(lengths, *, width=None, seed=0) -> Records:
    """Return random records of these lengths."""
    lengths = np.asarray(lengths, dtype=np.int32)
    width = width or int(lengths.max(initial=2))
    tokens = np.random.default_rng(seed).integers(0, 256, (lengths.size, width)).astype(np.int32)
    tokens[np.arange(width)[None] >= lengths[:, None]] = 0
    return Records(tokens, lengths)
