"""Train all parameters of a small model: one flat vector of what is added to those of its public start."""

import copy
import hashlib
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Records
from client.model import Base
from client.training.clipping import record_losses

Vector = NDArray[np.float64]


class Whole:
    """Hold a copy of a base model whose parameters move: those of the start, and the vector added to them.

    Tied parameters are one. The order is that of their names.
    """

    def __init__(self, base: Base) -> None:
        self.model: Any = copy.deepcopy(base.model).eval()
        named = sorted((name, p) for name, p in self.model.named_parameters())
        self._parameters = [p.requires_grad_(True) for _, p in named]
        shapes = json.dumps([[name, list(p.shape)] for name, p in named], separators=(",", ":"))
        self.digest = hashlib.sha256(f"parley/v1/whole\n{shapes}".encode()).hexdigest()
        self.start: NDArray[np.float32] = np.concatenate([_flat(p) for p in self._parameters])
        self.start.setflags(write=False)

    @property
    def size(self) -> int:
        """Return the length of the vector."""
        return int(self.start.size)

    def set(self, point: NDArray[np.floating]) -> None:
        """Put the start plus `point` (size,) into the model."""
        values, at = (self.start + point).astype(np.float32), 0
        with torch.no_grad():
            for p in self._parameters:
                p.copy_(torch.from_numpy(values[at : at + p.numel()]).view(p.shape))
                at += p.numel()

    def gradient(self, records: Records, point: Vector, chosen: NDArray[np.intp], at_once: int = 8) -> Vector:
        """Return the mean gradient of the chosen records' losses at `point`, shape (size,); of none it is zero."""
        self.set(point)
        self.model.zero_grad(set_to_none=True)
        for first in range(0, chosen.size, at_once):
            rows = records.take(chosen[first : first + at_once])
            width = int(rows.lengths.max())
            tokens = torch.from_numpy(rows.tokens[:, :width].astype(np.int64))
            losses = record_losses(self.model, tokens, torch.from_numpy(rows.lengths))
            (losses.sum() / chosen.size).backward()
        made = [np.zeros(p.numel(), np.float32) if p.grad is None else _flat(p.grad) for p in self._parameters]
        return np.concatenate(made).astype(np.float64)


def _flat(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().reshape(-1).numpy(), dtype=np.float32)
