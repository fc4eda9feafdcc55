"""Loading base models: what is refused, what a digest covers, which modules can be adapted."""

import json
import shutil

import pytest
import tiny
import torch

from client.model import layout_of, linear_modules, load_base
from privacy.config import ConfigError


@pytest.fixture
def copy(folders, tmp_path):
    return shutil.copytree(folders("llama"), tmp_path / "model")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_is_loaded_by_path_frozen_and_in_evaluation_mode(folders, family):
    base = load_base(str(folders(family)))
    assert not base.model.training
    assert not any(p.requires_grad for p in base.model.parameters())
    assert base.tokenizer("héllo")["input_ids"]


def test_the_digest_is_the_same_wherever_the_model_lies(folders, copy):
    assert load_base(str(folders("llama"))).digest == load_base(str(copy)).digest


def test_the_digest_does_not_change_when_the_model_is_saved_again_in_shards(folders, tmp_path):
    base = load_base(str(folders("llama")))
    base.model.save_pretrained(tmp_path, max_shard_size="20KB")
    base.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert load_base(str(tmp_path)).digest == base.digest


def test_one_changed_weight_or_setting_changes_the_digest(folders, copy):
    base = load_base(str(folders("llama")))
    with torch.no_grad():
        base.model.model.norm.weight[3] += 1e-6
    base.model.save_pretrained(copy)
    assert load_base(str(copy)).digest != load_base(str(folders("llama"))).digest
    config = json.loads((folders("llama") / "config.json").read_text())
    shutil.copytree(folders("llama"), copy, dirs_exist_ok=True)
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert load_base(str(copy)).digest != load_base(str(folders("llama"))).digest


def test_another_vocabulary_is_another_base(folders, copy):
    tokenizer = load_base(str(copy)).tokenizer
    tokenizer.add_tokens(["oncology"])
    tokenizer.save_pretrained(copy)
    assert load_base(str(copy)).digest != load_base(str(folders("llama"))).digest


def test_pickled_weights_are_refused_by_name(copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is pickled, and pickle is refused"):
        load_base(str(copy))


def test_code_that_comes_with_a_model_is_not_run(copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match="without code of its own"):
        load_base(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_an_error_that_names_the_model(copy, damage):
    (copy / damage).write_bytes((copy / damage).read_bytes()[:100])
    with pytest.raises(ConfigError) as caught:
        load_base(str(copy))
    assert caught.value.file == str(copy)
    assert caught.value.key == "model"


def test_weights_that_are_missing_from_the_file_are_not_made_up(copy):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="are missing"):
        load_base(str(copy))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_base(str(tmp_path))
    with pytest.raises(ConfigError, match="no such folder"):
        load_base(str(tmp_path / "nowhere"))


def test_an_id_that_is_not_in_the_cache_is_not_fetched():
    with pytest.raises(ConfigError, match="downloads are off"):
        load_base("parley-tests/not-a-model")


@pytest.mark.parametrize(("wrong", "right"), [("q_prj", "q_proj"), ("c_attn", "known: "), ("gateproj", "gate_proj")])
def test_a_target_that_the_model_lacks_is_named_with_the_nearest(folders, wrong, right):
    base = load_base(str(folders("llama")))
    with pytest.raises(ConfigError, match=f"named {wrong} .*{right}"):
        layout_of(base, rank=2, alpha=4.0, targets=("v_proj", wrong), adapter_seed=0)


def test_the_output_layer_and_the_embeddings_cannot_be_adapted(folders):
    for family in tiny.FAMILIES:
        names = linear_modules(load_base(str(folders(family))).model)
        assert names
        assert not [name for name in names if "lm_head" in name or "embed" in name or "wte" in name]


def test_a_layout_has_the_shapes_of_the_model(folders):
    base = load_base(str(folders("gpt2")))
    layout = layout_of(base, rank=2, alpha=4.0, targets=("c_attn",), adapter_seed=0)
    assert [(slot.name, slot.outputs, slot.inputs) for slot in layout.slots] == [
        ("transformer.h.0.attn.c_attn", 96, 32),
        ("transformer.h.1.attn.c_attn", 96, 32),
    ]
    assert layout.size == 2 * 96 * 2


def test_a_model_that_is_adapted_already_has_the_same_layout(folders):
    for family in tiny.FAMILIES:
        adapted = tiny.adapted(folders(family), family)
        again = layout_of(adapted.base, rank=4, alpha=8.0, targets=tiny.TARGETS[family], adapter_seed=11)
        assert again == adapted.layout
