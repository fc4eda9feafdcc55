"""`parley redact`: files, fields, batches, previews; what cannot be redacted is not written."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulations.cli import app

NOTE = "Dear Anna Schmidt,\nwrite to a.schmidt@example.org or call +1 415 555 2671.\n"
RUN = CliRunner()


def redact(*words: str | Path, text: str | bytes | None = None):
    return RUN.invoke(app, ["redact", *map(str, words)], input=text)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    file = tmp_path / "note.txt"
    file.write_text(NOTE, encoding="utf-8")
    return file


def test_text_goes_in_and_comes_back(note: Path, tmp_path: Path) -> None:
    done = redact(note, "--vault", tmp_path / "v", "--out", tmp_path / "out.txt")
    assert done.exit_code == 0
    left = (tmp_path / "out.txt").read_text()
    assert left == "Dear [PERSON_1],\nwrite to [EMAIL_1] or call [PHONE_1].\n"
    assert "EMAIL 1, PERSON 1, PHONE 1" in done.stderr
    assert "guarantee: none" in done.stderr
    back = redact("-", "--vault", tmp_path / "v", "--restore", text=left.replace("[PERSON_1]", "**[person_1]**"))
    assert back.stdout == NOTE.replace("Anna Schmidt", "**Anna Schmidt**")
    other = redact("-", "--vault", tmp_path / "v", "--partner", "other", "--restore", text=left)
    assert other.stdout == left


def test_the_report_holds_no_value(note: Path, tmp_path: Path) -> None:
    done = redact(note, "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "Schmidt" not in done.stderr
    assert "2671" not in done.stderr


def test_a_dry_run_and_a_preview_write_nothing(note: Path, tmp_path: Path) -> None:
    assert redact(note, "--dry-run", "--vault", tmp_path / "v", "--out", tmp_path / "o").exit_code == 0
    shown = redact(note, "--preview", "--vault", tmp_path / "v")
    assert "Anna Schmidt" in shown.stdout
    assert "e-mail address" in shown.stdout
    assert {f.name for f in tmp_path.iterdir()} == {"note.txt"}


def test_json_fields_are_redacted_by_their_path(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    row = {
        "patient": {"name": "Bo", "id": 77},
        "notes": [{"text": "call +1 415 555 2671"}, {"text": "fine"}],
        "to": "b@example.org",
    }
    file.write_text(json.dumps(row))
    done = redact(file, "--field", "patient.name=PERSON", "--field", "patient.id=RECORD", "--field", "notes[].text")
    assert json.loads(done.stdout) == {
        "patient": {"name": "[PERSON_1]", "id": "[RECORD_1]"},
        "notes": [{"text": "call [PHONE_1]"}, {"text": "fine"}],
        "to": "b@example.org",
    }
    everything = json.loads(redact(file).stdout)
    assert everything["to"] == "[EMAIL_1]"
    assert everything["patient"]["id"] == 77


def test_json_lines_and_csv_keep_their_form(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"t": "mail a@example.org"}\n{"t": "nothing here"}\n')
    rows = [json.loads(r) for r in redact(lines, "--field", "t").stdout.splitlines()]
    assert rows == [{"t": "mail [EMAIL_1]"}, {"t": "nothing here"}]
    table = tmp_path / "a.csv"
    table.write_text('who,said\nBo,"mail a@example.org, please"\n')
    assert redact(table, "--field", "who=PERSON", "--field", "said").stdout == (
        'who,said\n[PERSON_1],"mail [EMAIL_1], please"\n'
    )
    assert redact(table, "--field", "nobody").exit_code == 2


def test_many_files_need_a_new_folder_and_share_their_tokens(note: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("Schmidt, a.schmidt@example.org", encoding="utf-8")
    assert redact(note, tmp_path / "more.txt").exit_code == 2
    done = redact(note, tmp_path / "more.txt", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "[EMAIL_1]" in (tmp_path / "out" / "more.txt").read_text()
    assert redact(note, tmp_path / "more.txt", "--out", tmp_path / "out").exit_code == 2  # nothing is written over


def test_what_is_no_text_is_refused_and_the_rest_of_its_batch_with_it(note: Path, tmp_path: Path) -> None:
    bad = tmp_path / "z.bin"
    for content in (b"\xff\xfe\x00a", b"a\x00b"):
        bad.write_bytes(content)
        done = redact(note, bad, "--out", tmp_path / "out")
        assert done.exit_code in (1, 2)
        assert not (tmp_path / "out").exists()
    (tmp_path / "b.json").write_text('{"canary-key": ')
    done = redact(tmp_path / "b.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "canary" not in done.stderr


def test_an_empty_file_stays_empty(tmp_path: Path) -> None:
    for name in ("a.txt", "a.csv", "a.jsonl"):
        (tmp_path / name).write_text("")
        assert redact(tmp_path / name).stdout == ""


def test_choices_are_obeyed(note: Path) -> None:
    assert redact(note, "--entities", "phone").stdout == NOTE.replace("+1 415 555 2671", "[PHONE_1]")
    assert "Anna Schmidt" in redact(note, "--allow", "Anna Schmidt").stdout
    assert "[CUSTOM_1]" in redact("-", "--deny", "blue folder", text="in the blue folder").stdout
    assert redact("-", "--pattern", r"ticket=TK-\d+", text="see TK-77").stdout == "see [CUSTOM_1]"
    assert "Quandary" not in redact("-", "--strict", text="they met Blorptown Quandary there").stdout


@pytest.mark.parametrize(
    "words",
    [("--entities", "nobody"), ("--pattern", "x=("), ("--plug", "os"), ("--plug", "gliner"), ("--threshold", "7")],
)
def test_a_choice_that_cannot_be_meant_is_refused_in_one_line(note: Path, words: tuple[str, ...]) -> None:
    done = redact(note, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("parley redact: ")
    assert len(done.stderr.strip().splitlines()) == 1
