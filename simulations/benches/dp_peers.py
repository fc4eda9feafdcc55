"""Other ways to take the same private step: Opacus in three modes, and vmap over torch.func's gradient.

Each is written as its makers do, but with one loss a record: with that of transformers none would be private.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from client.data import Records
from client.training.clipping import record_losses
from simulations.benches.dp_models import NOISE, NORM, RATE, Shape, Step, batch_of, lora_of, trained
from simulations.benches.rows import PeerMissing


def hooks_step(shape: Shape) -> Step:
    """Return a step of Opacus with hooks, its default mode."""
    return _opacus_step(shape, force_functorch=False)


def functorch_step(shape: Shape) -> Step:
    """Return a step of Opacus where functorch takes every module's gradients."""
    return _opacus_step(shape, force_functorch=True)


def ghost_step(shape: Shape) -> Step:
    """Return a step of Opacus with ghost clipping: norms alone, then a second backward pass."""
    _require_opacus()
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    lora, tokens, lengths = _learner(shape)
    model = GradSampleModuleFastGradientClipping(
        lora, loss_reduction="mean", max_grad_norm=NORM, use_ghost_clipping=True
    )
    rule = DPOptimizerFastGradientClipping(torch.optim.AdamW(trained(lora), lr=RATE), **_private(shape))
    criterion = DPLossFastGradientClipping(model, rule, _RecordLosses(), loss_reduction="mean")

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        criterion(model, tokens, lengths).backward()
        rule.step()

    return step


def vmap_step(shape: Shape) -> Step:
    """Return a step by torch.func: vmap over grad over functional_call, then clip, add noise, AdamW."""
    lora, tokens, lengths = _learner(shape)
    rule = torch.optim.AdamW(trained(lora), lr=RATE)

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        named = {name: p for name, p in lora.named_parameters() if p.requires_grad}
        with torch.no_grad():
            gradients = by_vmap(lora, named, tokens, lengths)
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
            factors = (NORM / norms.clamp(min=1e-12)).clamp(max=1.0)
            for name, parameter in named.items():
                total = torch.einsum("i,i...->...", factors, gradients[name])
                noise = torch.normal(0.0, NOISE * NORM, total.shape)
                parameter.grad = (total + noise) / len(tokens)
        rule.step()

    return step


def by_vmap(model: Any, named: dict[str, Any], tokens: Any, lengths: Any) -> dict[str, Any]:
    """Return every record's own gradient of the named parameters, each of shape (records, *its shape)."""

    def loss(values: dict[str, Any], ids: Any, length: Any) -> Any:
        keywords = {"input_ids": ids[None], "use_cache": False}
        out = torch.func.functional_call(model, values, kwargs=keywords).logits[0]
        each = functional.cross_entropy(out[:-1], ids[1:], reduction="none")
        inside = torch.arange(1, ids.shape[0]) < length
        return (each * inside).sum() / (length - 1)

    apart = {name: p.detach() for name, p in named.items()}
    found: dict[str, Any] = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(apart, tokens, lengths)
    return found


def opacus_gradients(lora: Any, records: Records) -> Any:
    """Return every record's gradient as Opacus sees it under the loss that transformers computes, (records, size)."""
    _require_opacus()
    from opacus.grad_sample import GradSampleModule

    tokens, lengths = torch.from_numpy(records.tokens.astype(np.int64)), torch.from_numpy(records.lengths)
    labels = tokens.masked_fill(torch.arange(tokens.shape[1])[None] >= lengths[:, None], -100)
    model = GradSampleModule(lora, loss_reduction="mean")
    model(input_ids=tokens, labels=labels).loss.backward()
    gradients = torch.cat([p.grad_sample.flatten(1) for p in trained(lora)], dim=1)
    model.zero_grad()
    model.to_standard_module()
    return gradients


class _RecordLosses:
    """Be a criterion as Opacus takes them; `reduction` is there to be set, and nothing is ever reduced."""

    reduction = "mean"

    def __call__(self, model: Any, tokens: Any, lengths: Any) -> Any:
        return record_losses(model, tokens, lengths)


def _opacus_step(shape: Shape, *, force_functorch: bool) -> Step:
    _require_opacus()
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    lora, tokens, lengths = _learner(shape)
    model = GradSampleModule(lora, loss_reduction="mean", force_functorch=force_functorch)
    rule = DPOptimizer(torch.optim.AdamW(trained(lora), lr=RATE), **_private(shape))

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        record_losses(model, tokens, lengths).mean().backward()
        rule.step()

    return step


def _learner(shape: Shape) -> tuple[Any, Any, Any]:
    records = batch_of(shape)
    return (
        lora_of(shape).train(),
        torch.from_numpy(records.tokens.astype(np.int64)),
        torch.from_numpy(records.lengths),
    )


def _private(shape: Shape) -> dict[str, Any]:
    return {
        "noise_multiplier": NOISE,
        "max_grad_norm": NORM,
        "expected_batch_size": shape.batch,
        "loss_reduction": "mean",
    }


def _require_opacus() -> None:
    if find_spec("opacus") is None:
        raise PeerMissing("opacus")
