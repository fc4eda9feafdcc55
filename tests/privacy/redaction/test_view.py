"""What a machine reads of a text is the same letter by letter, however much of it is folded at once."""

import string

from hypothesis import given
from hypothesis import strategies as st

from privacy.redaction import view
from privacy.redaction.view import View

LETTERS = st.text(string.ascii_letters + "\x0b\x0c\n\u200b\u200déßАо４５–“œ漢́ \xad`", max_size=60)


@given(LETTERS)
def test_the_view_of_a_text_is_that_of_its_letters(text: str) -> None:
    seen = View.of(text)
    one_by_one = [view._TABLE[ord(c)] for c in text]  # the naive reference
    assert seen.letters == "".join(one_by_one).encode("latin-1")
    kept = [i for i, c in enumerate(one_by_one) if c]
    for place, i in enumerate(kept):
        assert seen.span(place, place + 1) == (i, i + 1)
