"""Read the sentences that the recogniser is trained on, and make copies of them with other names and other case."""

import json
import pydoc_data.topics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from privacy.redaction.ner.features import tokens
from privacy.redaction.wordlists import countries, given_names, surnames

SOURCES: dict[str, tuple[str, ...]] = {
    "wikigold": ("wikigold",),
    "docred": ("docred_dev", "docred_test"),
    "crossner": ("crossner",),
    "tweets": ("btc",),
    "emerging": ("wnut_train", "wnut_dev", "wnut_test"),
    "loans": ("sec_train", "sec_test"),
    "novels": ("litbank",),
    "gum": ("gum",),
    "notes": (),
}
SOURCE_NAMES = tuple(SOURCES)
_LONGEST = 90  # words: what is longer is cut


@dataclass(frozen=True, slots=True)
class Sentence:
    """Hold words and their tags, and which annotators' habits the tags follow."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    source: int


def read(folder: Path, developing: bool = False) -> tuple[list[Sentence], list[Sentence]]:
    """Return the training sentences, and the last fifth of Wikigold, which nothing is trained on.

    `developing` is for choosing: then the fourth fifth is returned and not trained on, and the last is not looked at.
    """
    training: list[Sentence] = []
    held_out: list[Sentence] = []
    kept: set[tuple[str, ...]] = set()
    for number, files in enumerate(SOURCES.values()):
        for name in files:
            found = list(_lines(folder / f"{name}.jsonl", number))
            if name == "wikigold":
                fifth = len(found) // 5
                found, held_out = found[:-fifth], found[-fifth:]
                kept = {s.words for s in held_out}
                if developing:
                    found, held_out = found[:-fifth], found[-fifth:]
            training += found
    kept |= {s.words for s in held_out}
    return [piece for s in training if s.words not in kept for piece in _cut(s)], held_out


def _lines(file: Path, source: int) -> Iterator[Sentence]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["w"]:
                yield Sentence(tuple(row["w"]), tuple(row["t"]), source)


def _cut(sentence: Sentence) -> Iterator[Sentence]:
    start = 0
    while start < len(sentence.words):
        end = min(start + _LONGEST, len(sentence.words))
        while end < len(sentence.words) and sentence.tags[end].startswith("I-"):
            end += 1
        tags = sentence.tags[start:end]
        yield Sentence(sentence.words[start:end], tags, sentence.source)
        start = end


def fragments(sentences: Sequence[Sentence], least: int = 4) -> list[tuple[str, ...]]:
    """Return runs of words in small letters that are no names, of at least so many words, from written text.

    Tweets are left out: names in small letters stand in them that nobody marked.
    """
    unmarked = {SOURCE_NAMES.index("tweets"), SOURCE_NAMES.index("emerging")}
    return [run for s in sentences if s.source not in unmarked for run in _plain(s.words, s.tags, least)]


def manual(least: int = 4) -> list[tuple[str, ...]]:
    """Return such runs from Python's manual, in which there are no names in small letters."""
    paragraphs = [p for topic in pydoc_data.topics.topics.values() for p in topic.split("\n\n")]
    words = [[p[a:b] for a, b in tokens(p)] for p in paragraphs]
    return [run for w in words for run in _plain(w, ["O"] * len(w), least)]


def _plain(words: Sequence[str], tags: Sequence[str], least: int) -> Iterator[tuple[str, ...]]:
    run: list[str] = []
    for word, tag in zip([*words, "A"], [*tags, "O"], strict=True):
        if tag == "O" and (word in _SIGNS or (word.isalpha() and word.islower() and word.isascii())):
            run.append(word)
            continue
        if sum(w.isalpha() for w in run) >= least:
            yield tuple(run)
        run = []


_SIGNS = frozenset({",", ".", ";", ":", "?", "!", "'", '"', "-", "'s", "n't"})


def spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return (start, end, kind) of every entity that the BIO tags name."""
    found: list[tuple[int, int, str]] = []
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        goes_on = tag.startswith("I-") and kind == tag[2:]
        if kind and not goes_on:
            found.append((start, i, kind))
            kind = ""
        if tag != "O" and not goes_on:
            start, kind = i, tag[2:]
    return found


class Renamer:
    """Make copies of sentences with other names in them, in other case."""

    def __init__(self, sentences: Sequence[Sentence], places: Sequence[str], random: Random) -> None:
        self._random, self._places = random, places
        self._pool: dict[str, list[tuple[str, ...]]] = {"PER": [], "ORG": [], "LOC": [], "MISC": []}
        for sentence in sentences:
            for start, end, kind in spans(sentence.tags):
                self._pool[kind].append(sentence.words[start:end])

    def copy(
        self, sentence: Sentence, rename: float = 0.15, lower: float = 0.08, upper: float = 0.03, small: float = 0.0
    ) -> Sentence:
        """Return the sentence, some of its names replaced by others of their kind, now and then in another case.

        With probability `lower` all is in small letters, with `small` the names alone, with `upper` all in capitals.
        """
        words, tags = list(sentence.words), list(sentence.tags)
        for start, end, kind in reversed(spans(tags)):
            if self._random.random() < rename and kind != "MISC":
                name = self._name(kind)
                words[start:end] = name
                tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)]
        case = self._random.random()
        if case < lower:
            words = [w.lower() for w in words]
        elif case < lower + small:
            words = [w if t == "O" or t.endswith("MISC") else w.lower() for w, t in zip(words, tags, strict=True)]
        elif case < lower + small + upper:
            words = [w.upper() for w in words]
        return Sentence(tuple(words), tuple(tags), sentence.source)

    def _name(self, kind: str) -> tuple[str, ...]:
        draw = self._random.random()
        if kind == "PER" and draw < 0.5:
            first, last = self._random.choice(given_names()), self._random.choice(surnames())
            initial = self._random.choice("ABCDEFGHJKLMNPRSTVW") + "."
            forms = ((first, last), (first, last), (first,), (last,), (first, initial, last), (initial, last))
            return self._random.choice(forms)
        if kind == "LOC" and draw < 0.4 and self._places:
            return tuple(self._random.choice(self._places).replace(",", " ,").split())
        if kind == "LOC" and draw < 0.5:
            return tuple(self._random.choice(countries()).split())
        return self._random.choice(self._pool[kind])

    def beside(self, note: Sentence, plain: Sequence[str]) -> Sentence:
        """Return the note with a run of plain words before or behind it."""
        outside = ["O"] * len(plain)
        if self._random.random() < 0.5:
            return Sentence((*plain, *note.words), (*outside, *note.tags), note.source)
        return Sentence((*note.words, *plain), (*note.tags, *outside), note.source)

    def filled(self, template: str) -> Sentence:
        """Return a note: the template's words with names put in where it says {PER}, {ORG} or {LOC}."""
        words: list[str] = []
        tags: list[str] = []
        for word in template.split():
            kind = word.strip("{}") if word.startswith("{") else ""
            name = self._name(kind) if kind else (word,)
            words += name
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)] if kind else ["O"]
        return self.copy(Sentence(tuple(words), tuple(tags), SOURCE_NAMES.index("notes")), 0, 0.35, 0.03, 0.15)


def batches(sizes: Sequence[int], words: int, random: Random) -> Iterator[list[int]]:
    """Yield the numbers of sentences of like length, about so many words in all, in random order."""
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i] + random.random() * 4, random.random()))
    found: list[list[int]] = [[]]
    for i in order:
        if found[-1] and (len(found[-1]) + 1) * sizes[i] > words:
            found.append([])
        found[-1].append(i)
    random.shuffle(found)
    yield from found
