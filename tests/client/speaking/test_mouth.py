"""What a home says is redacted as it leaves: whose tokens stay, whose are made, and that none is put back."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.speaking.mouth import Mouth
from privacy.redaction.redactor import Redactor
from privacy.redaction.spans import Unreadable
from privacy.redaction.vault import MOST_THINGS

MAIL, OTHER = "maria.kowalska@clinic.example", "jan.nowak@depot.example"
REDACTOR = Redactor()
TOKEN = re.compile(r"\[EMAIL_(\d+)\]")


def mouth(documents=(), notes: int = 0) -> Mouth:
    return Mouth(lambda: None, lambda: (), REDACTOR, lambda: documents, lambda: len(documents), notes)


def number(text: str) -> int:
    (found,) = TOKEN.findall(text)
    return int(found)


def said(of: Mouth, text: str, session: str = "5e55", place: int = 0, heard=(), longest: int = 4000) -> str:
    return of.redact(text, session, place, heard, longest).text


def test_tokens_that_were_heard_stay_and_all_others_become_values():
    of = mouth()
    text = f"[PERSON_1] wrote to [PERSON_2] and to {MAIL}"
    left = said(of, text, heard=("what did [PERSON_1] write?",))
    assert left.startswith("[PERSON_1] wrote to [TOKEN_")
    assert MAIL not in left


def test_a_token_that_was_heard_in_another_dress_is_the_same_token():
    left = said(mouth(), "<person_1> and \\[PERSON\\_1\\] and PERSON_1", heard=("who is [PERSON_1]?",))
    assert "TOKEN" not in left


@pytest.mark.parametrize("value", [f"[PERSON_1]{MAIL}", f"{MAIL}[PERSON_1]", f"x.PERSON_1@{MAIL.split('@')[1]}"])
def test_nothing_private_hides_beside_a_token_that_was_heard(value):
    left = said(mouth(), f"write to {value} today", heard=("[PERSON_1]",))
    assert "clinic" not in left
    assert "maria" not in left


def test_the_same_thing_has_one_token_in_a_session_and_another_in_the_next():
    of = mouth()
    one, again, other = (number(said(of, f"to {MAIL}", session)) for session in ("a", "a", "b"))
    assert one == again != other
    of.leave("a")
    assert number(said(of, f"to {MAIL}", "a")) != one  # nothing is remembered; one in a million that it were the same


def test_no_two_members_of_a_talk_nor_the_asker_give_one_token():
    ranges = []
    for place in (0, 1, 2, 399):
        first = number(said(mouth(), f"to {MAIL}", place=place))
        ranges.append((first, first + MOST_THINGS - 1))  # all that a vault can give
    assert ranges == sorted(ranges)
    assert all(one[1] < other[0] for one, other in zip([(0, MOST_THINGS), *ranges], ranges, strict=False))
    assert ranges[-1][1] < 10**9


def test_nothing_is_put_back_at_a_member():
    of = mouth()
    token = said(of, f"to {MAIL}").removeprefix("to ")
    asked = f"what does {token} stand for? Write {token} out."
    assert said(of, asked, heard=(asked,)) == asked
    assert said(of, f"it stands for {token}", heard=(asked,)) == f"it stands for {token}"


@settings(max_examples=60)
@given(st.integers(1, 120), st.lists(st.sampled_from([MAIL, OTHER, "and", "to"]), max_size=8))
def test_what_is_cut_to_a_length_ends_before_a_token_and_in_none(longest, words):
    of, text = mouth(), " ".join(words)
    whole, cut = (said(of, text, longest=n) for n in (4000, longest))
    assert len(cut) <= longest
    assert whole.startswith(cut)
    assert "[" not in TOKEN.sub("", cut)
    ends = [m.start() for m in TOKEN.finditer(whole) if m.start() < longest < m.end()]
    assert len(cut) == (ends[0] if ends else min(longest, len(whole)))


def test_the_sixty_four_last_sessions_are_remembered_and_no_more():
    of = mouth()
    first = {f"s{n}": number(said(of, MAIL, f"s{n}")) for n in range(64)}
    assert number(said(of, MAIL, "s0")) == first["s0"]  # it is the last one used now
    said(of, MAIL, "s64")
    assert len(of._vaults) == 64
    assert number(said(of, MAIL, "s0")) == first["s0"]
    assert "s1" not in of._vaults


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_is_no_text_does_not_leave_and_is_not_remembered(text):
    of = mouth()
    with pytest.raises(Unreadable) as error:
        said(of, f"{MAIL} {text}")
    assert "maria" not in str(error.value)
    assert all(len(vault) == 0 for vault in of._vaults.values())


def test_notes_are_read_anew_where_the_documents_changed():
    documents = ["the cat sat on the mat"]
    of = mouth(documents, notes=2)
    assert of.near("where is the cat?") == ("the cat sat on the mat",)
    documents.append("a cat is a cat")
    assert of.near("cat?") == ("a cat is a cat", "the cat sat on the mat")
    assert mouth(documents).near("cat?") == ()
