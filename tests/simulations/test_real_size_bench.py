"""The bench of a real size loads real shards and takes real steps. No test asserts a time."""

import json
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from client.model import load_base
from simulations.benches import real_size
from simulations.benches.dp_models import SMALL, TINY, model_of
from simulations.benches.dp_training import OURS, PLAIN

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own count of pages")


def test_the_model_is_of_a_real_size():
    shape = real_size.REAL
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
    )  # fmt: skip
    with torch.device("meta"):
        count = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
    assert 0.1e9 <= count <= 0.35e9
    assert count == pytest.approx(213e6, rel=0.005)
    assert (shape.tokens, shape.batch) == (128, 8)


def test_the_weights_lie_in_shards_are_loaded_whole_and_both_methods_take_steps_on_them():
    with real_size.saved(TINY) as folder:
        assert len(list(folder.glob("*.safetensors"))) > 2
        base, made = load_base(str(folder)), model_of(TINY)
        assert all(torch.equal(p, dict(base.model.named_parameters())[n]) for n, p in made.named_parameters())
        took = real_size.pairs(folder, TINY, 1)
    assert not folder.exists()
    assert {name: len(seconds) for name, seconds in took.items()} == {PLAIN: 1, OURS: 1}


@linux
def test_the_peak_of_a_load_is_no_less_than_the_weights_that_it_reads(capsys):
    with real_size.saved(SMALL) as folder:
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
        real_size.main([str(folder), real_size.LOAD, SMALL.name])
    assert size > 40
    assert json.loads(capsys.readouterr().out)["megabytes"] > 0.9 * size


@linux
@pytest.mark.slow
def test_all_rows_are_measured_on_a_tiny_model():
    rows = {row.measure: row for row in real_size.real_size(TINY, 1)}
    assert set(rows) == {
        "real_size_load_peak",
        "real_size_load_s",
        "real_size_step_vs_nonprivate",
        "real_size_memory_vs_nonprivate",
    }
    assert all(row.value == row.value and row.value > 0 for row in rows.values())
