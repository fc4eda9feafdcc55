"""Experts over bytes: exactly the marginals of their token models, whatever the tokenizer, whatever is kept."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from client.experts.byte_expert import END, SYMBOLS, Beam, ByteExpert
from client.experts.byte_table import ByteTable, byte_table
from client.experts.expert import normalised
from client.experts.trie import Trie
from client.experts.view import View
from client.model import Base
from protocols.faults import PeerError

from .conftest import KINDS, WINDOW, livelier

LoadKind = Callable[[str], Base]
ALL = Beam(width=10**6, least=0.0)
TOY = ["a", "b", "c", "ab", "abc", "ba", "cc", "<s>", "</s>"]
TEXT = "the cat sat on the hat; café"


def toy(*, opening: bool, wide: bool = True) -> tuple[View, ByteTable]:
    """A model in double precision over tokens that spell the same bytes in many ways."""
    merges = [("a", "b"), ("ab", "c"), ("b", "a"), ("c", "c")]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(TOY)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(5)
    widths = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = livelier(LlamaForCausalLM(LlamaConfig(vocab_size=len(TOY), max_position_embeddings=32, **widths)))
    spelled = tuple(token.encode() if token.isalpha() else b"" for token in TOY)
    table = ByteTable(spelled, (8,), opening=7) if opening else ByteTable(spelled, (8,), hint=8)
    return View(Base("toy", model.double().eval(), fast, "")), table


class ByHand:
    """Every way to spell a text, its probability by a plain forward each."""

    def __init__(self, view: View, table: ByteTable) -> None:
        self.view, self.table = view, table
        self.rows: dict[tuple[int, ...], np.ndarray] = {}

    def row(self, tokens: tuple[int, ...]) -> np.ndarray:
        """The next token's distribution, over those that stand for bytes or end a text."""
        if tokens not in self.rows:
            table = self.table
            said = [table.opening, *tokens] if table.opening is not None else list(tokens) or [table.hint]
            with torch.inference_mode():
                logits = self.view.base.model(input_ids=torch.tensor([said]), use_cache=False).logits[0, -1]
            told = np.exp(normalised(logits.double().numpy()[None])[0])
            counts = [bool(spelled) or n in table.end for n, spelled in enumerate(table.tokens)]
            self.rows[tokens] = told * counts / (told * counts).sum()
        return self.rows[tokens]

    def begins(self, text: bytes, tokens: tuple[int, ...] = ()) -> float:
        """How likely a text begins so: over all token sequences that just cover it."""
        if not text:
            return 1.0
        whole = 0.0
        for token, spelled in enumerate(self.table.tokens):
            if spelled and text.startswith(spelled):
                whole += self.row(tokens)[token] * self.begins(text[len(spelled) :], (*tokens, token))
            elif spelled.startswith(text):
                whole += self.row(tokens)[token]
        return whole

    def is_all(self, text: bytes, tokens: tuple[int, ...] = ()) -> float:
        """How likely a text is this and no more."""
        if not text:
            return float(sum(self.row(tokens)[end] for end in self.table.end))
        ways = [(t, s) for t, s in enumerate(self.table.tokens) if s and text.startswith(s)]
        return float(sum(self.row(tokens)[t] * self.is_all(text[len(s) :], (*tokens, t)) for t, s in ways))


@pytest.mark.parametrize("opening", [False, True])
def test_byte_probabilities_are_those_of_all_spellings_together(opening: bool) -> None:
    view, table = toy(opening=opening)
    by_hand = ByHand(view, table)
    text = b"abcabba"
    said = ByteExpert(view, Trie(table), ALL).block(list(text[:3]), list(text[3:]))
    for place in range(3, len(text) + 1):
        given = by_hand.begins(text[:place])
        expected = {byte: by_hand.begins(text[:place] + bytes([byte])) / given for byte in b"abc"}
        expected[END] = by_hand.is_all(text[:place]) / given
        found = np.exp(said.next[place - 3])
        for symbol in range(SYMBOLS):
            assert abs(found[symbol] - expected.get(symbol, 0.0)) < 1e-9, (place, symbol)
        assert sum(expected.values()) == pytest.approx(1, abs=1e-12)
    told = [by_hand.begins(text[: n + 1]) / by_hand.begins(text[:n]) for n in range(1, 3)]
    assert np.abs(np.exp(said.told[1:]) - told).max() < 1e-9
    assert said.told[0] == 0.0


def test_every_short_text_has_the_probability_of_its_spellings() -> None:
    view, table = toy(opening=True)
    by_hand, expert = ByHand(view, table), ByteExpert(view, Trie(table), ALL)
    for letters in itertools.product(b"abc", repeat=3):
        text = bytes(letters)
        found = expert.block(list(text[:1]), [*text[1:], END])
        whole = found.drafted.sum() + math.log(by_hand.begins(text[:1]))
        assert abs(math.exp(whole) - by_hand.is_all(text)) < 1e-9


def uncached(view: View, symbols: list[int]) -> np.ndarray:
    """The rows of an expert that keeps nothing, reads nothing ahead, and reads each prefix by itself."""
    expert = ByteExpert(replace_tokenizer(view), byte_trie(view))
    expert._shares = False
    return expert.rows(np.array(symbols), 1)


def replace_tokenizer(view: View) -> View:
    """A view whose tokenizer cuts every text into nothing, so that nothing can be read ahead."""
    return View(replace(view.base, tokenizer=lambda *_, **__: {"input_ids": []}))


TRIES: dict[int, Trie] = {}


def byte_trie(view: View) -> Trie:
    return TRIES.setdefault(id(view.base), Trie(byte_table(view.base, view.vocabulary)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_and_read_ahead_changes_nothing(load_kind: LoadKind, kind: str) -> None:
    view = View(load_kind(kind))
    symbols = list(TEXT.encode())
    plain = uncached(view, symbols)
    assert np.abs(np.exp(plain).sum(axis=1) - 1).max() < 1e-9
    expert = ByteExpert(view, byte_trie(view))
    for end, drafts in ((9, 3), (10, 4), (12, 0), (20, 6), (20, 6), (6, 2), (len(symbols) - 4, 4)):
        thought = expert.block(symbols[:end], symbols[end : end + drafts])
        assert np.abs(thought.next - plain[end - 1 : end + drafts]).max() < 1e-5, end
        told = [plain[n - 1][symbols[n]] for n in range(1, end)]
        assert np.abs(thought.told[1:] - told).max() < 1e-5
    wrong = expert.block(symbols[:20], [1, 2, 3, END, 7])  # drafts that will be rejected
    assert np.isfinite(wrong.next).all()
    again = expert.block(symbols[:21], symbols[21:24])
    assert np.abs(again.next - plain[20:24]).max() < 1e-5
    if kind not in ("bytes",):
        assert expert._shares
        assert view.count.forwards < 3 * len(symbols)  # in eight calls, some of which go back


def test_after_an_end_of_text_another_one_begins(load_kind: LoadKind) -> None:
    for kind in ("gpt2", "llama"):
        view = View(load_kind(kind))
        second = list(b"the cat")
        alone = ByteExpert(view, byte_trie(view)).rows(np.array(second), 1)
        both = ByteExpert(view, byte_trie(view)).rows(np.array([*b"a hat", END, *second]), 1)
        assert np.abs(both[-len(second) :] - alone).max() < 1e-5


def test_an_end_of_text_is_the_token_that_ends_it(load_kind: LoadKind) -> None:
    """With one token for each byte the marginal is the token model's own distribution."""
    view = View(load_kind("bytes"))
    symbols = list(b"the hat")
    rows = np.exp(ByteExpert(view, byte_trie(view), ALL).rows(np.array(symbols), 1))
    with torch.inference_mode():
        logits = view.base.model(input_ids=torch.tensor([[s + 3 for s in symbols]])).logits[0].double().numpy()
    tokens = np.exp(normalised(logits))
    expected = np.concatenate([tokens[:, 3:259], tokens[:, 1:2]], axis=1)
    assert np.abs(rows - expected / expected.sum(axis=1, keepdims=True)).max() < 1e-6


def counted(expert: ByteExpert) -> list[int]:
    """A list that grows each time the expert tokenises a text again."""
    healed, inner = [], expert._healed

    def heal(there: object, state: object, byte: int) -> object:
        healed.append(byte)
        return inner(there, state, byte)  # type: ignore[arg-type]

    expert._healed = heal  # type: ignore[method-assign, assignment]
    return healed


def test_a_text_that_no_hypothesis_was_kept_for_is_tokenised_again() -> None:
    """A model that is very sure meets texts that it does not expect: its beam dies, is healed, and goes on."""
    view, table = toy(opening=True)
    with torch.no_grad():
        view.base.model.get_output_embeddings().weight.mul_(20)
    expert = ByteExpert(view, Trie(table), Beam(width=1, least=0.9))
    healed = counted(expert)
    for letters in itertools.product(b"abc", repeat=4):
        rows = expert.rows(np.array(letters), 1)
        assert np.isfinite(rows).all()
        assert np.abs(np.exp(rows).sum(axis=1) - 1).max() < 1e-9
    assert len(healed) > 10


def test_a_byte_that_no_token_has_is_left_out_and_the_text_goes_on(load_kind: LoadKind) -> None:
    view = View(load_kind("unigram"))
    expert = ByteExpert(view, byte_trie(view))
    strange = "the ☃ cat sat".encode() + b"\xff"
    healed = counted(expert)
    thought = expert.block(list(strange), [])
    assert healed
    assert np.isfinite(thought.told).all()
    assert thought.told[4] == pytest.approx(math.log(expert.beam.spread / SYMBOLS))
    assert np.exp(thought.next[0]).sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_bytes_that_are_no_text_are_read_all_the_same(load_kind: LoadKind, kind: str) -> None:
    """A draft may stop within a character, and a context may be any bytes at all."""
    view = View(load_kind(kind))
    expert = ByteExpert(view, byte_trie(view))
    for symbols in ([*"é 🙂".encode()][:-2], [0xFF, 0xC3, 0x28, 0x00, *b"cat"]):
        thought = expert.block(symbols, [])
        assert np.abs(thought.next - uncached(view, symbols)[-1:]).max() < 1e-5


def test_more_than_the_model_could_read_is_the_askers_fault_by_name(load_kind: LoadKind) -> None:
    expert = ByteExpert(View(load_kind("gpt2")))
    most = 4 * WINDOW
    expert.require_room(most)
    words = f"{most + 1} bytes of context and drafts, and this model reads 4 times its {WINDOW} tokens"
    for ask in (lambda: expert.require_room(most + 1), lambda: expert.block([32] * most, [32])):
        with pytest.raises(PeerError, match=words):
            ask()
    with pytest.raises(PeerError, match="an empty context"):
        expert.require_room(0)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_no_longer_fits_into_the_window_is_forgotten_and_nothing_is_refused(
    load_kind: LoadKind, kind: str
) -> None:
    view = View(load_kind(kind))
    symbols = list(b"0123456789" * 12)  # a token for nearly every digit
    rows = ByteExpert(view, byte_trie(view)).rows(np.array(symbols), 1)
    assert np.abs(np.exp(rows).sum(axis=1) - 1).max() < 1e-9
    expert = ByteExpert(view, byte_trie(view))
    parts = [expert.block(symbols[:end], symbols[end : end + 1]).next[0] for end in range(90, 110)]
    assert np.abs(np.array(parts) - rows[89:109]).max() < 1e-5


def test_an_empty_context_and_a_symbol_out_of_range_are_named(load_kind: LoadKind) -> None:
    expert = ByteExpert(View(load_kind("gpt2")))
    with pytest.raises(PeerError, match="an empty context"):
        expert.block([], [32])
    with pytest.raises(PeerError, match="none of the 257"):
        expert.block([32], [257])


def test_a_long_conversation_keeps_no_more_than_its_last_places(load_kind: LoadKind) -> None:
    view = View(load_kind("llama"))
    expert = ByteExpert(view, byte_trie(view), conversations=1)
    expert._most_back = 8
    text = list(b"the cat sat on the mat, and the other")
    plain = uncached(view, text)
    for end in range(1, len(text) + 1):
        said = expert.block(text[:end], [])
        assert np.abs(said.next[0] - plain[end - 1]).max() < 1e-5
    ((_, there),) = expert._recent._kept
    assert len(there.states) <= 8
    assert there.prefixes._size < 3 * len(text) + 256
