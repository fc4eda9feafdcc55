"""Measure what the shipped settings miss, and write it where every redacted message takes it from.

    python -m simulations.redaction.measure --data DIR

The rules and lists were written with the synthetic set in sight; on Wikigold's last fifth nothing was trained.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from privacy.redaction import measured
from privacy.redaction.measured import Measured
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import PROFILES, profile
from simulations.benches.redaction import SYNTHETIC, synthetic
from simulations.redaction.corpus import read, spans
from simulations.redaction.leaks import missed, places
from simulations.redaction.notes import Note, Planted

_NAMES = ("person", "org", "place")
_STRUCTURED = ("email", "phone", "date", "card", "iban", "ssn", "ip", "domain", "age", "zip", "title")


def held_out(data: Path) -> list[Note]:
    """Return Wikigold's last fifth as texts, the names in them planted."""
    found: list[Note] = []
    for sentence in read(data / "ner")[1]:
        text, starts = "", []
        for word in sentence.words:
            starts.append(len(text))
            text += word + " "
        ends = [s + len(w) for s, w in zip(starts, sentence.words, strict=True)]
        planted = tuple(
            Planted(starts[a], ends[b - 1], kind) for a, b, kind in spans(sentence.tags) if kind != "MISC"
        )
        found.append(Note(text, planted))
    return found


def rows(redactor: Redactor, data: Path) -> list[Measured]:
    """Return what the redactor misses: a name or identifier counts as missed if a letter or digit of it is left."""
    made, written = synthetic(data / SYNTHETIC), held_out(data)
    of_made, of_written = _missed(redactor, made), _missed(redactor, written)
    return [
        _row(of_made, made, _STRUCTURED, "structured identifiers", "presidio-research's 1,500 synthetic sentences"),
        _row(of_made, made, _NAMES, "names", "presidio-research's 1,500 synthetic sentences"),
        _row(of_written, written, ("PER", "ORG", "LOC"), "names", "the held-out fifth of Wikigold"),
    ]


def _missed(redactor: Redactor, texts: Sequence[Note]) -> list[Planted]:
    return [p for t in texts for p in missed(t, places(redactor.find(t.text)))]


def _row(left: Sequence[Planted], texts: Sequence[Note], kinds: Sequence[str], what: str, benchmark: str) -> Measured:
    n = sum(p.kind in kinds for t in texts for p in t.planted)
    return Measured(benchmark, what, sum(p.kind in kinds for p in left), n)


def main() -> None:
    """Measure, and write `privacy/redaction/measured.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    found = {name: [asdict(m) for m in rows(Redactor(profile(name)), data)] for name in PROFILES}
    file = Path(measured.__file__).with_name("measured.json")
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
