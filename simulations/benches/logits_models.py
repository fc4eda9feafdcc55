"""Train the small models of `parley bench logits`: a vocabulary, a public model, and what silos make of it.

Two layers of a Llama, trained in one thread. A trained model is kept in a folder, under a name that says of what and
how it was made, and is loaded from there the next time.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from simulations.benches.llamas import llama

Tokens = NDArray[np.int32]
END = "<end>"


@dataclass(frozen=True, slots=True)
class Shape:
    """Say how large a model is, and in what windows it reads."""

    vocabulary: int = 1024
    hidden: int = 96
    inner: int = 256
    layers: int = 2
    heads: int = 4
    window: int = 128  # tokens
    longest: int = 1024  # tokens: what an answer may reach


@dataclass(frozen=True, slots=True)
class Training:
    """Say how long to train, and how fast: Muon's rate for the matrices, a half of it for all else."""

    steps: int
    rate: float
    batch: int = 8  # windows


def vocabulary_of(texts: Iterable[str], size: int) -> Any:
    """Train a byte-level BPE of `size` tokens, the end of a text among them; as transformers keeps tokenizers."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=[END], show_progress=False)
    # split_special_tokens: "<end>" in somebody's text is five bytes of text, not the end of it
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, eos_token=END, pad_token=END, split_special_tokens=True
    )


def stream(texts: Sequence[str], tokenizer: Any) -> Tokens:
    """Return the tokens of all texts, each followed by the end."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return np.concatenate([np.array([*ids, end], dtype=np.int32) for ids in encoded])


def windows(tokens: Tokens, length: int) -> Tokens:
    """Cut a stream into rows of `length` tokens; a shorter rest is dropped."""
    count = tokens.size // length
    return tokens[: count * length].reshape(count, length)


def fresh(shape: Shape, seed: int) -> Any:
    """Return a model with random weights."""
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    return llama(shape, shape.longest, seed, tie_word_embeddings=True, initializer_range=0.05, **ends)


def fit(model: Any, rows: Tokens, training: Training, seed: int) -> None:
    """Train all parameters on random rows; the rate rises over the first steps and falls over the last 60 %."""
    draw, rules = np.random.default_rng(seed), optimizers(model, training.rate)
    parameters = list(model.parameters())
    for step in range(training.steps):
        share = step / training.steps
        scale = min(1.0, (step + 1) / 30, (1 - share) / 0.6)
        chosen = torch.from_numpy(rows[draw.integers(0, len(rows), training.batch)].astype(np.int64))
        logits = model(input_ids=chosen, use_cache=False).logits
        cross_entropy(logits[:, :-1].flatten(0, 1), chosen[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] = group["initial"] * scale
            rule.step()
            rule.zero_grad(set_to_none=True)


def optimizers(model: Any, rate: float) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return Muon for the matrices, and AdamW at half its rate for all else; each group knows its `initial` rate."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(
        [{"params": matrices, "initial": rate}], lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(
        [{"params": others, "initial": rate / 2}], lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return muon, adam


@dataclass(frozen=True, slots=True)
class Shelf:
    """Keep trained models in a folder; `made_of` is all that a model depends on but its own training."""

    folder: Path
    made_of: str

    def vocabulary(self, texts: Iterable[str], size: int) -> Any:
        """Return the vocabulary of these texts, trained unless the folder has it."""
        from transformers import PreTrainedTokenizerFast

        kept = self.folder / "vocabulary"
        if not self._has(kept, ""):
            vocabulary_of(texts, size).save_pretrained(kept)
            self._sign(kept, "")
        return PreTrainedTokenizerFast.from_pretrained(kept, local_files_only=True)

    def model(self, name: str, made_by: str, make: Callable[[], Any], tokenizer: Any) -> Any:
        """Return the model of this name, made by `make` unless the folder has one that was made of the same."""
        from transformers import AutoModelForCausalLM

        kept = self.folder / name
        if not self._has(kept, made_by):
            model = make()
            model.save_pretrained(kept)
            tokenizer.save_pretrained(kept)
            self._sign(kept, made_by)
        return AutoModelForCausalLM.from_pretrained(kept, local_files_only=True, use_safetensors=True).eval()

    def _has(self, kept: Path, made_by: str) -> bool:
        sign = kept / "made_of.json"
        return sign.is_file() and sign.read_text() == self._label(made_by)

    def _sign(self, kept: Path, made_by: str) -> None:
        """Say what the folder holds: last, so that a half-written one says nothing."""
        (kept / "made_of.json").write_text(self._label(made_by))

    def _label(self, made_by: str) -> str:
        return json.dumps({"made_of": self.made_of, "made_by": made_by})


def scores(model: Any, rows: Tokens, at_once: int = 16) -> NDArray[np.float32]:
    """Return log p of every symbol after each token but the last of its row, in nats: (rows, length - 1, V)."""
    with torch.inference_mode():
        parts = [
            torch.log_softmax(model(input_ids=torch.from_numpy(part.astype(np.int64)), use_cache=False).logits, -1)
            for part in np.array_split(rows, max(1, len(rows) // at_once))
        ]
    return np.asarray(torch.cat(parts)[:, :-1].numpy(), dtype=np.float32)
