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
from client.training.running import AS_IT_IS, Running

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

    def gradient(
        self,
        records: Records,
        point: Vector,
        chosen: NDArray[np.intp],
        at_once: int = 8,
        running: Running = AS_IT_IS,
    ) -> Vector:
        """Return the mean gradient of the chosen units at `point`, shape (size,); of none it is zero.

        A unit's is the mean over its rows, and a row's loss that over its counted tokens.
        """
        self.set(point)
        self.model.zero_grad(set_to_none=True)
        rows = records.rows_of(chosen)
        of = rows if records.owner is None else records.owner[rows]
        weights = 1.0 / (np.bincount(of)[of] * max(1, chosen.size))
        scale = running.loss_scale(self.model)
        with running.layers(self.model):
            for first in range(0, rows.size, at_once):
                losses = self._losses(records.take(rows[first : first + at_once]), running)
                shares = torch.from_numpy(scale * weights[first : first + at_once]).float()
                (losses * shares).sum().backward()
        made = [np.zeros(p.numel(), np.float32) if p.grad is None else _flat(p.grad) for p in self._parameters]
        return np.concatenate(made).astype(np.float64) / scale

    def _losses(self, part: Records, running: Running) -> Any:
        width = int(part.lengths.max())
        tokens = torch.from_numpy(part.tokens[:, :width].astype(np.int64))
        counted = None if part.counted is None else torch.from_numpy(part.counted[:, :width])
        with running.forward(tokens.device):
            return record_losses(self.model, tokens, torch.from_numpy(part.lengths), counted)


def _flat(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().reshape(-1).numpy(), dtype=np.float32)
