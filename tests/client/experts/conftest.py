"""Tiny models with tokenizers of every kind, built here and saved to disk as transformers saves them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    ByT5Tokenizer,
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

from client.model import Base, load_base

WINDOW = 96
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = [
    "the cat sat on the mat, and the other cat sat on the other mat",
    "def answer(self, ask):\n    return self.home.answer(ask)  # the home's own\n",
    "naïve cafés: 12 × 3 = 36 – 漢字 and 🙂\n",
    "where there is a mat there is a cat; that is that, said the cat in the hat\n",
] * 3


def _fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


def gpt2_tokenizer(texts: Iterable[str] = TEXTS, size: int = 320) -> PreTrainedTokenizerFast:
    """GPT-2's kind: a character for each byte, no token before a text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    end = "<|endoftext|>"
    return _fast(made, bos_token=end, eos_token=end, unk_token=end)


def qwen2_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen's kind, cut like tiktoken's: normalised to NFC, added tokens of its own, no token before a text."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    cut = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return _fast(made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Llama 2's kind: pieces with "▁", bytes to fall back on, "<s>" and a space before a text."""
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    pieces.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    found = sorted(pieces.get_vocab().items(), key=lambda item: item[1])
    names = ["<unk>", "<s>", "</s>", *BYTES, *(name for name, _ in found)]
    merges = [tuple(pair) for pair in _merges(pieces)]
    vocabulary = {name: number for number, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return _fast(made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece's unigram kind, without bytes to fall back on: what it has no piece for it cannot say."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    made.train_from_iterator(
        [text.encode("ascii", "ignore").decode() for text in TEXTS],
        trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
    return _fast(made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    import json

    return json.loads(tokenizer.to_str())["model"]["merges"]


def _llama(size: int) -> Any:
    return LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=WINDOW, **WIDTHS))


def _gpt2(size: int) -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_positions=WINDOW, n_embd=32, n_layer=2, n_head=4))


def _qwen2(size: int) -> Any:  # its output is padded beyond its vocabulary, as Qwen's is
    return Qwen2ForCausalLM(
        Qwen2Config(vocab_size=size + 6, max_position_embeddings=WINDOW, num_key_value_heads=2, **WIDTHS)
    )


def _mistral(size: int) -> Any:
    return MistralForCausalLM(
        MistralConfig(vocab_size=size, max_position_embeddings=WINDOW, num_key_value_heads=2, **WIDTHS)
    )


KINDS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "gpt2": (gpt2_tokenizer, _gpt2),
    "qwen2": (qwen2_tokenizer, _qwen2),
    "llama": (llama_tokenizer, _llama),
    "unigram": (unigram_tokenizer, _mistral),
    "bytes": (lambda: ByT5Tokenizer(extra_ids=0, model_max_length=WINDOW), _llama),
}


def livelier(model: Any) -> Any:
    """Make a fresh model's predictions differ from place to place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.dim() == 2 else None
    return model


@pytest.fixture(scope="session")
def load_kind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """Return a function that saves a model of this kind and loads it, once."""
    loaded: dict[str, Base] = {}

    def load(kind: str) -> Base:
        if kind not in loaded:
            folder = tmp_path_factory.mktemp(kind)
            tokenizer, model = KINDS[kind]
            made = tokenizer()
            torch.manual_seed(len(kind))
            fresh = livelier(model(len(made)))
            fresh.generation_config.eos_token_id = made.eos_token_id
            fresh.save_pretrained(folder)
            made.save_pretrained(folder)
            loaded[kind] = load_base(str(folder))
        return loaded[kind]

    return load


__all__ = ["KINDS", "TEXTS", "WINDOW", "Path", "gpt2_tokenizer", "livelier"]
