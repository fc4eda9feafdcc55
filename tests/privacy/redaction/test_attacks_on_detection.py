"""Identifiers that hide from a pattern, by other letters, breaks and marks; and text that takes for ever."""

import time
from itertools import pairwise

import pytest

from privacy.redaction.patterns import BadPattern, Pattern, PatternDetector
from privacy.redaction.redactor import LONGEST, Redactor, require_text
from privacy.redaction.settings import Settings, profile
from privacy.redaction.spans import Entity, Unreadable, settle
from privacy.redaction.vault import Vault
from privacy.redaction.view import View

REDACTOR = Redactor()
HIDDEN = {
    "Cyrillic letters in an e-mail address": ("mail jоhn@еxamрle.com ok", "EMAIL", "mail {} ok"),
    "no width in an e-mail address": ("mail jo\u200bhn@exam\u00adple.com ok", "EMAIL", "mail {} ok"),
    "wide letters": ("mail ＪＯＨＮ＠ＥＸＡＭＰＬＥ．ＣＯＭ ok", "EMAIL", "mail {} ok"),
    "mathematical letters": ("mail 𝐣𝐨𝐡𝐧@𝐞𝐱𝐚𝐦𝐩𝐥𝐞.𝐜𝐨𝐦 ok", "EMAIL", "mail {} ok"),
    "Arabic digits in a card": ("card ٤١١١ ١١١١ ١١١١ ١١١١ ok", "CARD", "card {} ok"),
    "a card over two lines": ("card 4111 1111\n1111 1111 ok", "CARD", "card {} ok"),
    "a quoted card over two lines": ("> card 4111 1111\n> 1111 1111", "CARD", "> card {}"),
    "stars in a card": ("card 4111**1111**1111 1111 ok", "CARD", "card {} ok"),
    "an address over two lines": ("mail john.smith@exam\nple.com ok", "EMAIL", "mail {} ok"),
    "typographic dashes": ("SSN: 536–90–4399.", "SSN", "SSN: {}."),
    "spaces of no break": ("IBAN GB82\u00a0WEST\u00a01234\u00a05698\u00a07654\u00a032.", "IBAN", "IBAN {}."),
    "an SSN over two lines": ("SSN 536-90-\n4399 ok", "SSN", "SSN {} ok"),
    "a name in small letters": ("my name is bob miller", "PERSON", "my name is {}"),
    "a name in capitals": ("Dear JOHN SMITH,", "PERSON", "Dear {},"),
}


@pytest.mark.parametrize("attack", HIDDEN)
def test_a_disguise_is_seen_through_and_restored_to_the_letter(attack: str) -> None:
    text, kind, shown = HIDDEN[attack]
    vault = Vault("partner")
    redacted = Redactor(Settings("own", entities=(Entity(kind),))).redact(text, vault)
    assert redacted.text == shown.format(f"[{kind}_1]")
    assert vault.restore(redacted.text) == text


SLOW = {
    "digits": "1 " * 150_000,
    "ats": "a@" * 150_000,
    "dots": "a." * 150_000,
    "brackets": "[" * 300_000,
    "tokens that do not end": "[PERSON_" * 40_000,
    "capitals": "Aa " * 100_000,
    "blank lines": "1\n\n" * 100_000,
    "spaces": " " * 300_000 + "x",
    "marks": "*" * 300_000,
    "streets": "12 Aa Bb Cc Dd " * 20_000,
    "at and dot": "a at b dot " * 30_000,
    "one long word": "a" * 300_000,
    "letters without width": "\u200b" * 300_000,
    "colons": "a:" * 150_000,
    "apostrophes": "a'" * 150_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", SLOW)
def test_no_text_takes_more_than_linear_time(attack: str) -> None:
    text = SLOW[attack]
    strict = Redactor(profile("strict"))
    seconds = [_seconds(strict, text[: len(text) // n]) for n in (8, 1)]
    assert seconds[1] < 30 * max(seconds[0], 0.1)  # eight times the text: quadratic time would be 64 times


def _seconds(redactor: Redactor, text: str) -> float:
    began = time.process_time()
    redactor.find(text)
    return time.process_time() - began


def test_an_own_pattern_cannot_ask_for_exponential_time() -> None:
    own = Redactor(Settings("own", patterns=(("evil", "(a+)+$"),)))
    assert _seconds(own, "a" * 5000 + "b") < 60  # a backtracking engine would not come back


def test_a_pattern_that_re2_does_not_take_is_refused_by_its_name_alone() -> None:
    with pytest.raises(ValueError, match="own pattern mine") as refused:
        Settings("own", patterns=(("mine", "(?<=secret)x"),))
    assert "secret" not in str(refused.value)
    with pytest.raises(BadPattern):
        PatternDetector("x", (Pattern(Entity.CUSTOM, "x", "(", 1.0),))


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * (LONGEST + 1)], ids=["zero", "half a letter", "too long"])
def test_what_is_no_text_is_refused_and_leaves_no_trace_in_the_vault(text: str) -> None:
    vault = Vault("partner")
    with pytest.raises(Unreadable) as refused:
        REDACTOR.redact(text, vault)
    assert len(vault) == 0
    assert len(str(refused.value)) < 90
    with pytest.raises(Unreadable):
        require_text(text)


def test_empty_text_stays_empty() -> None:
    redacted = REDACTOR.redact("", Vault("partner"))
    assert (redacted.text, redacted.masked, redacted.replaced) == ("", 0.0, ())


@pytest.mark.slow
def test_ten_megabytes_are_redacted_and_restored() -> None:
    text = ("The quick brown fox writes to a.fox@example.org on a plain day. " * 16_000)[: 10 * 2**20 // 10] * 10
    vault = Vault("partner")
    redacted = REDACTOR.redact(text, vault)
    assert "example.org" not in redacted.text
    assert vault.restore(redacted.text) == text


def test_every_place_of_a_view_is_the_letter_it_stands_for() -> None:
    text = "a\u200bＢ–ﬁ\u0301😀é\n\u00adz"
    view = View.of(text)
    assert view.places is not None
    assert len(view.letters) == len(view.places) - 1
    assert [text[p] for p in view.places[:-1]] == ["a", "Ｂ", "–", "ﬁ", "😀", "é", "\n", "z"]
    assert view.letters == b"aB-f\xa4\xe9\nz"
    assert view.span(0, 2) == (0, 3)


def test_spans_that_overlap_become_one_that_hides_all_of_both() -> None:
    found = settle(REDACTOR.find("Dr. Anna Schmidt, a.schmidt@example.org, +1 415 555 2671"))
    assert all(a.end <= b.start for a, b in pairwise(found))
