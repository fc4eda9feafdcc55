"""Per-record gradients as anybody would write them first: what the fast ones are held against."""

import numpy as np
import torch
from torch.nn import functional


def parameters(adapted):
    """Return the trained matrices in the vector's order: all B's, then all A's if they are trained."""
    found = {f"{slot.name}.b": adapted.b(slot.name) for slot in adapted.layout.slots}
    if adapted.layout.half_a:
        found |= {f"{slot.name}.a": adapted.a(slot.name) for slot in adapted.layout.slots}
    return found


def one_by_one(adapted, records):
    """Return each record's gradient by peft's own forward and autograd, one record at a time, unpadded."""
    rows = []
    for i in range(len(records)):
        ids = torch.from_numpy(records.tokens[i : i + 1, : records.lengths[i]].astype(np.int64))
        bs = parameters(adapted)
        for b in bs.values():
            b.requires_grad_(True)
        logits = adapted.model(input_ids=ids).logits[0, :-1].float()
        loss = functional.cross_entropy(logits, ids[0, 1:])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(bs.values()))]))
        for b in bs.values():
            b.requires_grad_(False)
    return torch.stack(rows)


def by_vmap(adapted, records):
    """Return each record's gradient by torch.func: vmap over grad over functional_call."""
    bs = parameters(adapted)
    prefix = {name: next(n for n, p in adapted.model.named_parameters() if p is b) for name, b in bs.items()}

    def loss(values, ids, length):
        named = {prefix[name]: value for name, value in values.items()}
        out = torch.func.functional_call(adapted.model, named, kwargs={"input_ids": ids[None], "use_cache": False})
        each = functional.cross_entropy(out.logits[0, :-1], ids[1:], reduction="none")
        inside = torch.arange(1, ids.shape[0]) < length
        return (each * inside).sum() / (length - 1)

    ids = torch.from_numpy(records.tokens.astype(np.int64))
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        {name: b.detach() for name, b in bs.items()}, ids, torch.from_numpy(records.lengths)
    )
    return torch.cat([gradients[name].flatten(1) for name in bs], dim=1)


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())
