"""What is tried with several strands in a block: one answer's words in another's, one price for two, other places."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent
from test_attacks_on_positions import Scene, asked_of, heard_of, refused
from test_logits_private import WARY, lines
from test_logits_speaking import CENTRAL, RATIOS, Speaker
from thinkers import PLAIN, Bigram, question, told
from village import village

from client.homes.logits import noised, sampled
from privacy.accounting.events import from_json
from protocols.catalog import CATALOG
from protocols.faults import Abort
from protocols.logits.block import MOST_STRANDS, Strand, Think
from protocols.logits.speaking import Talk, speak_together
from protocols.session import drive

WIDE = question(block=12)
STRANDS = ((0, (1, 4), (2, 2)), (1, (3, 4, 0), (5,)), (2, (0,), ()))
PROMPTS = ((1, 4), (3, 0, 2), (5,))


@pytest.fixture
def scene(tmp_path):
    return Scene(village(tmp_path, 4))


def batch(blocks, *strands):
    return blocks.sum(*(asked_of(blocks.question, context, drafts, n) for n, context, drafts in strands))


def overheard(talk, letters: list[Think]):
    """Go through a talk, and keep what the first member is asked."""
    asks = next(talk)
    while True:
        letters += [ask for _, ask in sorted(asks.items()) if isinstance(ask, Think)][:1]
        answers = yield asks
        try:
            asks = talk.send(answers)
        except StopIteration as done:
            return done.value


def spoken(there, asked, publics, name: str = "mixture") -> tuple[tuple, list[Think]]:
    """Return the answers to all prompts, and what a member was asked for them."""
    letters: list[Think] = []
    talks = [Talk(prompt, public) for prompt, public in zip(PROMPTS, publics, strict=True)]
    talk = overheard(speak_together(name, sorted(there.houses), asked, PLAIN, 2, talks), letters)
    return drive(talk, there.outbox("5e55", name), CATALOG[name].wire), letters


def contexts(letters: list[Think]) -> dict[int, list[tuple[tuple[int, ...], Strand]]]:
    """Return each strand's contexts as a member puts them together, block after block."""
    found: dict[int, list[tuple[tuple[int, ...], Strand]]] = {}
    for letter in letters:
        for strand in letter.strands:
            before = found.setdefault(strand.number, [((), strand)])[-1][0]
            found[strand.number].append(((*before[: strand.start], *strand.tokens.tolist()), strand))
    return {number: blocks[1:] for number, blocks in found.items()}


def test_no_strand_holds_a_word_of_another_ones_prompt_or_answer(tmp_path):
    """Each context is its own prompt and what was drawn for it, told of as if there were no other."""
    asked = question(block=12, most=30)
    answers, letters = spoken(village(tmp_path, 3), asked, [Speaker(seed) for seed in (3, 4, 5)])
    grown = contexts(letters)
    assert sorted(grown) == [0, 1, 2]
    for number, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
        whole = (*prompt, *answer.symbols)
        for context, strand in grown[number]:
            assert context == whole[: len(context)]
            known = told((*context, *strand.drafts.tolist()))
            assert np.array_equal(strand.told, known[strand.start : len(context)])
            assert np.array_equal(strand.drafted, known[len(context) :])
        assert all(len(one) < len(next_one) for (one, _), (next_one, _) in pairwise(grown[number]))


def test_an_answer_that_ends_early_is_not_asked_for_again_and_leaves_its_positions_to_nobody(tmp_path):
    asked, publics = question(block=12, most=30), [Speaker(seed) for seed in (3, 4, 5)]
    publics[1].ends = frozenset(range(6))
    answers, letters = spoken(village(tmp_path, 3), asked, publics)
    assert [len(a.symbols) for a in answers] == [10, 1, 10]
    assert [n for n, letter in enumerate(letters) if any(s.number == 1 for s in letter.strands)] == [0]
    assert all(strand.positions <= 4 for letter in letters for strand in letter.strands)
    assert len(letters) == max(len(a.given) for a in answers)


def test_who_asked_is_told_of_each_answer_once_and_when_it_is_whole(tmp_path):
    there, asked, heard = village(tmp_path, 3), question(block=12, most=30), []
    publics = [Speaker(seed) for seed in (3, 4, 5)]
    publics[1].ends = frozenset(range(6))

    def ended(number):
        heard.append((number, sum(map(len, publics[number].shown))))

    talks = [Talk(p, s, None, partial(ended, n)) for n, (p, s) in enumerate(zip(PROMPTS, publics, strict=True))]
    talk = speak_together("mixture", sorted(there.houses), asked, PLAIN, 2, talks)
    made = drive(talk, there.outbox("5e55", "mixture"), CATALOG["mixture"].wire)
    assert heard[0] == (1, 1)
    assert sorted(heard) == [(n, len(m.symbols)) for n, m in enumerate(made)]


@pytest.mark.parametrize("seed", range(5))
def test_prompts_that_begin_alike_in_every_way_are_never_asked_for_one_position_in_one_block(seed, tmp_path):
    """Members would refuse it: of two symbols, and so of many texts that meet and part."""
    random = np.random.default_rng(seed)
    prompts = [tuple(random.integers(0, 2, random.integers(1, 5)).tolist()) for _ in range(6)]
    there = village(tmp_path, 3)
    talks = [Talk(prompt, Speaker(n)) for n, prompt in enumerate(prompts)]
    talk = speak_together("mixture", sorted(there.houses), question(block=18, most=36), PLAIN, 2, talks)
    made = drive(talk, there.outbox("5e55", "mixture"), CATALOG["mixture"].wire)
    assert [len(m.symbols) for m in made] == [6] * 6


@dataclass
class Confused(Bigram):
    """Say of one context what is so of another: a member that puts a strand's entries in another one's place."""

    of: tuple[int, ...] = ()
    instead: tuple[int, ...] = ()

    def block(self, context, drafts):
        return Bigram.block(self, self.instead if tuple(context) == self.of else context, drafts)


def test_a_member_that_answers_for_another_strand_moves_no_sum_but_that_strands_and_that_no_further_than_its_word(
    tmp_path,
):
    sums, strands = [], ((0, (5, 1, 4), (5,)), *STRANDS[1:])
    for confused in (False, True):
        scene = Scene(village(tmp_path / str(confused), 4))
        (model,) = scene.there.houses["m1"].thinkers.own
        if confused:
            scene.there.houses["m1"].thinkers.own = (Confused(model.table, of=(3, 4, 0), instead=(5, 1, 4)),)
        scene.play(lambda o, s=scene: (yield from _kept(sums, batch(s.blocks(o, WIDE), *strands))))
    honest, other = (block.totals for block in sums)
    assert np.array_equal(honest[0], other[0])
    assert np.array_equal(honest[2], other[2])
    assert not np.array_equal(honest[1], other[1])
    assert np.abs(honest[1] - other[1]).max() <= 2 * np.exp(WIDE.weight_bound)


def _kept(sums: list, block):
    sums.append((yield from block))


ORDERS = {
    "the strands' places exchanged": lambda ask: replace(
        ask,
        strands=tuple(replace(s, number=n) for n, s in enumerate((ask.strands[1], ask.strands[0], *ask.strands[2:]))),
    ),
    "a strand less": lambda ask: replace(ask, strands=ask.strands[1:]),
    "other numbers": lambda ask: replace(ask, strands=tuple(replace(s, number=s.number + 3) for s in ask.strands)),
    "drafts of another strand": lambda ask: replace(
        ask,
        strands=(replace(ask.strands[0], drafts=ask.strands[1].drafts, drafted=ask.strands[1].drafted),
                 *ask.strands[1:]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_a_member_that_is_told_another_order_refuses_and_with_a_request_to_match_its_masks_do_not_cancel(
    order, scene
):
    alter = ORDERS[order]

    def told_otherwise(opened):
        blocks = scene.blocks(opened, WIDE, lambda m, a: alter(a) if m == "m1" else a)
        yield from batch(blocks, *STRANDS)

    refused(scene, told_otherwise, "than mine", everybody=False)
    assert scene.released == [1, 0, 1, 1]

    def lie(member, ask):
        if member != "m1":
            return ask
        other = alter(ask)
        spec = WIDE.spec(PLAIN, 4, other.positions)
        return replace(other, request=replace(ask.request, context=heard_of(other).digest("mixture"), spec=spec))

    scene.why.clear()
    with pytest.raises(Abort, match="3 of 4 members"):
        scene.play(lambda o: batch(scene.blocks(o, WIDE, lie), *STRANDS), session="5e56")
    assert scene.why == {}


def test_strands_that_are_not_in_the_order_of_their_numbers_are_refused(scene):
    backwards = lambda _m, ask: replace(ask, strands=ask.strands[::-1])  # noqa: E731
    refused(scene, lambda o: batch(scene.blocks(o, WIDE, backwards), *STRANDS), "in the order of their numbers")
    assert scene.released == [0, 0, 0, 0]


def test_a_strand_does_not_go_on_where_another_one_is(scene):
    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (0, (1, 4), (2,)), (1, (3, 4), ()))
        blocks._known.clear()
        yield from batch(blocks, (0, (3, 4, 0), ()), (1, (1, 4, 1), ()))

    refused(scene, part, "another context than")
    assert scene.released == [1, 1, 1, 1]


def test_one_price_does_not_pay_for_two_answers_in_a_session_that_is_sampled_from(tmp_path):
    """The question was priced for one answer of four symbols: a second one, or the first again, is not given."""
    asked = replace(CENTRAL, block=4, most=4)
    for second in (((3, 0), (5,)), ((1, 4), (0,))):
        scene = Scene(village(tmp_path / str(second[0][0]), 4), "private_predict")

        def part(opened, scene=scene, second=second):
            blocks = scene.blocks(opened, asked)
            yield from batch(blocks, (0, (1, 4), (2, 2)))
            yield from batch(blocks, (1, *second))

        refused(scene, part, "more positions than the 4")
        event = SelfComposedDpEvent(sampled(asked, 1, asked.spec(PLAIN, 4, 3)), 4)
        assert [[from_json(line["event"]) for line in of] for of in lines(scene.there, "charged")] == [[event]] * 4


def test_with_noise_in_the_sum_a_block_of_two_strands_costs_what_all_its_positions_cost(tmp_path):
    asked = question(**RATIOS, noise_multiplier=8.0, block=12)
    scene = Scene(village(tmp_path, 4), "private_predict", WARY)
    costs = []
    for number, strands in enumerate((STRANDS[:1], STRANDS)):
        scene.play(lambda o, s=strands: batch(scene.blocks(o, asked), *s), session=f"{number:04x}")
        spec = asked.spec(WARY, 4, sum(1 + len(drafts) for *_, drafts in strands))
        costs.append(noised(asked, 1, spec, 1))
    assert costs[0] != costs[1]
    assert [[from_json(line["event"]) for line in of] for of in lines(scene.there, "charged")] == [costs] * 4


def test_so_many_strands_as_a_block_may_have_are_answered(tmp_path):
    scene, got = Scene(village(tmp_path, 3)), []
    strands = [(n, (n % 6, n // 6 % 6, n // 36), ()) for n in range(MOST_STRANDS)]
    scene.play(lambda o: _kept(got, batch(scene.blocks(o, question(block=64)), *strands)))
    assert len(got[0].totals) == MOST_STRANDS
    assert scene.released == [1, 1, 1]
