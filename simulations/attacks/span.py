"""Read a member's tokens out of its LoRA update: whose input lies in the span of the first layer's rows?

The gradient of A is a sum over tokens of something times x^T, and so is its update: its rows lie in the span of the
inputs x of the tokens that were trained on. In a model that has no positions there (RoPE) a token has one input,
which everybody can compute from the public base. The attacker asks of each token of the vocabulary how much of its
input lies in the span; without noise the tokens that were trained on stand out. Of B's update, whose rows lie in the
span of the products A x, the same can be asked, in as few dimensions as the rank.

Learns:  an attacker who sees one member's update and has the public base model: which tokens its records hold.
Cites:   Petrov et al. 2024 (DAGER), section 4.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Tokens = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class View:
    """Hold what an attacker compares: an update (rows, width), and each token's input (vocabulary, width)."""

    update: NDArray[np.floating]
    inputs: Matrix


def first_inputs(model: Any, module: str) -> Matrix:
    """Return what enters a module of the first layer for each token of the vocabulary, shape (vocabulary, width)."""
    seen: list[Any] = []

    def stop(_module: Any, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0])
        raise _Seen

    hook = model.get_submodule(module).register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            model(input_ids=torch.arange(int(model.config.vocab_size))[:, None])
    except _Seen:
        pass
    finally:
        hook.remove()
    return np.asarray(seen[0][:, 0].double().numpy())


def guess(views: Sequence[View], count: int) -> Tokens:
    """Return the `count` tokens whose inputs lie most in the span of the updates' rows, over all views together."""
    scores = sum(_inside(view) for view in views)
    return np.argsort(-np.asarray(scores), kind="stable")[:count]


def recall(guessed: Tokens, tokens: Tokens) -> float:
    """Return the share of the distinct tokens that was guessed."""
    return float(np.isin(np.unique(tokens), guessed).mean())


def _inside(view: View) -> Matrix:
    """Return how much of each token's input lies in the span, from 0 to 1, shape (vocabulary,)."""
    _, sizes, directions = np.linalg.svd(view.update.astype(np.float64), full_matrices=False)
    spanned = directions[sizes > 1e-6 * sizes.max(initial=0.0)]
    lengths = np.square(view.inputs).sum(axis=1)
    return np.asarray(np.square(view.inputs @ spanned.T).sum(axis=1) / lengths)


class _Seen(Exception):
    """What was asked for has been seen: the rest of the model need not run."""
