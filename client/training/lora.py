"""Give every record's own gradient of the LoRA matrices in one backward pass.

    y = x W' + bias,  W' = W + scale B A
    the gradient of B for record i is  scale * gy_i^T (x_i A^T),  that of A is  scale * (gy_i B)^T x_i

Within a step W' is constant: it is merged once, and an adapted module costs little more than a plain one. Autograd
computes no weight gradient: each module's backward leaves one small matrix per record on a tape, and that is all.
A low-precision or very large base is not merged (it would round the update away, or not fit), nor one under autocast;
there the two factors are applied one after the other. What a round does not train, it does not compute.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from client.model import Adapted
from client.training.parts import Part, Side
from protocols.faults import LocalError

_MOST_MERGED = 2**26  # entries in all: 256 MiB of merged copies


class Tape:
    """Collect per-record gradients of the given parts while a backward runs, each (records, rows, columns)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._wanted = {(part.name, part.side) for part in parts}
        self._gradients: dict[tuple[str, Side], Any] = {}
        self._shape = (0, 0)

    def wants(self, name: str, side: Side) -> bool:
        """Tell whether a matrix is trained, so that its gradient is to be computed."""
        return (name, side) in self._wanted

    def begin(self, records: int, tokens: int) -> None:
        """Forget whatever an earlier batch left, and expect one of this shape."""
        self._gradients, self._shape = {}, (records, tokens)

    def add(self, name: str, side: Side, gradient: Any) -> None:
        """Add a matrix's gradients; a module used twice in a forward adds twice."""
        earlier = self._gradients.get((name, side))
        self._gradients[name, side] = gradient if earlier is None else earlier + gradient

    def take(self) -> list[Any]:
        """Return the parts' gradients in their order, each of shape (records, entries), and forget them.

        Raises: LocalError for a module that no record went through: its gradient would be missing from the norm.
        """
        taken, self._gradients = self._gradients, {}
        if set(taken) != self._wanted or any(g.shape[0] != self._shape[0] for g in taken.values()):
            raise LocalError("an adapted module saw no record, or mixed records: clipping would not bound a record")
        return [_kept(taken[part.name, part.side].flatten(1), part) for part in self.parts]

    def by_record(self, x: Any) -> Any:
        """Return a module's input or output as (records, tokens, width). Raises: LocalError if it mixes records."""
        records, tokens = self._shape
        if x.dim() >= 3 and x.shape[0] == records:
            return x.flatten(1, -2)
        if x.dim() == 2 and x.shape[0] == records * tokens:  # flattened by the model, record after record
            return x.unflatten(0, (records, tokens))
        raise LocalError("an adapted module whose input does not lie record by record")


@dataclass(frozen=True, slots=True)
class _Site:
    """Hold what one adapted module needs within one step; `weight` (outputs, inputs) is W' if `merged`, else W.

    It is None where the base's own layer has to be asked (its weights are quantised): B A is added to what it says.
    """

    name: str
    tape: Tape
    weight: Any
    merged: bool
    bias: Any
    a: Any
    b: Any
    scale: float


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Apply one adapted module; backward writes to the tape and returns the gradient of x alone.

    Only backward writes, and autograd keeps what it needs: a forward that checkpointing runs again adds nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, _witness: Any, site: _Site) -> Any:
        """Return x W' + bias, shape (..., outputs); keep x A^T, which is small, and x only if A is trained."""
        for_a, for_b = site.tape.wants(site.name, Side.A), site.tape.wants(site.name, Side.B)
        y = None if site.weight is None else functional.linear(x, site.weight, site.bias)  # (..., outputs)
        h = None
        with torch.autocast(x.device.type, enabled=False):  # the two factors are small, and all that is learnt
            if for_b or not site.merged:
                h = functional.linear(x.to(site.a.dtype), site.a) * site.scale  # (..., rank)
            if not site.merged:
                y = _added(y, h, site.b.T, x.dtype if y is None else y.dtype)
        ctx.save_for_backward(x if for_a else None, h if for_b else None)
        ctx.site, ctx.dtype = site, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, gy: Any) -> Any:
        """Return the gradient of x, and leave each record's gradients of A and B on the tape."""
        site, (x, h) = ctx.site, ctx.saved_tensors
        tape, precise = site.tape, gy.to(site.a.dtype)
        inner: Any = None
        if h is not None:
            left, right = tape.by_record(precise), tape.by_record(h)
            tape.add(site.name, Side.B, torch.bmm(left.transpose(1, 2), right))  # (records, outputs, rank)
        if x is not None or (ctx.needs_input_grad[0] and not site.merged):
            inner = (precise @ site.b) * site.scale  # (..., rank)
        if x is not None:
            left, right = tape.by_record(inner), tape.by_record(x.to(site.a.dtype))
            tape.add(site.name, Side.A, torch.bmm(left.transpose(1, 2), right))  # (records, rank, inputs)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        gx: Any = None if site.weight is None else gy @ site.weight.to(gy.dtype)
        if not site.merged:
            gx = _added(gx, inner, site.a, gy.dtype)
        return gx.to(ctx.dtype), None, None


def _added(y: Any, h: Any, matrix: Any, dtype: Any) -> Any:
    """Return y + h matrix in `dtype`, y being new and one's own, or None for zero; in place if no digit is lost."""
    if y is None or not y.dtype == h.dtype == matrix.dtype or not y.is_contiguous():
        product = (h @ matrix).to(dtype)
        return product if y is None else y + product
    y.view(-1, y.shape[-1]).addmm_(h.reshape(-1, h.shape[-1]), matrix)  # what is added passes memory no second time
    return y


@contextmanager
def per_record(adapted: Adapted, tape: Tape, *, lowered: bool = False) -> Iterator[None]:
    """Let the adapted modules write to `tape` while the block runs; A and B must not change within it.

    `lowered` says that the forward will run in lower precision, which a merged update would not survive.
    Raises: LocalError if a module is not the one that was adapted, or does more than its A and B say: wrapped, moved
            or given another adapter since, it would go past the tape, and past clipping.
    """
    first = adapted.a(adapted.layout.slots[0].name)
    # The witness: else the first layer, whose input needs no gradient, would have no backward.
    witness = torch.zeros((), device=first.device, requires_grad=True)
    modules = {slot.name: _ours(adapted, slot.name) for slot in adapted.layout.slots}
    before = {name: module.__dict__.get("forward") for name, module in modules.items()}
    try:
        for name, module in modules.items():
            module.forward = _forward(_site(adapted, name, tape, lowered), module.base_layer, witness)
        yield
    finally:
        for name, module in modules.items():
            module.__dict__.pop("forward", None)
            if before[name] is not None:
                module.forward = before[name]


def _ours(adapted: Adapted, name: str) -> Any:
    """Return the slot's module where it stands in the model now. Raises: LocalError if it is not what we made."""
    try:
        module = adapted.base.model.get_submodule(name)
    except AttributeError:
        module = None
    if module is not adapted.modules[name]:
        raise LocalError("an adapted module was wrapped or moved since: its records would not be clipped")
    if module.merged or module.disable_adapters or len(module.active_adapters) != 1 or module.lora_variant:
        raise LocalError("an adapted module that does more than its own A and B say")
    return module


def _forward(site: _Site, inner: Any, witness: Any) -> Callable[[Any], Any]:
    def forward(x: Any) -> Any:
        return _Adapted.apply(x, witness, site)

    def beside(x: Any) -> Any:
        return inner(x) + _Adapted.apply(x, witness, site)

    return beside if site.weight is None else forward


def _site(adapted: Adapted, name: str, tape: Tape, lowered: bool) -> _Site:
    from transformers.pytorch_utils import Conv1D  # late: transformers is imported with the first model

    inner = adapted.modules[name].base_layer
    a, b, scale = adapted.a(name), adapted.b(name), adapted.layout.scale
    if type(inner) not in (torch.nn.Linear, Conv1D):
        return _Site(name, tape, None, False, None, a, b, scale)
    weight = inner.weight if isinstance(inner, torch.nn.Linear) else inner.weight.T
    merged = not lowered and weight.dtype == torch.float32 and _entries(adapted) <= _MOST_MERGED
    if merged:
        with torch.no_grad():
            weight = torch.addmm(weight, b, a, alpha=scale)
    return _Site(name, tape, weight, merged, inner.bias, a, b, scale)


def _entries(adapted: Adapted) -> int:
    return sum(slot.outputs * slot.inputs for slot in adapted.layout.slots)


def _kept(gradients: Any, part: Part) -> Any:
    return gradients if part.kept is None else gradients[:, part.kept.to(gradients.device)]
