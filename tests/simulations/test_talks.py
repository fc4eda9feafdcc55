"""Talks: every collaboration at the text level, asked from a home, between real homes with tiny models."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from client.asker import Asker
from client.model import load_base
from client.speaking.prompts import Prompt
from client.vault import Vaults
from privacy.config import ConfigError
from protocols.faults import Abort
from protocols.session import MemberId
from protocols.text.abstain import VERDICTS, Way
from protocols.text.talk import Step
from simulations.benches.logits_models import vocabulary_of
from simulations.benches.text import NAMES, Size, is_right, questions, score
from simulations.benches.text import text as measured
from simulations.facts.hall import raise_hall
from simulations.facts.lessons import lessons
from simulations.facts.world import KINDS as WORLD
from simulations.facts.world import pairs, share_out
from simulations.talks import HIDDEN, KINDS, Consultation, consulted, task_for

SHARES = share_out(["a", "b", "c"], facts=6, authors=2, seed=3)
WHO = MemberId("a")
VALUES = {value for values in WORLD.values() for value in values}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """One tiny model with random weights, whose vocabulary is that of the lessons."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = vocabulary_of(list(lessons(300, 1)), 400)
    torch.manual_seed(5)
    widths = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=400, max_position_embeddings=512, eos_token_id=0, pad_token_id=0, **widths)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {share.member: load_base(str(folder)) for share in SHARES}


@dataclasses.dataclass
class Knows:
    """Say what one member's notes say, authors and all where it is asked for more than an answer; weigh by that."""

    share: object

    def say(self, prompt: Prompt) -> str:
        long = prompt.step in (Step.INFORM, Step.PROPOSE, Step.CRITICISE)
        both = zip(self.share.facts, self.share.notes, strict=True)
        known = [n if long else f.value for f, n in both if f.question in prompt.question]
        heard = [w for h in prompt.heard for w in h.strip(".").split() if w in VALUES]
        return (known or heard or ["I do not know."])[0]

    def weigh(self, prompt: Prompt, options):
        if tuple(options) == VERDICTS:
            known = [f.value for f in self.share.facts if f.question in prompt.question]
            return (
                np.array([float(prompt.question.endswith(known[0]) is held) for held in (True, False)])
                if known
                else np.zeros(2)
            )
        said = set(self.say(prompt).strip(".").split()) & VALUES
        return np.array([float(bool(said & set(o.strip(".").split()))) for o in options])


@pytest.fixture
def hall(bases, tmp_path):
    made = raise_hall(SHARES, bases, tmp_path, redacted=True)
    for share in SHARES:
        speaker = Knows(share)
        made.village.villagers[MemberId(share.member)].house.mouth.speaker = lambda speaker=speaker: speaker
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_what_one_member_knows_the_others_learn_and_nothing_planted_crosses(name, hall):
    fact = SHARES[1].facts[0]
    options = (*fact.options,) if name in ("vote", "abstain") else ()
    said = hall.ask(WHO, fact.question, Consultation(name, options=options, quorum=3)).text
    if name != "abstain":  # its asker did not know: what it guessed stands if it is right alone
        assert fact.value in said
    assert hall.heard.letters > 0
    assert hall.heard.leaks == 0


def test_of_drafts_that_may_be_withheld_those_count_that_stand(hall):
    """The asker drafts its own fact right, and guesses the others'; who knows holds a wrong guess wrong."""
    asked = [(str(WHO), share.facts[0]) for share in SHARES]
    found = score(hall, "abstain", asked)
    assert 1 <= found.right == found.answered == found.counted < 3
    assert found.accuracy == 1
    every = score(hall, "vote", asked)
    assert (every.right, every.counted) == (3, 3)


def test_what_crosses_is_counted_as_a_disclosure_at_the_home_it_left_and_costs_no_epsilon(hall):
    hall.ask(WHO, SHARES[1].facts[0].question, Consultation("debate", rounds=2, quorum=3))
    found = {m: v.statement for m, v in hall.village.villagers.items()}
    assert [s.disclosures for s in found.values()] == [3, 2, 2]  # the asker's question is one more
    assert all(s.charges == 0 and s.spent.epsilon == 0 for s in found.values())


def test_with_nothing_redacted_what_was_planted_crosses(bases, tmp_path):
    """So the first test could fail."""
    plain = raise_hall(SHARES, bases, tmp_path, redacted=False)
    speaker = Knows(SHARES[1])
    plain.village.villagers[MemberId("b")].house.mouth.speaker = lambda: speaker
    plain.ask(WHO, SHARES[1].facts[0].question, Consultation("cards", quorum=3))
    plain.close()
    assert plain.heard.leaks


def test_an_identifier_in_a_question_is_put_back_at_home_and_nowhere_else(hall):
    asked = "Did maria.lind@ward.example write this?"
    planted = dataclasses.replace(hall.heard, planted=("maria.lind",))
    object.__setattr__(hall, "heard", planted)
    mouth = hall.village.villagers[WHO].house.mouth

    class Echo:
        def say(self, prompt):
            return prompt.question if not prompt.heard else prompt.heard[0]

    for villager in hall.village.villagers.values():
        villager.house.mouth.speaker = Echo
    assert mouth.speaker is Echo
    assert (
        hall.ask(WHO, asked, Consultation("cards", quorum=3)).text == asked
    )  # the others' cards name the asker's token
    assert planted.letters
    assert not planted.leaks


def test_a_member_that_cannot_write_is_not_heard_and_the_talk_goes_on(hall):
    hall.village.villagers[MemberId("c")].house.mouth = None
    fact = SHARES[1].facts[0]
    assert fact.value in hall.ask(WHO, fact.question, Consultation("debate", quorum=2)).text


def test_challenges_change_the_askers_mind_or_do_not(hall):
    fact = SHARES[0].facts[0]  # the asker's own: it knows it, and nobody else does
    assert fact.value in hall.ask(WHO, fact.question, Consultation("abstain", way=Way.COMPETE, quorum=3)).text


def test_every_collaboration_runs_between_models_of_random_weights(bases, tmp_path):
    """Whatever a model says, it ends in an answer, or in an abort where it is no text that could be redacted."""
    there = raise_hall(SHARES, bases, tmp_path, redacted=True)
    for name in ("feedback", "blackboard"):
        with contextlib.suppress(Abort):
            there.ask(WHO, SHARES[1].facts[0].question, Consultation(name, options=("cold", "dry"), quorum=3))
    assert there.heard.letters
    there.close()


@pytest.mark.parametrize(
    ("wishes", "key"),
    [
        (Consultation("debat"), "--collaboration"),
        (Consultation("vote", epsilon=1.0, options=("a", "b"), voters=20), "--epsilon"),
        (Consultation("vote", epsilon=1.0, voters=60), "--epsilon"),
        (Consultation("debate", longest=0), "parley consult"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_before_anybody_is_asked(wishes, key):
    with pytest.raises(ConfigError, match=key):
        task_for(wishes, "question?", "", ["a", "b", "c"])


@pytest.mark.parametrize(
    "wishes",
    [
        Consultation("debate", epsilon=1.0, options=("a", "b"), voters=60),
        Consultation("abstain", way=Way.COMPETE, epsilon=1.0, options=("a", "b"), voters=60),
        Consultation("vote", epsilon=1.0, options=("a", "b"), voters=20),
    ],
)
def test_an_epsilon_that_cannot_be_is_refused_before_the_question_leaves_its_home(hall, tmp_path, wishes):
    house = hall.village.villagers[WHO].house
    asker = Asker(house, str(hall.village.coordinator.public), tmp_path / "policy.toml", Vaults(tmp_path / "v"))
    with pytest.raises(ConfigError, match="--epsilon") as refused:
        consulted(asker, "Is it cold?", wishes, ["a", "b", "c"], pytest.fail)
    assert "cold" not in str(refused.value)
    assert hall.village.villagers[WHO].statement.disclosures == 0


def test_a_tally_says_what_it_promises_or_that_it_promises_nothing():
    noised = Consultation("vote", epsilon=8.0, options=("a", "b"), voters=60).claim
    assert "epsilon 8.00 at delta 1e-05, per record, add-or-remove, by RDP" in noised
    assert "2 members at least add their noise" in noised
    assert "no epsilon" in Consultation("vote", options=("a", "b")).claim


@pytest.mark.parametrize(("name", "votes"), [("debate", False), ("vote", True)])
def test_beside_an_answer_stands_what_the_tally_promises_where_there_was_one(hall, monkeypatch, name, votes):
    found = []

    def kept(*given):
        found.append(consulted(*given))
        return found[0]

    monkeypatch.setattr("simulations.facts.hall.consulted", kept)
    fact = SHARES[1].facts[0]
    hall.ask(WHO, fact.question, Consultation(name, options=(*fact.options,) if votes else (), quorum=3))
    assert (found[0].claim == HIDDEN) is votes
    assert (HIDDEN in found[0].lines) is votes
    assert "guarantee none" in found[0].lines[0]


def test_an_epsilon_for_sixty_voters_has_the_noise_that_keeps_it():
    task = task_for(
        Consultation("vote", epsilon=8.0, options=("a", "b"), voters=60), "question?", "", ["a", "b", "c"]
    )
    assert task.poll.noise_multiplier > 0.5
    assert task.poll.epsilon == 8.0


def test_what_the_askers_policy_does_not_let_go_goes_nowhere(hall, tmp_path):
    house = hall.village.villagers[WHO].house
    policy = house.policy()
    house.policy = lambda: dataclasses.replace(
        policy, allow=(dataclasses.replace(policy.allow[0], collaborations=("debate",)),)
    )
    asker = Asker(house, str(hall.village.coordinator.public), tmp_path / "policy.toml", Vaults(tmp_path / "v"))
    with pytest.raises(ConfigError, match=r"policy\.toml") as refused:
        consulted(asker, "Is it cold?", Consultation("debate"), ["a", "b", "c"], pytest.fail)
    assert "cold" not in str(refused.value)


def test_a_world_shares_out_facts_that_are_one_members_alone():
    things = [f.thing for s in SHARES for f in s.facts]
    assert len(set(things)) == len(things)
    assert all(f.value in f.options for s in SHARES for f in s.facts)
    found = pairs(SHARES, 6, 1)
    assert [p.answer for p in found] == ["yes", "no"] * 3
    assert all(p.one.kind == p.other.kind for p in found)
    assert {m for m, _ in questions(SHARES, 9, 1)} == {"a", "b", "c"}


def test_lessons_are_worded_as_homes_word_their_prompts_and_say_what_is_so():
    own = {f.question: f.value for f in SHARES[0].facts}
    asked = [t for t in lessons(400, 7, SHARES[0]) if t.startswith("question: What") and "\nanswer: " in t]
    assert asked
    for text in asked:
        question, said = text.removeprefix("question: ").rstrip("\n").split("\nanswer: ")
        assert said == own.get(question, "I do not know.")


def test_an_answer_is_right_that_names_the_value_and_no_other():
    assert is_right("It is blue.", "blue")
    assert not is_right("blue or red", "blue")
    assert not is_right("I do not know.", "blue")


def test_the_table_has_every_talk():
    assert set(KINDS) == set(NAMES)


@pytest.mark.slow
def test_the_bench_runs_unchanged_with_a_model_that_is_given_and_notes_to_look_in(bases):
    """Of random weights it knows nothing: what is asked is that all is measured, and nothing planted crosses."""
    small = Size(members=3, facts=4, authors=2, questions=2)
    rows = {row.measure: row.value for row in measured(model=bases["a"].source, size=small)}
    assert {f"accuracy_{name}" for name in NAMES} <= set(rows)
    assert rows["letters"] > 0
    assert rows["canary_leaks"] == 0
