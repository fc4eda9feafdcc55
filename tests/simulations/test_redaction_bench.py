"""The redactor's bench counts what is left, on notes whose identifiers are known, and says so with its intervals."""

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from privacy.config import ConfigError

pytestmark = pytest.mark.skipif(not find_spec("re2") or not find_spec("phonenumbers"), reason="google-re2 is missing")


def test_every_identifier_of_a_note_stands_where_it_is_said_to() -> None:
    from simulations.redaction.notes import MAKERS, notes

    made = list(notes(60, seed=3))
    assert made == list(notes(60, seed=3))
    assert {p.kind for n in made for p in n.planted} <= set(MAKERS)
    assert all("{" not in n.text and n.text[p.start : p.end].strip() for n in made for p in n.planted)


def test_what_is_hidden_but_for_one_letter_counts_as_missed() -> None:
    from simulations.redaction.leaks import missed
    from simulations.redaction.notes import Note, Planted

    note = Note("call Anna Lee now", (Planted(5, 13, "person"),))
    assert missed(note, [(5, 13)]) == []
    assert missed(note, [(5, 9), (10, 13)]) == []  # a space tells nothing
    assert missed(note, [(5, 12)]) == list(note.planted)
    assert missed(note, []) == list(note.planted)


def test_a_unit_leaks_where_it_can_still_be_read_in_whole_words() -> None:
    from simulations.redaction.leaks import Prompt, leak

    prompts = [Prompt("Ann met ANN  LEE and Annabel", ("Ann Lee", "Bob")), Prompt("fine", ("x",)), Prompt("x y", ())]
    found = leak(prompts, lambda _text: [])
    assert (found.units, found.left, found.prompts, found.leaking) == (3, 1, 3, 1)
    hidden = leak(prompts, lambda text: [(8, 16)] if "LEE" in text else [])
    assert (hidden.left, hidden.leaking, hidden.masked) == (0, 0, (8 / 28, 0.0, 0.0))


def test_prompts_are_read_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    from simulations.redaction.leaks import read_prompts

    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "a b", "units": ["a", {"text": "b"}]}\n', encoding="utf-8")
    (prompt,) = read_prompts(file)
    assert prompt.units == ("a", "b")
    file.write_text('{"text": "a", "units": []}\n{"canary": 1}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2") as wrong:
        read_prompts(file)
    assert "canary" not in str(wrong.value)


def test_the_plain_rule_takes_capitals_inside_a_sentence() -> None:
    from simulations.redaction.leaks import capitalised_runs

    text = "Then they met Anna Lee. They left Bob."
    assert [text[a:b] for a, b in capitalised_runs(text)] == ["Anna Lee", "Bob"]


def test_rows_of_prompts_hold_recall_leaks_and_what_it_cost(tmp_path: Path) -> None:
    from simulations.benches.redaction import leaks
    from simulations.redaction.leaks import Prompt

    prompts = [Prompt("Ann Lee and Bob", ("Ann Lee", "Bob")), Prompt("only Bob here", ("Bob",))]
    rows = {r.measure: r for r in leaks("x", prompts, lambda text: [(0, 7)] if text[0] == "A" else [], 0.9, 0.5)}
    assert rows["x_unit_recall"].value == pytest.approx(1 / 3)
    assert rows["x_unit_recall"].met is False
    assert (rows["x_leak_per_query"].value, rows["x_clean_share"].value) == (1.0, 0.0)
    assert rows["x_characters_masked"].value == pytest.approx(7 / 28)
    assert rows["x_characters_masked"].met is True


def test_canaries_with_check_digits_are_all_caught() -> None:
    from privacy.redaction.redactor import Redactor
    from simulations.benches.redaction import canaries

    checked, names = canaries(Redactor(), count=30)
    assert (checked.measure, checked.value) == ("canary_checksummed_leaks", 0.0)
    assert names.value < 0.2


def test_sentences_of_plain_words_lose_few_that_are_no_identifiers() -> None:
    from privacy.redaction.redactor import Redactor
    from simulations.benches.redaction import plain_words

    (row,) = plain_words(Redactor(), Redactor(), count=70)
    assert row.measure == "plain_words_hidden"
    assert row.value <= 0.08  # the bench's own bound, of 1,000, is 0.03


def test_a_sentence_is_robbed_by_what_hides_more_than_is_planted() -> None:
    from simulations.redaction.everyday import everyday, robbed

    made = list(everyday(30, seed=2))
    assert made == list(everyday(30, seed=2))
    assert {p.kind for n in made for p in n.planted} == {"person", "email"}
    for note in made:
        right = [(p.start, p.end) for p in note.planted]
        assert not robbed(note, right)
        assert robbed(note, [*right, (len(note.text) - 6, len(note.text))])


@pytest.mark.slow
def test_the_bench_has_every_row(tmp_path: Path) -> None:
    from simulations.benches.redaction import redaction

    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"text": "my name is Ann Lee", "units": ["Ann Lee"]}) + "\n", encoding="utf-8")
    rows = {r.measure: r for r in redaction(prompts=file, count=40)}
    assert {
        "email",
        "phone",
        "date",
        "card",
        "person",
        "url_false_alarms_per_mb",
        "pattern_mb_per_s",
        "full_kb_per_s",
        "restore_exact",
        "restore_rewritten",
        "canary_checksummed_leaks",
        "canary_name_leaks",
        "plain_words_hidden",
        "default_unit_recall",
        "strict_clean_share",
    } <= set(rows)
    assert rows["restore_exact"].value == 1.0


def test_plain_words_are_those_that_stand_outside_of_names() -> None:
    from simulations.redaction.corpus import Sentence, fragments
    from simulations.redaction.plain import plain_words

    said = Sentence(("the", "old", "bank", "sold", "the", "barrel"), ("O",) * 6, 0)
    named = Sentence(("The", "Old", "Bank", "sold", "the", "rose"), ("B-ORG", "I-ORG", "I-ORG", "O", "O", "O"), 0)
    small = Sentence(("keldova", "sold", "the", "rose"), ("B-PER", "O", "O", "O"), 0)
    tweet = Sentence(("lomvik", "is", "nice"), ("O",) * 3, 3)
    own = [said, said, named, named, named, small, small, tweet, tweet]
    runs = fragments(own, least=1)
    assert Counter(runs) == {said.words: 2, ("sold", "the", "rose"): 5}  # no tweet's
    assert plain_words(own, runs) == ["barrel", "sold", "the"]  # "bank", "old" are names too often; "rose" is listed
    assert plain_words(own, runs, ["green", "rose"]) == ["barrel", "green", "sold", "the"]


def test_half_of_a_renamed_copy_keeps_its_tags() -> None:
    from random import Random

    from simulations.redaction.corpus import SOURCE_NAMES, Renamer, Sentence, spans
    from simulations.redaction.phrases import PHRASES, PLAIN

    sentence = Sentence(("Anna", "Lee", "of", "Oslo"), ("B-PER", "I-PER", "O", "B-LOC"), 0)
    renamer = Renamer([sentence, Sentence(("Initech",), ("B-ORG",), 0)], ["Lom"], Random(1))
    for _ in range(50):
        copy = renamer.copy(sentence, rename=0.9)
        assert [kind for _, _, kind in spans(copy.tags)] == ["PER", "LOC"]
        assert len(copy.words) == len(copy.tags)
    for phrase in (*PHRASES, *PLAIN):
        note = renamer.filled(phrase)
        assert len(spans(note.tags)) == phrase.count("{")
        assert note.source == SOURCE_NAMES.index("notes")
