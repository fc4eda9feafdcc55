"""What every collaboration in the catalog must hold, whoever wrote it."""

import dataclasses
import inspect
import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from thinkers import public_rows, question, reading
from village import BRIEF, CORNERS, LENGTH, PLANTED, TERMS, ballot, poll, pool_task, recipe, task, trial, village

from privacy.fixed_point import FixedPoint, sized
from protocols import catalog
from protocols.carriers.memory import MemoryRoad, Way
from protocols.catalog import CATALOG, Collaboration
from protocols.faults import Abort, LocalError, PeerError, WireError
from protocols.logits.distill import Distill
from protocols.logits.question import Question, Sends
from protocols.post import Letter, seal
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId
from protocols.stream import Tickets
from protocols.text.abstain import Abstain
from protocols.text.abstain import Way as Help
from protocols.text.ballot import Ballot, Votes
from protocols.text.blackboard import Blackboard
from protocols.text.blend import Blend
from protocols.text.cards import Cards
from protocols.text.critique import Critique
from protocols.text.debate import Debate
from protocols.text.evolve import Evolve
from protocols.text.feedback import Feedback
from protocols.text.keyphrases import Keyphrases
from protocols.text.panel import Panel
from protocols.text.poll import Mark, Poll
from protocols.text.talk import Brief
from protocols.text.vote import Vote
from protocols.weights import average
from protocols.weights.extrapolate import Extrapolate
from protocols.weights.merge import Merge, MergePlan, Method, Protection
from protocols.weights.pretrain import Pretrain
from protocols.weights.recipe import Recipe
from protocols.weights.search import Method as SearchMethod
from protocols.weights.search import Search
from protocols.weights.soup import Soup
from protocols.weights.utility import Trial
from protocols.wire import Message

# One line for each collaboration: a task that three members of `village` can work on.
TASKS = {
    "average": lambda: task(rounds=2),
    "pretrain": lambda: Pretrain(recipe(), 2, np.zeros(LENGTH, np.float32), task().terms),
    "merge": lambda: Merge(ties(), 2, Terms(Mode.STRICT, smallest_crowd=2, colluding=1)),
    "pooled": lambda: pool_task(rounds=2),
    "soup": lambda: Soup(trial(evaluations=3), 2, TERMS, CORNERS),
    "search": lambda: Search(trial(evaluations=3), 2, TERMS, CORNERS, SearchMethod.EVOLUTION, 5),
    "stream": lambda: Tickets("5" * 32, (b"t" * 32,) * 3, 2**32),
    "extrapolate": lambda: Extrapolate(trial(evaluations=1), 2, TERMS, CORNERS[:2], (0.3, 0.5)),
    "mixture": reading,
    "product": lambda: reading(question(sends=Sends.RATIOS)),
    "contrast": lambda: reading(question(sends=Sends.RATIOS, strength=2.0, plausible=0.1)),
    "private_predict": lambda: reading(question(sends=Sends.RATIOS, central=True, clip=1.0, experts=32)),
    "distill": lambda: Distill(reading(), np.concatenate([public_rows()[:1], public_rows()]).astype(np.float32)),
    "evolve": lambda: Evolve(ballot(), 2, TERMS, TEXTS),
    "keyphrases": lambda: Keyphrases(ballot(by=Votes.HELD, votes=2, counts=2), 2, TERMS, TEXTS),
    "cards": lambda: Cards(BRIEF, 2, ASKED, ("a card that was made before",)),
    "debate": lambda: Debate(BRIEF, 2, ASKED, 2),
    "feedback": lambda: Feedback(BRIEF, 2, ASKED, 1),
    "vote": lambda: Vote(BRIEF, 2, QUIET, ASKED, (), poll(), None),
    "panel": lambda: Panel(BRIEF, 2, TERMS, ASKED, None, ballot()),
    "blend": lambda: Blend(BRIEF, 2, QUIET, ASKED, 2, poll(mark=Mark.RANKS)),
    "blackboard": lambda: Blackboard(BRIEF, 2, QUIET, ASKED, 2, poll()),
    "abstain": lambda: Abstain(BRIEF, 2, QUIET, ASKED, "a draft", Help.COOPERATE, poll()),
    "critique": lambda: Critique(BRIEF, 2, TERMS, (ASKED, "And this?"), 2, 2.0, private_poll()),
}
TALKING = {"cards", "debate", "feedback", "vote", "panel", "blend", "blackboard", "abstain", "critique"}
ASKED = "What is it that [PERSON_1] asks?"
QUIET = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)
THINKING = {"mixture", "product", "contrast", "private_predict", "distill"}
FREE = {"stream"}  # what lets out nothing of the data, and charges nothing
TEXTS = ("one", "two", "three", "four", "five")
CANARY = 0.123456789123


def private_poll():
    return poll(polls=2, voters=100, epsilon=8.0, noise_multiplier=2.0)


def ties(**changes) -> MergePlan:
    given = {"base": "b" * 64, "adapter": "a", "method": Method.TIES, "layout": "l" * 64, "length": LENGTH}
    return MergePlan(**(given | {"protection": Protection.TRAINING} | changes))


@pytest.fixture(params=sorted(CATALOG))
def entry(request) -> Collaboration:
    return CATALOG[request.param]


def test_every_collaboration_has_a_task_to_be_tested_with():
    assert set(TASKS) == set(CATALOG)


def test_messages_and_states_are_frozen_slotted_and_documented(entry):
    for kind in (*entry.wire.kinds, *entry.states.kinds):
        assert kind.__dataclass_params__.frozen
        assert "__slots__" in vars(kind)
        assert kind.__doc__
        assert not kind.__doc__.startswith(kind.__name__ + "(")


def test_its_file_draws_the_conversation_and_says_who_learns_what(entry):
    text = inspect.getdoc(inspect.getmodule(entry.coordinate))
    for word in ("coordinator", "member", "──", "Learns:", "Trusts:"):
        assert word in text


# What checks itself when it is made, and so cannot be made of anything.
MADE = {
    FixedPoint: st.builds(
        sized, length=st.integers(1, 9), bits=st.just(32), members=st.integers(2, 9), coordinate=st.floats(1, 9)
    ),
    Terms: st.builds(Terms, st.sampled_from(Mode), st.integers(3, 9), st.integers(0, 2), st.sampled_from([16, 32])),
    MergePlan: st.builds(ties, density=st.floats(0.01, 0.99), length=st.integers(1, 9)),
    Recipe: st.builds(
        recipe, learning_rate=st.floats(0.01, 0.99), epsilon=st.none() | st.floats(0.1, 9), rank=st.integers(1, 9)
    ),
    Question: st.builds(question, clip=st.floats(0.1, 9), most=st.integers(4, 99), seed=st.integers(0, 99)),
    Ballot: st.builds(ballot, choices=st.integers(1, 99), epsilon=st.floats(0.1, 9), population=st.integers(1, 99)),
    Poll: st.builds(poll, options=st.integers(2, 99), voters=st.integers(1, 99), lead=st.floats(0, 1)),
    Brief: st.builds(Brief, st.integers(1, 99), st.integers(1, 99), st.integers(0, 99)),
    Trial: st.builds(trial, clip=st.floats(0.01, 9), epsilon=st.floats(0.1, 9), population=st.integers(1, 99)),
}


def values(hint) -> st.SearchStrategy:
    """Make values of a wire type from its annotation alone."""
    known = {
        int: st.integers(1, 2**40),
        float: st.floats(0.01, 0.99),
        bool: st.booleans(),
        str: st.text(max_size=8),
        bytes: st.binary(max_size=8),
    }
    if hint in known | MADE:
        return (known | MADE)[hint]
    if hasattr(hint, "__args__") and type(None) in hint.__args__:
        return st.none() | values(hint.__args__[0])
    if getattr(hint, "__origin__", None) is tuple:
        return st.lists(values(hint.__args__[0]), min_size=1, max_size=3).map(tuple)
    if getattr(hint, "__origin__", None) is np.ndarray:
        dtype = hint.__args__[1].__args__[0]
        elements = st.floats(-1, 1, width=32) if np.dtype(dtype).kind == "f" else None
        return arrays(dtype, st.integers(0, 5), elements=elements)
    if dataclasses.is_dataclass(hint):
        return st.builds(hint, **{f.name: values(t) for f, t in hints(hint)})
    return st.sampled_from(list(hint))  # an Enum


def hints(kind):
    named = inspect.get_annotations(kind, eval_str=True)
    return [(f, named[f.name]) for f in dataclasses.fields(kind)]


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b) and a.dtype == b.dtype
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


FIRST = {kind: c.name for c in reversed(CATALOG.values()) for wire in (c.wire, c.states) for kind in wire.kinds}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_message_survives_the_wire_and_no_truncation_does(entry, data):
    """Each kind of message on one wire of those that know it: what packs it is made of the kind alone."""
    for wire in (entry.wire, entry.states):
        for kind in (k for k in wire.kinds if FIRST[k] == entry.name):
            message = data.draw(values(kind))
            packed = wire.encode(message)
            assert same(wire.decode(packed), message)
            with pytest.raises(WireError):
                wire.decode(packed[:-1])


def test_a_session_ends_in_a_result_and_charges_before_it_answers(entry, tmp_path):
    there = village(tmp_path, 3)
    assert isinstance(there.run(TASKS[entry.name](), collaboration=entry.name), Message)
    assert all(bool(list(h.ledger.entries())) is (entry.name not in FREE) for h in there.houses.values())
    assert all('"said"' in "".join(h.ledger.lines()) for h in there.houses.values())


ALONE = {c.states.kinds: c.name for c in reversed(CATALOG.values())}.values()  # one of those whose members are alike


@pytest.mark.parametrize(
    ("entry", "first"),
    [(name, first) for name in sorted(CATALOG) for first in (range(3) if name in ALONE else (1,))],
    indirect=["entry"],
)
def test_any_pattern_of_loss_ends_in_a_result_or_an_abort(entry, first, tmp_path):
    """Every subset of the letters of two trips in a row, for three members, lost on the way out or back.

    For `average` all of them; for others one of those that differ by the names alone, or those of one member. Where
    members are alike they ask by the same code: there it is those of one collaboration in all trips.
    """
    slots = list(itertools.product((first, first + 1), range(3)))
    for case, pattern in enumerate(itertools.product((False, True), repeat=len(slots))):
        fates = list(zip(pattern[:3], pattern[3:], strict=True))
        if (entry.name != "average" or first != 1) and fates != sorted(fates):
            continue
        closely = entry.name == "average" or (entry.name in ALONE and first == 1)
        if not closely and any(map(any, fates[:2])):
            continue
        gone = {(trip, MemberId(f"m{i}")) for (trip, i), lost in zip(slots, pattern, strict=True) if lost}
        way_lost = (Way.OUT, Way.BACK)[case % 2]
        there = village(
            tmp_path / "loss", 3, lost=lambda t, m, w, gone=gone, way=way_lost: (t, m) in gone and w is way
        )
        try:
            result = there.run(TASKS[entry.name](), session=f"{case:04x}", collaboration=entry.name)
        except Abort as abort:
            assert "of 3" in str(abort)  # noqa: PT017  either ending is right
        else:
            assert isinstance(result, Message)


NO_LETTERS = (b"", b"\x00", b"\xc1" * 40, b"\x91\xa4Idle")  # what opens letters is one code for all


@pytest.mark.parametrize(
    ("entry", "garbage"),
    [
        (name, lie)
        for name in sorted(CATALOG)
        for lie in ("letter", "foreign", *(NO_LETTERS if name in ALONE else ()))
    ],
    indirect=["entry"],
)
def test_garbage_from_one_member_harms_nobody(entry, garbage, tmp_path):
    there = village(tmp_path, 4 if entry.name in THINKING | TALKING else 3)  # without noise three must be left
    liar = there.houses[MemberId("m0")]

    def lie(sealed: bytes) -> bytes:
        if isinstance(garbage, bytes):
            return garbage
        body = b"no message" if garbage == "letter" else MISSHAPEN
        return seal(
            Letter("5e55", entry.name, 0, "m0", "coordinator", tuple(sorted(there.houses)), body), liar.identity
        )

    road = MemoryRoad({**there.road.ends, MemberId("m0"): lie})
    result = there.run(TASKS[entry.name](), collaboration=entry.name, road=road)
    assert isinstance(result, Message)


MISSHAPEN = average.WIRE.encode(average.Contributed(0, np.zeros(LENGTH + 3, np.float32)))


def test_an_unknown_ask_is_the_peers_fault(entry, tmp_path):
    house = village(tmp_path, 1).houses[MemberId("m0")]

    @dataclasses.dataclass(frozen=True, slots=True)
    class Surprise(Message):
        value: int

    for state in entry.states.kinds:
        first = type(entry.begin) is state
        member = entry.begin if first else state(**{f.name: 0 for f in dataclasses.fields(state)})
        with pytest.raises(PeerError):
            member.answer(Surprise(1), house.open_home(None))
    assert list(house.ledger.entries()) == []


def test_a_member_survives_a_restart_between_any_two_letters(entry, tmp_path):
    there = village(tmp_path, 3)
    fresh = {m: (lambda sealed, h=h: h.mailbox.deliver(sealed)) for m, h in there.houses.items()}
    result = there.run(TASKS[entry.name](), collaboration=entry.name, road=MemoryRoad(fresh))
    assert isinstance(result, Message)


def test_no_planted_canary_is_ever_on_the_wire_in_a_log_or_in_an_error(entry, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    heard, words = [], []
    there = village(tmp_path, 3, tap=lambda m, w, data: heard.append(data))
    for house in there.houses.values():
        house.point[:] = CANARY
    house.account  # noqa: B018  the data set's name is private too
    there.run(TASKS[entry.name](), collaboration=entry.name)
    for damaged in (heard[0][:-1], heard[0] + b"x"):
        with pytest.raises(PeerError) as error:
            there.houses[MemberId("m0")].mailbox.deliver(damaged)
        words.append(str(error.value))
    everything = b"".join(heard) + caplog.text.encode() + "".join(words).encode()
    canaries = np.float64(CANARY).tobytes(), np.float32(CANARY).tobytes(), str(CANARY)[:8].encode(), b"data of"
    for canary in (*canaries, PLANTED.encode(), PLANTED.partition("@")[0].encode()):
        assert canary not in everything


def test_the_catalog_names_each_collaboration_as_its_key():
    assert all(name == c.name for name, c in CATALOG.items())
    assert Path(catalog.__file__).read_text().count("\n    (") == len(CATALOG)  # one line each


def test_a_stored_state_that_is_garbage_is_our_fault_or_the_files(entry):
    with pytest.raises((LocalError, WireError)):
        entry.state(b"\x91\xa6Nobody")
