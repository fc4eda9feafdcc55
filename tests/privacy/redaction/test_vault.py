"""A vault gives one token to one thing, puts back what it gave, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.redaction.redactor import Redactor
from privacy.redaction.spans import Entity
from privacy.redaction.vault import Reveal, Vault

REDACTOR = Redactor()
PERSON, EMAIL = Entity.PERSON, Entity.EMAIL


def test_one_person_has_one_number_however_the_name_is_written() -> None:
    given_ = Vault("p").tokens(
        [("Smith", PERSON), ("John Smith", PERSON), ("JOHN SMITH", PERSON), ("J. Smith", PERSON), ("John", PERSON)]
    )
    assert given_ == ["[PERSON_1d]", "[PERSON_1]", "[PERSON_1b]", "[PERSON_1c]", "[PERSON_1e]"] or {
        t.strip("[]bcde") for t in given_
    } == {"PERSON_1"}
    assert len(set(given_)) == 5


def test_a_last_name_that_two_people_share_is_a_person_of_its_own() -> None:
    given_ = Vault("p").tokens([("John Smith", PERSON), ("Mary Smith", PERSON), ("Smith", PERSON)])
    assert given_ == ["[PERSON_1]", "[PERSON_2]", "[PERSON_3]"]


def test_the_same_thing_has_the_same_token_in_a_later_text() -> None:
    vault = Vault("p")
    first = vault.tokens([("a@example.org", EMAIL)])
    assert vault.tokens([("b@example.org", EMAIL), ("a@example.org", EMAIL)]) == ["[EMAIL_2]", *first]


CHANGED = [
    "[PERSON_1]",
    "**[PERSON_1]**",
    "[person_1]",
    "[Person_1]",
    "\\[PERSON\\_1\\]",
    "[PERSON 1]",
    "[PERSON-1]",
    "`[PERSON_1]`",
    "PERSON_1",
    "<PERSON_1>",
    "[**PERSON_1**]",
    "[[PERSON_1]]",
    "{PERSON_1}",
    "[PERSON_1]'s",
    "[PERSON_1].",
]


@pytest.mark.parametrize("token", CHANGED)
def test_a_token_that_a_model_has_rewritten_is_restored(token: str) -> None:
    vault = Vault("p")
    vault.tokens([("Ann Lee", PERSON)])
    restored = vault.restored(f"So {token} said")
    assert "Ann Lee" in restored.text
    assert (restored.restored, restored.left) == (1, 0)
    assert "1" not in restored.text


def test_a_possessive_inside_the_brackets_stays() -> None:
    vault = Vault("p")
    vault.tokens([("Ann Lee", PERSON)])
    assert vault.restore("[PERSON_1's] dog and [PERSON_1’s] cat") == "Ann Lee's dog and Ann Lee’s cat"


@pytest.mark.parametrize(
    "token",
    ["[PERSON_2]", "[PERSON_1z]", "[EMAIL_1]", "[PERSON_01234567890123]", "person_1", "[NOBODY_1]", "XPERSON_1"],
)
def test_a_token_that_was_not_given_stays_as_it_is(token: str) -> None:
    vault = Vault("p")
    vault.tokens([("Ann Lee", PERSON)])
    assert vault.restore(f"so {token} said") == f"so {token} said"


def test_another_partners_token_is_not_restored() -> None:
    one, other = Vault("one"), Vault("other")
    one.tokens([("Ann Lee", PERSON), ("Bo Chan", PERSON)])
    other.tokens([("Cy Dahl", PERSON)])
    assert other.restored("[PERSON_2] and [PERSON_1]").text == "[PERSON_2] and Cy Dahl"


def test_text_that_holds_tokens_already_comes_back_as_it_was() -> None:
    text = "The paper writes [PERSON_1] and PERSON_2 and [email_1]; Ann Lee agrees: a@example.org."
    vault = Vault("p")
    redacted = REDACTOR.redact(text, vault)
    assert "Ann" not in redacted.text
    assert vault.restore(redacted.text) == text


def test_a_token_in_what_was_hidden_is_not_put_in_twice() -> None:
    vault = Vault("p")
    vault.tokens([("[PERSON_2]", Entity.TOKEN), ("Ann Lee", PERSON), ("Bo Chan", PERSON)])
    assert vault.restore("[TOKEN_1]") == "[PERSON_2]"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "Ann Lee",
                "ann lee",
                "ANN",
                " ",
                "\n",
                "[PERSON_1]",
                "a@example.org",
                "Ａ＠example.org",
                "4111 1111 1111 1111",
                "PERSON_1b",
                "’s",
                "\\[",
                "[",
                "]",
                "é\u0301",
                "😀",
                "Dr. Lee",
                "+1 415 555 2671",
                "[EMAIL_1",
                "TOKEN_3",
                "\u200b",
                "1",
                "_",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_whatever_is_redacted_is_restored_to_the_letter(text: str) -> None:
    vault = Vault("p")
    assert vault.restore(REDACTOR.redact(text, vault).text) == text


def test_a_kind_that_may_not_be_revealed_stays_a_token() -> None:
    vault = Vault("p", Reveal(kinds=frozenset({EMAIL})))
    tokens = vault.tokens([("Ann Lee", PERSON), ("a@example.org", EMAIL)])
    assert vault.restore(" ".join(tokens)) == "[PERSON_1] a@example.org"


def test_what_has_run_out_is_forgotten_and_its_number_is_never_given_again() -> None:
    now = [1000.0]
    vault = Vault("p", Reveal(keep_s=60), clock=lambda: now[0])
    vault.tokens([("Ann Lee", PERSON)])
    now[0] += 61
    assert vault.restore("[PERSON_1]") == "[PERSON_1]"
    assert vault.forget() == 1
    assert (len(vault), b"Lee" in vault.to_bytes()) == (0, False)
    assert vault.tokens([("Bo Chan", PERSON)]) == ["[PERSON_2]"]


def test_a_vault_is_the_same_after_it_was_written_and_read() -> None:
    vault = Vault("p")
    given_ = vault.tokens([("Ann Lee", PERSON), ("Lee", PERSON), ("a@example.org", EMAIL)])
    again = Vault.from_bytes(vault.to_bytes())
    assert again.tokens([("Ann Lee", PERSON), ("Lee", PERSON), ("a@example.org", EMAIL)]) == given_
    assert again.tokens([("b@example.org", EMAIL)]) == ["[EMAIL_2]"]
    assert again.partner == "p"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version": 2}',
        b'{"version":1,"partner":"p","next":{},"things":[["PERSON","x",[],0]]}',
        b"\xff",
    ],
)
def test_what_is_no_vault_is_refused_without_its_words(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^no vault$"):
        Vault.from_bytes(data)
