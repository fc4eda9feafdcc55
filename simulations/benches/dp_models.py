"""Hold the models of `parley bench dp-training`, with random weights, and the two steps that it compares.

Both train LoRA of rank 8 on all seven linear modules of each layer, A and B, on the same batch in one thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from client.data import Records
from client.dp_training import poisson
from client.model import Adapted, Base, layout_of
from client.training.clipping import Clipper
from client.training.optimisers import optimiser
from privacy.randomness import SystemRandomness
from simulations.benches.llamas import llama

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA = 8, 16.0
NORM, NOISE, RATE = 1.0, 0.8, 1e-4
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shape:
    """Say how large a Llama-like model is, and what a step sees of text."""

    name: str
    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    tokens: int = 128
    batch: int = 16


TINY = Shape("tiny", 256, 32, 48, 2, 4, tokens=16, batch=4)
SMALL = Shape("10m", 8192, 256, 688, 8, 4)  # 10.5 M parameters, 0.31 M trained
LARGE = Shape("120m", 22_000, 768, 2048, 12, 12)  # 118.7 M parameters, 1.40 M trained
SHAPES = {shape.name: shape for shape in (TINY, SMALL, LARGE)}


def model_of(shape: Shape) -> Any:
    """Return the model, in evaluation mode and frozen; always the same random weights."""
    return llama(shape, shape.tokens, seed=7, use_cache=False).requires_grad_(False)


def batch_of(shape: Shape) -> Records:
    """Return a batch of full records of random tokens."""
    tokens = np.random.default_rng(3).integers(0, shape.vocabulary, (shape.batch, shape.tokens))
    return Records(tokens.astype(np.int32), np.full(shape.batch, shape.tokens, dtype=np.int32))


def adapted_of(shape: Shape) -> Adapted:
    """Return the model with our matrices in it."""
    return adapted_on(Base("bench", model_of(shape), None, ""))


def adapted_on(base: Base) -> Adapted:
    """Return this model with our matrices in it."""
    return Adapted(base, layout_of(base, rank=RANK, alpha=ALPHA, targets=TARGETS, adapter_seed=1, half_a=True))


class Ours:
    """Be the steps of `DpSgd` on one batch: choose, clip and sum, add noise, divide, Adam."""

    def __init__(self, adapted: Adapted, shape: Shape) -> None:
        self.records, self.size = batch_of(shape), adapted.layout.size
        self.clipper = Clipper(adapted, NORM, shape.batch)
        self.randomness, self.rule = SystemRandomness(), optimiser("adam", RATE)
        self.point = 0.01 * np.random.default_rng(5).standard_normal(self.size)

    def step(self) -> None:
        """Be one step, each record chosen with probability 1: the same records as the peers'."""
        chosen = poisson(len(self.records), 1.0, self.randomness)
        total = self.clipper.sum(self.point, self.records, chosen) + self.noise()
        self.point = self.point + self.rule.step(total / len(self.records))

    def noise(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return one step's noise."""
        return NOISE * NORM * self.randomness.normal(self.size)


def lora_of(shape: Shape) -> Any:
    """Return the model with peft's LoRA in it, A and B to be trained."""
    return lora_on(model_of(shape))


def lora_on(model: Any) -> Any:
    """Return this model with peft's LoRA in it, A and B to be trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        lora = get_peft_model(model, config)
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.01)
    return lora


def trained(model: Any) -> list[Any]:
    """Return the parameters that are to be trained."""
    return [p for p in model.parameters() if p.requires_grad]


def plain_step(shape: Shape) -> Step:
    """Return a step without privacy, as everybody writes it: peft, the model's own loss, AdamW."""
    return plain_step_on(model_of(shape), shape)


def plain_step_on(model: Any, shape: Shape) -> Step:
    """Return such a step of this model."""
    lora = lora_on(model)
    tokens = torch.from_numpy(batch_of(shape).tokens.astype(np.int64))
    rule = torch.optim.AdamW(trained(lora), lr=RATE)

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        lora(input_ids=tokens, labels=tokens).loss.backward()
        rule.step()

    return step


def our_step(shape: Shape) -> Step:
    """Return a step of ours."""
    return Ours(adapted_of(shape), shape).step
