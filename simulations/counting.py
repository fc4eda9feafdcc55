"""Have the records of members count in secret, on real nodes: `parley evolve`, `parley keyphrases`, `parley label`.

Each is a session over a stream, from the coordinator's side: public texts go out, noised counts come back. The noise
is found beforehand for all counts together; each home finds by itself what it costs, and charges that.

Learns:  as `protocols/text/`: who runs it sees noised counts alone, and of `label` redacted texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.model import load_base
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.catalog import CATALOG
from protocols.session import Coordinator, MemberId, drive
from protocols.text import critique, evolve, keyphrases
from protocols.text.ballot import Ballot, Votes
from protocols.text.critique import Labelled
from protocols.text.evolve import Elected
from protocols.text.keyphrases import Keyphrases, Phrases
from protocols.text.poll import Mark
from protocols.text.talk import Brief
from protocols.wire import Message
from server.control import Client
from server.folder import Folder
from simulations.asking import keys_of, open_stream, session
from simulations.authoring import ModelAuthor
from simulations.counting_noise import least_noise
from simulations.experiment import SHIPPED, SHIPPED_MODEL
from simulations.scoring import text_in
from simulations.talks import Consultation


@dataclass(frozen=True, slots=True)
class Counting:
    """Say how records are counted.

    Units:   about `population` records at all members together, of `record_tokens` tokens each; `epsilon` at
             `delta` for all counts together, for one record added or removed.
    """

    population: int
    record_tokens: int
    epsilon: float
    delta: float
    asked: Consultation

    def ballot(self, by: Votes, choices: int, counts: int, votes: int, looks: int = 1) -> Ballot:
        """Return the terms, with the least noise that keeps epsilon at the best order. Raises: ConfigError."""
        try:
            noise = least_noise(self.asked.terms, self.epsilon, self.delta, counts, choices)
        except ValueError:
            what = "no noise keeps so small a one"
            raise ConfigError(f"parley {self.asked.collaboration}", "--epsilon", what) from None
        try:
            return Ballot(
                by, choices, counts, votes, looks, self.population, self.record_tokens, Unit.RECORD,
                self.epsilon, self.delta, noise,
            )  # fmt: skip
        except ValueError as wrong:
            raise ConfigError(f"parley {self.asked.collaboration}", "", str(wrong)) from None

    @property
    def claim(self) -> str:
        """Return what each member's records are promised, and on what it rests."""
        honest = self.asked.terms.honest
        return (
            f"epsilon {self.epsilon:g} at delta {self.delta:g} for a record of {self.record_tokens} tokens, added or"
            f" removed, by Renyi accounting; {honest} members at least add their noise and tell nobody what it was"
        )


def evolve_town(
    town: Path,
    model: str,
    examples: Path,
    counting: Counting,
    out: Path,
    candidates: int,
    generations: int,
    keep: int,
) -> Elected:
    """Write texts that are like the members' records, chosen by noised votes alone, into a new file of JSON Lines.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort.
    """
    _require_new(out)
    ballot = counting.ballot(Votes.NEAREST, candidates, generations, 1)
    if not 1 <= keep <= candidates:
        raise ConfigError("parley evolve", "--keep", f"expected 1 to {candidates}, the candidates")
    base = load_base(str(SHIPPED) if model == SHIPPED_MODEL else model)
    try:
        author = ModelAuthor(base, lines_of(examples))
    except ValueError as wrong:
        raise ConfigError(examples, "", str(wrong)) from None
    asked = counting.asked

    def talk(members: Sequence[MemberId]) -> Coordinator[Message]:
        return (yield from evolve.evolved(members, ballot, asked.quorum, asked.terms, author, keep))

    found = _driven(town, asked, talk)
    assert isinstance(found, Elected)  # noqa: S101  what this collaboration comes to
    _write(out, [{"text": t, "votes": float(v)} for t, v in zip(found.texts, found.votes, strict=True)])
    return found


def keyphrases_town(
    town: Path, vocabulary: Path, counting: Counting, out: Path, votes: int, *, pairs: bool
) -> Phrases:
    """Count how many records hold each public phrase of a file, a line each, and write those that stand out.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort.
    """
    _require_new(out)
    phrases = tuple(dict.fromkeys(lines_of(vocabulary)))
    if not phrases:
        raise ConfigError(vocabulary, "", "expected a phrase in each line")
    asked, counts = counting.asked, 2 if pairs else 1
    ballot = counting.ballot(Votes.HELD, len(phrases), counts, min(votes, len(phrases)))
    task = Keyphrases(ballot, asked.quorum, asked.terms, phrases)
    found = _driven(town, asked, lambda members: keyphrases.coordinate(members, task))
    assert isinstance(found, Phrases)  # noqa: S101  what this collaboration comes to
    rows = zip(found.phrases, found.records, strict=True)
    _write(out, [{"phrase": p, "records": float(r), "deviation": found.deviation} for p, r in rows])
    return found


def label_town(town: Path, file: Path, asked: Consultation, out: Path, least: float) -> Labelled:
    """Have the members debate and label public questions, a line each, and write what they may be fine-tuned on.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort.
    """
    _require_new(out)
    questions = tuple(dict.fromkeys(lines_of(file)))
    if not questions:
        raise ConfigError(file, "", "expected a question in each line")

    def talk(members: Sequence[MemberId]) -> Coordinator[Message]:
        poll = replace(asked.poll(Mark.BEST, len(members)), polls=len(questions))
        brief = Brief(asked.rounds * len(questions), asked.longest, max(8, 2 * len(members)))
        return critique.coordinate(
            members, critique.Critique(brief, asked.quorum, asked.terms, questions, asked.rounds, least, poll)
        )

    found = _driven(town, asked, talk)
    assert isinstance(found, Labelled)  # noqa: S101  what this collaboration comes to
    turns = [(("user", label.question), ("assistant", label.answer)) for label in found.labels]
    _write(out, [{"messages": [{"role": r, "content": c} for r, c in turn]} for turn in turns])
    return found


def lines_of(file: Path) -> list[str]:
    """Return the lines of a public text that are not blank. Raises: ConfigError."""
    return [line.strip() for line in text_in(file).splitlines() if line.strip()]


def _driven(town: Path, asked: Consultation, talk: Callable[[Sequence[MemberId]], Coordinator[Message]]) -> Message:
    client = Client(Folder.open(town))
    keys = keys_of(client, asked)
    stream_name = open_stream(client, tuple(keys), asked.purpose)
    with session(client, stream_name, keys, asked) as outbox:
        return drive(talk(tuple(keys)), outbox, CATALOG[asked.collaboration].wire)


def _require_new(out: Path) -> None:
    if out.exists():
        raise ConfigError(out, "", "is there already, and is not written over")


def _write(out: Path, rows: Sequence[Mapping[str, object]]) -> None:
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
