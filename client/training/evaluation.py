"""Measure a model on held-out text."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Encoder, Records
from client.training.clipping import record_losses


def held_out_loss(model: Any, tokenizer: Any, texts: Iterable[str], *, window: int = 256, batch: int = 16) -> float:
    """Return the mean loss in nats per token over all tokens but the first of each text; perplexity is its exp.

    Each token is predicted once, from what stands before it in its window; windows share one token, so that the
    first of a window is predicted too. One value for all texts: long texts count for more.
    """
    encode = Encoder(tokenizer)
    spans = [span for text in texts for span in _spans(encode(text), window)]
    if not spans:
        raise ValueError("no held-out text of two tokens or more")
    spans.sort(key=len)  # so that little is padded
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(spans), batch):
            nats, tokens = _nats(model, spans[start : start + batch])
            total, count = total + nats, count + tokens
    return total / count


def counted_loss(nats: NDArray[np.float64], records: Records) -> float:
    """Return the mean loss in nats over the counted tokens of all rows, whose summed losses (rows,) are `nats`."""
    if records.counted is None:
        raise ValueError("records: expected counted tokens")
    return float(nats.sum() / records.counted[:, 1:].sum())


def row_nats(model: Any, records: Records, device: Any, *, batch: int = 16) -> NDArray[np.float64]:
    """Return each row's loss summed over its counted tokens, shape (rows,), without gradients."""
    found = np.zeros(len(records))
    order = np.argsort(records.lengths, kind="stable")  # so that little is padded
    precise = model.dtype in (torch.float32, torch.float64)
    with torch.no_grad():
        for start in range(0, len(records), batch):
            rows = order[start : start + batch]
            part = records.take(rows)
            # In lower precision always of one shape, which rounding follows: see `Clipper`.
            part = part.narrowed(int(part.lengths.max())) if precise else part.filled_up(batch)
            tokens = torch.from_numpy(part.tokens.astype(np.int64)).to(device)
            counted = None if part.counted is None else torch.from_numpy(part.counted).to(device)
            ones = torch.ones(len(part), device=device)
            lengths = torch.from_numpy(part.lengths).to(device)
            losses = record_losses(model, tokens, lengths, counted, ones)
            found[rows] = losses[: rows.size].double().cpu().numpy()
    return found


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
