"""Have members read a public text together, and say how well it is predicted: `parley ask --score`.

Nothing is drawn: each piece of the text is a session, and a sum over all its positions.

Learns:  who asks: the sums at each position. Members: the text.
Trusts:  as the collaboration (`protocols/logits/`).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.asker import Asker
from client.experts.opening import Experts
from client.model import Base
from privacy.config import ConfigError
from protocols.catalog import CATALOG
from protocols.logits.asking import Read, Reading
from protocols.logits.at_home import mixed_told
from protocols.logits.question import Question
from protocols.logits.sampling import combined
from protocols.logits.speaking import likeliest
from protocols.session import drive
from server.control import Client
from server.folder import Folder
from simulations.asking import asking, keys_of, open_stream, public_model, session
from simulations.speaker import PublicModel
from simulations.wishes import Wishes, question_for


@dataclass(frozen=True, slots=True)
class Score:
    """Hold how well a public text was predicted, together and by the public model alone.

    Units:  `nats` and `public_nats` in all `tokens` of the text but the first of each piece; `home_nats` of who asks
            at home, and mixes its own models in.
    """

    tokens: int
    nats: float
    public_nats: float
    sums: int
    stream: str
    home_nats: float | None = None

    @property
    def lines(self) -> list[str]:
        """Return what to print."""
        figures = self.json
        said = f"perplexity {figures['perplexity']:.3f}, of the public model alone {figures['public_perplexity']:.3f}"
        return [said, *([f"at home {figures['home_perplexity']:.3f}"] if self.home_nats is not None else [])]

    @property
    def json(self) -> dict[str, object]:
        """Return perplexities and counts."""
        together, alone = (math.exp(n / self.tokens) for n in (self.nats, self.public_nats))
        figures = {"perplexity": together, "public_perplexity": alone, "tokens": self.tokens}
        if self.home_nats is not None:
            figures["home_perplexity"] = math.exp(self.home_nats / self.tokens)
        return figures | {"sums": self.sums, "stream": self.stream}


def score(client: Client, base: Base, text: str, wishes: Wishes, home: Asker | None = None) -> Score:
    """Have the members read a public text, in pieces as long as the model reads, and say how well it is predicted.

    The same text gets the same score but for rounding. At a `home` the text leaves through its gate.
    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few answer.
    """
    keys = keys_of(client, wishes)
    with public_model(base, wishes, lambda _text: None, home) as (public, experts):
        whole = replace(wishes, most=public.window)
        question = question_for(base.digest, public.expert.symbols, whole, len(keys))
        if question.central:
            raise ConfigError("parley ask", "--score", "expected another collaboration: this one is for sampling")
        pieces = pieces_of(public, text)
        stream_name = open_stream(client, tuple(keys), wishes.purpose)
        if home is not None:
            pieces = pieces_of(public, home.let_go(text, tuple(keys), wishes.purpose))
        nats, sums = np.zeros(3), 0
        for piece in pieces:
            task = reading(public, question, wishes, piece)
            with session(client, stream_name, keys, wishes) as outbox:
                entry = CATALOG[wishes.collaboration]
                read = drive(entry.coordinate(tuple(keys), task), outbox, entry.wire)
            assert isinstance(read, Read)  # noqa: S101  what these collaborations come to
            nats, sums = nats - _told(public, experts, task, read).sum(axis=1), sums + len(read.answered)
    tokens, (together, alone, own) = sum(len(p) - 1 for p in pieces), map(float, nats)
    return Score(tokens, together, alone, sums, stream_name, None if home is None else own)


def _told(public: PublicModel, experts: Experts | None, task: Reading, read: Read) -> NDArray[np.float64]:
    """Return log q (3, n - 1) of each token but the first: together, by the public model alone, and mixed at home."""
    first, rest = task.tokens[:1].tolist(), task.tokens[1:].tolist()
    rows, at = public.block(first, rest).next[:-1], (np.arange(len(rest)), rest)
    told = np.log(combined(task.question, rows, read.sums, task.support[1:])[at])
    own = [] if experts is None else [e.block(first, rest).drafted for e in experts.own]
    return np.stack([told, rows[at], mixed_told(np.stack([told, *own])) if own else told])


def pieces_of(public: PublicModel, text: str) -> list[list[int]]:
    """Return a text's symbols, in pieces as long as the model reads. Raises: ConfigError."""
    symbols = public.spelling.symbols(text)
    pieces = [p for at in range(0, len(symbols), public.window) if len(p := symbols[at : at + public.window]) > 1]
    if not pieces:
        raise ConfigError("parley ask", "--score", "expected a text of at least two symbols")
    return pieces


def reading(public: PublicModel, question: Question, wishes: Wishes, piece: Sequence[int]) -> Reading:
    """Return the task of reading one piece, each symbol but the first by those before it."""
    thought = public.block(piece[:1], piece[1:])
    named = likeliest(thought.next[:-1], question.support)
    support = np.concatenate([named[:1], named])  # by the symbol that stands there; of the first nothing is asked
    told = np.concatenate([[0.0], thought.drafted]).astype(np.float32)
    crowd = wishes.smallest_crowd
    return Reading(question, crowd, wishes.terms, np.array(piece, np.int32), (len(piece),), 1, told, support)


def text_in(file: Path) -> str:
    """Return a file's text. Raises: ConfigError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(file, "", f"a text in UTF-8 ({type(unreadable).__name__})") from None


def score_town(
    town: Path, model: str | None, file: Path, wishes: Wishes, json_file: Path | None, home: Path | None = None
) -> Score:
    """Score the text in `file` with the members of the coordinator in the folder `town`. Raises: ConfigError, ..."""
    text = text_in(file)
    with asking(model, home) as (base, asker):
        found = score(Client(Folder.open(town)), base, text, wishes, asker)
    if json_file is not None:
        json_file.write_text(json.dumps(found.json, indent=2) + "\n", encoding="utf-8")
    return found
