"""The collaborations in which models talk: who is asked what, who hears whom, and what comes of it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speakers import MEMBERS, Scripted, choosing, give
from village import poll, village

from privacy.redaction.redactor import Redactor
from protocols.carriers.memory import Way
from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError, PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import drive
from protocols.text.abstain import VERDICTS, Abstain, stated
from protocols.text.abstain import Way as Help
from protocols.text.blackboard import Blackboard
from protocols.text.blend import Blend
from protocols.text.cards import Cards
from protocols.text.critique import Critique
from protocols.text.debate import Debate
from protocols.text.feedback import Feedback
from protocols.text.panel import Panel
from protocols.text.poll import Mark
from protocols.text.talk import BEGIN, LONGEST, Brief, Consult, Reply, Step, distinct
from protocols.text.vote import Vote

BRIEF = Brief(turns=6, longest=80, heard=6)
TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)
ASKED = "Is it low or high?"
WORDS = dict(zip(MEMBERS, ("low", "high", "equal"), strict=True))


def saying(**likes) -> dict:
    """Return a model for each member that says its word, and what it is told to do: "low, to answer"."""
    return {
        m: Scripted(lambda prompt, c=c: f"{c}, to {prompt.step.value}", likes.get(m, len)) for m, c in WORDS.items()
    }


def shown(speaker: Scripted, step: Step) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.draft, p.heard) for p in speaker.shown if p.step is step]


def lost(*gone):
    """Lose the letters on these trips to these members."""
    return lambda trip, member, way: (trip, member) in gone and way is Way.OUT


def test_in_a_debate_each_hears_the_others_and_its_own_is_its_draft(tmp_path):
    said = saying()
    result = give(village(tmp_path, 3), said).run(Debate(BRIEF, 3, ASKED, 3), collaboration="debate")
    for m, word in WORDS.items():
        rest = [c for c in WORDS.values() if c != word]
        assert shown(said[m], Step.ANSWER) == [("", ())]
        assert shown(said[m], Step.REFINE) == [
            (f"{word}, to answer", tuple(f"{c}, to answer" for c in rest)),
            (f"{word}, to refine", tuple(f"{c}, to refine" for c in rest)),
        ]
    assert [(e.member, e.round) for e in result.entries] == [(m, r) for r in range(3) for m in MEMBERS]
    assert result.answers == tuple(f"{c}, to refine" for c in WORDS.values())


def test_who_misses_a_round_of_a_debate_goes_on_from_what_it_last_said(tmp_path):
    said = saying()
    there = give(village(tmp_path, 3, lost=lost((1, "m1"))), said)
    result = there.run(Debate(BRIEF, 2, ASKED, 3), collaboration="debate")
    assert shown(said["m1"], Step.REFINE) == [("high, to answer", ("low, to refine", "equal, to refine"))]
    assert shown(said["m0"], Step.REFINE)[1] == ("low, to refine", ("high, to answer", "equal, to refine"))
    assert [e.member for e in result.entries if e.round == 1] == ["m0", "m2"]


def test_who_misses_the_first_round_of_a_debate_is_not_asked_for_a_second(tmp_path):
    said = saying()
    there = give(village(tmp_path, 3, lost=lost((0, "m2"))), said)
    result = there.run(Debate(BRIEF, 2, ASKED, 2), collaboration="debate")
    assert said["m2"].shown == []
    assert shown(said["m0"], Step.REFINE) == [("low, to answer", ("high, to answer",))]
    assert result.answers == ("low, to refine", "high, to refine")


def test_who_is_heard_is_cut_to_the_brief_the_last_ones_first(tmp_path):
    said = saying()
    brief = Brief(turns=2, longest=80, heard=1)
    give(village(tmp_path, 3), said).run(Debate(brief, 3, ASKED, 2), collaboration="debate")
    assert shown(said["m0"], Step.REFINE) == [("low, to answer", ("equal, to answer",))]


@pytest.mark.parametrize("critics", [1, 2])
def test_feedback_goes_round_in_a_circle_and_back_to_whose_answer_it_was(critics, tmp_path):
    said = saying()
    for m, word in WORDS.items():
        said[m].words = lambda p, c=word: (
            f"{c} is wrong where {p.draft}" if p.step is Step.CRITICISE else f"{c}, then"
        )
    result = give(village(tmp_path, 3), said).run(Feedback(BRIEF, 3, ASKED, critics), collaboration="feedback")
    names = list(WORDS.values())
    for i, m in enumerate(MEMBERS):
        seen = [names[(i + step) % 3] for step in range(1, critics + 1)]
        assert shown(said[m], Step.CRITICISE) == [(f"{whose}, then", ()) for whose in seen]
        critics_of = [names[(i - step) % 3] for step in range(1, critics + 1)]
        heard = tuple(f"{c} is wrong where {names[i]}, then" for c in critics_of)
        assert shown(said[m], Step.REFINE) == [(f"{names[i]}, then", heard)]
    assert result.answers == ("low, then", "high, then", "equal, then")


def test_cards_hear_nobody_and_go_in_beside_those_that_were_made(tmp_path):
    said = saying()
    said["m2"].words = lambda _prompt: "LOW,  to inform"
    made = ("a card made before",)
    result = give(village(tmp_path, 3), said).run(Cards(BRIEF, 3, ASKED, made), collaboration="cards")
    assert all([p.step for p in s.shown] == [Step.INFORM] and not p.heard for s in said.values() for p in s.shown)
    assert result.answers == ("low, to inform", "a card made before", "high, to inform")  # said most often first


def board_of(said) -> list[tuple[str, ...]]:
    return [heard for _, heard in shown(said["m0"], Step.PROPOSE)]


def test_a_board_grows_without_names_until_nobody_adds_anything_new(tmp_path):
    said = saying(**{m: choosing("high, concluded") for m in MEMBERS})
    for m, word in WORDS.items():
        entries = iter([f"{word}, a fact", "Nothing." if m != "m1" else "another fact", "nothing", "never asked"])
        said[m].words = lambda p, c=word, e=entries: next(e) if p.step is Step.PROPOSE else f"{c}, concluded"
    task = Blackboard(BRIEF, 3, TERMS, ASKED, 5, poll())
    result = give(village(tmp_path, 3), said).run(task, collaboration="blackboard")
    facts = ("low, a fact", "high, a fact", "equal, a fact")
    assert board_of(said) == [(), facts, (*facts, "another fact")]
    assert shown(said["m2"], Step.ANSWER) == [("", (*facts, "another fact"))]
    assert result.answers[0] == "high, concluded"
    assert result.points.tolist() == [3, 0, 0]


def test_a_board_takes_no_more_than_its_brief_says_and_no_entry_twice(tmp_path):
    said = saying()
    said["m1"].words = lambda prompt: "LOW,   to " + prompt.step.value
    brief = Brief(turns=6, longest=80, heard=2)
    task = Blackboard(brief, 3, TERMS, ASKED, 5, poll())
    give(village(tmp_path, 3), said).run(task, collaboration="blackboard")
    assert board_of(said) == [()]  # full after the first round
    assert shown(said["m1"], Step.ANSWER) == [("", ("low, to propose", "equal, to propose"))]


def test_a_panel_keeps_every_answer_with_how_many_stand_behind_it(tmp_path):
    said = saying(m0=choosing("equal, to speak"), m1=choosing("equal, to speak"), m2=choosing("low, to speak"))
    task = Panel(BRIEF, 3, TERMS, ASKED, poll(), None)
    result = give(village(tmp_path, 3), said).run(task, collaboration="panel")
    assert result.answers == ("equal, to speak", "low, to speak", "high, to speak")
    assert result.points.tolist() == [2, 1, 0]
    assert {p.heard for s in said.values() for p in s.shown} == {()}


def test_a_draft_that_more_hold_wrong_than_right_does_not_stand(tmp_path):
    said = saying(m0=choosing("wrong"), m1=choosing("wrong"), m2=lambda _: 0.5)
    task = Abstain(BRIEF, 3, TERMS, ASKED, "it is so", Help.COOPERATE, poll())
    result = give(village(tmp_path, 3), said).run(task, collaboration="abstain")
    assert result.answers == ("wrong", "right")
    assert result.points.tolist() == [2, 0]  # who is unsure has no vote
    assert shown(said["m1"], Step.CRITICISE) == [("it is so", ())]
    (prompt, options), *_ = said["m1"].weighed
    assert (prompt.question, options) == (stated(ASKED, "it is so"), VERDICTS)


def test_challenges_are_for_the_asker_alone_and_nobody_votes(tmp_path):
    said = saying()
    task = Abstain(BRIEF, 3, TERMS, ASKED, "it is so", Help.COMPETE, poll())
    result = give(village(tmp_path, 3), said).run(task, collaboration="abstain")
    assert result.answers == tuple(f"{c}, to challenge" for c in WORDS.values())
    assert result.tallies == ()
    assert shown(said["m0"], Step.CHALLENGE) == [("it is so", ())]
    assert all(s.weighed == [] for s in said.values())


def test_a_label_stands_by_its_lead_and_only_what_is_contested_is_polled(tmp_path):
    said = saying(m0=choosing("high"), m1=choosing("high"), m2=choosing("equal"))
    for m, word in WORDS.items():
        said[m].words = lambda p, c=word: c if "low" in p.question else "all the same"
    task = Critique(BRIEF, 3, TERMS, ("What is clear?", ASKED, "And is it low now?"), 2, 1.0, poll(polls=3))
    result = give(village(tmp_path, 3), said).run(task, collaboration="critique")
    assert [(label.question, label.answer, label.lead) for label in result.labels] == [
        (ASKED, "high", 1.0),
        ("And is it low now?", "high", 1.0),
    ]
    assert [t.votes.tolist() for t in result.tallies] == [[0, 2, 1], [0, 2, 1]]
    assert len([e for e in result.entries if e.step is Step.REFINE]) == 9
    with pytest.raises(Abort, match="no label of 3 stood, of 3 members"):
        give(village(tmp_path / "again", 3), said).run(replace(task, least=2.0), collaboration="critique")


def test_a_blend_keeps_the_answers_with_most_points(tmp_path):
    order = {"low, to answer": 0.2, "high, to answer": 0.5, "equal, to answer": 0.3}
    said = saying(m0=order.get, m1=order.get, m2=choosing("equal, to answer"))
    task = Blend(BRIEF, 3, TERMS, ASKED, 2, poll(mark=Mark.RANKS))
    result = give(village(tmp_path, 3), said).run(task, collaboration="blend")
    assert result.answers == ("high, to answer", "equal, to answer")
    assert result.points.tolist() == [2.25, 2.0]  # 1 + 1 + 1/4, 1/2 + 1/2 + 1: the third holds two alike
    assert result.tallies[0].votes.tolist() == [0.25, 2.25, 2.0]


def test_a_blend_whose_sum_was_lost_ranks_nothing_and_keeps_all(tmp_path):
    said = saying()
    said["m3"] = Scripted(lambda _prompt: "seven")
    there, entry = give(village(tmp_path, 4), said), CATALOG["blend"]

    def road(sealed):
        """Lose the last member's paper, without which the others' cannot be read."""
        replies = there.road({m: letter for m, letter in sealed.items() if m != "m3"})
        lost_now = any(s.weighed for s in said.values()) or "m3" not in sealed
        return replies if lost_now else {**replies, **there.road({"m3": sealed["m3"]})}

    task = Blend(BRIEF, 2, TERMS, ASKED, 1, poll(mark=Mark.RANKS))
    result = drive(entry.coordinate(sorted(there.houses), task), there.outbox("5e55", "blend", road), entry.wire)
    assert result.tallies[0].members == 0
    assert len(result.answers) == 4
    assert result.points.tolist() == [0, 0, 0, 0]


def test_an_answer_that_all_give_stands_without_a_vote(tmp_path):
    for name, task in {
        "vote": Vote(BRIEF, 3, TERMS, ASKED, (), poll(), None),
        "panel": Panel(BRIEF, 3, TERMS, ASKED, poll(), None),
    }.items():
        said = {m: Scripted(lambda _prompt, m=m: "Equal" if m == "m0" else " equal ") for m in MEMBERS}
        result = give(village(tmp_path / name, 3), said).run(task, collaboration=name)
        assert result.answers == ("Equal",)
        assert result.tallies == ()
        assert all(s.weighed == [] for s in said.values())


def test_what_has_nothing_to_say_says_nothing_and_is_an_answer_of_nobody(tmp_path):
    said = {m: Scripted(lambda _prompt: "  ") for m in MEMBERS}
    result = give(village(tmp_path, 3), said).run(Debate(BRIEF, 3, ASKED, 2), collaboration="debate")
    assert result.answers == ()
    assert [e.text.strip() for e in result.entries] == [""] * 6
    assert shown(said["m0"], Step.REFINE)[0][1] == ()


def test_each_text_is_written_down_once_as_a_disclosure_without_an_epsilon(tmp_path):
    there = give(village(tmp_path, 3), saying())
    there.run(Debate(BRIEF, 3, ASKED, 2), collaboration="debate")
    for house in there.houses.values():
        lines = [json.loads(line) for line in house.ledger.lines()]
        texts = [line for line in lines if line["kind"] == "disclosed"]
        assert len(texts) == 2
        assert {(t["what"], t.get("event"), t["redaction"]) for t in texts} == {("text", None, "default")}


SECRET = "the question of Zanzibar"


def ask(**changes) -> Consult:
    given = {"brief": BRIEF, "number": 0, "step": Step.REFINE, "question": SECRET, "draft": "", "heard": ()}
    return Consult(**(given | changes))


OUT_OF_BOUNDS = {
    "another brief": ask(brief=Brief(7, 80, 6), number=1),
    "an ask of the past": ask(number=0),
    "an empty question": ask(number=1, question=" \n\t\u2003"),
    "a question too long": ask(number=1, question=SECRET + "x" * LONGEST),
    "a draft too long": ask(number=1, draft=SECRET + "x" * 80),
    "a text too long": ask(number=1, heard=("", SECRET + "x" * 80)),
    "too many texts": ask(number=1, heard=(SECRET,) * 7),
}


@pytest.mark.parametrize("wrong", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_an_ask_against_its_brief_is_refused_and_quoted_nowhere(wrong):
    guest = BEGIN.after(ask(step=Step.ANSWER))
    assert guest.after(ask(number=1, draft="x" * 80, heard=("y" * 80,) * 6)).turns == 2
    with pytest.raises(PeerError) as error:
        guest.after(wrong)
    assert "Zanzibar" not in str(error.value)
    assert "Zanzibar" not in repr(wrong)


def test_a_member_writes_as_many_texts_as_its_brief_says_and_none_more():
    brief = Brief(turns=2, longest=9, heard=0)
    guest = BEGIN.after(ask(brief=brief, number=3)).after(ask(brief=brief, number=9))
    with pytest.raises(PeerError, match="more texts than the 2"):
        guest.after(ask(brief=brief, number=10))


@pytest.mark.parametrize(
    ("turns", "longest", "heard"),
    [(0, 1, 0), (1001, 1, 0), (1, 0, 0), (1, 2**16 + 1, 0), (1, 1, -1), (1, 1, 257)],
)
def test_a_brief_out_of_bounds_cannot_be_made(turns, longest, heard):
    with pytest.raises(ValueError, match=r"turns|longest|heard"):
        Brief(turns, longest, heard)


LONG = "x" * (LONGEST - 20)
IMPOSSIBLE = {
    "debate-0": Debate(BRIEF, 2, SECRET, 0),
    "debate-7": Debate(BRIEF, 2, SECRET, 7),
    "debate-blank": Debate(BRIEF, 2, "\u2003", 1),
    "debate-long": Debate(BRIEF, 2, SECRET + "x" * LONGEST, 1),
    "debate-quorum": Debate(BRIEF, 4, SECRET, 1),
    "feedback-0": Feedback(BRIEF, 2, SECRET, 0),
    "feedback-3": Feedback(BRIEF, 2, SECRET, 3),
    "feedback-turns": Feedback(Brief(3, 80, 6), 2, SECRET, 2),
    "blackboard-0": Blackboard(BRIEF, 2, TERMS, SECRET, 0, poll()),
    "blackboard-turns": Blackboard(BRIEF, 2, TERMS, SECRET, 6, poll()),
    "blackboard-heard": Blackboard(Brief(6, 80, 0), 2, TERMS, SECRET, 2, poll()),
    "blackboard-ranks": Blackboard(BRIEF, 2, TERMS, SECRET, 2, poll(mark=Mark.RANKS)),
    "blend-best": Blend(BRIEF, 2, TERMS, SECRET, 1, poll()),
    "blend-none": Blend(BRIEF, 2, TERMS, SECRET, 0, poll(mark=Mark.RANKS)),
    "abstain-blank": Abstain(BRIEF, 2, TERMS, SECRET, " ", Help.COOPERATE, poll()),
    "abstain-draft": Abstain(BRIEF, 2, TERMS, SECRET, "x" * 81, Help.COMPETE, poll()),
    "abstain-both": Abstain(BRIEF, 2, TERMS, SECRET + LONG[:-30], "x" * 80, Help.COOPERATE, poll()),
    "critique-none": Critique(BRIEF, 2, TERMS, (), 1, 0.0, poll()),
    "critique-polls": Critique(BRIEF, 2, TERMS, (SECRET, SECRET), 1, 0.0, poll()),
    "critique-turns": Critique(BRIEF, 2, TERMS, (SECRET,), 7, 0.0, poll()),
    "critique-least": Critique(BRIEF, 2, TERMS, (SECRET,), 1, float("nan"), poll()),
    "critique-noise": Critique(BRIEF, 2, TERMS, (SECRET,), 1, 1.9, poll(epsilon=8.0, noise_multiplier=2.0)),
    "vote-neither": Vote(BRIEF, 2, TERMS, SECRET, (), None, None),
    "vote-empty": Vote(BRIEF, 2, TERMS, SECRET, ("", SECRET), poll(), None),
    "vote-twice": Vote(BRIEF, 2, TERMS, SECRET, (SECRET, SECRET), poll(), None),
    "vote-many": Vote(BRIEF, 2, TERMS, SECRET, tuple(f"{SECRET} {n}" for n in range(5)), poll(), None),
    "panel-few": Panel(BRIEF, 2, TERMS, SECRET, poll(options=2), None),
    "panel-narrow": Panel(BRIEF, 2, Terms(Mode.STRICT, 3, 1, bits=16), SECRET, poll(voters=20_000), None),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_finished_is_not_begun_and_not_quoted(name):
    with pytest.raises(LocalError) as error:
        next(CATALOG[name.partition("-")[0]].coordinate(MEMBERS, IMPOSSIBLE[name]))
    assert "Zanzibar" not in str(error.value) + repr(IMPOSSIBLE[name] if "critique" not in name else "")


def test_a_reply_longer_than_the_brief_is_silence_and_below_the_quorum_nothing_comes_of_it():
    coordinator = CATALOG["debate"].coordinate(MEMBERS, Debate(BRIEF, 2, ASKED, 1))
    next(coordinator)
    fine, long = Reply("equal", "{}"), Reply("x" * 81, "{}")
    with pytest.raises(Abort, match="1 of 3 members replied; 2 are needed"):
        coordinator.send({"m0": fine, "m1": long, "m2": ask()})


@given(st.lists(st.sampled_from(["a", "A ", " a", "b", "B  c", "b c", " ", ""]), max_size=12), st.integers(0, 5))
def test_distinct_texts_are_those_that_a_naive_count_finds(texts, most):
    keys = [" ".join(t.lower().split()) for t in texts]
    by_count = sorted({k for k in keys if k}, key=lambda k: (-keys.count(k), keys.index(k)))
    assert distinct(texts, most) == tuple(texts[keys.index(k)] for k in by_count[:most])


def test_a_strict_home_in_a_village_of_others_is_not_heard_by_default(tmp_path):
    there = give(village(tmp_path, 3), saying())
    there.houses["m0"].mouth.redactor = Redactor(replace(Redactor().settings, name="strict", strict=True))
    result = there.run(Debate(BRIEF, 2, ASKED, 1), collaboration="debate")
    assert [e.member for e in result.entries] == ["m1", "m2"]  # its policy names another profile
