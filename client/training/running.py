"""Say how a model is run forward: which layers are run again for the backward, and in which precision.

Neither changes what a record's gradient is, but for rounding; both are a member's own affair.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from client.training.ways import Checkpointing, Precision
from protocols.faults import LocalError

_HALF_SCALE = 2.0**10  # float16 has no numbers below 6e-8: a constant, since one found from a batch would couple it


@dataclass(frozen=True, slots=True)
class Running:
    """Say how a member runs its model. The gradients of A and B are float32 in any case."""

    checkpointing: Checkpointing = Checkpointing.OFF
    precision: Precision = Precision.OWN

    @property
    def lowered(self) -> bool:
        """Tell whether products are computed in lower precision than the model's weights have."""
        return self.precision is not Precision.OWN

    def lowest(self, model: Any) -> torch.dtype:
        """Return the type in which the products of matrices are."""
        return getattr(torch, self.precision.value) if self.lowered else model.dtype

    def loss_scale(self, model: Any) -> float:
        """Return by what losses are multiplied, and gradients divided again: a public constant of two's powers."""
        return _HALF_SCALE if self.lowest(model) is torch.float16 else 1.0

    def forward(self, device: Any) -> AbstractContextManager[Any]:
        """Return the context in which a forward runs."""
        return torch.autocast(device.type, self.lowest(None)) if self.lowered else nullcontext()

    @contextmanager
    def layers(self, model: Any) -> Iterator[None]:
        """Let the model's layers be run again while the block lasts, as `checkpointing` says.

        Raises: LocalError for a model that has no layers of the kind that transformers can run again.
        """
        if self.checkpointing is Checkpointing.OFF:
            yield
            return
        with ExitStack() as stack:
            for layer in again(model):
                before, plain = layer.__dict__.get("forward"), layer.forward
                layer.forward = _again(plain, reentrant=self.checkpointing is Checkpointing.REENTRANT)
                stack.callback(_restore, layer, before)
            yield


AS_IT_IS = Running()


def again(model: Any) -> list[Any]:
    """Return the layers that can be run again. Raises: LocalError for a model that has none."""
    from transformers.modeling_layers import GradientCheckpointingLayer  # late: imported with the first model

    found = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not found:
        raise LocalError("this model has no layers that can be run again: switch checkpointing off")
    return found


def _again(plain: Callable[..., Any], *, reentrant: bool) -> Callable[..., Any]:
    """Return a layer's forward that keeps its inputs alone. Dropout is off, so that there is no state to keep."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        if not reentrant:
            return checkpoint(plain, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        # Only arguments by place get gradients; and one must want them, which the embedded tokens do not.
        names = [name for name, value in kwargs.items() if isinstance(value, torch.Tensor) and value.requires_grad]
        fixed = {name: value for name, value in kwargs.items() if name not in names}
        witness = torch.zeros((), requires_grad=True)

        def run(_witness: Any, *values: Any) -> Any:
            named = dict(zip(names, values[len(args) :], strict=True))
            return plain(*values[: len(args)], **named, **fixed)

        moved = [kwargs[name] for name in names]
        return checkpoint(run, witness, *args, *moved, use_reentrant=True, preserve_rng_state=False)

    return forward


def _restore(layer: Any, before: Any) -> None:
    layer.__dict__.pop("forward", None)
    if before is not None:
        layer.forward = before
