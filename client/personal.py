"""Keep an adapter of one's own beside the shared one: trained at home after each round, and never sent.

    y = W x + shared B A x + personal B' A' x

The personal part is trained on top of the frozen shared one as the last round began with it. It is in the model only
while it is itself trained: were it there while the shared one is, gradients would depend on it, hence on all records
at once, and clipping one record's would bound nothing.
Learns:  nobody: it stays in the home. Without noise, no epsilon describes it; who exports it discloses it.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from client.adapter import Layout, load, save
from client.card import Card
from client.data import Records
from client.fitted import Fitted
from client.folder import make_private_folder
from client.model import Base, layout_of
from client.settings import PersonalSettings
from client.training.clipping import record_losses, torch_threads
from client.training.running import AS_IT_IS, Running
from privacy.config import ConfigError

Vector = NDArray[np.float32]
Pairs = Mapping[str, tuple[Any, Any]]  # A (rank, inputs) and B (outputs, rank) of each slot, by name
_SEED = 0  # of A where training begins
_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Personal:
    """Be the personal part of the home that has its adapter in `folder`."""

    settings: PersonalSettings
    folder: Path
    member: str

    def layout(self, base: Base) -> Layout:
        """Return its layout, A included. Raises: ConfigError for targets that the model does not have."""
        own = self.settings
        return layout_of(base, rank=own.rank, alpha=own.alpha, targets=own.targets, adapter_seed=_SEED, half_a=True)

    def vector(self, layout: Layout) -> Vector:
        """Return it as it was left, zeros at first. Raises: ConfigError if it has another shape than the settings."""
        if not (self.folder / _WEIGHTS).is_file():
            return np.zeros(layout.size, np.float32)
        return load(self.folder, layout)[1]

    def train(self, fitted: Fitted, shared: Vector, threads: int, running: Running = AS_IT_IS) -> None:
        """Train some steps on top of `shared` (the fitted adapter's vector), and save what came of it.

        The fitted model is left as it was: nothing of this is in it afterwards.
        """
        adapted, records = fitted.adapted, _rows(fitted.records)
        if not len(records):
            return
        layout = self.layout(adapted.base)
        pairs = _pairs(layout, self.vector(layout), str(adapted.a(adapted.layout.slots[0].name).device))
        before = adapted.get()
        adapted.set(shared)
        try:
            with torch_threads(threads), beside(adapted.base, layout, pairs), running.layers(adapted.base.model):
                self._steps(adapted.base, records, pairs, running)
        finally:
            adapted.set(before)
        self._save(layout, _vector(layout, pairs), adapted.base)

    def _steps(self, base: Base, records: Records, pairs: Pairs, running: Running) -> None:
        """Take the steps of AdamW; a step whose gradient is no number is left out."""
        own, device = self.settings, next(iter(pairs.values()))[0].device
        trained = [matrix.requires_grad_(True) for pair in pairs.values() for matrix in pair]
        rule = torch.optim.AdamW(trained, lr=own.learning_rate, weight_decay=0.0)
        scale = running.loss_scale(base.model)
        dealt = np.random.default_rng().permuted(np.arange(len(records)))  # it never leaves: any randomness will do
        for step in range(own.steps):
            rows = np.take(dealt, np.arange(step * own.batch_size, (step + 1) * own.batch_size), mode="wrap")
            part = records.take(rows)
            length = int(part.lengths.max())
            tokens = torch.from_numpy(part.tokens[:, :length].astype(np.int64)).to(device)
            counted = None if part.counted is None else torch.from_numpy(part.counted[:, :length]).to(device)
            with running.forward(device):
                losses = record_losses(base.model, tokens, torch.from_numpy(part.lengths).to(device), counted)
            (losses.mean() * scale).backward()
            for matrix in trained:
                matrix.grad /= scale
            if all(bool(torch.isfinite(matrix.grad).all()) for matrix in trained):
                rule.step()
            rule.zero_grad()

    def _save(self, layout: Layout, vector: Vector, base: Base) -> None:
        """Write it as PEFT does: the weights last, and in one step, so that they are always there and whole."""
        aside = self.folder.parent / f".{self.folder.name}.new"
        shutil.rmtree(aside, ignore_errors=True)
        make_private_folder(aside)
        facts = (("trained", "at home, on top of the shared adapter, without noise"),)
        card = Card(f"The personal adapter of {self.member}", base.source, base.digest, facts, ((self.member, None),))
        save(aside, layout, vector, card)
        if not self.folder.is_dir():
            make_private_folder(self.folder)
        for file in sorted(aside.iterdir(), key=lambda file: file.name == _WEIGHTS):
            file.chmod(0o600)
            os.replace(file, self.folder / file.name)
        aside.rmdir()


@contextmanager
def beside(base: Base, layout: Layout, pairs: Pairs) -> Iterator[None]:
    """Add the personal part to what the model's modules say, for as long as the block runs."""
    handles = []
    try:
        for slot in layout.slots:
            module = base.model.get_submodule(slot.name)
            handles.append(module.register_forward_hook(_adding(*pairs[slot.name], layout.scale)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def personal_lines(folder: Path) -> list[str]:
    """Return what there is to say about a home's personal adapter. Raises: ConfigError if there is none."""
    if not (folder / _WEIGHTS).is_file():
        why = "no personal adapter here yet: with [personal] in home.toml, one is trained after the first answer"
        raise ConfigError(folder, "", why)
    layout, vector = load(folder)
    shape = f"rank {layout.rank}, alpha {layout.alpha:g}, on {', '.join(layout.targets)}: {layout.size} numbers"
    return [
        f"{folder}: {shape}, of L2 norm {float(np.linalg.norm(vector)):.4g}",
        "trained here without noise, and never sent: whoever gets it may learn what is in the records",
    ]


def export(folder: Path, out: Path) -> None:
    """Copy the personal adapter to a new folder. Raises: ConfigError if there is none, or `out` exists."""
    load(folder)
    if out.exists():
        raise ConfigError(out, "--out", "exists already")
    shutil.copytree(folder, out)


def _rows(records: Records) -> Records:
    """Return the rows to learn from: of a pair the chosen answer."""
    return records.take(np.arange(0, len(records), records.rows_per_example))


def _adding(a: Any, b: Any, scale: float) -> Any:
    def hook(_module: Any, given: tuple[Any, ...], said: Any) -> Any:
        own = functional.linear(functional.linear(given[0].to(a.dtype), a), b) * scale
        return said + own.to(said.dtype)

    return hook


def _pairs(layout: Layout, vector: Vector, device: str) -> dict[str, tuple[Any, Any]]:
    bs, deltas = layout.split(vector), layout.split_a(vector)
    return {
        slot.name: (
            torch.from_numpy(layout.frozen(slot) + deltas[slot.name]).to(device),
            torch.from_numpy(np.ascontiguousarray(bs[slot.name])).to(device),
        )
        for slot in layout.slots
    }


def _vector(layout: Layout, pairs: Pairs) -> Vector:
    a = {slot.name: pairs[slot.name][0].detach().cpu().numpy() - layout.frozen(slot) for slot in layout.slots}
    return layout.join({name: pair[1].detach().cpu().numpy() for name, pair in pairs.items()}, a)
