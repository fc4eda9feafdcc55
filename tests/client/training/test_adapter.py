"""Adapters as flat vectors, and as PEFT saves and loads them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.numpy import load_file, save_file

from client.adapter import Layout, Slot, load, save
from client.card import Card
from client.model import Adapted, layout_of, load_base
from privacy.config import ConfigError
from privacy.units import Guarantee, Relation, Unit

LAYOUT = Layout((Slot("layers.0.q", 6, 5), Slot("layers.1.q", 3, 5)), 2, 4.0, ("q",), 42)
GUARANTEE = Guarantee(
    8.0,
    1e-5,
    Unit.RECORD,
    Relation.ADD_OR_REMOVE,
    "RDP at fixed orders",
    ("Poisson sampling",),
    ("hyper-parameters",),
)
KNOWN_A = "392b0f3e977b863e5b02f6bebeb32e3f3c101fbe4656af3e7742043f019120bf739234bf9adf3bbd"
CARD = Card("Three silos", "parley/base", "ab" * 32, (("rounds", "3"),), (("north", GUARANTEE), ("south", None)))


WITH_A = replace(LAYOUT, half_a=True)


@pytest.mark.parametrize("layout", [LAYOUT, WITH_A], ids=["b", "both"])
@given(st.integers(0, 2**32 - 1))
def test_splitting_and_joining_return_the_vector(layout, seed):
    vector = np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)
    assert layout.join(layout.split(vector), layout.split_a(vector)).tobytes() == vector.tobytes()


def test_all_bs_come_first_and_then_all_as():
    assert (LAYOUT.size, LAYOUT.b_entries) == (2 * 9, 2 * 9)
    assert (WITH_A.size, WITH_A.b_entries) == (2 * 9 + 2 * 10, 2 * 9)
    vector = np.arange(WITH_A.size, dtype=np.float32)
    assert np.array_equal(LAYOUT.join(WITH_A.split(vector)), vector[:18])
    assert [m.shape for m in WITH_A.split_a(vector).values()] == [(2, 5), (2, 5)]
    assert WITH_A.split_a(vector)["layers.0.q"].ravel().tolist() == list(range(18, 28))


def test_a_layout_without_a_is_written_as_it_was_before_there_was_any():
    known = "aa947b1737d812ed11160054"
    assert LAYOUT.digest.startswith(known)
    assert "half_a" not in LAYOUT.to_json()
    assert '"half_a":true' in WITH_A.to_json()


def test_a_vector_or_matrix_of_another_shape_does_not_fit():
    with pytest.raises(ValueError, match="does not fit"):
        LAYOUT.split(np.zeros(LAYOUT.size + 1, np.float32))
    with pytest.raises(ValueError, match="not those"):
        LAYOUT.join({"layers.0.q": np.zeros((6, 2), np.float32)})
    with pytest.raises(ValueError, match="shape"):
        LAYOUT.join({"layers.0.q": np.zeros((2, 6), np.float32), "layers.1.q": np.zeros((3, 2), np.float32)})


def test_the_frozen_half_is_these_bits_on_every_machine():
    a = LAYOUT.frozen(LAYOUT.slots[0])
    assert a.dtype == np.float32
    assert a.tobytes().hex() == KNOWN_A


def test_the_frozen_half_is_nearly_orthonormal_and_differs_by_module_and_seed():
    wide = Layout((Slot("a", 4, 4096), Slot("b", 4, 4096)), 8, 8.0, ("a",), 1)
    a, b = (wide.frozen(slot) for slot in wide.slots)
    np.testing.assert_allclose(a @ a.T, np.eye(8), atol=0.08)
    assert np.abs(a @ b.T).max() < 0.08
    other = replace(wide, adapter_seed=2)
    assert np.abs(a @ other.frozen(wide.slots[0]).T).max() < 0.08


def test_a_smaller_rank_is_nested_in_a_larger_one():
    small, large = replace(LAYOUT, rank=2), replace(LAYOUT, rank=4)
    assert np.array_equal(small.frozen(LAYOUT.slots[0]), large.frozen(LAYOUT.slots[0])[:2])


@pytest.mark.parametrize(
    "other",
    [
        replace(LAYOUT, rank=3),
        replace(LAYOUT, alpha=5.0),
        replace(LAYOUT, adapter_seed=43),
        WITH_A,
        replace(LAYOUT, slots=LAYOUT.slots[:1]),
        replace(LAYOUT, slots=(replace(LAYOUT.slots[0], outputs=7), LAYOUT.slots[1])),
    ],
)
def test_whatever_makes_two_vectors_incomparable_changes_the_digest(other):
    assert other.digest != LAYOUT.digest
    assert replace(LAYOUT).digest == LAYOUT.digest


@pytest.mark.parametrize("half_a", [False, True], ids=["b", "both"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_peft_loads_a_saved_adapter_with_identical_logits(folders, tmp_path, family, half_a):
    adapted = tiny.adapted(folders(family), family, half_a=half_a)
    save(tmp_path, adapted.layout, adapted.get(), CARD)
    theirs = PeftModel.from_pretrained(load_base(str(folders(family))).model, str(tmp_path)).eval()
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, adapted.model(input_ids=ids).logits)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "parley/base"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_saved_adapter_is_loaded_back(tmp_path):
    vector = np.arange(LAYOUT.size, dtype=np.float32)
    save(tmp_path, LAYOUT, vector, CARD)
    layout, found = load(tmp_path, LAYOUT)
    assert layout == LAYOUT
    assert found.tobytes() == vector.tobytes()


def test_an_adapter_with_both_halves_comes_back_to_within_the_rounding_of_its_a(tmp_path):
    vector = np.random.default_rng(0).normal(size=WITH_A.size).astype(np.float32)
    save(tmp_path, WITH_A, vector, CARD)
    layout, found = load(tmp_path, WITH_A)
    assert layout == WITH_A
    assert found[:18].tobytes() == vector[:18].tobytes()
    np.testing.assert_allclose(found[18:], vector[18:], atol=4 * np.finfo(np.float32).eps)


def test_with_both_halves_the_zero_vector_is_the_untouched_base(folders):
    base = load_base(str(folders("llama")))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = base.model(input_ids=ids).logits
        layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj",), adapter_seed=1, half_a=True)
        adapted = Adapted(base, layout)
        assert torch.equal(base.model(input_ids=ids).logits, before)
        moved = np.ones(layout.size, np.float32)
        adapted.set(moved)
        assert not torch.equal(base.model(input_ids=ids).logits, before)
        np.testing.assert_allclose(adapted.get(), moved, atol=1e-6)
        adapted.set(np.zeros(layout.size))
        assert not adapted.get().any()
        assert torch.equal(base.model(input_ids=ids).logits, before)


def test_an_adapter_of_another_layout_is_refused(tmp_path):
    save(tmp_path, LAYOUT, np.zeros(LAYOUT.size), CARD)
    with pytest.raises(ConfigError, match="another layout"):
        load(tmp_path, replace(LAYOUT, adapter_seed=1))


def test_a_pickled_adapter_is_not_read(tmp_path):
    torch.save({"lora_B": torch.zeros(3)}, tmp_path / "adapter_model.bin")
    with pytest.raises(ConfigError, match="never from pickle"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "frozen", "names", "infinite", "layout", "foreign"])
def test_a_damaged_adapter_is_refused(tmp_path, damage):
    save(tmp_path, LAYOUT, np.zeros(LAYOUT.size), CARD)
    file = tmp_path / "adapter_model.safetensors"
    tensors, metadata = load_file(file), {"parley_layout": LAYOUT.to_json()}
    first = "base_model.model.layers.0.q.lora_"
    match damage:
        case "frozen":
            tensors[f"{first}A.weight"] = tensors[f"{first}A.weight"] * 2
        case "names":
            del tensors[f"{first}B.weight"]
        case "infinite":
            tensors[f"{first}B.weight"] = tensors[f"{first}B.weight"] + np.float32(np.inf)
        case "layout":
            metadata = {"parley_layout": '{"rank": 2}'}
        case "foreign":
            metadata = {"format": "pt"}
    save_file(tensors, file, metadata=metadata)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors"):
        load(tmp_path)


def test_the_card_says_what_is_protected_and_what_is_not(tmp_path):
    save(tmp_path, LAYOUT, np.zeros(LAYOUT.size), CARD)
    card = (tmp_path / "README.md").read_text()
    said = ["epsilon 8.00, delta 1e-05", "unit: record", "add-or-remove", "RDP at fixed orders", "Poisson sampling"]
    for words in [*said, "not covered: hyper-parameters", "No noise was added"]:
        assert words in card
    assert card.startswith('---\nbase_model: "parley/base"\nlibrary_name: peft\n')


def test_the_mean_of_adapters_is_the_adapter_of_the_mean(folders):
    adapted = tiny.adapted(folders("llama"), "llama")
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=adapted.layout.size).astype(np.float32) * 0.05 for _ in range(2))
    name = adapted.layout.slots[0].name

    def product(vector):
        adapted.set(vector)
        return (adapted.b(name) @ adapted.a(name)).numpy()

    mean = (product(one) + product(two)) / 2
    np.testing.assert_allclose(product((one + two) / 2), mean, atol=1e-6)


def test_removing_an_adapter_gives_the_base_model_back(folders):
    base = load_base(str(folders("llama")))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = base.model(input_ids=ids).logits
    layout = layout_of(base, rank=2, alpha=4.0, targets=("q_proj",), adapter_seed=1)
    for _ in range(2):
        adapted = Adapted(base, layout)
        adapted.set(np.ones(layout.size, np.float32))
        with torch.no_grad():
            assert not torch.equal(adapted.model(input_ids=ids).logits, before)
        adapted.remove()
        with torch.no_grad():
            assert torch.equal(base.model(input_ids=ids).logits, before)
