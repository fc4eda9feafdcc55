"""Measure what clipping is for: how far one record moves a sum, and how near the sums are to torch.func's."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.data import Records
from client.model import Adapted, Base, layout_of
from client.training.clipping import Clipper, Sum, clipped_sum, torch_threads
from simulations.benches.dp_models import Shape, adapted_of, lora_of
from simulations.benches.dp_peers import by_vmap, opacus_gradients
from simulations.benches.rows import PeerMissing, Row, at_most

NARROW = Shape("narrow", 256, 32, 48, 2, 4, tokens=64, batch=33)
NORMS = tuple(float(c) for c in np.geomspace(1e-3, 1e1, 9))
RAGGED = (64, 3, 2, 40, 64, 17)
_TARGETS = {
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "qwen2": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "gpt2": ("c_attn", "attn.c_proj", "c_fc"),
}


def exactness() -> list[Row]:
    """Return the rows of the sums."""
    with torch_threads(1):
        return [sensitivity(), error()]


def sensitivity() -> Row:
    """Return how far the worst record moves our sum, in norms; beside it, transformers' own loss in Opacus."""
    ours = moved_by_ours()
    try:
        theirs = moved_by_builtin_loss()
    except PeerMissing as missing:
        return Row(
            "sensitivity_over_c", ours, "C", goal="at most 1.000001 C", met=ours <= 1.000001, peer=str(missing)
        )
    peer = "Opacus with the loss that transformers computes, C"
    goal = "at most 1.000001 C"
    return Row("sensitivity_over_c", ours, "C", peer, theirs, goal=goal, met=ours <= 1.000001, ours=ours)


def adverse() -> Records:
    """Return many short records, all alike, and a long one: what a mean over a batch's tokens treats worst."""
    draw = np.random.default_rng(5)
    tokens = np.zeros((NARROW.batch, NARROW.tokens), dtype=np.int32)
    tokens[:-1, :3] = draw.integers(0, NARROW.vocabulary, 3)
    tokens[-1] = draw.integers(0, NARROW.vocabulary, NARROW.tokens)
    return Records(tokens, np.array([3] * (NARROW.batch - 1) + [NARROW.tokens], dtype=np.int32))


def moved_by_ours() -> float:
    """Return the largest distance, over norms and over the record that is taken away, in clipping norms."""
    adapted, records = adapted_of(NARROW), adverse()
    point = 0.05 * np.random.default_rng(1).standard_normal(adapted.layout.size)
    everyone, worst = np.arange(len(records)), 0.0
    for norm in NORMS:
        clipper = Clipper(adapted, norm, 16)
        whole = clipper.sum(point, records, everyone)
        for gone in (0, len(records) - 1):
            rest = clipper.sum(point, records, np.delete(everyone, gone))
            worst = max(worst, float(np.linalg.norm(whole - rest)) / norm)
    return worst


def moved_by_builtin_loss() -> float:
    """Return the same for Opacus, its gradients clipped by ours, with one loss for the whole batch."""
    lora, records = lora_of(NARROW).train(), adverse()
    whole = opacus_gradients(lora, records)
    worst = 0.0
    for gone in (0, len(records) - 1):
        rest = opacus_gradients(lora, records.take(np.delete(np.arange(len(records)), gone)))
        for norm in NORMS:
            moved = float(np.linalg.norm(clipped_sum(whole, norm) - clipped_sum(rest, norm)))
            worst = max(worst, moved / norm)
    return worst


def error() -> Row:
    """Return the largest relative error of our clipped sums beside those of torch.func, over three families."""
    worst = max(error_of(family) for family in _TARGETS)
    return at_most("clipped_sum_rel_error", worst, 1e-5, "1")


def error_of(family: str) -> float:
    """Return the relative error of one family: records of many lengths, some clipped and some not."""
    adapted = _family(family)
    point = 0.05 * np.random.default_rng(2).standard_normal(adapted.layout.size)
    records = _ragged()
    gradients = _by_torch_func(adapted, point, records)
    norms = np.linalg.norm(gradients, axis=1)
    norm = float(np.median(norms))
    wanted = (np.minimum(1.0, norm / norms)[:, None] * gradients).sum(axis=0)
    found = Clipper(adapted, norm, 4).sum(point, records, np.arange(len(records)))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _by_torch_func(adapted: Adapted, point: Sum, records: Records) -> NDArray[np.float64]:
    """Return every record's own gradient at `point`, in the order of the layout, shape (records, size)."""
    adapted.set(point)
    slots = [slot.name for slot in adapted.layout.slots]
    order = [id(half(name)) for half in (adapted.b, adapted.a) for name in slots]
    names = {id(p): name for name, p in adapted.model.named_parameters()}
    named = {names[id(p)]: p for p in adapted.model.parameters() if id(p) in order}
    tokens, lengths = torch.from_numpy(records.tokens.astype(np.int64)), torch.from_numpy(records.lengths)
    gradients = by_vmap(adapted.model, named, tokens, lengths)
    return np.asarray(torch.cat([gradients[names[one]].flatten(1) for one in order], dim=1).double().numpy())


def _ragged() -> Records:
    tokens = np.random.default_rng(4).integers(0, NARROW.vocabulary, (len(RAGGED), max(RAGGED))).astype(np.int32)
    lengths = np.array(RAGGED, dtype=np.int32)
    tokens[np.arange(max(RAGGED))[None] >= lengths[:, None]] = 0
    return Records(tokens, lengths)


def _family(family: str) -> Adapted:
    base = Base(family, _model(family).eval().requires_grad_(False), None, "")
    return Adapted(base, layout_of(base, rank=4, alpha=8.0, targets=_TARGETS[family], adapter_seed=11, half_a=True))


def _model(family: str) -> Any:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    widths = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        match family:
            case "llama":
                return LlamaForCausalLM(LlamaConfig(vocab_size=256, num_attention_heads=4, **widths))
            case "qwen2":
                kinds = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
                return Qwen2ForCausalLM(Qwen2Config(vocab_size=256, **kinds, **widths))
    return GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=32, n_layer=2, n_head=4, n_positions=64))
