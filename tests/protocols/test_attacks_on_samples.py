"""What is tried where symbols are drawn from exact sums: by the coordinator, a member, and who counts the experts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_attacks_on_positions import Scene, block
from test_logits_speaking import CENTRAL, RATIOS
from thinkers import PLAIN, PUBLIC, Bigram, question
from village import village

from client.homes.logits import sampled
from client.homes.positions import entries, in_steps, mixed
from privacy.accounting.curves import divergence
from privacy.accounting.events import PMixedDpEvent
from privacy.refusal import NotEncodable
from privacy.units import Relation
from protocols.faults import Abort
from protocols.logits.asking import NO_SUPPORT
from protocols.logits.block import Asked
from protocols.logits.question import Sends
from protocols.logits.sampling import combined, folded

EVERY = np.arange(6)[None]
MIXED = question(sends=Sends.MIXED, central=True, experts=12, most=24)


class Unwritable(Bigram):
    """Say what cannot be written as words; this shows when a block has been charged."""

    def block(self, context, drafts):
        raise NotEncodable("a value is not finite")


def apart(p: np.ndarray, q: np.ndarray, order: float) -> float:
    """Return the larger Renyi divergence of two distributions, in nats."""
    ways = (np.sum(a**order * b ** (1 - order)) for a, b in ((p, q), (q, p)))
    return max(math.log(float(way)) / (order - 1) for way in ways)


@pytest.mark.parametrize("lean", [0.0, 0.6])
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_member_that_adds_garbage_makes_a_record_decide_no_more_than_is_charged(bits, lean):
    """It adds what brings the others' sum to the place where words wrap, or anywhere else."""
    asked = question(**RATIOS | {"clip": 1.0, "lean": lean}, experts=4, central=True)
    spec = asked.spec(replace(PLAIN, bits=bits), 4, 1)
    record = sampled(asked, 1, spec)
    rest = np.random.default_rng(3).uniform(-1, 1, (2, 6))
    without, with_it = (lean + np.array([s, -s, s, s, -s, 0.3]) for s in (1.0, -1.0))

    def drawn_from(own: np.ndarray, garbage: int) -> np.ndarray:
        words = sum(spec.encode(v).astype(np.int64) for v in (own, *rest)) + garbage
        total = spec.decode((words % 2**bits).astype(np.uint16 if bits == 16 else np.uint32), 4)
        return combined(asked, PUBLIC.logs[[4]], folded(asked, spec, total)[None], EVERY)[0]

    for garbage in np.linspace(0, 2**bits - 1, 400).astype(np.int64).tolist():
        found = apart(drawn_from(without, garbage), drawn_from(with_it, garbage), 4.0)
        assert found <= 4.0 * record.rho + 1e-12


def test_what_honest_experts_add_is_sampled_from_as_it_is(tmp_path):
    for asked in (*(question(**RATIOS, lean=x, experts=4, central=True) for x in (0.0, -0.6)), MIXED):
        spec = asked.spec(PLAIN, 4, 1)
        bound = asked.experts * (asked.clip * (1 + abs(asked.lean)) if asked.sends is Sends.RATIOS else 1.0)
        most = np.full(spec.length, bound)
        assert np.array_equal(folded(asked, spec, most), most)
        assert np.array_equal(folded(asked, spec, -most), -most)


def test_two_crowds_at_one_position_are_not_subtracted_where_symbols_are_drawn_either(tmp_path):
    """The coordinator is trusted to draw, and not with one member's word: it says that m3 has dropped."""
    scene = Scene(village(tmp_path, 4), "private_predict")
    scene.play(lambda opened: block(scene.blocks(opened, CENTRAL), (1, 4), (2, 2)))

    def within(opened):
        blocks = scene.blocks(opened, CENTRAL)
        yield from block(blocks, (3, 4))
        blocks.cohort = ("m0", "m1", "m2")
        yield from block(blocks, (3, 4), strand=1)

    for part, session, among in (
        (within, "5e56", None),
        (lambda opened: block(scene.blocks(opened, CENTRAL), (1, 4, 2)), "5e57", ("m0", "m1", "m2")),
    ):
        scene.why.clear()
        with pytest.raises(Abort):
            scene.play(part, session, among)
        assert all("in another crowd" in str(fault) for fault in scene.why.values())
        assert set(scene.why) == {"m0", "m1", "m2"}
    assert scene.released == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("name", "asked"), [("mixture", question()), ("private_predict", replace(CENTRAL, experts=3))]
)
def test_more_experts_than_a_question_counts_do_not_wrap_its_words_but_are_refused(name, asked, tmp_path):
    there = village(tmp_path, 3)
    for house in there.houses.values():
        house.thinkers.own *= 2
    scene = Scene(there, name)
    with pytest.raises(Abort):
        scene.play(lambda opened: block(scene.blocks(opened, asked), (1, 4), (2,)))
    assert all("3 experts in all" in str(fault) for fault in scene.why.values())
    assert scene.released == [0, 0, 0]


@pytest.mark.parametrize("there", [1, 2, 12])
def test_of_pmixed_where_experts_are_missing_one_is_hidden_as_well_as_is_charged(there):
    """Twelve are counted on, by question and ledger; a sum with fewer of them is a mean over twelve all the same."""
    public, order, near = PUBLIC.logs[[4]], MIXED.order, (MIXED.order, MIXED.radius)
    shards = [np.where(np.arange(6) < 3, s, -s)[None] * 9.0 for s in (1.0, -1.0)]
    rest = np.exp(np.tile(public, (there - 1, 1)))

    def drawn_from(own: np.ndarray | None) -> np.ndarray:
        said = rest if own is None else np.concatenate([rest, mixed(Bigram(own).logs, public, *near)])
        return combined(MIXED, public, np.array([[*said.sum(0), float(len(said))]]), EVERY)[0]

    one, other, gone = (drawn_from(own) for own in (*shards, None))
    event = PMixedDpEvent(MIXED.experts, *near)
    assert apart(one, gone, order) <= divergence(event, order, Relation.ZERO_OUT)
    assert apart(one, other, 1.5) <= divergence(event, 1.5, Relation.ADD_OR_REMOVE)
    assert apart(one, gone, order) > 0.01 * divergence(event, order, Relation.ZERO_OUT)


@pytest.mark.parametrize(("bits", "support"), [(16, 0), (16, 4), (24, 0)])
def test_of_pmixed_no_rounding_lets_a_rare_symbol_tell_of_a_shard(bits, support):
    """Where a probability is about a step of the words, one shard's rounding would decide whether it can be drawn."""
    asked = replace(MIXED, support=support, experts=3)
    spec = asked.spec(replace(PLAIN, bits=bits), 3, 1)
    public = Bigram(np.tile([0.0, -1.0, -2.0, *np.log([0.4, 0.5, 0.6]) - math.log(spec.scale)], (6, 1)))
    text, nothing = np.array([1], np.int32), np.zeros(0)
    where = np.array([[0, 2, 3, 5]], np.uint32) if support else NO_SUPPORT
    ask = Asked(asked, text, np.zeros(1, np.float32), nothing.astype(np.int32), nothing.astype(np.float32), where)

    def words(shard: Bigram) -> np.ndarray:
        rows = shard.block([1], ()), public.block([1], ())
        return spec.encode(entries(ask, 0, *rows, spec.scale).ravel()).astype(np.uint16 if bits == 16 else np.uint32)

    def drawn_from(*shards: Bigram) -> np.ndarray:
        total = folded(asked, spec, spec.decode(sum(map(words, shards[1:]), words(shards[0])), 3))
        return combined(asked, public.logs[[1]], total[None], where)[0]

    shift = np.array([0.0, 0.0, 0.0, 1.0, -1.0, 1.0])
    shards = [Bigram(public.table + s * shift) for s in (1.0, -1.0, 0.0)]
    made = [drawn_from(public, public, shard) for shard in shards]
    event = PMixedDpEvent(3, MIXED.order, MIXED.radius)
    assert apart(made[0], made[1], 1.5) <= divergence(event, 1.5, Relation.ADD_OR_REMOVE)
    for one in made[:2]:
        assert apart(one, made[2], MIXED.order) <= divergence(event, MIXED.order, Relation.ZERO_OUT)
    assert min(m.min() for m in made) > 0


def test_mixes_in_steps_are_those_of_the_definition_but_for_a_step_a_symbol():
    rows, everything = (
        (Bigram(np.random.default_rng(2).normal(0, 3, (6, 6))).logs, PUBLIC.logs),
        np.tile(EVERY, (6, 1)),
    )
    exact = mixed(*rows, MIXED.order, MIXED.radius)
    assert np.abs(in_steps(*rows, everything, MIXED.order, MIXED.radius, 2.0**20) - exact).max() < 40 / 2**20
    some = everything[:, :4]
    assert np.abs(in_steps(*rows, some, MIXED.order, 0.0, 2.0**20) - np.exp(rows[1][:, :4])).max() < 10 / 2**20


def test_a_session_that_was_paid_for_by_a_cheap_question_does_not_go_on_with_a_dear_one(tmp_path):
    """The first block fails when it has been charged, so the member's state has not heard of its question."""
    there, cheap = village(tmp_path, 3), replace(MIXED, experts=10**6)
    scene, homes = Scene(there, "private_predict"), [h.thinkers for h in there.houses.values()]
    models = [t.own for t in homes]

    def part(opened):
        for thinkers in homes:
            thinkers.own = (Unwritable(PUBLIC.table),)
        with pytest.raises(Abort):
            yield from block(scene.blocks(opened, cheap), (1, 4))
        for thinkers, own in zip(homes, models, strict=True):
            thinkers.own = own
        blocks = scene.blocks(opened, MIXED)
        blocks.number = 1
        yield from block(blocks, (1, 4))

    with pytest.raises(Abort):
        scene.play(part)
    assert scene.released == [1, 1, 1]
    assert all("plan than was charged" in str(fault) for fault in scene.why.values())
