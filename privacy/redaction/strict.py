"""Hide more than is recognised: every run of words with capitals, every other script, every longer number."""

from collections.abc import Iterator
from dataclasses import dataclass

from privacy.redaction.ner.features import folded
from privacy.redaction.patterns import Pattern, PatternDetector
from privacy.redaction.spans import Entity, Span
from privacy.redaction.view import View

_BEGINS = frozenset(
    """
    i i'm i'd i've i'll a an the this that these those it he she we you they my your his her our their its is
    are was were do does did can could will would shall should may might must have has had be if when while
    where who what which why how and or but so then also please thanks thank hello hi hey yes no not in on at
    to from for with by of as about after before between write create make give tell explain describe list
    show find use using let's let there here all any some each every both one two three first second next now
    however therefore although because since until once sure okay ok note example step only just
""".split()
)
_NUMBERS = PatternDetector(
    "numbers",
    (
        Pattern(Entity.CUSTOM, "strict: number of five digits or more", r"\b\d(?:[ ,.-]?\d){4,30}\b", 0.5),
        Pattern(
            Entity.CUSTOM,
            "strict: letters and digits mixed",
            r"\b(?:[A-Za-z]+\d{3,}|\d{3,}[A-Za-z]+)[A-Za-z0-9]{0,30}\b",
            0.5,
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class StrictDetector:
    """Find whatever is written like a name, in another script, or like a number of something."""

    name: str = "strict"

    def find(self, view: View) -> Iterator[Span]:
        """Yield runs of capitalised words that do not begin a sentence with a plain word; other scripts; numbers."""
        yield from _NUMBERS.find(view)
        text, places = view.text, view.words
        run: list[tuple[int, int]] = []
        for i, (start, end) in enumerate(places):
            word = text[start:end]
            if _stands_out(word) and not (folded(word) in _BEGINS and not run):
                if run and text[run[-1][1] : start].strip(" \t") != "":
                    yield from _run(text, run, i)
                    run = []
                run.append((start, end))
            else:
                yield from _run(text, run, i)
                run = []
        yield from _run(text, run, len(places))


def _stands_out(word: str) -> bool:
    return word[0].isupper() or (word[0].isalpha() and not word.isascii() and any(ord(c) > 0x24F for c in word))


def _run(text: str, run: list[tuple[int, int]], _after: int) -> Iterator[Span]:
    if not run:
        return
    start, end = run[0][0], run[-1][1]
    if len(run) == 1 and _at_the_start(text, start) and text[start:end].isascii() and text[start + 1 : end].islower():
        return  # one word at the start of a sentence: every sentence has one
    yield Span(start, end, Entity.CAPITALISED, 0.41, "strict: written like a name")


def _at_the_start(text: str, start: int) -> bool:
    before = text[max(0, start - 40) : start].rstrip(" \t\"'(*>#-")
    return not before or before[-1] in ".!?\n:;|"
