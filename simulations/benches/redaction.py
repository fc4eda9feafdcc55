"""Measure the redactor: what it finds, what it leaves, how fast it is; beside Presidio and a plain rule."""

import json
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from privacy.config import ConfigError
from privacy.redaction.measured import clopper_pearson
from privacy.redaction.ner import network
from privacy.redaction.redactor import Redactor, structured
from privacy.redaction.settings import profile
from privacy.redaction.spans import Detector, Entity
from privacy.redaction.vault import Vault
from privacy.redaction.view import View
from simulations.benches.rows import Row, at_least, at_most
from simulations.redaction.everyday import everyday, robbed
from simulations.redaction.leaks import (
    Find,
    Leak,
    Prompt,
    capitalised_runs,
    leak,
    missed,
    places,
    read_prompts,
    without,
)
from simulations.redaction.notes import Note, Planted, card, coined, iban, notes, ssn

SYNTHETIC = "redaction/presidio_research_synth_v2.json"
_KINDS = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "DATE_TIME": "date", "CREDIT_CARD": "card",
    "IBAN_CODE": "iban", "US_SSN": "ssn", "IP_ADDRESS": "ip", "DOMAIN_NAME": "domain", "AGE": "age",
    "ZIP_CODE": "zip", "TITLE": "title", "US_DRIVER_LICENSE": "licence", "STREET_ADDRESS": "address",
    "PERSON": "person", "GPE": "place", "ORGANIZATION": "org", "NRP": "nationality",
}  # fmt: skip
_GOALS = {
    "email": 1.0, "iban": 1.0, "ssn": 1.0, "ip": 1.0, "domain": 1.0, "card": 0.99, "phone": 0.95, "date":
    0.95, "zip": 0.95, "age": 0.95, "title": 0.95,
}  # fmt: skip


def redaction(data: Path | None = None, prompts: Path | None = None, count: int = 1500) -> list[Row]:
    """Return every row. Without `data` the notes are the project's own, and F1 on Wikigold is left out."""
    default, strict = Redactor(), Redactor(profile("strict"))
    texts = synthetic(data / SYNTHETIC) if data else list(notes(count))
    rows = [*kinds(texts, default, strict), *canaries(default), *plain_words(default, strict)]
    rows += [*false_alarms(default), *speed(texts, default)]
    rows += restoring(texts, default)
    if data:
        rows.append(at_least("ner_f1_wikigold", wikigold(data / "ner" / "wikigold.jsonl"), 0.80, "F1"))
    if prompts:
        read = read_prompts(prompts)
        rows += [
            *leaks("default", read, _finder(default), 0.90, 0.12),
            *leaks("strict", read, _finder(strict), 0.97, 0.25),
        ]
        rows += leaks("capitalised_runs", read, capitalised_runs, None, None)
        if (peer := presidio()) is not None:
            rows += leaks("presidio", read, peer, None, None)
    return rows


def synthetic(file: Path) -> list[Note]:
    """Read presidio-research's sentences. Raises: ConfigError."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise ConfigError("--data", str(file), f"cannot be read ({type(wrong).__name__})") from None
    return [
        Note(
            row["full_text"],
            tuple(
                Planted(
                    s["start_position"], s["end_position"], _KINDS.get(s["entity_type"], s["entity_type"].lower())
                )
                for s in row["spans"]
            ),
        )
        for row in rows
    ]


def kinds(texts: Sequence[Note], default: Redactor, strict: Redactor) -> list[Row]:
    """Return, for each kind, the share of identifiers of which no letter is left; beside it what Presidio hides."""
    totals = Counter(p.kind for note in texts for p in note.planted)
    peer = presidio()
    finders = {"default": _finder(default), "strict": _finder(strict), "capitals": capitalised_runs}
    spans = {name: [find(t.text) for t in texts] for name, find in finders.items()}
    ours, harder, plain = (_left(texts, found) for found in spans.values())
    theirs = _left(texts, [peer(t.text) for t in texts]) if peer else None
    rows = []
    for kind, n in sorted(totals.items()):
        low, high = clopper_pearson(n - ours[kind], n)
        goal = _GOALS.get(kind)
        beside = f"strict {1 - harder[kind] / n:.3f}; capitals {1 - plain[kind] / n:.3f}"
        said = f"n {n}, 95 % {low:.3f} to {high:.3f}; {beside}"
        met = None if goal is None else 1 - ours[kind] / n >= goal
        wanted = f"{'for comparison' if goal is None else f'at least {goal:g}'}; {said}"
        found = None if theirs is None else 1 - theirs[kind] / n
        rows.append(Row(kind, 1 - ours[kind] / n, "", "Presidio" if peer else "", found, None, wanted, met))
    for name in ("default", "strict"):
        masked = sum(end - start for found in spans[name] for start, end in found) / sum(len(t.text) for t in texts)
        rows.append(Row(f"characters_masked_{name}", masked, "", goal="for comparison"))
    if peer is None:
        rows.append(Row("presidio", 0.0, "", goal="not installed here; measured where it is"))
    return rows


def canaries(redactor: Redactor, count: int = 1000) -> list[Row]:
    """Return how many of so many identifiers with check digits, and of so many names, are left in plain sentences."""
    random = Random(7)  # noqa: S311 - canaries, no secret
    makers = (card, iban, ssn)
    sentences = (
        "I paid with {} yesterday.",
        "{} is what they gave me",
        "use {}, please",
        "it says {} on the back",
        "new: {}",
    )
    checked = [(sentences[i % 5], makers[i % 3](random)) for i in range(count)]
    spoken = (
        "I spoke with {} about the loan.", "{} has not answered yet.", "Please forward this to {} today.",
        "The report by {} is late.",
        "Is {} in on Monday?",
    )  # fmt: skip
    people = [
        (spoken[i % 5], f"{coined(random)} {coined(random)}" if i % 2 else coined(random)) for i in range(count)
    ]
    rows = []
    for name, planted, most in (("canary_checksummed_leaks", checked, 0.0), ("canary_name_leaks", people, 0.02)):
        left = sum(value in without(t.format(value), places(redactor.find(t.format(value)))) for t, value in planted)
        high = clopper_pearson(left, count)[1]
        goal = f"at most {most:g}; {left} of {count}, 95 % below {high:.4f}"
        rows.append(Row(name, left / count, "", goal=goal, met=left / count <= most))
    return rows


def plain_words(default: Redactor, strict: Redactor, count: int = 1000) -> list[Row]:
    """Return the share of sentences of plain words that lose a word that is no identifier."""
    texts = list(everyday(count, seed=7))
    hit, harder = (sum(robbed(t, places(r.find(t.text))) for t in texts) for r in (default, strict))
    low, high = clopper_pearson(hit, count)
    said = f"at most 0.03; {hit} of {count}, 95 % {low:.3f} to {high:.3f}; strict {harder / count:.3f}"
    return [Row("plain_words_hidden", hit / count, "", goal=said, met=hit / count <= 0.03)]


def false_alarms(redactor: Redactor, megabytes: float = 1.0) -> list[Row]:
    """Return how many bare hosts are seen in a megabyte of code, Python's own library."""
    size = found = 0
    for text in _code(megabytes):
        size += len(text)
        for span in redactor.find(text):
            what = text[span.start : span.end]
            found += span.kind is Entity.URL and "://" not in what and not what.lower().startswith("www.")
    return [at_most("url_false_alarms_per_mb", found / (size / 1e6), 20, "/MB")]


def speed(texts: Sequence[Note], redactor: Redactor) -> list[Row]:
    """Return how much text, half notes and half code, a core gets through: by patterns alone, and in all."""
    note = "\n\n".join(t.text for t in texts)
    prose = note + "\n\n" + "".join(_code(len(note) / 1e6))[: len(note)]
    rows = []
    for name, detectors, unit, per, least in (
        ("pattern_mb_per_s", structured(), "MB/s", 1e6, 2.0),
        ("full_kb_per_s", redactor.detectors, "kB/s", 1e3, 70.0),
    ):
        whole = prose * (4 if name.startswith("pattern") else 1)
        seconds = min(_seconds(detectors, redactor, whole, full=not name.startswith("pattern")) for _ in range(3))
        rows.append(at_least(name, len(whole.encode()) / per / seconds, least, unit))
    return rows


def restoring(texts: Sequence[Note], redactor: Redactor) -> list[Row]:
    """Return the share of texts that come back to the byte, and of tokens that come back from a rewritten text."""
    exact = tokens = back = 0
    edits: tuple[Callable[[str], str], ...] = (
        str.lower,
        lambda t: f"**{t}**",
        lambda t: t[:-1] + "'s]",
        lambda t: t.replace("_", "\\_"),
        lambda t: t.strip("[]"),
        lambda t: t.replace("_", " ").title(),
    )
    for number, note in enumerate(texts):
        vault = Vault("bench")
        redacted = redactor.redact(note.text, vault)
        exact += vault.restore(redacted.text) == note.text
        for place, one in enumerate(redacted.replaced):
            tokens += 1
            value = note.text[one.start : one.end]
            back += value in vault.restore(f"so {edits[(number + place) % len(edits)](one.token)} said")
    return [
        at_least("restore_exact", exact / len(texts), 1.0, ""),
        at_least("restore_rewritten", back / max(1, tokens), 0.99, ""),
    ]


def wikigold(file: Path) -> float:
    """Return F1 over entities of the right kind and place on Wikigold's last fifth, which nothing was trained on."""
    from simulations.redaction.corpus import spans

    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    held_out = lines[len(lines) - len(lines) // 5 :]
    recogniser = network.shipped()
    right = found = wanted = 0
    for row in held_out:
        here, there = set(spans(recogniser.tags(row["w"], "wikigold"))), set(spans(row["t"]))
        right, found, wanted = right + len(here & there), found + len(here), wanted + len(there)
    return 2 * right / max(1, found + wanted)


def leaks(name: str, prompts: Sequence[Prompt], find: Find, recall: float | None, most: float | None) -> list[Row]:
    """Return what is left of private units in real prompts: by unit, by prompt, and what it cost in characters."""
    found = leak(prompts, find)
    rows = []
    kept = found.units - found.left
    for what, hits, n, least in (
        ("unit_recall", kept, found.units, recall),
        ("leak_per_query", found.leaking, found.prompts, None),
        ("clean_share", found.prompts - found.leaking, found.prompts, None),
    ):
        low, high = clopper_pearson(hits, max(1, n))
        goal = "for comparison" if least is None else f"at least {least:g}"
        value = hits / max(1, n)
        met = None if least is None else value >= least
        rows.append(Row(f"{name}_{what}", value, "", goal=f"{goal}; 95 % {low:.3f} to {high:.3f}", met=met))
    total = sum(len(p.text) for p in prompts)
    share = sum(m * len(p.text) for m, p in zip(found.masked, prompts, strict=True)) / max(1, total)
    low, high = _interval(found, prompts)
    goal = "for comparison" if most is None else f"at most {most:g}"
    met = None if most is None else share <= most
    return [*rows, Row(f"{name}_characters_masked", share, "", goal=f"{goal}; 95 % {low:.3f} to {high:.3f}", met=met)]


def presidio() -> Find | None:
    """Return what asks Presidio, or None where it is not installed."""
    from client.plugs import plugged

    try:
        (plug,) = plugged(("presidio",), None)
    except ConfigError:
        return None
    return _of(plug)


def _of(detector: Detector) -> Find:
    return lambda text: places(detector.find(View.of(text)))


def _finder(redactor: Redactor) -> Find:
    return lambda text: places(redactor.find(text))


def _left(texts: Sequence[Note], found: Sequence[Sequence[tuple[int, int]]]) -> Counter[str]:
    return Counter(p.kind for note, spans in zip(texts, found, strict=True) for p in missed(note, spans))


def _code(megabytes: float) -> list[str]:
    """Return so much of the source of Python's own library, in prompts of some pages."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts: list[str] = []
    for file in islice(sorted(folder.glob("*.py")), 200):
        text = file.read_text(encoding="utf-8", errors="replace").replace("\x00", "")
        texts += [text[i : i + 8000] for i in range(0, len(text), 8000)]
        if sum(map(len, texts)) > megabytes * 1e6:
            break
    return texts


def _seconds(detectors: Sequence[Detector], redactor: Redactor, text: str, full: bool) -> float:
    began = time.process_time()
    if full:
        redactor.find(text)
    else:
        view = View.of(text)
        for detector in detectors:
            for _ in detector.find(view):
                pass
    return time.process_time() - began


def _interval(found: Leak, prompts: Sequence[Prompt], repeats: int = 1000) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the share of characters that were masked. Cites: Efron 1979."""
    random = Random(0)  # noqa: S311 - a bootstrap
    if not prompts:
        return 0.0, 1.0
    pairs = [(m * len(p.text), len(p.text)) for m, p in zip(found.masked, prompts, strict=True)]
    shares = []
    for _ in range(repeats):
        drawn = random.choices(pairs, k=len(pairs))
        shares.append(sum(a for a, _ in drawn) / max(1, sum(b for _, b in drawn)))
    shares.sort()
    return shares[int(0.025 * repeats)], shares[int(0.975 * repeats)]
