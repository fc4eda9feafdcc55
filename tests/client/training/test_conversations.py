"""Conversations and pairs become records whose answers, and nothing else, are counted."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from client.conversations import records_of, render
from client.data import read
from client.documents import Columns, Content, Document, Turn
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.weights.recipe import Objective

END = "<|end|>"
CHATML = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
STRIPPING = (  # as Llama 2 does: contents are stripped, the end token stands after a space
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} <|end|>"
    "{% else %}[INST] {{ m.content | trim }} [/INST]{% endif %}{% endfor %}"
)
MERGING = (  # neighbours of one role become one turn
    "{% for m in messages %}{% if loop.first or m.role != loop.previtem.role %}"
    "{% if not loop.first %}<|end|>{% endif %}<|start|>{{ m.role }}: {% endif %}"
    "{{ m.content }}{% if not loop.last and m.role == loop.nextitem.role %}\n{% endif %}{% endfor %}<|end|>"
)
THINKING = (  # as Qwen 3 does: thoughts of earlier turns are dropped, the last turn always has some
    "{% for m in messages %}{% set parts = m.content.split('</think>') %}"
    "{% set said = parts[-1] %}<|start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>{{ parts[0].replace('<think>', '') if parts|length > 1 }}"
    "</think>{% endif %}{{ said }}<|end|>\n{% endfor %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate: ' + m.content) }}{% endif %}{{ m.content }}<|end|>{% endfor %}"
)


def fast(template=None):
    made = tiny.tokenizer()
    made.add_special_tokens({"eos_token": END, "additional_special_tokens": ["<|start|>"]})
    made.chat_template = template
    return made


def slow(template=None):
    made = ByT5Tokenizer(extra_ids=0, additional_special_tokens=[END, "<|start|>"])
    made.chat_template = template
    return made


def talk(*contents, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    turns = tuple(Turn(roles[i % 2], content) for i, content in enumerate(contents))
    return Document(" ".join(contents), turns, file="talks.jsonl", place="line 7")


def counted(document, tokenizer):
    """Return the stretches of text that are counted, as the tokenizer reads them back."""
    tokens, said = render(document.turns, tokenizer, document)
    runs, current = [], []
    for token, inside in zip(tokens, said, strict=True):
        if inside:
            current.append(int(token))
        elif current:
            runs.append(current)
            current = []
    return [tokenizer.decode(run) for run in [*runs, current] if run]


@pytest.mark.parametrize("make", [fast, slow])
@pytest.mark.parametrize(
    ("template", "said", "expected"),
    [
        (CHATML, ("hi", "hello", "and?", "well"), ["hello" + END, "well" + END]),
        (STRIPPING, (" hi ", "  hello\n", "and?", "well "), ["hello", END, "well", END]),  # a space between
        (THINKING, ("hi", "<think>a b</think>hello", "and?", "well"), ["hello" + END, "well" + END]),
        (MERGING, ("hi", "hello"), ["hello" + END]),
    ],
)
def test_only_what_the_assistant_says_is_counted_whatever_the_template_does(make, template, said, expected):
    assert counted(talk(*said), make(template)) == expected


def test_a_thought_that_the_template_keeps_is_said_and_one_that_it_drops_is_not():
    tokenizer = fast(THINKING)
    found = counted(talk("q", "<think>one</think>first", "q", "<think>two</think>last"), tokenizer)
    assert found == ["first" + END, "two</think>last" + END]


def test_neighbours_of_one_role_that_the_template_merges_are_both_counted():
    turns = (Turn("user", "hi"), Turn("assistant", "one"), Turn("assistant", "two"), Turn("user", "bye"))
    document = Document("", turns)
    assert "".join(counted(document, fast(MERGING))).replace(END, "") == "onetwo"


def test_an_answer_that_repeats_the_question_is_counted_where_it_is_the_answer():
    for template in (CHATML, STRIPPING, MERGING):
        tokenizer = fast(template)
        document = talk("same", "same", "same", "same")
        tokens, said = render(document.turns, tokenizer, document)
        assert said.sum() == 2 * (len("same") + 1)
        first = int(np.flatnonzero(said)[0])
        assert "same" in tokenizer.decode(tokens[:first])  # the question stands before, uncounted


PLAIN = tiny.tokenizer()


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=2, max_size=6))
def test_without_a_template_the_counted_tokens_are_the_answers_and_their_ends(said):
    tokenizer = PLAIN
    document = talk(*said)
    tokens, marks = render(document.turns, tokenizer, document)
    answers = "".join(a + "\n" for a in said[1::2] if a.strip())
    assert tokenizer.decode(tokens[marks], clean_up_tokenization_spaces=False) == answers


def test_a_template_that_refuses_a_conversation_is_named_by_line_and_quotes_nothing():
    with pytest.raises(ConfigError, match=r"talks\.jsonl: line 7: the model's chat template") as caught:
        render(talk("canary-7f3a", first="assistant").turns, fast(ALTERNATING), talk("x"))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_template_that_writes_an_answer_twice_is_refused():
    twice = "{% for m in messages %}{{ m.content }} and again {{ m.content }}<|end|>{% endfor %}"
    with pytest.raises(ConfigError, match="writes twice"):
        render(talk("hi", "hello").turns, fast(twice), talk("hi", "hello"))


def recipe(objective=Objective.ANSWERS, unit=Unit.RECORD, record_tokens=64):
    return SimpleNamespace(objective=objective, unit=unit, record_tokens=record_tokens)


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*said):
    return {"messages": [{"role": t.role, "content": t.content} for t in talk(*said).turns]}


CHAT = Columns(Content.CHAT)
PAIRS = Columns(Content.PREFERENCE)


def test_a_conversation_is_one_record_and_those_without_an_answer_are_left_out_and_counted(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", chat("hi", "hello"), chat("hi"), chat("hi", " "), chat("q", "a", "q"))
    records = records_of(recipe(), read(file, columns=CHAT), fast(CHATML))
    assert (len(records), records.units, records.left_out) == (2, 2, 2)
    assert records.owner is None
    assert not records.counted[:, 0].any()
    assert [int(row.sum()) for row in records.counted] == [6, 2]


def test_a_conversation_longer_than_a_record_is_left_out_and_the_log_names_its_line(tmp_path, caplog):
    long = chat("canary-7f3a" * 9, "hello")
    file = jsonl(tmp_path / "a.jsonl", chat("hi", "hello"), long, long)
    records = records_of(recipe(), read(file, columns=CHAT), fast(CHATML))
    assert (len(records), records.left_out) == (1, 2)
    said = f"{file}: line 2: longer than a record of 64 tokens: left out, and 1 others"
    assert [r.getMessage() for r in caplog.records] == [said]
    assert "canary" not in caplog.text


def test_a_pair_is_two_rows_of_one_unit_and_only_its_answers_are_counted(tmp_path):
    rows = [{"prompt": "hi", "chosen": "good", "rejected": "bad"}, {"prompt": "q", "chosen": "x", "rejected": "yz"}]
    tokenizer = fast(CHATML)
    records = records_of(
        recipe(Objective.PREFERENCE), read(jsonl(tmp_path / "a.jsonl", *rows), columns=PAIRS), tokenizer
    )
    assert records.paired
    assert records.owner.tolist() == [0, 0, 1, 1]
    said = [tokenizer.decode(t[c]) for t, c in zip(records.tokens, records.counted, strict=True)]
    assert said == [answer + END for answer in ("good", "bad", "x", "yz")]
    assert records.rows_of(np.array([1])).tolist() == [2, 3]


def test_a_pair_may_be_given_as_messages_and_then_its_last_answer_counts(tmp_path):
    prompt = chat("hi", "hello", "and?")["messages"]
    answers = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    tokenizer = fast(CHATML)
    file = jsonl(tmp_path / "a.jsonl", {"prompt": prompt, **answers})
    records = records_of(recipe(Objective.PREFERENCE), read(file, columns=PAIRS), tokenizer)
    said = [tokenizer.decode(t[c]) for t, c in zip(records.tokens, records.counted, strict=True)]
    assert said == ["chosen" + END, "rejected" + END]


def test_a_pair_of_which_one_answer_is_empty_is_left_out(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", {"prompt": "hi", "chosen": "good", "rejected": " "})
    records = records_of(recipe(Objective.PREFERENCE), read(file, columns=PAIRS), fast(CHATML))
    assert (len(records), records.left_out) == (0, 1)


def test_groups_own_all_their_rows_and_no_number_is_without_one(tmp_path):
    rows = [chat("hi", "one"), chat("hi"), chat("hi", "two"), chat("hi", "three")]
    for row, user in zip(rows, ["ann", "bob", "cid", "ann"], strict=True):
        row["user"] = user
    columns = Columns(Content.CHAT, group="user")
    found = read(jsonl(tmp_path / "a.jsonl", *rows), columns=columns)
    records = records_of(recipe(unit=Unit.GROUP), found, fast(CHATML))
    assert records.owner.tolist() == [0, 1, 0]  # bob has no answer, so no number either
    assert records.units == 2


@pytest.mark.parametrize(
    ("asked", "columns", "words"),
    [
        (recipe(Objective.ANSWERS), PAIRS, "a recipe for chat, and data that is preference"),
        (recipe(Objective.TEXT), CHAT, "a recipe for text, and data that is chat"),
        (recipe(Objective.ANSWERS, Unit.GROUP), CHAT, "data that names none"),
    ],
)
def test_a_recipe_for_other_data_is_refused_before_anything_is_tokenized(tmp_path, asked, columns, words):
    row = {**chat("hi", "hello"), "prompt": "hi", "chosen": "good", "rejected": "bad"}
    with pytest.raises(PeerError, match=words):
        records_of(asked, read(jsonl(tmp_path / "a.jsonl", row), columns=columns), None)


@pytest.mark.parametrize(
    ("row", "columns", "words"),
    [
        ({"messages": "canary-7f3a"}, CHAT, "line 2: expected a list of messages in column messages"),
        ({"messages": []}, CHAT, "line 2: expected a list of messages"),
        ({"messages": [{"role": "user", "content": None}]}, CHAT, "line 2: expected role and content"),
        ({"messages": ["canary-7f3a"]}, CHAT, "line 2: expected role and content"),
        ({"message": []}, CHAT, r"line 2: no column messages \(nearest known: message\)"),
        ({"prompt": "canary-7f3a", "chosen": "a"}, PAIRS, "line 2: no column rejected"),
        ({"prompt": "canary-7f3a", "chosen": 7, "rejected": "b"}, PAIRS, "line 2: expected a list of messages"),
        ({"text": "canary-7f3a", "user": None}, Columns(group="user"), "line 2: expected a name or a number"),
        ({"text": "canary-7f3a"}, Columns(group="user"), "line 2: no column user"),
    ],
)
def test_a_row_that_is_not_as_expected_is_named_by_its_line_and_never_by_content(tmp_path, row, columns, words):
    good = {**chat("hi", "hello"), "prompt": "p", "chosen": "c", "rejected": "r", "text": "t", "user": 7}
    with pytest.raises(ConfigError, match=words) as caught:
        list(read(jsonl(tmp_path / "a.jsonl", good, row), columns=columns))
    assert "canary" not in str(caught.value)


def test_a_conversation_in_a_saved_data_set_is_read_like_one_in_jsonl(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.Table.from_pylist([{**chat("hi", "hello"), "user": 3}, {**chat("q", "a"), "user": 4}])
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    columns = Columns(Content.CHAT, group="user")
    saved = list(read(tmp_path, columns=columns))
    file = jsonl(tmp_path / "a.jsonl", {**chat("hi", "hello"), "user": 3}, {**chat("q", "a"), "user": 4})
    plain = list(read(file, columns=columns))
    assert [(d.turns, d.group, d.text) for d in saved] == [(d.turns, d.group, d.text) for d in plain]


def test_texts_by_themselves_have_no_columns(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for columns in (CHAT, Columns(group="user")):
        with pytest.raises(ConfigError, match="no columns"):
            list(read(tmp_path / "a.txt", columns=columns))
