"""Held-out loss: nats per token over all tokens, whatever the batches."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from client.data import Encoder
from client.model import load_base
from client.training.evaluation import held_out_loss

TEXTS = ["a short text", "z", "", "a longer one, which takes several windows of sixteen tokens to get through " * 2]


@pytest.fixture
def base(folders):
    return load_base(str(folders("llama")))


def naive(base, window):
    total, count = 0.0, 0
    for text in TEXTS:
        tokens = torch.from_numpy(Encoder(base.tokenizer)(text).astype(np.int64))
        for start in range(0, len(tokens) - 1, window):
            span = tokens[start : start + window + 1][None]
            with torch.no_grad():
                logits = base.model(input_ids=span).logits
            total += functional.cross_entropy(logits[0, :-1], span[0, 1:], reduction="sum").item()
            count += span.shape[1] - 1
    assert count == sum(max(0, Encoder(base.tokenizer)(text).size - 1) for text in TEXTS)
    return total / count


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_it_is_the_mean_over_all_tokens_but_the_first_of_each_text(base, batch):
    found = held_out_loss(base.model, base.tokenizer, TEXTS, window=16, batch=batch)
    assert found == pytest.approx(naive(base, 16), rel=1e-5)


def test_an_untrained_model_is_near_uniform(base):
    assert held_out_loss(base.model, base.tokenizer, TEXTS) == pytest.approx(math.log(256), rel=0.1)


def test_without_any_text_there_is_no_loss(base):
    with pytest.raises(ValueError, match="no held-out text"):
        held_out_loss(base.model, base.tokenizer, ["", "x"])
