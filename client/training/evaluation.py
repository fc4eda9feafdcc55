"""Measure a model on held-out text."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from client.data import encode
from client.training.clipping import record_losses


def held_out_loss(model: Any, tokenizer: Any, texts: Iterable[str], *, window: int = 256, batch: int = 16) -> float:
    """Return the mean loss in nats per token over all tokens but the first of each text; perplexity is its exp.

    Each token is predicted once, from what stands before it in its window; windows share one token, so that the
    first of a window is predicted too. One value for all texts: long texts count for more.
    """
    spans = [span for text in texts for span in _spans(encode(text, tokenizer), window)]
    if not spans:
        raise ValueError("no held-out text of two tokens or more")
    spans.sort(key=len)  # so that little is padded
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(spans), batch):
            nats, tokens = _nats(model, spans[start : start + batch])
            total, count = total + nats, count + tokens
    return total / count


def _spans(tokens: np.ndarray[Any, np.dtype[np.int32]], window: int) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    return [tokens[start : start + window + 1] for start in range(0, tokens.size - 1, window)]


def _nats(model: Any, spans: list[np.ndarray[Any, np.dtype[np.int32]]]) -> tuple[float, int]:
    """Return the summed loss of a batch of spans, and over how many tokens."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(span) for span in spans])
    padded = torch.zeros((len(spans), int(lengths.max())), dtype=torch.int64)
    for row, span in zip(padded, spans, strict=True):
        row[: len(span)] = torch.from_numpy(span.astype(np.int64))
    losses = record_losses(model, padded.to(device), lengths.to(device)).double().cpu()
    return float((losses * (lengths - 1)).sum()), int((lengths - 1).sum())
