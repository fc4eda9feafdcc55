"""Who asks at home is never worse off than with its own model: the sum is one source, its own is another."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_logits_speaking import Speaker, after
from thinkers import PLAIN, PUBLIC, SYMBOLS, bigram, question
from village import village

from protocols.catalog import CATALOG
from protocols.faults import LocalError
from protocols.logits.at_home import AtHome, mixed_told, priors, weights
from protocols.logits.question import Sends
from protocols.logits.sampling import accepted
from protocols.logits.speaking import Talk, speak, speak_together
from protocols.session import drive

PROMPT = (1, 4, 2, 2, 5)


def naive(sources, text):
    """Multiply each source's probabilities of the symbols so far, and mix by these products: (n, V)."""
    own = len(sources) - 1
    products, rows = [0.5] + [0.5 / own] * own, []
    for before, symbol in zip([None, *text[:-1]], text, strict=True):
        said = [source(before) for source in sources]
        rows.append(sum(w * p for w, p in zip(products, said, strict=True)) / sum(products))
        products = [w * p[symbol] for w, p in zip(products, said, strict=True)]
    return np.array(rows)


def source(table):
    return lambda before: np.exp(table.logs[0 if before is None else before])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 40))
def test_the_loss_is_at_most_the_sums_and_at_most_ones_own_but_for_the_prior(seed, own, length):
    draw = np.random.default_rng(seed)
    told = -draw.exponential(draw.uniform(0, 8, (1 + own, 1)), (1 + own, length))
    loss = -mixed_told(told).sum()
    assert loss <= -told[0].sum() + math.log(2) + 1e-9
    assert loss <= -told[1:].sum(axis=1).max() + math.log(2 * own) + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_the_mixture_is_bayes_rule(seed, own):
    tables = [bigram(seed + n) for n in range(1 + own)]
    text = np.random.default_rng(seed).integers(0, SYMBOLS, 12).tolist()
    expected = naive([source(t) for t in tables], text)
    told = np.log([[source(t)(b)[s] for b, s in zip([None, *text[:-1]], text, strict=True)] for t in tables])
    assert mixed_told(told) == pytest.approx(np.log(expected[np.arange(12), text]), abs=1e-9)
    assert np.exp(weights(told, priors(own))).sum(axis=0) == pytest.approx(1)


@pytest.mark.parametrize("cuts", [(2, 3, 4, 5, 6, 7), (2, 5), (4, 7), ()])
def test_blocks_are_mixed_as_one_symbol_after_the_other_is_whatever_stood_in_them_as_drafts(cuts):
    tables, text = [PUBLIC, bigram(5), bigram(6)], (1, 4, 2, 2, 5, 0, 3, 1)
    home, got = AtHome(tables[1:]), []
    starts = (1, *cuts)
    for start, end in zip(starts, (*cuts, len(text)), strict=True):
        drafts = [*text[start : end - 1], (text[end - 1] + 1) % SYMBOLS]  # the last one did not stand
        together = np.exp(tables[0].block(text[:start], drafts).next)
        got.append(home.mixed(text[:start], drafts, together)[: end - start])
    after_first = [lambda before, t=t: np.exp(t.logs[text[0] if before is None else before]) for t in tables]
    assert np.concatenate(got) == pytest.approx(naive(after_first, text[1:]), abs=1e-12)


def test_another_context_than_the_one_that_was_mixed_for_is_a_fault_of_ones_own():
    home = AtHome([bigram(5)])
    home.mixed([1, 2], [3], np.full((2, SYMBOLS), 1 / SYMBOLS))
    for other in ([1], [0, 2, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(LocalError):
            home.mixed(other, [], np.full((1, SYMBOLS), 1 / SYMBOLS))
    with pytest.raises(LocalError):
        AtHome([])


def test_what_one_source_finds_impossible_leaves_the_other(recwarn):
    sure = np.zeros((1, SYMBOLS))
    sure[0, 2] = 1.0
    home, own = AtHome([PUBLIC]), np.exp(PUBLIC.logs)
    home.mixed([1], [], sure)
    assert home.mixed([1, 3], [], sure) == pytest.approx(own[3:4], abs=1e-12)
    assert not recwarn.list


@pytest.mark.parametrize(
    "asked", [question(most=18, block=8), question(most=18, block=5, sends=Sends.RATIOS, clip=2.0)]
)
def test_an_answer_is_drawn_from_sum_and_own_model_by_what_the_prompt_says_of_them(asked, tmp_path):
    there, public, own = village(tmp_path, 3), Speaker(), bigram(99)
    name = "mixture" if asked.sends is Sends.WEIGHTED else "product"
    running = speak(name, sorted(there.houses), asked, PLAIN, 2, PROMPT, public, AtHome([own]))
    made = drive(running, there.outbox("5e55", name), CATALOG[name].wire)
    numbers, context = Speaker(), list(PROMPT)
    most, reach = asked.most - len(PROMPT) + 1, asked.block - len(PROMPT) + 1
    while len(context) - len(PROMPT) < most:
        left = most - len(context) + len(PROMPT)
        drafts, rows = numbers.draft(context, min(reach, left) - 1, greedy=False)
        whole = [*context, *drafts]
        together = np.array([after(there, name, asked, whole[:n]) for n in range(1, len(whole) + 1)])
        mixed = AtHome([own]).mixed(whole[:1], whole[1:], together)
        context += accepted(mixed[len(context) - 1 :], rows, drafts, numbers.uniform)
    assert made.symbols == tuple(context[len(PROMPT) :])
    assert len(made.symbols) == most


def test_nothing_is_mixed_into_what_is_sampled_from_for_somebodys_privacy(tmp_path):
    there = village(tmp_path, 3)
    central = question(sends=Sends.RATIOS, clip=2.0, central=True, block=8)
    for asked in (central, question(block=4)):
        with pytest.raises(LocalError):
            drive(
                speak("mixture", sorted(there.houses), asked, PLAIN, 2, PROMPT, Speaker(), AtHome([bigram(9)])),
                there.outbox("5e55", "mixture"),
                CATALOG["mixture"].wire,
            )
    assert there.road.trip == 0


def test_prompts_at_a_home_that_are_answered_together_get_the_answers_they_get_alone(tmp_path):
    """Two begin alike: all symbols of a prompt have a position there, so that the later one begins a block later."""
    prompts, own, reach, most = (PROMPT, (1, 3), (0, 5, 5)), bigram(99), 3, 7
    ahead = [len(prompt) - 1 for prompt in prompts]
    there = village(tmp_path / "all", 3)
    asked = question(block=sum(ahead) + 3 * reach, most=sum(ahead) + 3 * most)
    talks = [Talk(prompt, Speaker(seed), AtHome([own])) for seed, prompt in enumerate(prompts)]
    talk = speak_together("mixture", sorted(there.houses), asked, PLAIN, 2, talks)
    made = drive(talk, there.outbox("5e55", "mixture"), CATALOG["mixture"].wire)
    trips = there.road.trip
    for seed, prompt in enumerate(prompts):
        there = village(tmp_path / str(seed), 3)
        asked = question(block=ahead[seed] + reach, most=ahead[seed] + most)
        alone = speak("mixture", sorted(there.houses), asked, PLAIN, 2, prompt, Speaker(seed), AtHome([own]))
        alone = drive(alone, there.outbox("5e55", "mixture"), CATALOG["mixture"].wire)
        assert made[seed].symbols == alone.symbols
        assert len(alone.symbols) == most
    assert trips - 2 <= 1 + max(len(m.given) for m in made)


def test_of_several_prompts_one_at_a_home_is_enough_that_nothing_may_be_sampled_from(tmp_path):
    there = village(tmp_path, 3)
    central = question(sends=Sends.RATIOS, clip=2.0, central=True, block=16)
    for asked, homes in ((central, (None, AtHome([bigram(9)]))), (question(block=8), (AtHome([bigram(9)]),) * 2)):
        talks = [Talk(PROMPT, Speaker(), home) for home in homes]
        with pytest.raises(LocalError):
            drive(
                speak_together("mixture", sorted(there.houses), asked, PLAIN, 2, talks),
                there.outbox("5e55", "mixture"),
                CATALOG["mixture"].wire,
            )
    assert there.road.trip == 0
