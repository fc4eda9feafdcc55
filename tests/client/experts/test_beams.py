"""What a narrow beam costs, on a model that was trained to know something: in bits, and in forwards."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from client.experts.byte_expert import Beam, ByteExpert
from client.experts.byte_table import byte_table
from client.experts.trie import Trie
from client.experts.view import View
from client.model import Base

from .conftest import gpt2_tokenizer

PLACES = 250


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_usual_beam_is_within_a_hundredth_of_a_bit_of_a_wide_one_at_two_forwards_a_byte() -> None:
    library = Path(json.__file__).parents[1]
    texts = [text for file in sorted(library.glob("*.py")) if len(text := file.read_text("utf-8")) > 4000][:60]
    taught, held_out = texts[5:], texts[:3]
    tokenizer = gpt2_tokenizer(taught, 512)
    tokens = np.concatenate([tokenizer(text, verbose=False)["input_ids"] for text in taught])
    torch.manual_seed(1)
    widths = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=512, max_position_embeddings=512, tie_word_embeddings=True, **widths)
    model, random = LlamaForCausalLM(config), np.random.default_rng(2)
    rule = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(200):
        starts = random.integers(0, tokens.size - 96, 16)
        rows = torch.from_numpy(np.stack([tokens[start : start + 96] for start in starts]).astype(np.int64))
        model(input_ids=rows, labels=rows).loss.backward()
        rule.step()
        rule.zero_grad()
    base = Base("trained", model.eval(), tokenizer, "")
    trie = Trie(byte_table(base, 512))

    def bits(beam: Beam) -> tuple[float, float]:
        """Return the bits that a byte takes, and the tokens that were read for it."""
        view, whole, count = View(base), 0.0, 0
        for text in held_out:
            said = ByteExpert(view, trie, beam).block(list(text.encode()[400 : 400 + PLACES]), [])
            whole, count = whole - float(said.told.sum()) / math.log(2), count + PLACES - 1
        return whole / count, view.count.tokens / count

    (wide, _), (usual, read) = bits(Beam(30, 1e-6)), bits(Beam())
    assert read > 0.3  # all that was run is counted
    assert usual < 4.5  # it has learnt something: a byte says about 4.7 bits by its frequency alone
    assert usual <= wide + 0.01
    assert read <= 2.0
