"""Documents from disk, cut into records; and every way in which data can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from client.data import Format, cut, documents, encode
from privacy.config import ConfigError

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
    whole = [encode(text, TOKENIZER) for text in texts]
    windows = [tokens[i : i + width] for tokens in whole for i in range(0, tokens.size, width)]
    windows = [window for window in windows if window.size >= 2]
    assert len(records) == len(windows)
    for tokens, length, window in zip(records.tokens, records.lengths, windows, strict=True):
        assert np.array_equal(tokens[:length], window)
        assert not tokens[length:].any()


def test_a_long_document_is_encoded_in_pieces_to_the_same_tokens():
    text = "a line of forty bytes, or close to it..\n" * 5000 + "x" * 200_000
    assert np.array_equal(encode(text, TOKENIZER), np.asarray(TOKENIZER(text)["input_ids"]))


def test_records_of_one_token_are_refused_as_a_setting():
    with pytest.raises(ValueError, match="record_tokens"):
        cut(["text"], TOKENIZER, 1)
