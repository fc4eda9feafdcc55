"""Secret counts: what evolve and keyphrases make of them, and what nobody can make of them."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from village import LENGTH, TERMS, ballot, village

from privacy.accounting.accountant import Filter, price
from privacy.accounting.events import from_json
from privacy.refusal import NotRedacted
from privacy.rules import Asked, RedactedBy
from privacy.units import Kind, Unit
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive
from protocols.text import evolve
from protocols.text.ballot import Count, Votes, Voting, context_of
from protocols.text.evolve import Evolve
from protocols.text.keyphrases import Keyphrases, deviation_of

OPEN = {"epsilon": None, "noise_multiplier": None}
TEXTS = ("one", "two", "three", "four", "five")


class Author:
    """Count letters up: the first population is a0, a1, ...; a variation has one mark more."""

    def __init__(self):
        self.asked = []

    def begin(self, count):
        return [f"a{i}" for i in range(count)]

    def vary(self, texts):
        self.asked.append(list(texts))
        return [text + "'" for text in texts]


def evolved(there, terms=TERMS, keep=2, author=None, **changes):
    given = ballot(**(OPEN | changes))
    author = author or Author()
    run = evolve.evolved(sorted(there.houses), given, 2, terms, author, keep)
    outbox = there.outbox("5e55", "evolve")
    try:
        return drive(run, outbox, evolve.WIRE), author
    finally:
        outbox.close()


def test_without_noise_a_count_is_the_number_of_records_that_vote_for_each_choice(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)  # members vote for choices 0, 1 and 2, with four records each
    found = there.run(Evolve(ballot(**OPEN), 2, TERMS, TEXTS), collaboration="evolve")
    assert found.texts == TEXTS
    assert found.votes == pytest.approx([4, 4, 4, 0, 0], abs=1e-4)
    assert found.members == (3,)


def test_the_best_go_on_and_their_variations_fill_the_population(tmp_path):
    found, author = evolved(village(tmp_path, 3, noise_multiplier=0.0), counts=3)
    assert author.asked[0] == ["a0", "a1"]
    assert found.texts[0] == "a0"
    assert sorted(found.texts) == ["a0", "a0'", "a0'", "a1", "a1'"]
    assert found.members == (3, 3, 3)


def test_looks_are_sent_beside_each_candidate_and_counted_as_one(tmp_path):
    there, heard = village(tmp_path, 3, noise_multiplier=0.0), []
    for house in there.houses.values():
        house.opened = heard
    found, author = evolved(there, looks=3, keep=5)
    assert len(author.asked) == 2
    assert len(found.texts) == 5


def test_a_count_that_is_lost_was_charged_and_the_population_stays(tmp_path):
    there = village(tmp_path, 3, lost=lambda trip, member, way: (trip, member) == (2, "m1"))
    given = ballot(counts=2, noise_multiplier=0.5)
    run = evolve.evolved(sorted(there.houses), given, 2, TERMS, Author(), 2)
    found = drive(run, there.outbox("5e55", "evolve"), evolve.WIRE)
    assert found.members == (0, 2)
    assert len(list(there.houses[MemberId("m0")].ledger.entries())) == 2


@pytest.mark.parametrize("wrong", [[], ["a"] * 4, ["a"] * 6])
def test_an_author_that_writes_another_number_of_texts_is_our_own_fault(tmp_path, wrong):
    author = Author()
    author.begin = lambda _count: wrong
    with pytest.raises(LocalError, match=f"wrote {len(wrong)} texts, 5 were asked for"):
        evolved(village(tmp_path, 3, noise_multiplier=0.0), author=author)


def test_phrases_stand_out_of_the_noise_and_pairs_of_them_are_found(tmp_path):
    there = village(tmp_path, 3, noise_multiplier=0.0)
    task = Keyphrases(ballot(by=Votes.HELD, counts=2, choices=6, **OPEN), 2, TERMS, TEXTS)
    found = there.run(task, collaboration="keyphrases")  # of pairs members vote for the first three, too
    assert found.phrases[:3] == ("one", "two", "three")
    assert found.phrases[3:] == ("one two", "one three", "two one")
    assert found.records == pytest.approx([4] * 6, abs=1e-4)
    assert found.deviation == 0


def test_what_is_within_the_noise_is_not_named(tmp_path):
    there = village(tmp_path, 3)
    given = ballot(by=Votes.HELD, noise_multiplier=40.0)
    found = there.run(Keyphrases(given, 2, TERMS, TEXTS), collaboration="keyphrases")
    assert found.phrases == ()
    assert found.deviation == pytest.approx(deviation_of(given, TERMS, 3, 5))
    assert found.deviation == pytest.approx(40.0 * math.sqrt(3), rel=0.01)  # one honest member's would be enough


def test_every_count_is_charged_the_noise_of_the_honest_members_together(tmp_path):
    there = village(tmp_path, 3)
    given = ballot(noise_multiplier=2.0)
    there.run(Evolve(given, 2, TERMS, TEXTS), collaboration="evolve")
    for house in there.houses.values():
        (entry,) = house.ledger.entries()
        spent = Filter((8.0,), 1e-5).epsilon(price(from_json(entry.event), (8.0,)))
        gaussian = 8.0 / (2 * 2.0**2) + math.log(1e5) / 7  # at order 8, by the plainest conversion
        assert 0.5 * gaussian < spent < gaussian


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"choices": 0}, "choices"), ({"choices": 2**16 + 1}, "choices"), ({"counts": 0}, "counts"),
        ({"votes": 2}, "votes"), ({"by": Votes.HELD, "votes": 6}, "votes"), ({"by": Votes.HELD, "looks": 2}, "looks"),
        ({"population": 0}, "population"), ({"record_tokens": 1}, "record_tokens"), ({"delta": 1.0}, "delta"),
        ({"epsilon": None}, "epsilon"), ({"noise_multiplier": float("nan")}, "noise_multiplier"),
    ],
)  # fmt: skip
def test_a_ballot_that_makes_no_sense_cannot_be_made(changes, word):
    with pytest.raises(ValueError, match=word):
        ballot(**changes)


@pytest.mark.parametrize(
    "ask",
    [
        Count(ballot(), 1, TEXTS, None, ()), Count(ballot(), -1, TEXTS, None, ()), Count(ballot(), 0, (), None, ()),
        Count(ballot(), 0, (*TEXTS, "six"), None, ()), Count(ballot(looks=2), 0, TEXTS, None, ()),
        Count(ballot(), 0, ("x" * 2**15,), None, ()), Count(ballot(by=Votes.HELD), 0, ("a", "a"), None, ()),
        Count(ballot(), 0, TEXTS, None, ()),
    ],
    ids=["beyond the last", "before the first", "nothing", "too many", "half a look", "too long", "twice", "no sum"],
)  # fmt: skip
def test_an_ask_that_is_none_is_refused_before_the_home_hears_of_it(ask):
    with pytest.raises(PeerError) as refused:
        Voting(0).answer(ask, None)
    assert "xx" not in str(refused.value)


def test_no_count_is_answered_twice():
    with pytest.raises(PeerError, match="out of order"):
        Voting(1).answer(Count(ballot(counts=2), 0, TEXTS, None, ()), None)


def test_the_masks_depend_on_the_ballot_the_number_and_every_choice():
    given = ballot(counts=2)
    contexts = {
        context_of(*of)
        for of in (
            ("evolve", given, 0, TEXTS), ("keyphrases", given, 0, TEXTS), ("evolve", ballot(counts=3), 0, TEXTS),
            ("evolve", given, 1, TEXTS), ("evolve", given, 0, TEXTS[::-1]), ("evolve", given, 0, TEXTS[1:]),
        )
    }  # fmt: skip
    assert len(contexts) == 6


def test_other_choices_to_one_member_make_no_sum(tmp_path):
    there, trips = village(tmp_path, 3), 0
    run, outbox = (
        evolve.coordinate(sorted(there.houses), Evolve(ballot(), 2, TERMS, TEXTS)),
        there.outbox("5", "evolve"),
    )
    asks = next(run)
    with pytest.raises(Abort, match="not one of 1 counts"):
        while True:
            if "m1" in asks and isinstance(ask := asks[MemberId("m1")], Count):
                asks = dict(asks) | {MemberId("m1"): replace(ask, choices=TEXTS[::-1])}
            answers = outbox({m: evolve.WIRE.encode(ask) for m, ask in asks.items()})
            asks = run.send({m: evolve.WIRE.decode(answer) for m, answer in answers.items()})
            trips += 1
    assert trips == 2  # two to agree on keys
    assert not list(there.houses[MemberId("m1")].ledger.entries())


def test_a_keyphrase_task_needs_a_ballot_of_phrases(tmp_path):
    there = village(tmp_path, 3)
    for task in (Keyphrases(ballot(), 2, TERMS, TEXTS), Evolve(ballot(by=Votes.HELD), 2, TERMS, TEXTS)):
        name = "keyphrases" if isinstance(task, Keyphrases) else "evolve"
        with pytest.raises(LocalError):
            there.run(task, collaboration=name)


def test_words_too_narrow_for_the_crowd_are_named():
    narrow = Terms(Mode.STRICT, smallest_crowd=2, colluding=1, bits=16)
    with pytest.raises(ValueError, match="16 bits are too few"):
        ballot(population=2**20).spec(narrow, 3, 5)
    assert ballot(unit=Unit.MEMBER, population=2**20).spec(narrow, 3, 5).length == LENGTH


def test_counts_in_a_sum_are_no_text_and_anything_else_of_the_text_level_is(tmp_path):
    there = village(tmp_path, 3)
    there.run(Evolve(ballot(), 2, TERMS, TEXTS), collaboration="evolve")
    occasion = there.houses[MemberId("m0")].opened[-2]
    asked = Asked(replace(occasion, summed=True), None, Kind.VALUE, datetime.now(UTC), True)
    RedactedBy("").judge(asked)
    for other in (replace(asked, kind=Kind.TEXT), replace(asked, occasion=replace(occasion, summed=False))):
        with pytest.raises(NotRedacted):
            RedactedBy("").judge(other)
