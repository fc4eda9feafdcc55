"""The base model that is shipped: it loads, knows some English and some code, and its tokenizer is bytes."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import simulations.base
from simulations.base.text import bits_per_byte, decode, encode, windows
from simulations.corpora.silos import mixed, silos

FOLDER = Path(simulations.base.__file__).parent / "model"
ENGLISH = (
    "The function returns the number of elements in the given list. If the argument is not a list, a value error is "
    "raised. By default, the result is computed for all of the dimensions of the input, which should be the same for "
    "each call. Note that this method does not change the original object, so that the caller may use it again."
)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def measured(model, text):
    return bits_per_byte(model, windows(encode(text.encode()), 256))


def test_the_model_is_small_and_whole(model):
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 3e6
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 8e6


def test_it_knows_english_of_manuals_and_less_of_the_private_silos(model):
    text = mixed(silos())
    thirds = [text[start : start + 12_000] for start in range(0, len(text), len(text) // 3)]
    private = measured(model, "".join(thirds))
    english = measured(model, ENGLISH)
    assert english < 2.6
    assert 1.2 < private < 2.7  # below 1.2 it would have seen them


def test_it_has_learnt_more_than_the_frequencies_of_bytes(model):
    shuffled = "".join(sorted(ENGLISH))
    assert measured(model, ENGLISH) < 0.6 * measured(model, shuffled)


def test_the_figures_are_those_of_this_model(model):
    figures = json.loads((FOLDER.parent / "figures.json").read_text())
    assert figures["sha256"] == hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert figures["sha256"] in (FOLDER.parent / "card.md").read_text()
    assert figures["parameters"] == sum(p.numel() for p in model.parameters())
    assert figures["public_bits_per_byte"] < figures["private_bits_per_byte"]["mixed"]
    assert figures["public_text"]["shared"] < 0.002


@given(st.binary(max_size=300))
def test_any_bytes_come_back_as_they_were(raw):
    assert decode(encode(raw).tolist()) == raw


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=100))
def test_the_tokenizer_gives_a_token_for_each_byte_and_the_text_back(tokenizer, text):
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    assert tokens == encode(text.encode()).tolist()
    assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("text", ["</s>", "a <pad> b", "<unk></s> ", "  </s>\n"])
def test_the_names_of_special_tokens_are_plain_text_in_somebodys_text(tokenizer, text):
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    assert tokens == encode(text.encode()).tolist()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_it_goes_on_writing(model, tokenizer):
    start = tokenizer("def ", add_special_tokens=False, return_tensors="pt").input_ids
    text = tokenizer.decode(model.generate(start, max_new_tokens=40, do_sample=False)[0], skip_special_tokens=True)
    assert text.startswith("def ")
    assert len(text) > 10
