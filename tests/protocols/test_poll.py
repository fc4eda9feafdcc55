"""Polls: the tally is exact where nothing hides it, and what it costs is what one record can move."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from speakers import MEMBERS, Scripted, choosing, give
from village import Village, ballot, poll, village

from client.homes.talking import NoisyPapers, Papers, paper
from client.speaking.speaker import Silent
from client.visit import Begun
from privacy.randomness import UnsafeSeededRandomness
from privacy.units import Unit
from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.messages import Upload
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import drive
from protocols.text.panel import Panel
from protocols.text.poll import BEGIN, LEAST_VOTERS, Judge, Mark, Poll, open_booth, require_options
from protocols.text.talk import Brief
from protocols.text.vote import Vote

BRIEF = Brief(turns=2, longest=80, heard=0)
TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)
SHARED = Terms(Mode.STRICT, smallest_crowd=2, colluding=1)
ASKED = "Which of them is it?"
OPTIONS = ("one", "two", "three", "four", "five")
PRIVATE = {"options": 5, "voters": 60, "epsilon": 8.0, "noise_multiplier": 2.0}


def crowd(folder: Path, likes: Sequence[Sequence[dict]], members: int = 3) -> Village:
    """Return houses in which each of a member's models likes options as its dictionary says."""
    names = [f"m{i}" for i in range(members)]
    voters = {m: [Scripted(likes=of.get) for of in mine] for m, mine in zip(names, likes, strict=True)}
    return give(village(folder, members), {m: Scripted() for m in names}, voters)


def polled(there: Village, the_poll: Poll, questions: Sequence[str], options=OPTIONS, terms=TERMS):
    """Take one poll for each question, in one session."""

    def coordinate(members):
        booth = yield from open_booth("vote", members, the_poll, 3, terms)
        for number, question in enumerate(questions):
            yield from booth.vote(number, question, options)
        return booth.tallies

    made = drive(coordinate(sorted(there.houses)), there.outbox("5e55", "vote"), CATALOG["vote"].wire)
    return [tally.votes for tally in made]


def naive(the_poll: Poll, likes: dict) -> np.ndarray:
    """Put on paper what one voter likes, as slowly as it is said."""
    points = []
    for option, share in likes.items():
        rest = [other for name, other in likes.items() if name != option]
        if the_poll.mark is Mark.BEST:
            points.append(float(all(share > o and share - o >= the_poll.lead for o in rest)))
        else:
            points.append(sum(1.0 if share > o else 0.5 if share == o else 0.0 for o in rest) / len(rest))
    return np.array(points)


@pytest.mark.parametrize("mark", list(Mark))
@pytest.mark.parametrize("bits", [16, 32])
def test_a_hidden_tally_is_exactly_the_naive_count(mark, bits, tmp_path):
    draw = np.random.default_rng(5)
    shares = [0.0, 0.125, 0.25, 0.5]
    likes = [[{o: float(draw.choice(shares)) for o in OPTIONS} for _ in range(n)] for n in (1, 2, 7, 3)]
    the_poll = poll(mark=mark, options=5, voters=7, lead=0.25)
    (votes,) = polled(crowd(tmp_path, likes, 4), the_poll, [ASKED], terms=replace(TERMS, bits=bits))
    assert votes.tolist() == sum(naive(the_poll, of) for mine in likes for of in mine).tolist()


@pytest.mark.parametrize("bits", [16, 32])
def test_no_vote_is_rounded_on_its_way_into_words(bits):
    for mark, options in ((Mark.BEST, 3), (Mark.RANKS, 3), (Mark.RANKS, 6)):
        the_poll = poll(mark=mark, voters=7, options=6)
        parts = the_poll.parts(options)
        code = the_poll.spec(replace(TERMS, bits=bits), 4, options)
        for points in (np.arange(options) / parts, np.full(options, 7.0)):
            assert (code.encode(points) == np.rint(points * parts) * int(code.scale) // parts).all()
            assert code.scale % parts == 0


@pytest.mark.parametrize("private", [False, True])
def test_notes_are_shown_to_voters_where_a_record_need_not_be_in_one_shard_alone(private, tmp_path):
    there = shards(tmp_path)
    for house in there.houses.values():
        house.mouth.notes, house.mouth.documents = 1, lambda: ["which of them it is"]
    polled(there, poll(**(PRIVATE if private else {"options": 5})), [ASKED], terms=SHARED if private else TERMS)
    shown = {p.notes for h in there.houses.values() for v in h.mouth.voters() for p, _ in v.weighed}
    assert shown == {() if private else ("which of them it is",)}


def test_votes_that_are_as_many_are_equal_however_they_are_spread(tmp_path):
    one, two = {"one": 1.0, "two": 0.0}, {"one": 0.0, "two": 1.0}
    (votes,) = polled(crowd(tmp_path, [[one] * 3, [two], [two] * 2]), poll(voters=3), [ASKED], ("one", "two"))
    assert votes.tolist() == [3.0, 3.0]


def test_a_home_without_shards_votes_with_the_model_that_writes_there(tmp_path):
    speakers = {m: Scripted(likes=choosing("two")) for m in MEMBERS}
    (votes,) = polled(give(village(tmp_path, 3), speakers), poll(options=5), [ASKED])
    assert votes.tolist() == [0, 3, 0, 0, 0]


def test_a_home_with_more_shards_than_voters_votes_with_the_model_that_writes_there(tmp_path):
    there = shards(tmp_path, 4)
    for house in there.houses.values():
        house.mouth.speaker().likes = choosing("three")
    (votes,) = polled(there, poll(options=5, voters=3), [ASKED])
    assert votes.tolist() == [0, 0, 3, 0, 0]


@given(
    arrays(np.float64, st.integers(2, 9), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])),
    st.sampled_from([0.0, 0.125, 0.25, 1.0]),
    st.sampled_from(Mark),
)
def test_a_paper_is_what_a_naive_one_says_and_within_its_bounds(shares, lead, mark):
    the_poll = poll(mark=mark, lead=lead)
    made = paper(the_poll, shares)
    assert made.tolist() == naive(the_poll, dict(enumerate(shares.tolist()))).tolist()
    assert 0 <= made.min() <= made.max() <= 1
    assert made.sum() == pytest.approx(len(shares) / 2) if mark is Mark.RANKS else made.sum() in (0, 1)


@pytest.mark.parametrize("shares", [[np.nan] * 3, [0.0] * 3, [1 / 3] * 3, [np.nan, 0.0, 0.0]])
def test_who_is_sure_of_nothing_has_no_vote_and_puts_nothing_before_another(shares):
    assert paper(poll(), np.array(shares)).tolist() == [0, 0, 0]
    assert paper(poll(mark=Mark.RANKS), np.array(shares)).tolist() == [0.5, 0.5, 0.5]


def test_a_lead_that_is_not_reached_is_no_vote():
    assert paper(poll(lead=0.5), np.array([0.75, 0.25])).tolist() == [1, 0]
    assert paper(poll(lead=0.51), np.array([0.75, 0.25])).tolist() == [0, 0]


IMPOSSIBLE = {
    "one option": {"options": 1},
    "too many options": {"options": 257},
    "no poll": {"polls": 0},
    "no voter": {"voters": 0},
    "a lead above one": {"lead": 1.1},
    "a lead that is none": {"lead": float("nan")},
    "no delta": {"delta": 0.0},
    "noise without an epsilon": {"noise_multiplier": 1.0},
    "an epsilon without noise": {"epsilon": 1.0, "voters": 99},
    "an epsilon of few voters": {"epsilon": 1.0, "noise_multiplier": 1.0, "voters": LEAST_VOTERS - 1},
    "an epsilon of ranks": {"epsilon": 1.0, "noise_multiplier": 1.0, "voters": 99, "mark": Mark.RANKS},
    "an endless epsilon": {"epsilon": float("inf"), "noise_multiplier": 1.0, "voters": 99},
    "noise of nothing": {"epsilon": 1.0, "noise_multiplier": 0.0, "voters": 99},
}


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_poll_that_promises_what_it_cannot_keep_cannot_be_made(changes):
    with pytest.raises(ValueError, match="expected"):
        poll(**changes)


def test_words_too_narrow_to_tell_one_vote_are_refused_before_anybody_is_asked():
    with pytest.raises(ValueError, match="16 bits are too few to tell one of 8000 votes"):
        poll(mark=Mark.RANKS, voters=8000).spec(replace(TERMS, bits=16), 3, 4)
    task = Vote(BRIEF, 2, replace(TERMS, bits=16), ASKED, OPTIONS[:4], poll(voters=20_000), None)
    with pytest.raises(LocalError, match="16 bits"):
        next(CATALOG["vote"].coordinate(MEMBERS, task))


def lines(there: Village, kind: str) -> list[dict]:
    found = [json.loads(line) for house in there.houses.values() for line in house.ledger.lines()]
    return [line for line in found if line["kind"] == kind]


def charged(there: Village) -> int:
    return len(lines(there, "charged")) + len(lines(there, "disclosed"))


def whys(there: Village) -> set[str]:
    return {line["why"] for line in lines(there, "refused")}


def shards(folder: Path, count: int = 20, option: str = "two") -> Village:
    return crowd(folder, [[{o: float(o == option) for o in OPTIONS}] * count] * 3)


def test_with_noise_a_poll_is_charged_before_a_model_is_asked(tmp_path):
    there, seen = shards(tmp_path), []
    for house in there.houses.values():
        for voter in house.mouth.voters():
            voter.likes = lambda o, house=house: seen.append(len(list(house.ledger.entries()))) or float(o == "two")
    (votes,) = polled(there, poll(**PRIVATE), [ASKED], terms=SHARED)
    assert set(seen) == {1}
    assert len(seen) == 3 * 20 * 5
    assert votes.argmax() == 1
    assert votes.tolist() != np.rint(votes).tolist()  # there is noise on it
    assert len(lines(there, "charged")) == 3


REFUSED = {
    "another unit": ({"unit": Unit.GROUP}, 20, "LevelForbidden"),
    "a whole member": ({"unit": Unit.MEMBER}, 20, "LevelForbidden"),
    "no shards": ({}, 0, "PeerError"),
    "more shards than voters": ({"voters": 50}, 51, "PeerError"),
    "too little noise": ({"epsilon": 1.0}, 20, "PeerError"),
    "too little noise for all polls": ({"polls": 30}, 20, "PeerError"),
    "more than the budget": ({"polls": 1000, "epsilon": 500.0}, 20, "BudgetExceeded"),
}


@pytest.mark.parametrize(("changes", "voters", "why"), REFUSED.values(), ids=REFUSED)
def test_a_poll_with_noise_that_cannot_be_is_refused_before_it_costs_anything(changes, voters, why, tmp_path):
    there = shards(tmp_path, voters)
    with pytest.raises(Abort, match="0 of 3"):
        polled(there, poll(**(PRIVATE | changes)), [ASKED], terms=SHARED)
    assert whys(there) == {why}
    assert charged(there) == 0
    assert not any(v.weighed for h in there.houses.values() for v in h.mouth.voters())


def noisy(unit: Unit, voters: Sequence[Scripted]) -> NoisyPapers:
    the_poll = poll(**(PRIVATE | {"unit": unit}))
    ask = Judge(the_poll, 0, 0, ASKED, OPTIONS, None, ())
    begun = Begun(
        SHARED,
        the_poll.spec(SHARED, 3, 5),
        tuple(MEMBERS),
        lambda words: Upload(0, words.view(np.uint8), b"", b"", ()),
    )
    return NoisyPapers(Papers(voters, ask, ()), begun)


PAPERS = [np.zeros(5), *np.eye(5)]


@pytest.mark.parametrize("unit", [Unit.RECORD, Unit.GROUP])
def test_the_event_bounds_what_one_record_moves_and_no_paper_moves_more(unit):
    papers = noisy(unit, [Scripted()] * 20)
    code = papers.begun.spec
    moved = [np.linalg.norm((code.encode(a) - code.encode(b)).astype(float)) for a, b in combinations(PAPERS, 2)]
    assert max(moved) <= papers.event.bound <= max(moved) * 1.0001
    assert papers.event.deviation == code.deviation
    assert (papers.event.rate, papers.event.honest) == (1.0, SHARED.honest)


def test_the_event_for_a_whole_member_bounds_all_its_shards_at_once():
    papers = noisy(Unit.MEMBER, [Scripted()] * 20)
    code = papers.begun.spec
    most = max(np.linalg.norm(20 * code.encode(p).astype(float)) for p in PAPERS)
    assert most <= papers.event.bound <= most * 1.0001


def test_the_noise_on_a_member_s_papers_is_what_its_event_says():
    papers = noisy(Unit.RECORD, [Scripted(likes=choosing("two"))] * 3)
    code, randomness = papers.begun.spec, UnsafeSeededRandomness(3)
    drawn = np.array([papers.draw(randomness).words.view(np.int32) for _ in range(400)], float)
    left = drawn - 3 * code.encode(PAPERS[2])
    assert abs(left.mean()) < 5 * code.deviation / np.sqrt(left.size)
    assert left.std() == pytest.approx(code.deviation, rel=0.08)


def test_the_polls_of_a_session_are_charged_one_by_one_and_none_beyond_the_last(tmp_path):
    there, the_poll = shards(tmp_path), poll(**(PRIVATE | {"polls": 2}))
    assert len(polled(there, the_poll, ["first?", "second?"], terms=SHARED)) == 2
    assert len(lines(there, "charged")) == 6
    with pytest.raises(LocalError, match="more polls than the terms have noise for"):
        polled(shards(tmp_path / "again"), the_poll, ["first?", "second?", "third?"], terms=SHARED)


SECRET = "the question of Zanzibar"


def judge(**changes) -> Judge:
    made = {"poll": poll(polls=3), "number": 4, "poll_number": 1, "question": SECRET, "options": OPTIONS[:3]}
    return Judge(**(made | {"request": None, "slips": ()} | changes))


JUDGING = replace(BEGIN, poll=poll(polls=3), next_poll=1, guest=replace(BEGIN.guest, next_number=4))
UNACCEPTABLE = {
    "another poll": judge(poll=poll(polls=4)),
    "a poll again": judge(poll_number=0),
    "a poll beyond the last": judge(poll_number=3),
    "an ask of the past": judge(number=3),
    "one option": judge(options=(SECRET,)),
    "an option twice": judge(options=(SECRET, SECRET)),
    "a blank option": judge(options=(SECRET, " \u2028")),
    "too many options": judge(options=tuple(f"{SECRET}{n}" for n in range(5))),
    "an option too long": judge(options=(SECRET + "x" * 2**16, "two")),
    "an empty question": judge(question=" "),
    "no sum": judge(),
}


@pytest.mark.parametrize("name", UNACCEPTABLE)
def test_a_poll_out_of_order_or_of_no_options_is_refused_and_quoted_nowhere(name):
    ask = UNACCEPTABLE[name]
    with pytest.raises(PeerError) as error:
        JUDGING.answer(ask, None)
    assert ("into a secure sum alone" in str(error.value)) is (name == "no sum")
    assert "Zanzibar" not in str(error.value) + repr(ask)


def test_options_that_differ_are_fine():
    require_options(poll(), SECRET, ("a", "A"))


@pytest.mark.parametrize("change", [{"question": "another?"}, {"options": ("six", "seven")}, {"poll_number": 1}])
def test_another_question_under_a_sum_that_was_opened_for_one_is_refused(change, tmp_path):
    the_poll = poll(**(PRIVATE | {"polls": 2}))
    there, entry = shards(tmp_path), CATALOG["vote"]

    def lying(members):
        inner = open_booth("vote", members, the_poll, 3, SHARED)
        booth = yield from inner
        asks = (one := booth.vote(0, ASKED, OPTIONS[:2])).send(None)
        while True:
            asks = one.send((yield {m: replace(a, **change) if isinstance(a, Judge) else a for m, a in asks.items()}))

    with pytest.raises(Abort, match="0 of 3"):
        drive(lying(MEMBERS), there.outbox("5e55", "vote"), entry.wire)
    assert charged(there) == 0
    assert whys(there) == {"PeerError"}


def test_a_sum_asked_for_twice_is_answered_once(tmp_path):
    the_poll, replies = poll(**(PRIVATE | {"polls": 2})), []
    there = shards(tmp_path)

    def twice(members):
        booth = yield from open_booth("vote", members, the_poll, 3, SHARED)
        asks = booth.vote(0, ASKED, OPTIONS).send(None)
        replies.append((yield asks))
        replies.append((yield asks))
        replies.append((yield {m: replace(a, number=1, poll_number=1) for m, a in asks.items()}))

    drive(twice(MEMBERS), there.outbox("5e55", "vote"), CATALOG["vote"].wire)
    assert [len(r) for r in replies] == [3, 0, 0]
    assert len(lines(there, "charged")) == 3


@pytest.mark.parametrize("name", ["vote", "panel"])
def test_records_vote_where_a_ballot_says_so_and_are_charged(name, tmp_path):
    speakers = {m: Scripted(lambda _p, w=w: w) for m, w in zip(MEMBERS, ("low", "high", "equal"), strict=True)}
    there = give(village(tmp_path, 3), speakers)
    task = {
        "vote": Vote(BRIEF, 3, SHARED, ASKED, (), None, ballot(choices=3)),
        "panel": Panel(BRIEF, 3, SHARED, ASKED, None, ballot(choices=3)),
    }[name]
    result = there.run(task, collaboration=name)
    assert sorted(result.answers) == ["equal", "high", "low"]
    assert result.points.tolist() == sorted(result.points, reverse=True)
    assert result.tallies[0].members == 3
    assert [len(lines(there, kind)) for kind in ("charged", "disclosed")] == [3, 3]
    assert all(s.weighed == [] for s in speakers.values())


def test_records_vote_for_options_of_one_look_and_short_answers_alone():
    task = Vote(BRIEF, 3, SHARED, ASKED, (), None, ballot())
    for wrong in (
        replace(task, ballot=ballot(looks=2)),
        replace(task, brief=Brief(2, 2**15, 0)),
        replace(task, poll=poll()),
        replace(task, options=("a", "b", "c", "d", "e", "f")),
    ):
        with pytest.raises(LocalError):
            next(CATALOG["vote"].coordinate(MEMBERS, wrong))


@pytest.mark.parametrize("fault", [PeerError("a question longer than this model reads"), Silent("too late")])
def test_a_model_that_cannot_read_a_poll_or_hangs_has_no_vote_and_spoils_nobody_s(fault, tmp_path):
    def unread(_option):
        raise fault

    there = shards(tmp_path, 3)
    for voter in (*there.houses["m1"].mouth.voters(), there.houses["m0"].mouth.voters()[0]):
        voter.likes = unread
    (votes,) = polled(there, poll(options=5), [ASKED])
    assert votes.tolist() == [0, 5, 0, 0, 0]
    assert whys(there) == set()
