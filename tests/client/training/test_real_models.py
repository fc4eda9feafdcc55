"""Any causal language model: five families from disk, whole or in shards, through a private step to PEFT."""

import importlib.util
import shutil

import numpy as np
import pytest
import tiny
import torch

from client.adapter import load, save
from client.card import Card
from client.dp_training import DpSgd, Schedule
from client.model import Adapted, layout_of, load_base
from client.training.clipping import Clipper
from privacy.config import ConfigError
from privacy.randomness import UnsafeSeededRandomness

FAMILIES = ("llama", "qwen2", "gpt2", "gemma", "mistral")
SCHEDULE = Schedule(2, 4, 8, 0.5, 1.0)
CARD = Card("test", "tiny", "0" * 64, (), ())


def layout_for(base, family):
    return layout_of(base, rank=4, alpha=8.0, targets=tiny.TARGETS[family], adapter_seed=11)


@pytest.fixture(params=[(f, shards) for f in FAMILIES for shards in (False, True)], ids=lambda p: f"{p[0]}-{p[1]}")
def model(request, folders, tmp_path):
    """Return the family, and its folder with one file of weights or with several."""
    family, sharded = request.param
    if not sharded:
        return family, folders(family)
    folder = tmp_path / "shards"
    tiny.model(family).save_pretrained(folder, max_shard_size="20KB")
    tiny.tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return family, folder


def test_a_private_step_on_any_model_becomes_an_adapter_that_peft_loads(model, tmp_path):
    from peft import PeftModel

    family, folder = model
    base = load_base(str(folder))
    layout = layout_for(base, family)
    adapted = Adapted(base, layout)
    start = np.zeros(layout.size, np.float32)
    records = tiny.records([12, 20, 9, 16, 20, 7, 11, 20])
    delta = DpSgd(adapted, records, start, SCHEDULE, 0.5).draw(UnsafeSeededRandomness(3))
    assert np.isfinite(delta).all()
    assert delta.any()
    adapted.set(delta)
    ids = torch.from_numpy(records.tokens[1:2].astype(np.int64))
    with torch.no_grad():
        ours = adapted.model(input_ids=ids).logits
    adapted.remove()
    save(tmp_path / "adapter", layout, delta, CARD)
    theirs = PeftModel.from_pretrained(load_base(str(folder)).model, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=ids).logits, ours, atol=1e-5)
    back, vector = load(tmp_path / "adapter")
    assert back == layout
    assert np.array_equal(vector, delta)


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_records_gradient_is_its_own_in_every_family(folders, family):
    adapted = tiny.adapted(folders(family), family)
    clipper, records = Clipper(adapted, None, 8), tiny.records([20, 7, 2, 13])
    clipper.check_isolation(adapted.get(), 24)
    together = clipper.each(adapted.get(), records)
    for i in range(4):
        alone = clipper.each(adapted.get(), records.take(np.array([i])))[0]
        assert float((together[i] - alone).norm() / alone.norm()) < 1e-4


def test_the_weights_of_shards_are_those_of_one_file(folders, tmp_path):
    for family in FAMILIES:
        base = load_base(str(folders(family)))
        base.model.save_pretrained(tmp_path / family, max_shard_size="20KB")
        base.tokenizer.save_pretrained(tmp_path / family)
        assert load_base(str(tmp_path / family)).digest == base.digest


def test_a_shard_that_is_missing_is_an_error_that_names_the_model(folders, tmp_path):
    base = load_base(str(folders("llama")))
    base.model.save_pretrained(tmp_path, max_shard_size="20KB")
    base.tokenizer.save_pretrained(tmp_path)
    min(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ConfigError) as caught:
        load_base(str(tmp_path))
    assert caught.value.file == str(tmp_path)


def test_the_type_of_the_weights_is_this_homes_choice_and_no_other_base(folders):
    saved = load_base(str(folders("llama")))
    half = load_base(str(folders("llama")), dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert half.digest == saved.digest
    assert {p.dtype for p in load_base(str(folders("half"))).model.parameters()} == {torch.bfloat16}  # as saved
    precise = load_base(str(folders("half")), dtype="float32")
    assert {p.dtype for p in precise.model.parameters()} == {torch.float32}
    assert precise.digest == load_base(str(folders("half"))).digest


def test_another_chat_template_is_another_base(folders, tmp_path):
    copy = shutil.copytree(folders("llama"), tmp_path / "model")
    tokenizer = load_base(str(copy)).tokenizer
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer.save_pretrained(copy)
    assert load_base(str(copy)).digest != load_base(str(folders("llama"))).digest


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is here")
def test_without_bitsandbytes_the_error_says_what_is_missing(folders):
    with pytest.raises(ConfigError, match=r"model\.bits: weights in 4 or 8 bits take bitsandbytes"):
        load_base(str(folders("llama")), bits=4)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_give_every_record_its_own_exact_gradient(tmp_path, monkeypatch, bits):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(tiny, "WIDTHS", {**tiny.WIDTHS, "hidden_size": 128, "intermediate_size": 128})
    folder = tiny.save("llama", tmp_path / "model")
    base = load_base(str(folder), bits=bits)
    assert base.digest == load_base(str(folder)).digest
    assert base.model.model.layers[0].mlp.up_proj.weight.dtype in (torch.int8, torch.uint8)
    adapted = Adapted(base, layout_for(base, "llama"))
    adapted.set(np.random.default_rng(1).normal(size=adapted.layout.size) * 0.05)
    records, clipper = tiny.records([20, 7, 13]), Clipper(adapted, None, 8)
    clipper.check_isolation(adapted.get(), 24)
    found = clipper.each(adapted.get(), records)
    for i in range(3):
        bs = [adapted.b(slot.name) for slot in adapted.layout.slots]
        for b in bs:
            b.requires_grad_(True)
        ids = torch.from_numpy(records.tokens[i : i + 1, : records.lengths[i]].astype(np.int64))
        logits = adapted.model(input_ids=ids).logits[0, :-1].float()
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, ids[0, 1:]), bs)
        wanted = torch.cat([g.flatten() for g in gradients])
        for b in bs:
            b.requires_grad_(False)
        assert float((found[i] - wanted).norm() / wanted.norm()) < 1e-4
