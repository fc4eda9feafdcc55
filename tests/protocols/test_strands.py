"""Several contexts in one block: each is answered as it would be alone, and every rule holds for each of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent
from test_attacks_on_positions import TWICE, Scene, asked_of, block, changed, heard_of, patient, refused
from test_logits_private import lines
from test_logits_speaking import CENTRAL, RATIOS, Speaker, said
from thinkers import PLAIN, TEXT, Thinkers, bigram, question, reading
from village import village

from client.homes.logits import Adding, sampled
from client.homes.positions import entries
from privacy.accounting.events import from_json
from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError
from protocols.logits.asking import Blocks
from protocols.logits.block import MOST_STRANDS, Batch
from protocols.logits.packing import pack
from protocols.logits.question import Question, Sends
from protocols.logits.speaking import Talk, speak_together
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive

WIDE = question(block=12)
ROUND = ("mixture", WIDE), ("product", question(**RATIOS, block=12)), ("mixture", question(block=12, support=3))
VOTES = question(sends=Sends.VOTES, noise_multiplier=2.0, block=12)
STRANDS = (((1, 4), (2, 2)), ((3, 4, 0), (5,)), ((0,), ()))


@pytest.fixture
def scene(tmp_path):
    return Scene(village(tmp_path, 4))


def batch(blocks: Blocks, *strands):
    """Ask for one block of (number, context, drafts)."""
    return blocks.sum(*(asked_of(blocks.question, context, drafts, n) for n, context, drafts in strands))


@pytest.mark.parametrize(("name", "asked"), ROUND)
def test_a_strands_sum_is_what_it_would_be_alone_bit_for_bit(name, asked, tmp_path):
    scene, got = Scene(village(tmp_path, 4), name), {}

    def together(opened):
        strands = [(n, *strand) for n, strand in enumerate(STRANDS)]
        got["all"] = yield from batch(scene.blocks(opened, asked), *strands)

    scene.play(together)
    for n, strand in enumerate(STRANDS):

        def alone(opened, n=n, strand=strand):
            got[n] = yield from batch(scene.blocks(opened, asked), (n, *strand))

        scene.play(alone, session=f"{n:04x}")
        assert np.array_equal(got[n].total, got["all"].totals[n])
    assert len(got["all"].total) == 3 + 2 + 1
    assert got["all"].trips == 1


AGAIN = [
    (((1, 4), (2, 2)), ((3, 0), (0, 5)), "has not grown"),
    (((1, 4, 1), ()), ((3, 0, 0), ()), "answered with the last block's drafts"),
    (((1, 4, 1), ()), ((3, 0, 0, 5), ()), "answered with the last block's drafts"),
    (((1, 4, 1), ()), ((3,), ()), "shorter than the one that is known"),
    (((1, 4, 1), ()), ((3, 1, 0), ()), "another context than"),
]


@pytest.mark.parametrize(("first", "second", "why"), AGAIN)
def test_a_position_of_the_second_strand_is_answered_once_in_a_session(scene, first, second, why):
    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (0, (1, 4), (2, 2)), (1, (3, 0), (0, 5)))
        blocks._known.clear()
        first_one = (1, 4, 1), ()
        yield from batch(blocks, (0, *first_one), (1, *second))

    refused(scene, part, why)
    assert scene.released == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((1, 4), ()), ((1, 4), ())),  # the same context
        (((1, 4), (2, 2)), ((1, 4, 2), ())),  # a context where the other has a draft
        (((1, 4, 2), ()), ((1, 4), (2, 2))),
        (((1, 4), (2, 2)), ((1, 4, 2, 2), (0,))),
        (((1, 4), (2, 2)), ((1, 4), (3, 3))),
    ],
)
def test_a_position_that_two_strands_of_a_block_ask_for_is_refused(scene, one, other):
    refused(scene, lambda o: batch(scene.blocks(o, WIDE), (0, *one), (1, *other)), "two strands of one block")
    assert scene.released == [0, 0, 0, 0]


def test_strands_that_share_a_beginning_and_no_position_are_answered(scene):
    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (0, (1, 4), (2,)), (1, (1, 4, 3), (2,)), (2, (1, 4, 2, 2), ()))

    scene.play(part)
    assert scene.released == [1, 1, 1, 1]


def test_a_strand_that_has_ended_does_not_come_back_and_others_begin(scene):
    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (0, (1, 4), ()), (2, (3, 4), ()))
        yield from batch(blocks, (2, (3, 4, 0), ()), (3, (5,), ()))
        yield from batch(blocks, (0, (1, 4, 2), ()), (3, (5, 1), ()))

    refused(scene, part, "has ended")
    assert scene.released == [2, 2, 2, 2]


def test_a_strand_does_not_begin_below_those_that_have(scene):
    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (1, (1, 4), ()))
        yield from batch(blocks, (0, (3, 4), ()), (1, (1, 4, 2), ()))

    refused(scene, part, "not begun in its order")


def test_positions_are_counted_over_all_strands_those_that_have_ended_too(scene):
    asked = question(most=7, block=4)

    def part(opened):
        blocks = scene.blocks(opened, asked)
        yield from batch(blocks, (0, (1, 4), (2,)), (1, (3, 0), ()))  # three
        yield from batch(blocks, (1, (3, 0, 1), ()), (2, (5,), (5, 5)))  # one and three: seven
        yield from batch(blocks, (1, (3, 0, 1, 1), ()))

    refused(scene, part, "more positions than the 7")
    assert scene.released == [2, 2, 2, 2]


def test_positions_are_counted_over_all_strands_of_one_block(scene):
    def part(opened):
        blocks = scene.blocks(opened, question(most=4, block=4))
        yield from batch(blocks, (0, (1, 4), ()), (1, (3, 0), ()))  # two
        yield from batch(blocks, (0, (1, 4, 2), ()), (1, (3, 0, 1), (1,)))  # two, and three

    refused(scene, part, "more positions than the 4")
    assert scene.released == [1, 1, 1, 1]


def test_a_blocks_positions_are_counted_over_all_strands(scene):
    part = lambda o: batch(scene.blocks(o, question(block=4)), (0, (1, 4), (2, 2)), (1, (3,), (0,)))  # noqa: E731
    refused(scene, part, "5 positions in one block")


CHANGES = {
    "another prompt": lambda ask: changed(ask, 1, tokens=np.array([3, 5], np.int32)),
    "another draft": lambda ask: changed(ask, 1, drafts=np.array([2], np.int32)),
    "another support": lambda ask: changed(ask, 1, support=(ask.strands[1].support + 1) % 6),
    "another word on the prompt": lambda ask: changed(ask, 1, told=ask.strands[1].told - 1),
    "another word on a draft": lambda ask: changed(ask, 1, drafted=ask.strands[1].drafted - 1),
    "another number": lambda ask: changed(ask, 1, number=7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_told_of_the_second_strand_to_one_member_alone_is_refused_by_it(scene, change):
    def part(opened):
        blocks = scene.blocks(
            opened, question(support=2, block=12), lambda m, a: CHANGES[change](a) if m == "m1" else a
        )
        yield from batch(blocks, (0, (1, 4), (2, 2)), (1, (3, 0), (5,)))

    refused(scene, part, "than mine", everybody=False)
    assert scene.released == [1, 0, 1, 1]


@pytest.mark.parametrize("change", CHANGES)
def test_a_second_attempt_is_at_the_very_same_second_strand_or_refused(change, tmp_path):
    scene, asked, heard = Scene(patient(village(tmp_path, 4)), terms=TWICE), question(support=2, block=12), []

    def part(opened):
        blocks = scene.blocks(opened, asked, lambda _m, a: heard.append(a) or a)
        yield from batch(blocks, (0, (1, 4), (2, 2)), (1, (3, 0), (5,)))
        lie, three = CHANGES[change](heard[0]), ("m0", "m1", "m2")
        spec, context = asked.spec(TWICE, 3, lie.positions), heard_of(lie).digest("mixture")
        request = opened.request("mixture", spec, context, 0, three, 1)
        assert (yield {MemberId(m): replace(lie, request=request, slips=()) for m in three}) == {}

    scene.play(part)
    assert set(scene.why) == {"m0", "m1", "m2"}
    assert all("another" in str(fault) for fault in scene.why.values())
    assert scene.released == [1, 1, 1, 1]


@pytest.mark.parametrize("part_of", ["in a batch", "alone"])
def test_who_is_said_to_have_dropped_is_not_subtracted_from_any_strand(part_of, tmp_path):
    """A position that was answered in one company of strands is known in every other one."""
    scene, three = Scene(village(tmp_path, 4)), ("m0", "m1", "m2")
    strands = [(0, (1, 4), (2,)), (1, (3, 0), (0, 5))]

    def before(opened):
        yield from batch(scene.blocks(opened, WIDE), *(strands if part_of == "in a batch" else strands[1:]))

    scene.play(before)
    for number, (context, drafts) in enumerate((((3, 0), ()), ((3, 0, 0), (1,)), ((3, 0, 0, 5), ()))):
        for others in ((), ((0, (5, 5), ()),)):
            scene.why.clear()

            def again(opened, others=others, context=context, drafts=drafts):
                yield from batch(scene.blocks(opened, WIDE), *others, (1, context, drafts))

            with pytest.raises(Abort):
                scene.play(again, f"{number}{len(others)}ab", three)
            assert set(scene.why) == set(three)
            assert all("in another crowd" in str(fault) for fault in scene.why.values())
    assert scene.released == [1, 1, 1, 1]


def together(there, name: str, asked: Question, prompts, publics=None, session="5e55"):
    publics = publics or [Speaker(seed) for seed in range(len(prompts))]
    outbox, members = there.outbox(session, name), [MemberId(m) for m in sorted(there.houses)]
    talks = [Talk(prompt, public) for prompt, public in zip(prompts, publics, strict=True)]
    return drive(speak_together(name, members, asked, PLAIN, 2, talks), outbox, CATALOG[name].wire)


PROMPTS = ((1, 4), (3, 0, 2), (5,))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("mixture", question(most=10)),
        ("product", question(**RATIOS, most=10)),
        ("private_predict", replace(CENTRAL, most=10)),
    ],
)
def test_prompts_that_are_answered_together_get_the_answers_they_get_alone(name, asked, tmp_path):
    there = village(tmp_path, 3)
    shared = replace(asked, block=3 * asked.block, most=3 * asked.most)
    made, trips = together(there, name, shared, PROMPTS), there.road.trip
    alone = [
        said(there, name, asked, Speaker(seed), prompt, session=f"{seed:04x}") for seed, prompt in enumerate(PROMPTS)
    ]
    assert [m.symbols for m in made] == [a.symbols for a in alone]
    assert [m.given for m in made] == [a.given for a in alone]
    assert trips - 2 == max(len(a.given) for a in alone)  # two open the session
    assert len({len(a.given) for a in alone}) > 1 or name != "mixture"  # one drops out before the others


def test_a_session_of_several_answers_is_charged_for_the_symbols_of_all(tmp_path):
    there, asked = village(tmp_path, 3), replace(CENTRAL, block=12, most=24)
    made = together(there, "private_predict", asked, PROMPTS)
    assert sum(len(m.symbols) for m in made) == 24
    for (charged,), more in zip(lines(there, "charged"), lines(there, "continued"), strict=True):
        event = SelfComposedDpEvent(sampled(asked, 1, asked.spec(PLAIN, 3, 12)), 24)
        assert from_json(charged["event"]) == event
        assert len(more) == max(len(m.given) for m in made) - 1


@pytest.mark.parametrize("prompts", [((1, 4), (1, 4)), ((1, 4), (1, 4, 2)), ((1, 4, 2), (1, 4), (3,))])
def test_a_prompt_that_begins_as_another_does_is_answered_after_it(prompts, tmp_path):
    asked = question(block=4 * len(prompts), most=6 * len(prompts))
    made = together(village(tmp_path, 3), "mixture", asked, prompts)
    for seed, prompt in enumerate(prompts):
        there = village(tmp_path / str(seed), 3)
        alone = said(there, "mixture", question(most=6), Speaker(seed), prompt)
        assert made[seed].symbols == alone.symbols


def test_nobody_is_asked_for_no_prompt_an_empty_one_or_more_prompts_than_positions(tmp_path):
    there = village(tmp_path, 3)
    for prompts in ((), ((1, 4), ()), ((1,), (2,), (3,))):
        with pytest.raises(LocalError):
            together(there, "mixture", question(most=2, block=2), prompts)
    assert there.road.trip == 0


TEXTS = (TEXT, TEXT[::-1], (0, 0, 0, 5), (*TEXT[:6], 0, 0, 0), (0, 0, 1), TEXT, (1, 4))


@pytest.mark.parametrize("block", [1, 3, 5, 16, 40])
@pytest.mark.parametrize("given", [1, 3])
def test_texts_that_are_read_in_common_blocks_have_the_sums_of_each_alone(block, given, tmp_path):
    there, texts = village(tmp_path, 3), [t for t in TEXTS if len(t) > given]
    asked = question(block=block, most=64)
    done = there.run(reading(asked, *texts, given=given), collaboration="mixture")
    apart = [there.run(reading(asked, text, given=given), f"{n:04x}", "mixture") for n, text in enumerate(texts)]
    assert np.array_equal(done.sums, np.concatenate([a.sums for a in apart]))
    assert len(done.trips) <= sum(len(a.trips) for a in apart)
    if block == 16:
        assert len(done.trips) <= 3


def test_no_block_is_packed_with_a_position_twice_too_many_of_them_or_a_strand_that_has_ended():
    random = np.random.default_rng(5)
    for trial in range(60):
        lengths = random.integers(3, 9, 70).tolist()
        tokens = random.integers(0, 2 + trial % 3, sum(lengths)).astype(np.int32)
        told, block, given = (
            np.zeros(tokens.size, np.float32),
            int(random.integers(1, 90)),
            int(random.integers(1, 3)),
        )
        told[random.integers(0, tokens.size, trial % 4)] = -1  # told otherwise: not to be copied
        packed = pack(tokens, told, np.zeros((0, 0), np.uint32), lengths, given, block)
        rows, last = [row for row, _ in packed.copies], None
        for stretches in packed.blocks:
            keys = [tokens[s.start : s.start + at].tobytes() for s in stretches for at in range(s.first, s.last)]
            assert len(set(keys)) == len(keys) <= block
            assert 1 <= len(stretches) <= MOST_STRANDS
            begun = [s for s in stretches if s.text == last]
            assert begun in ([], stretches[:1])
            last = stretches[-1].text
            rows += [s.row + at for s in stretches for at in range(s.last - s.first)]
        assert sorted(rows) == list(range(tokens.size - given * len(lengths)))


@pytest.mark.parametrize("other", ["told", "support"])
def test_a_sum_is_not_taken_for_a_position_of_which_something_else_was_told(other):
    tokens, lengths = np.array((1, 4, 2, 1, 4, 2), np.int32), (3, 3)
    told, support = np.zeros(6, np.float32), np.tile(np.arange(2, dtype=np.uint32), (6, 1))
    assert pack(tokens, told, support, lengths, 1, 8).copies == [(2, 0), (3, 1)]
    told[3:] -= other == "told"
    support[3:] += np.uint32(other == "support")
    packed = pack(tokens, told, support, lengths, 1, 8)
    assert packed.copies == []
    assert [len(stretches) for stretches in packed.blocks] == [1, 1]


def test_a_strand_has_votes_by_its_own_clocks_whatever_else_is_in_the_block():
    asked, own = replace(VOTES, seed=3), (bigram(8), bigram(9))
    strands = tuple(asked_of(asked, *strand, n) for n, strand in enumerate(STRANDS))
    begun = SimpleNamespace(spec=SimpleNamespace(scale=1.0))

    def votes_of(*some) -> np.ndarray:
        return np.array(list(Adding(Batch(some), 5, Thinkers(own=own), begun, lambda: None)._vectors()))

    alone = [votes_of(strand) for strand in strands]
    assert np.array_equal(votes_of(*strands), np.concatenate(alone, axis=1))
    there = [entries(asked_of(asked, TEXT, (), n), 5, own[0].block(TEXT, ()), None) for n in range(40)]
    assert len({row.tobytes() for row in there}) > 1


def test_a_member_that_missed_the_beginning_of_a_strand_is_told_it(tmp_path):
    there = village(tmp_path, 4, lost=lambda trip, member, way: member == "m3" and trip == 3)
    scene = Scene(there, terms=Terms(Mode.RESILIENT, smallest_crowd=3, colluding=1))

    def part(opened):
        blocks = scene.blocks(opened, WIDE)
        yield from batch(blocks, (0, (1,), ()))
        yield from batch(blocks, (0, (1, 4), ()), (1, (3,), ()))
        blocks.cohort, blocks._known = ("m0", "m1", "m2", "m3"), {0: 1}
        return (yield from batch(blocks, (0, (1, 4, 0), ()), (1, (3, 3), ())))

    assert scene.play(part).members == ("m0", "m1", "m2", "m3")


def test_one_strand_is_asked_as_before(scene):
    scene.play(lambda opened: block(scene.blocks(opened), (1, 4), (2,)))
    assert scene.released == [1, 1, 1, 1]
