"""Documents from disk, cut into records; and every way in which data can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from client.data import Encoder, Format, Records, cut, documents
from client.declared import declare
from client.documents import Document, Turn
from privacy.config import ConfigError
from privacy.units import Unit

SAVED = Path(__file__).parent / "saved"  # written by `datasets` 5.2: save_to_disk
TOKENIZER = tiny.tokenizer()


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_jsonl_gives_a_document_a_line(tmp_path):
    file = jsonl(tmp_path / "notes.jsonl", {"text": "one\u2028half"}, {"text": "two", "more": 1}, {"text": " "})
    assert list(documents(file)) == ["one\u2028half", "two"]


def test_jsonl_may_name_its_column_and_any_file_its_format(tmp_path):
    file = jsonl(tmp_path / "notes.data", {"body": "one"})
    assert list(documents(file, Format.JSONL, "body")) == ["one"]


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfh\xc3\xa9llo\nthere\n")
    assert list(documents(tmp_path / "a.txt")) == ["héllo\nthere\n"]


def test_a_folder_gives_its_files_in_the_order_of_their_names(tmp_path):
    for name in ("b/1.txt", "a.txt", "b.txt", "B.txt", ".hidden/x.txt", ".DS_Store", "empty.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    assert list(documents(tmp_path)) == ["B.txt", "a.txt", "b.txt", "b/1.txt"]


def test_a_saved_dataset_gives_its_column():
    pytest.importorskip("pyarrow")
    assert list(documents(SAVED / "one")) == ["first note", "second note"]
    assert list(documents(SAVED / "splits")) == ["first note", "second note", "third note"]


def test_a_saved_dataset_without_the_column_names_the_nearest():
    pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match=r"no column txt .*nearest known: text"):
        list(documents(SAVED / "one", column="txt"))
    with pytest.raises(ConfigError, match="expected text in column year"):
        list(documents(SAVED / "one", column="year"))


def test_a_saved_dataset_that_is_cut_off_or_points_elsewhere_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("state.json", "data-00000-of-00001.arrow"):
        (tmp_path / name).write_bytes((SAVED / "one" / name).read_bytes())
    arrow = tmp_path / "data-00000-of-00001.arrow"
    for size in (0, 100, 400):
        arrow.write_bytes((SAVED / "one" / arrow.name).read_bytes()[:size])
        with pytest.raises(ConfigError, match=r"data-00000-of-00001\.arrow"):
            list(documents(tmp_path))
    arrow.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        list(documents(tmp_path))
    for files in ([{"filename": "../secret.arrow"}], [], [7], None):
        (tmp_path / "state.json").write_text(json.dumps({"_data_files": files}))
        with pytest.raises(ConfigError, match=r"state\.json: _data_files"):
            list(documents(tmp_path))


def test_without_pyarrow_the_error_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="takes pyarrow"):
        list(documents(SAVED / "one"))


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n\t\n", "no text"),
        ("a.txt", b"canary-7f3a\x00\x01", "byte 11: .*zero byte"),
        ("a.txt", b"canary-7f3a \xff", "byte 12: expected UTF-8"),
        ("a.txt", b"\xef\xbb\xbfcanary-7f3a \xff", "byte 15: expected UTF-8"),
        ("a.jsonl", b"", "no text"),
        ("a.jsonl", b'{"text": "canary-7f3a"}\n{"text": canary-7f3a}\n', "line 2: expected a JSON object"),
        ("a.jsonl", b'["canary-7f3a"]\n', "line 1: expected a JSON object"),
        ("a.jsonl", b"[" * 100_000, "line 1: expected a JSON object"),
        ("a.jsonl", b'{"text": "x"}\n\n{"txt": "canary-7f3a"}\n', "line 3: no column text .nearest known: txt"),
        ("a.jsonl", b'{"text": ["canary-7f3a"]}\n', "line 1: expected text in column text"),
    ],
)
def test_bad_data_is_named_by_place_and_never_by_content(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        list(documents(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_binary_file_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.bin").write_bytes(b"ab\0")
    with pytest.raises(ConfigError, match=r"b\.bin: byte 2"):
        list(documents(tmp_path))


def test_missing_and_empty_places_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        list(documents(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no text"):
        list(documents(tmp_path))
    with pytest.raises(ConfigError, match="expected a folder"):
        list(documents(SAVED / "one" / "state.json", Format.FOLDER))


@given(st.lists(st.text(max_size=60), max_size=5), st.integers(2, 17))
def test_records_cover_each_document_once_and_never_span_two(texts, width):
    records = cut(texts, TOKENIZER, width)
    whole = [Encoder(TOKENIZER)(text) for text in texts]
    windows = [tokens[i : i + width] for tokens in whole for i in range(0, tokens.size, width)]
    windows = [window for window in windows if window.size >= 2]
    assert len(records) == len(windows)
    for tokens, length, window in zip(records.tokens, records.lengths, windows, strict=True):
        assert np.array_equal(tokens[:length], window)
        assert not tokens[length:].any()


def test_a_long_document_is_encoded_in_pieces_to_the_same_tokens():
    text = "a line of forty bytes, or close to it..\n" * 5000 + "x" * 200_000
    assert np.array_equal(Encoder(TOKENIZER)(text), np.asarray(TOKENIZER(text)["input_ids"]))


def test_records_of_one_token_are_refused_as_a_setting():
    with pytest.raises(ValueError, match="record_tokens"):
        cut(["text"], TOKENIZER, 1)


def grouped(*pairs):
    return [Document(text, group=group) for text, group in pairs]


@given(st.lists(st.tuples(st.text(max_size=40), st.sampled_from("abcd")), max_size=8), st.integers(2, 9))
def test_the_rows_of_a_group_are_those_of_its_documents_and_every_number_has_one(pairs, width):
    records = cut(grouped(*pairs), TOKENIZER, width, grouped=True)
    alone = cut([text for text, _ in pairs], TOKENIZER, width)
    assert np.array_equal(records.tokens, alone.tokens)
    assert sorted(set(records.owner.tolist())) == list(range(records.units))
    rows_of = {g: sum(len(cut([t], TOKENIZER, width)) for t, owner in pairs if owner == g) for g in "abcd"}
    assert sorted(np.bincount(records.owner).tolist()) == sorted(n for n in rows_of.values() if n)
    for unit in range(records.units):
        rows = records.rows_of(np.array([unit]))
        assert rows.tolist() == np.flatnonzero(records.owner == unit).tolist()
    everyone = records.rows_of(np.arange(records.units))
    assert everyone.tolist() == list(range(len(records)))
    assert len(records.rows_of(np.arange(0))) == 0


def test_without_owners_each_row_is_its_own_unit():
    records = cut(["abcdefgh", "ij"], TOKENIZER, 4)
    assert (records.units, records.rows_per_example) == (3, 1)
    assert records.rows_of(np.array([2, 0])).tolist() == [0, 2]


def test_rows_keep_their_owners_and_marks_when_they_are_taken():
    counted = np.array([[False, True], [False, False], [False, True]])
    tokens, lengths = np.arange(6, dtype=np.int32).reshape(3, 2), np.full(3, 2, np.int32)
    records = Records(tokens, lengths, np.array([1, 0, 1], np.int32), counted, np.array([1.0, 2.0, 3.0]), True)
    taken = records.take(np.array([2, 1]))
    assert taken.owner.tolist() == [1, 0]
    assert taken.weights.tolist() == [3.0, 2.0]
    assert taken.counted.tolist() == [[False, True], [False, False]]
    assert taken.paired


def test_documents_with_nothing_to_train_on_are_left_out_and_counted():
    records = cut(["", "x", "xy", " "], TOKENIZER, 4)
    assert (len(records), records.left_out) == (1, 3)  # one token predicts nothing


def test_a_document_of_no_group_is_refused_where_groups_are_asked_for():
    with pytest.raises(ConfigError, match="no group"):
        cut(["abc"], TOKENIZER, 4, grouped=True)


def test_what_is_held_of_the_data_is_not_printed():
    document = Document("canary", (Turn("user", "canary"),), (Turn("user", "canary"),), group="canary")
    assert "canary" not in repr(document)
    assert "canary" not in repr(cut([document], TOKENIZER, 4, grouped=True))


def test_groups_are_declared_roughly_and_are_the_units_that_are_sampled():
    declared = declare(grouped(*((f"note {n}", f"user {n % 123}") for n in range(246)), ("", "nobody")), TOKENIZER)
    assert (declared.documents, declared.groups) == (240, 120)
    assert declared.units(Unit.GROUP, 128) == 120
    assert declared.units(Unit.RECORD, 128) == declared.records(128)
    assert declared.units(Unit.RECORD, 128, windows=False) == 240
