"""Bytes as tokens, and how many bits per byte a model needs for a text."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

SHIFT = 3  # ByT5Tokenizer: ids 0, 1, 2 are padding, end of text and unknown; byte b is id b + 3
END = 1
VOCABULARY = 259


def encode(text: bytes) -> npt.NDArray[np.int16]:
    """Return a token for each byte, as the model's tokenizer does for plain text."""
    return np.frombuffer(text, dtype=np.uint8).astype(np.int16) + SHIFT


def decode(tokens: Iterable[int]) -> bytes:
    """Return the bytes that tokens stand for; tokens that stand for none are left out."""
    return bytes(token - SHIFT for token in tokens if SHIFT <= token < VOCABULARY)


def stream(texts: Iterable[str]) -> npt.NDArray[np.int16]:
    """Join texts into one stream of tokens, each followed by the end-of-text token."""
    end = np.array([END], dtype=np.int16)
    return np.concatenate([part for text in texts for part in (encode(text.encode()), end)])


def windows(tokens: npt.NDArray[np.int16], length: int) -> Tensor:
    """Cut a stream into windows of shape (count, length) int64; a shorter rest is dropped."""
    count = len(tokens) // length
    return torch.from_numpy(tokens[: count * length].reshape(count, length).astype(np.int64))


def next_byte_loss(model: torch.nn.Module, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of each token after the first of its window.

    Shapes:  batch (windows, length) int64.
    """
    logits = model(input_ids=batch).logits  # (windows, length, vocabulary)
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())


def bits_per_byte(model: torch.nn.Module, rows: Tensor, batch: int = 16) -> float:
    """Return the mean number of bits that the model needs for a byte, given the bytes before it in its window."""
    with torch.inference_mode():
        losses = [next_byte_loss(model, part).item() * len(part) for part in rows.split(batch)]
    return float(sum(losses) / len(rows) / math.log(2))
