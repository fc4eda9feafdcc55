"""Give every record's own gradient of the LoRA B matrices in one backward pass.

    y = x W' + bias,  W' = W + scale B A;   the gradient of B for record i is  scale * gy_i^T (x_i A^T)

Within a step W' is constant: it is merged once, and an adapted module costs little more than a plain one. Autograd
computes no weight gradient: each module's backward leaves one small matrix per record on a tape, and that is all.
A low-precision or very large base is not merged (it would round the update away, or not fit); there the two
factors are applied one after the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from client.model import Adapted

_MOST_MERGED = 2**26  # entries in all: 256 MiB of merged copies


class Tape:
    """Collect each slot's per-record gradients, shape (records, outputs, rank), while a backward runs."""

    def __init__(self) -> None:
        self._gradients: dict[str, Any] = {}

    def add(self, name: str, gradient: Any) -> None:
        """Add a slot's gradients; a module used twice in a forward adds twice."""
        earlier = self._gradients.get(name)
        self._gradients[name] = gradient if earlier is None else earlier + gradient

    def take(self, names: list[str], records: int) -> Any:
        """Return all gradients joined in the order of `names`, shape (records, size), and forget them."""
        taken, self._gradients = self._gradients, {}
        if set(taken) != set(names) or any(g.shape[0] != records for g in taken.values()):
            raise RuntimeError("an adapted module saw no record, or mixed records")
        return torch.cat([taken[name].flatten(1) for name in names], dim=1)


@dataclass(frozen=True, slots=True)
class _Site:
    """Hold what one adapted module needs within one step; `weight` (outputs, inputs) is W' if `merged`, else W."""

    name: str
    tape: Tape
    weight: Any
    merged: bool
    bias: Any
    a: Any
    b: Any
    scale: float


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Apply one adapted module; backward writes to the tape and returns the gradient of x alone."""

    @staticmethod
    def forward(ctx: Any, x: Any, _witness: Any, site: _Site) -> Any:
        """Return x W' + bias, shape (records, tokens, outputs); keep x A^T, which is small, and nothing else."""
        h = functional.linear(x.to(site.a.dtype), site.a)  # (records, tokens, rank)
        y = functional.linear(x, site.weight, site.bias)  # (records, tokens, outputs)
        if not site.merged:
            y = y + (functional.linear(h, site.b) * site.scale).to(y.dtype)
        ctx.save_for_backward(h)
        ctx.site = site
        return y

    @staticmethod
    def backward(ctx: Any, gy: Any) -> Any:
        """Return the gradient of x, and leave each record's gradient of B on the tape."""
        site, (h,) = ctx.site, ctx.saved_tensors
        precise = gy.to(h.dtype)
        site.tape.add(site.name, torch.bmm(precise.transpose(1, 2), h) * site.scale)  # (records, outputs, rank)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        gx = gy @ site.weight
        if not site.merged:
            gx = gx + ((precise @ site.b) * site.scale @ site.a).to(gx.dtype)
        return gx, None, None


@contextmanager
def per_record(adapted: Adapted, tape: Tape) -> Iterator[None]:
    """Let the adapted modules write to `tape` while the block runs; B must not change within it."""
    first = adapted.a(adapted.layout.slots[0].name)
    witness = torch.zeros(
        (), device=first.device, requires_grad=True
    )  # else the first layer, whose input needs none, is skipped
    try:
        for slot in adapted.layout.slots:
            site = _site(adapted, slot.name, tape)
            adapted.modules[slot.name].forward = _forward(site, witness)
        yield
    finally:
        for module in adapted.modules.values():
            module.__dict__.pop("forward", None)


def _forward(site: _Site, witness: Any) -> Any:
    def forward(x: Any) -> Any:
        if x.dim() != 3:
            raise RuntimeError("an adapted module whose input is not (records, tokens, width)")
        return _Adapted.apply(x, witness, site)

    return forward


def _site(adapted: Adapted, name: str, tape: Tape) -> _Site:
    inner = adapted.modules[name].base_layer
    a, b, scale = adapted.a(name), adapted.b(name), adapted.layout.scale
    weight = inner.weight if isinstance(inner, torch.nn.Linear) else inner.weight.T
    merged = weight.dtype == torch.float32 and _entries(adapted) <= _MOST_MERGED
    if merged:
        with torch.no_grad():
            weight = torch.addmm(weight, b, a, alpha=scale)
    return _Site(name, tape, weight, merged, inner.bias, a, b, scale)


def _entries(adapted: Adapted) -> int:
    return sum(slot.outputs * slot.inputs for slot in adapted.layout.slots)
