"""Which bytes a token stands for, for every kind of tokenizer; and the trie that finds tokens by their bytes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from client.experts.byte_table import ByteTable, byte_table
from client.experts.trie import Trie
from client.model import Base
from privacy.config import ConfigError

LoadKind = Callable[[str], Base]
TEXT = "the cat's hat: x[3] == 'mat'\n    return  self"
WIDE = TEXT + " – naïve 漢字 🙂\t\x00end"


def table_of(base: Base) -> ByteTable:
    return byte_table(base, int(base.model.config.vocab_size))


@pytest.mark.parametrize(
    ("kind", "prefix", "opening", "end"),
    [
        ("gpt2", b"", None, "<|endoftext|>"),
        ("qwen2", b"", None, "<|im_end|>"),
        ("llama", b" ", "<s>", "</s>"),
        ("unigram", b" ", None, "</s>"),
        ("bytes", b"", None, "</s>"),
    ],
)
def test_tokens_stand_for_the_bytes_that_they_came_from(
    load_kind: LoadKind, kind: str, prefix: bytes, opening: str | None, end: str
) -> None:
    base = load_kind(kind)
    table, tokenizer = table_of(base), base.tokenizer
    assert len(table.tokens) == base.model.config.vocab_size
    assert table.prefix == prefix
    assert table.opening == (None if opening is None else tokenizer.convert_tokens_to_ids(opening))
    assert table.end == (tokenizer.convert_tokens_to_ids(end),)
    texts = (TEXT,) if kind == "unigram" else (TEXT, WIDE)  # which has no token for what is not in its pieces
    for text in texts:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = text.replace("\n", "") if kind == "unigram" else text
        assert table.joined(tokens) == prefix + expected.encode() or tokenizer.unk_token_id in tokens


def test_every_byte_has_a_token_where_the_tokenizer_promises_one(load_kind: LoadKind) -> None:
    for kind in ("gpt2", "qwen2", "llama", "bytes"):
        assert {bytes([byte]) for byte in range(256)} <= set(table_of(load_kind(kind)).tokens), kind


def test_special_tokens_stand_for_no_bytes_and_added_ones_for_their_text(load_kind: LoadKind) -> None:
    base = load_kind("qwen2")
    table = table_of(base)
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert table.tokens[base.tokenizer.convert_tokens_to_ids(special)] == b""
    assert table.tokens[base.tokenizer.convert_tokens_to_ids("<tool_call>")] == b"<tool_call>"
    assert table.tokens[-6:] == (b"",) * 6  # what the model tells beyond its vocabulary


def test_a_models_own_stop_tokens_end_a_text_too(load_kind: LoadKind) -> None:
    base = load_kind("qwen2")
    before = base.model.generation_config.eos_token_id
    other = base.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    base.model.generation_config.eos_token_id = [other, base.tokenizer.eos_token_id]
    try:
        assert set(table_of(base).end) == {other, base.tokenizer.eos_token_id}
    finally:
        base.model.generation_config.eos_token_id = before


def tokenizer_of(normalizer: object, decoder: object) -> PreTrainedTokenizerFast:
    letters = {chr(c): c - 32 for c in range(32, 127)} | {"Ġ": 95}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer is not None:
        made.normalizer = normalizer
    if decoder is not None:
        made.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="~")


def test_a_tokenizer_that_changes_texts_or_is_not_known_is_refused(load_kind: LoadKind) -> None:
    base = load_kind("gpt2")
    changing = tokenizer_of(normalizers.Replace("a", "o"), decoders.ByteLevel())
    with pytest.raises(ConfigError, match="does not give back"):
        table_of(replace(base, tokenizer=changing))
    with pytest.raises(ConfigError, match="not known"):
        table_of(replace(base, tokenizer=tokenizer_of(None, None)))


words = st.lists(st.binary(max_size=4).map(lambda b: bytes(c % 4 for c in b)), min_size=1, max_size=30)


@given(words, st.binary(max_size=6).map(lambda b: bytes(c % 4 for c in b)), st.randoms())
def test_the_trie_finds_what_looking_through_all_tokens_finds(
    tokens: list[bytes], path: bytes, random: object
) -> None:
    trie = Trie(ByteTable((*tokens, b"\0"), ()))
    told = np.random.default_rng(len(tokens)).dirichlet(np.ones(len(tokens) + 1))
    row = trie.row(np.log(told))
    named = [(word, p) for word, p in zip((*tokens, b"\0"), told, strict=True) if word]
    whole = sum(p for _, p in named)
    walked = trie.walk(path)
    there = [word for word, _ in named if word.startswith(path)]
    assert (walked.node is not None) == bool(there)
    begun = [word for word, _ in named if path.startswith(word)]
    assert walked.length == max(map(len, begun), default=0)
    if walked.place is not None:
        assert tokens[trie.numbers[walked.place]] if trie.numbers[walked.place] < len(tokens) else b"\0"
    if walked.node is None:
        return
    node = walked.node
    assert trie.spelled(node) == path
    assert row.mass(node) == pytest.approx(sum(p for w, p in named if w.startswith(path)) / whole, abs=1e-12)
    assert len(trie.own(node)) == (sum(w == path for w, _ in named) if path else 0)
    longer = trie.longer(node)
    for byte in range(5):
        mass = sum(p for w, p in named if w.startswith(path + bytes([byte]))) / whole
        for one in (node, longer):
            child = trie.child(one, byte)
            assert (0.0 if child is None else row.mass(child)) == pytest.approx(mass, abs=1e-12)
