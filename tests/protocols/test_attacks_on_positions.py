"""What a coordinator tries at the logit level, and what members' faults do to an answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from thinkers import LONGEST, PLAIN, PUBLIC, TEXT, public_rows, question, reading, support_of, told
from village import Village, village

from client.homes.positions import entries
from privacy.refusal import Refused
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort, PeerError
from protocols.logits.asking import NO_SUPPORT, Blocks
from protocols.logits.block import BEGIN, Asked, Batch, Think
from protocols.logits.question import Question, Sends
from protocols.logits.sampling import combined
from protocols.secure_sum.coordinate import open_session
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive

TWICE = replace(PLAIN, attempts=2)
RESILIENT = Terms(Mode.RESILIENT, smallest_crowd=3, colluding=1)
Alter = Callable[[str, Think], Think]


@dataclass(slots=True)
class Lying(Blocks):
    """Be a coordinator that changes what it asks of whom it likes."""

    alter: Alter = lambda _member, ask: ask

    def _asks(self, asked, request):
        return {m: self.alter(m, ask) for m, ask in Blocks._asks(self, asked, request).items()}


@dataclass
class Scene:
    """A village whose coordinator is driven by hand, and why members did not answer."""

    there: Village
    name: str = "mixture"
    terms: Terms = PLAIN
    why: dict[str, Exception] = field(default_factory=dict)
    letters: int = 0

    def play(self, part, session: str = "5e55", among=None):
        """Drive `part(blocks)`, a generator, over a new session."""
        everyone = sorted(among or self.there.houses)
        road = MemoryRoad({m: self._witness(m, h) for m, h in self.there.houses.items()}, lost=self.there.road.lost)
        outbox = self.there.outbox(session, self.name, road)
        if among:
            outbox.keys = {m: outbox.keys[m] for m in among}

        def coordinate():
            opened = yield from open_session([MemberId(m) for m in everyone], self.terms)
            return (yield from part(opened))

        return drive(coordinate(), outbox, CATALOG[self.name].wire)

    def blocks(self, opened, asked: Question | None = None, alter: Alter = lambda _member, ask: ask) -> Blocks:
        return Lying(self.name, opened, asked or question(), 2, len(self.there.houses), alter=alter)

    @property
    def released(self) -> list[int]:
        """Return how many values of each member have left, by its ledger."""
        kinds = ("charged", "disclosed", "derived", "continued")
        houses = [h for _, h in sorted(self.there.houses.items())]
        return [sum(json.loads(line)["kind"] in kinds for line in h.ledger.lines()) for h in houses]

    def _witness(self, name, house):
        mailbox = house.mailbox

        def end(sealed: bytes) -> bytes:
            try:
                return mailbox.deliver(sealed)
            except (Refused, PeerError) as fault:
                self.why[name] = fault
                raise

        return end


def asked_of(asked: Question, context, drafts=(), strand: int = 0) -> Asked:
    """Return what is asked of one strand, told truly."""
    whole, size = told((*context, *drafts)), len(context)
    rows = support_of((*context, *drafts, 0), asked.support)[size:] if asked.support else NO_SUPPORT
    return Asked(
        asked, np.array(context, np.int32), whole[:size], np.array(drafts, np.int32), whole[size:], rows, strand
    )


def block(blocks: Blocks, context, drafts=(), strand: int = 0):
    """Ask for one block of a text."""
    return blocks.sum(asked_of(blocks.question, context, drafts, strand))


def changed(ask: Think, at: int = 0, **changes) -> Think:
    """Return an ask of which one strand is another."""
    strands = list(ask.strands)
    strands[at] = replace(strands[at], **changes)
    return replace(ask, strands=tuple(strands))


def heard_of(ask: Think) -> Batch:
    """Return what a first block asks about."""
    return Batch(
        tuple(Asked(ask.question, s.tokens, s.told, s.drafts, s.drafted, s.support, s.number) for s in ask.strands)
    )


@pytest.fixture
def scene(tmp_path):
    return Scene(village(tmp_path, 4))


def refused(scene: Scene, part, why: str, everybody: bool = True) -> None:
    """See that a part ends in an abort, with these words from all members or from one."""
    with pytest.raises(Abort, match="of 4 members"):
        scene.play(part)
    assert set(scene.why) == (set(scene.there.houses) if everybody else {"m1"})
    assert all(why in str(fault) for fault in scene.why.values()), scene.why


@pytest.mark.parametrize(
    ("again", "why"),
    [
        (((1, 4), (2, 2)), "has not grown"),
        (((1, 4, 2), ()), "answered with the last block's drafts"),
        (((1, 4, 2, 2), ()), "answered with the last block's drafts"),
        (((1,), ()), "shorter than the one that is known"),
    ],
)
def test_a_position_is_answered_once_in_a_session(scene, again, why):
    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1, 4), (2, 2))
        blocks._known.clear()
        yield from block(blocks, *again)

    refused(scene, part, why)
    assert scene.released == [1, 1, 1, 1]


def test_after_another_symbol_than_the_draft_or_one_beyond_the_last_a_session_goes_on(scene):
    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1, 4), (2, 2))
        yield from block(blocks, (1, 4, 2, 3), (0, 0))
        yield from block(blocks, (1, 4, 2, 3, 0, 0, 5))

    scene.play(part)
    assert scene.released == [3, 3, 3, 3]


CHANGES = {
    "another prompt": lambda ask: changed(ask, tokens=np.array([1, 5], np.int32)),
    "another draft": lambda ask: changed(ask, drafts=np.array([2, 3], np.int32)),
    "another support": lambda ask: changed(ask, support=(ask.strands[0].support + 1) % 6),
    "another word on the prompt": lambda ask: changed(ask, told=ask.strands[0].told - 1),
    "another word on a draft": lambda ask: changed(ask, drafted=ask.strands[0].drafted - 1),
    "another question": lambda ask: replace(ask, question=replace(ask.question, weight_bound=3.0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_told_to_one_member_alone_is_refused_by_it(scene, change):
    def part(opened):
        asked = question(support=2)
        yield from block(scene.blocks(opened, asked, lambda m, a: CHANGES[change](a) if m == "m1" else a), (1, 4), (2, 2))  # fmt: skip  # noqa: E501

    refused(scene, part, "than mine", everybody=False)
    assert scene.released == [1, 0, 1, 1]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_told_to_one_member_with_a_request_to_match_unmasks_nothing_and_is_charged(scene, change):
    """Two sums under one number: the masks depend on all that is asked, so neither comes out."""

    def part(opened):
        def lie(member, ask):
            if member != "m1":
                return ask
            other = CHANGES[change](ask)
            spec = other.question.spec(PLAIN, 4, 3)
            context = heard_of(other).digest("mixture")
            return replace(other, request=replace(ask.request, context=context, spec=spec))

        return (yield from block(scene.blocks(opened, question(support=2), lie), (1, 4), (2, 2)))

    with pytest.raises(Abort, match="3 of 4 members"):
        scene.play(part)
    assert scene.why == {}
    assert scene.released == [1, 1, 1, 1]


def test_another_question_in_the_middle_of_a_session_is_refused(scene):
    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1, 4))
        blocks.question = question(weight_bound=20.0)
        yield from block(blocks, (1, 4, 2))

    refused(scene, part, "another question")


SPOILED = {
    "empty": (lambda a: changed(a, tokens=a.strands[0].tokens[:0], told=a.strands[0].told[:0]), "empty context"),
    "a gap": (lambda a: changed(a, start=1), "a gap"),
    "below the first": (lambda a: changed(a, start=-1), "a gap"),
    "no symbol": (lambda a: changed(a, tokens=np.array([1, 6], np.int32)), "not one of the 6"),
    "below all symbols": (lambda a: changed(a, drafts=np.array([-1, 2], np.int32)), "not one of the 6"),
    "twice in a support": (lambda a: changed(a, support=a.strands[0].support * 0), "twice in one position's support"),
    "no support": (lambda a: changed(a, support=NO_SUPPORT), "another shape"),
    "more told than asked": (lambda a: changed(a, told=np.zeros(3, np.float32)), "differ in shape"),
    "a matrix": (
        lambda a: changed(a, tokens=a.strands[0].tokens[None], told=a.strands[0].told[None]), "differ in shape",
    ),
    "below zero": (lambda a: replace(a, number=-1), "below 0"),
    "no strand": (lambda a: replace(a, strands=()), "0 strands in one block"),
    "too many strands": (lambda a: replace(a, strands=a.strands * 65), "65 strands in one block"),
    "a strand twice": (lambda a: replace(a, strands=a.strands * 2), "in the order of their numbers"),
    "a strand below zero": (lambda a: changed(a, number=-1), "in the order of their numbers"),
    "a strand beyond all": (lambda a: changed(a, number=2**31), "in the order of their numbers"),
    "a block too long": (
        lambda a: changed(a, drafts=np.zeros(9, np.int32), drafted=np.zeros(9, np.float32)), "at most 4",
    ),
    "another collaboration's": (
        lambda a: replace(a, question=replace(a.question, sends=Sends.RATIOS)), "another collaboration",
    ),
    "another model's": (lambda a: replace(a, question=replace(a.question, base="c" * 64)), "another base model"),
    "other symbols": (lambda a: replace(a, question=replace(a.question, symbols=7)), "another number of them"),
    "too few experts": (lambda a: replace(a, question=replace(a.question, experts=1)), "this home alone has more"),
}  # fmt: skip


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_block_that_is_wrong_is_refused_by_name_and_costs_nothing(scene, spoiled):
    change, why = SPOILED[spoiled]
    for house in scene.there.houses.values():
        house.thinkers.own *= 2

    def part(opened):
        asked = question(support=2, experts=8)
        yield from block(scene.blocks(opened, asked, lambda _m, a: change(a)), (1, 4), (2, 2))

    refused(scene, part, why)
    assert scene.released == [0, 0, 0, 0]


def test_what_is_told_that_is_no_number_does_not_survive_the_wire_nor_the_state(scene):
    heard = []

    def part(opened):
        yield from block(scene.blocks(opened, alter=lambda _m, a: heard.append(a) or a), (1, 4))

    scene.play(part)
    nan = changed(heard[0], told=np.array([0, np.nan], np.float32))
    with pytest.raises(PeerError, match="not finite"):
        BEGIN.answer(nan, None)
    with pytest.raises(Exception, match="what its types forbid"):
        CATALOG["mixture"].wire.encode(nan)


def test_more_positions_than_the_question_allows_are_refused_over_all_strands(scene):
    asked = question(most=4, block=2)

    def part(opened):
        blocks = scene.blocks(opened, asked)
        yield from block(blocks, (1, 4), (2,))
        yield from block(blocks, (3, 3), (0,), strand=1)
        yield from block(blocks, (5,), strand=2)

    refused(scene, part, "more positions than the 4")
    assert scene.released == [2, 2, 2, 2]


def test_a_prompt_over_what_a_model_reads_is_refused_before_it_is_charged(scene):
    def part(opened):
        long = np.tile(np.array(TEXT, np.int32), LONGEST // len(TEXT))
        said, draft = np.zeros(long.size, np.float32), np.ones(1, np.int32)
        asks = Asked(question(), long, said, draft, np.zeros(1, np.float32), NO_SUPPORT)
        yield from scene.blocks(opened).sum(asks)

    refused(scene, part, "more than is read at once")
    assert scene.released == [0, 0, 0, 0]


def test_who_is_said_to_have_dropped_is_not_subtracted_within_a_session(scene):
    """The sum of all four is had; the same positions are then asked of three."""

    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1, 4))
        blocks.cohort, blocks.number, blocks._known = ("m0", "m2", "m3"), 0, {}
        request = opened.request("mixture", question().spec(PLAIN, 3, 1), bytes(32), 0, blocks.cohort, 1)
        for attempt in (0, 1):
            for number in (0, 1):
                blocks.number = number
                asked = replace(heard[0], number=number, request=replace(request, query=number, attempt=attempt))
                answers = yield {MemberId(m): asked for m in blocks.cohort}
                assert answers == {}

    heard: list[Think] = []
    original = scene.blocks
    scene.blocks = lambda opened: original(opened, alter=lambda _m, a: heard.append(a) or a)  # type: ignore[method-assign]
    scene.play(part)
    assert set(scene.why) == {"m0", "m2", "m3"}
    assert scene.released == [1, 1, 1, 1]


def test_who_is_said_to_have_dropped_is_not_subtracted_in_another_session_either(scene):
    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1, 4), (2, 2))

    scene.play(part)
    scene.play(part, session="5e56")  # the same crowd gets the same sum
    for number, (context, drafts) in enumerate((((1, 4), ()), ((1, 4, 2), ()), ((1, 4, 2, 2), (3,)))):
        scene.why.clear()
        with pytest.raises(Abort):
            scene.play(
                lambda o, c=context, d=drafts: block(scene.blocks(o), c, d), f"{number:04x}", ("m0", "m1", "m2")
            )
        assert all("in another crowd" in str(fault) for fault in scene.why.values())
    assert scene.released == [2, 2, 2, 2]


def test_a_crowd_only_shrinks(scene):
    def part(opened):
        blocks = scene.blocks(opened)
        blocks.cohort = ("m0", "m1", "m2")
        yield from block(blocks, (1, 4))
        blocks.cohort = ("m0", "m1", "m2", "m3")
        blocks._known.clear()
        yield from block(blocks, (1, 4, 2))

    with pytest.raises(Abort):
        scene.play(part)
    assert all("only shrinks" in str(fault) for fault in scene.why.values())
    assert len(scene.why) == 3


def distribution(scene: Scene, among) -> np.ndarray:
    """Return what a mixture of these members says after (1, 4)."""
    total = np.zeros((1, 7))
    asked = Asked(question(), np.array([1, 4], np.int32), told((1, 4)), *(np.zeros(0, t) for t in "if"), NO_SUPPORT)
    for name in among:
        (model,) = scene.there.houses[name].thinkers.own
        total += entries(asked, 0, model.block((1, 4), ()), None)
    return combined(question(), PUBLIC.logs[[4]], total, NO_SUPPORT)


def patient(there: Village) -> Village:
    """Let every home's policy try a sum twice."""
    for house in there.houses.values():
        policy = house.gate.policy
        allow = tuple(replace(p, attempts=2) for p in policy.allow)
        house.gate = replace(house.gate, policy=replace(policy, allow=allow))
    return there


@pytest.mark.parametrize("change", ["another draft", "another support", "another word on the prompt"])
def test_a_second_attempt_is_at_the_very_same_block_or_refused(change, tmp_path):
    scene, asked = Scene(patient(village(tmp_path, 4)), terms=TWICE), question(support=2)

    def part(opened):
        heard: list[Think] = []
        blocks = scene.blocks(opened, asked, lambda _m, a: heard.append(a) or a)
        yield from block(blocks, (1, 4), (2, 2))
        lie, three = CHANGES[change](heard[0]), ("m0", "m1", "m2")
        context = heard_of(lie).digest("mixture")
        request = opened.request("mixture", asked.spec(TWICE, 3, 3), context, 0, three, 1)
        answers = yield {MemberId(m): replace(lie, request=request, slips=()) for m in three}
        assert answers == {}

    scene.play(part)
    assert set(scene.why) == {"m0", "m1", "m2"}
    wanted = "another context than" if "prompt" in change else "another attempt at anything but the last block"
    assert all(wanted in str(fault) for fault in scene.why.values())
    assert scene.released == [1, 1, 1, 1]


@pytest.mark.parametrize("terms", [TWICE, RESILIENT])
def test_who_is_gone_in_the_middle_is_left_out_and_the_distribution_is_that_of_the_others(terms, tmp_path):
    def lost(trip, member, way):
        return member == "m3" and trip >= 3  # two trips open the session, one is the first block

    there = patient(village(tmp_path, 4, lost=lost))
    scene, got = Scene(there, terms=terms), {}

    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1,))
        got["made"] = yield from block(blocks, (1, 4))
        got["next"] = yield from block(blocks, (1, 4, 0))

    scene.play(part)
    assert got["made"].members == got["next"].members == ("m0", "m1", "m2")
    q = combined(question(), PUBLIC.logs[[4]], got["made"].total, NO_SUPPORT)
    assert np.allclose(q, distribution(scene, ("m0", "m1", "m2")), atol=1e-7)
    assert not np.allclose(q, distribution(scene, there.houses), atol=1e-4)


def test_without_further_attempts_a_member_that_is_gone_ends_the_answer_with_a_clear_error(tmp_path):
    there = village(tmp_path, 4, lost=lambda trip, member, way: member == "m3" and trip >= 3)
    scene = Scene(there)

    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1,))
        yield from block(blocks, (1, 4))

    with pytest.raises(Abort, match=r"block 2: 3 of 4 members answered, and the sum needs all .* ask again"):
        scene.play(part)


def test_a_member_that_missed_letters_is_told_what_it_lacks_and_its_masks_still_cancel(tmp_path):
    there = village(tmp_path, 4, lost=lambda trip, member, way: member == "m3" and trip == 3)
    scene = Scene(there, terms=RESILIENT)

    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1,))
        yield from block(blocks, (1, 4))
        blocks.cohort, blocks._known = ("m0", "m1", "m2", "m3"), {0: 1}
        return (yield from block(blocks, (1, 4, 0)))

    assert scene.play(part).members == ("m0", "m1", "m2", "m3")


def test_a_member_that_was_restarted_has_no_keys_and_the_answer_ends(scene):
    def part(opened):
        blocks = scene.blocks(opened)
        yield from block(blocks, (1,))
        scene.there.houses["m2"].sums.close()
        yield from block(blocks, (1, 4))

    with pytest.raises(Abort, match="3 of 4 members answered"):
        scene.play(part)
    assert "restart" in str(scene.why["m2"])


def test_a_whole_reading_is_the_same_whoever_reads_it_again(scene):
    first = scene.there.run(reading(), session="aaaa", collaboration="mixture")
    again = scene.there.run(reading(), session="bbbb", collaboration="mixture")
    assert np.array_equal(first.sums, again.sums)
    assert public_rows().shape == (len(first.sums), 6)


def test_when_a_session_is_over_no_member_keeps_its_prompt_and_no_letter_opens_it_again(scene):
    there = scene.there
    outbox = there.outbox("5e55", "mixture")
    entry = CATALOG["mixture"]
    drive(entry.coordinate([MemberId(m) for m in sorted(there.houses)], reading()), outbox, entry.wire)
    prompt = np.array(TEXT[:-1], "<i4").tobytes()
    kept = [house.shelf.fetch("5e55") for house in there.houses.values()]
    assert all(prompt in shelved.state for shelved in kept)
    outbox.close()
    kept = [house.shelf.fetch("5e55") for house in there.houses.values()]
    assert all(prompt not in shelved.state + shelved.answer for shelved in kept)
    with pytest.raises(Abort):
        drive(entry.coordinate([MemberId(m) for m in sorted(there.houses)], reading()), outbox, entry.wire)
