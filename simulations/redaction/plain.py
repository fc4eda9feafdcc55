"""Make the list of plain words: what stands in English text in small letters and hardly ever as part of a name.

    python -m simulations.redaction.plain --data DIR

It is made from the sentences that the recogniser is trained on, Python's manual (its longer words: the short ones are
names of a program's things) and `everyday.txt`, words that we wrote down. Wikigold's last fifth has no part in it.
"""

import argparse
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from privacy.redaction import wordlists
from privacy.redaction.ner.features import folded
from simulations.redaction.corpus import Sentence, fragments, manual, read

WRITTEN_DOWN = 20  # times that a word of ours counts as seen: novels are few, and their people many times in them
LEAST_SEEN = 2  # times as no name, in small letters
IN_NAMES = 0.5  # of a word's occurrences, in whatever case, at most
IN_SMALL_NAMES = 0.1  # of its occurrences in small letters, at most


def plain_words(
    sentences: Sequence[Sentence], runs: Iterable[Sequence[str]], written: Sequence[str] = ()
) -> list[str]:
    """Return words that are seldom part of a name, and on no list of first names, in order.

    `runs` are the words that stand in small letters outside of names; of surnames, those alone are plain that were
    `written` down as such. Works do not count as names here: their titles are made of plain words.
    """
    outside = Counter(w for run in runs for w in run if w.isalpha() and w.isascii())
    outside.update(dict.fromkeys(written, WRITTEN_DOWN))
    inside, small = Counter[str](), Counter[str]()
    for s in sentences:
        named = [w for w, t in zip(s.words, s.tags, strict=True) if t != "O" and not t.endswith("MISC")]
        inside.update(w.lower() for w in named)
        small.update(w for w in named if w.islower())
    listed = set(map(folded, wordlists.given_names())) | (set(map(folded, wordlists.surnames())) - set(written))
    return sorted(
        w
        for w, n in outside.items()
        if n >= LEAST_SEEN
        and len(w) > 1
        and inside[w] <= IN_NAMES * (n + inside[w])
        and small[w] <= IN_SMALL_NAMES * (n + small[w])
        and w not in listed
    )


def main() -> None:
    """Write `privacy/redaction/words/plain.txt`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    training, _ = read(parser.parse_args().data / "ner")
    written = Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8").split()
    longer = [[w for w in run if len(w) > 3] for run in manual(least=1)]
    words = plain_words(training, [*fragments(training, least=1), *longer], written)
    file = Path(wordlists.__file__).with_name("words") / "plain.txt"
    file.write_text(textwrap.fill(" ".join(words), 110, break_on_hyphens=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
