"""Experts over tokens, on tiny real models: what is kept of earlier calls changes nothing but the time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from client.experts.expert import Thought, common, normalised
from client.experts.proxy import ProxyExpert
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base
from protocols.faults import PeerError

WINDOW, SYMBOLS = 64, 97
CONTEXT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama() -> object:
    return LlamaForCausalLM(LlamaConfig(vocab_size=SYMBOLS, max_position_embeddings=WINDOW, **WIDTHS))


def gpt2() -> object:
    return GPT2LMHeadModel(GPT2Config(vocab_size=SYMBOLS, n_positions=WINDOW, n_embd=32, n_layer=2, n_head=4))


def sliding() -> object:
    made = MistralConfig(
        vocab_size=SYMBOLS, max_position_embeddings=WINDOW, sliding_window=5, num_key_value_heads=2, **WIDTHS
    )
    return MistralForCausalLM(made)


def recurrent() -> object:
    return MambaForCausalLM(MambaConfig(vocab_size=SYMBOLS, hidden_size=32, num_hidden_layers=2, state_size=4))


def view(make: Callable[[], object] = llama, seed: int = 7) -> View:
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():  # a fresh model says nearly the same everywhere: make it say something
        for parameter in model.parameters():  # type: ignore[attr-defined]
            parameter.mul_(4.0) if parameter.dim() == 2 else None
    return View(Base("tiny", model.eval(), None, ""))  # type: ignore[attr-defined]


def plain(seen: View, symbols: list[int]) -> np.ndarray:
    """Every position's distribution, by one forward without anything kept."""
    with torch.inference_mode():
        logits = seen.base.model(input_ids=torch.tensor([symbols]), use_cache=False).logits[0]
    return normalised(logits.double().numpy())


def check(thought: Thought, seen: View, context: list[int], drafts: list[int]) -> None:
    rows = plain(seen, [*context, *drafts])
    told = [0.0, *(rows[j - 1][context[j]] for j in range(1, len(context)))]
    assert np.abs(thought.told - told).max() < 1e-5
    assert np.abs(thought.next - rows[len(context) - 1 :]).max() < 1e-5
    assert np.abs(thought.drafted - [thought.next[t][d] for t, d in enumerate(drafts)]).max(initial=0) == 0
    assert np.abs(np.exp(thought.next).sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("make", [llama, gpt2, sliding, recurrent])
def test_what_is_kept_is_what_a_forward_without_it_says(make: Callable[[], object]) -> None:
    seen = view(make)
    expert = TokenExpert(seen)
    assert seen.keeps is (make is not recurrent)  # a model with another memory is read anew each time
    grown = list(CONTEXT)
    check(expert.block(grown, [2, 7]), seen, grown, [2, 7])
    check(expert.block(grown, [2, 7]), seen, grown, [2, 7])  # the same again
    grown += [2, 11]  # one draft was kept, the other one rejected
    check(expert.block(grown, [4, 4, 4]), seen, grown, [4, 4, 4])
    grown += [50]  # all were rejected
    check(expert.block(grown, []), seen, grown, [])
    check(expert.block(CONTEXT[:4], [9]), seen, CONTEXT[:4], [9])  # back to before
    check(expert.block([8, 8], [9]), seen, [8, 8], [9])  # another conversation
    check(expert.block(grown, [1]), seen, grown, [1])


def test_a_block_costs_one_forward_of_what_is_new() -> None:
    seen = view()
    expert = TokenExpert(seen)
    expert.block(CONTEXT, [2, 7, 1])
    before = seen.count.forwards, seen.count.tokens
    expert.block([*CONTEXT, 2, 7, 9], [1, 1, 1])
    assert (seen.count.forwards - before[0], seen.count.tokens - before[1]) == (
        1,
        5,
    )  # 7 too: what follows it was not kept


def test_a_long_context_is_read_in_pieces_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view()
    long = [int(n) for n in np.random.default_rng(1).integers(0, SYMBOLS, WINDOW - 4)]
    whole = TokenExpert(seen).block(long, [1, 2])
    monkeypatch.setattr("client.experts.expert._ENTRIES_AT_ONCE", 7 * SYMBOLS)
    pieces = TokenExpert(seen).block(long, [1, 2])
    for one, other in ((whole.told, pieces.told), (whole.next, pieces.next), (whole.drafted, pieces.drafted)):
        assert np.abs(one - other).max() < 1e-5
    check(pieces, seen, long, [1, 2])


def test_no_more_conversations_are_kept_than_were_agreed() -> None:
    seen = view()
    expert = TokenExpert(seen, conversations=2)
    for first in range(10):
        check(expert.block([first, 5, 6], [1]), seen, [first, 5, 6], [1])
    assert len(expert._caches._kept) == 2
    assert len(expert._remembered._kept) == 4


def test_several_conversations_take_turns_and_each_forwards_what_is_new_alone() -> None:
    seen, talks = view(), [[n, 5, 6, 7] for n in range(4)]
    expert = TokenExpert(seen)
    for step in range(4):
        for talk in talks:
            before = seen.count.tokens
            expert.block(talk, [1, 2])
            assert seen.count.tokens - before <= (
                6 if not step else 5
            )  # the last known symbol, what is new, and the drafts
            talk += [9, step]
    for talk in talks:
        check(expert.block(talk, [1]), seen, talk, [1])


def test_what_is_kept_of_conversations_is_twice_the_window_at_most_however_many_there_are() -> None:
    seen = view()
    expert = TokenExpert(seen)
    for first in range(10):
        expert.block([first] * (WINDOW // 2), [])
        assert sum(symbols.size for symbols, _ in expert._caches._kept) <= 2 * WINDOW
    assert len(expert._caches._kept) == 4


@pytest.mark.parametrize(
    ("context", "drafts", "words"),
    [
        ([], [1], "an empty context"),
        ([SYMBOLS], [], f"none of the {SYMBOLS}"),
        ([1], [-1], f"none of the {SYMBOLS}"),
        ([1] * WINDOW, [1], f"65 tokens of context and drafts, and this model reads {WINDOW}"),
    ],
)
def test_what_a_model_cannot_read_is_the_askers_fault_by_name(
    context: list[int], drafts: list[int], words: str
) -> None:
    with pytest.raises(PeerError, match=words):
        TokenExpert(view()).block(context, drafts)


def test_a_context_that_fills_the_window_is_read() -> None:
    seen = view()
    full = (CONTEXT * 5)[:WINDOW]
    check(TokenExpert(seen).block(full, []), seen, full, [])


def test_tuning_is_added_to_the_public_model_as_often_as_asked_for() -> None:
    public, tuned, untuned = (view(seed=seed) for seed in (1, 2, 3))
    moved = ProxyExpert(TokenExpert(public), TokenExpert(tuned), TokenExpert(untuned), 1.5)
    rows = [plain(seen, [*CONTEXT, 4]) for seen in (public, tuned, untuned)]
    expected = normalised(rows[0] + 1.5 * (rows[1] - rows[2]))
    thought = moved.block(CONTEXT, [4])
    assert np.abs(thought.next - expected[-2:]).max() < 1e-5
    told = [expected[j - 1][CONTEXT[j]] for j in range(1, len(CONTEXT))]
    assert np.abs(thought.told[1:] - told).max() < 1e-5


def test_sequences_are_compared_to_where_they_part() -> None:
    one = np.array([1, 2, 3])
    assert [common(one, np.array(other, np.int64)) for other in ([], [1, 2], [1, 2, 3, 4], [1, 9, 3], [9])] == [
        0, 2, 3, 1, 0,
    ]  # fmt: skip
