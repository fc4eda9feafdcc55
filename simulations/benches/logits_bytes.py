"""Let five models with five tokenizers predict together, byte by byte: `parley bench logits`.

The public model's vocabulary is one; each silo's model has one of its own, of another size, trained on its own text
and the public one from the start. Figures are in bits per byte; `forwards` counts each token a model had to read.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.experts.byte_expert import ByteExpert
from client.experts.view import View
from client.model import Base, digest
from simulations.benches import logits_rules as rules
from simulations.benches.logits_figures import BOUND, DECAYS, Found, best
from simulations.benches.logits_lab import Bench
from simulations.benches.logits_rules import Reals


def five(bench: Bench, found: Found) -> None:
    """Judge the five alone, and joined by the locally weighted mixture over bytes."""
    bases = [_base(bench.public(), bench.tokenizer), *(_base(*bench.own_tokens(name)) for name in bench.silos)]
    experts = [ByteExpert(View(base)) for base in bases]
    tune = _told(experts, _slices(bench, held_out=False))
    for expert in experts:
        expert.view.count.tokens = expert.view.count.forwards = 0
    texts = _slices(bench, held_out=True)
    test = _told(experts, texts)
    decay = best(DECAYS, lambda g: rules.mixture(tune[0], tune[1:], BOUND, g))
    found.chosen["byte decay"] = f"{decay:g}"
    found.values["bytes mixture"] = _bits(rules.mixture(test[0], test[1:], BOUND, decay))
    found.values["bytes oracle routing"] = _bits(rules.routed(test[0], test[1:]))
    for name, one in zip(("public", *bench.silos), test, strict=True):
        found.values[f"bytes {name}"] = _bits(one)
    found.values["bytes best single"] = min(_bits(one) for one in test)
    found.values["forwards per byte"] = max(e.view.count.tokens for e in experts) / texts.size


def _base(model: Any, tokenizer: Any) -> Base:
    return Base("bench", model.requires_grad_(False), tokenizer, digest(model, tokenizer))


def _slices(bench: Bench, *, held_out: bool) -> NDArray[np.int64]:
    """Return a piece of each silo's held-out text, all of one length: (silos, bytes)."""
    size, draw, found = bench.lab.size, np.random.default_rng(bench.lab.seed), []
    length = size.bytes_held_out if held_out else size.bytes_chosen_by
    for silo in bench.texts.silos:
        text = "\n".join(silo.held_out if held_out else silo.chosen_by).encode()
        first = int(draw.integers(0, max(1, len(text) - length)))
        found.append(np.frombuffer(text[first : first + length], dtype=np.uint8).astype(np.int64))
    return np.stack(found)


def _told(experts: Sequence[ByteExpert], texts: NDArray[np.int64]) -> Reals:
    """Return log p of each byte but the first of its text, (experts, texts, bytes - 1)."""
    return np.stack([[e.block(text.tolist(), ()).told[1:] for text in texts] for e in experts])


def _bits(logs: Reals) -> float:
    return float(-logs.mean() / math.log(2))
