"""Count what a redactor leaves: identifiers of which a letter is left, units that are still to be read, canaries."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.config import ConfigError
from privacy.redaction.spans import Span
from simulations.redaction.notes import Note, Planted

Find = Callable[[str], Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold a prompt, and the private units in it."""

    text: str
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """Hold what was left of some prompts' units.

    Units:   `masked` is a share of all characters, `left` and `leaking` count units and prompts.
    """

    units: int
    left: int
    prompts: int
    leaking: int
    masked: tuple[float, ...]  # of each prompt


def places(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Return where the spans are."""
    return [(s.start, s.end) for s in spans]


def missed(note: Note, found: Sequence[tuple[int, int]]) -> list[Planted]:
    """Return what was planted and is not hidden whole: a letter or digit of it is left."""
    hidden = bytearray(len(note.text))
    for start, end in found:
        hidden[start:end] = b"\x01" * (end - start)
    return [p for p in note.planted if any(note.text[i].isalnum() and not hidden[i] for i in range(p.start, p.end))]


def read_prompts(file: Path) -> list[Prompt]:
    """Read JSON Lines with `text` and `units`: strings, or objects with a `text`. Raises: ConfigError."""
    prompts: list[Prompt] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                units = tuple(u if isinstance(u, str) else str(u["text"]) for u in row["units"])
                prompts.append(Prompt(str(row["text"]), units))
            except (ValueError, KeyError, TypeError):
                raise ConfigError(file, f"line {number}", "expected an object with text and units") from None
    return prompts


def folded(text: str) -> str:
    """Return the text in small compatibility letters, words apart by one space."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def leak(prompts: Sequence[Prompt], find: Find) -> Leak:
    """Return which units are still in the prompts, word for word, when what `find` finds is taken out."""
    units = left = leaking = 0
    masked: list[float] = []
    for prompt in prompts:
        spans = find(prompt.text)
        remaining = f" {folded(without(prompt.text, spans))} "
        here = [u for u in prompt.units if folded(u)]
        lost = sum(f" {folded(u)} " in remaining for u in here)
        units, left, leaking = units + len(here), left + lost, leaking + (lost > 0)
        masked.append(sum(end - start for start, end in spans) / max(1, len(prompt.text)))
    return Leak(units, left, len(prompts), leaking, tuple(masked))


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the text with a sign in the place of each span."""
    out: list[str] = []
    at = 0
    for start, end in sorted(spans):
        out += [text[at : max(at, start)], " \u25a0 "]
        at = max(at, end)
    return "".join([*out, text[at:]])


def capitalised_runs(text: str) -> list[tuple[int, int]]:
    """Return every run of words with capitals that does not begin a sentence: the plain rule to be better than."""
    found = []
    for match in re.finditer(r"\b[^\W\d_a-z]\w*(?:[ \t]+[^\W\d_a-z]\w*)*", text):
        before = text[max(0, match.start() - 3) : match.start()].rstrip()
        if before and before[-1] not in ".!?:":
            found.append(match.span())
    return found
