"""Have members read public texts together, and say how well they are predicted: `parley ask --score`.

Nothing is drawn. Texts are cut into pieces as long as the model reads, which are strands of the same blocks: in one
session, if its sums fit into memory.

Learns:  who asks: the sums at each position. Members: the texts.
Trusts:  as the collaboration (`protocols/logits/`).
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
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

_MOST, _ENTRIES = 2**20, 2**24  # positions of a session, and entries of all its sums: 128 MiB


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
    (found,) = score_all(client, base, (text,), wishes, home)
    return found


def score_all(
    client: Client, base: Base, texts: Sequence[str], wishes: Wishes, home: Asker | None = None
) -> tuple[Score, ...]:
    """Score several texts in common sums, each as it would be by itself. Raises: as `score`."""
    keys = keys_of(client, wishes)
    with public_model(base, wishes, lambda _text: None, home) as (public, experts):
        terms = partial(question_for, base.digest, public.expert.symbols)
        question = terms(replace(wishes, most=public.window), len(keys))
        if question.central:
            raise ConfigError("parley ask", "--score", "expected another collaboration: this one is for sampling")
        pieces = [pieces_of(public, text) for text in texts]
        stream_name = open_stream(client, tuple(keys), wishes.purpose)
        if home is not None:
            pieces = [pieces_of(public, home.let_go(text, tuple(keys), wishes.purpose)) for text in texts]
        whole = [piece for each in pieces for piece in each]
        nats, sums = list[NDArray[np.float64]](), 0
        for shared in _fitting(whole, min(_MOST, _ENTRIES // question.width)):
            asked = terms(replace(wishes, most=sum(len(piece) - 1 for piece in shared)), len(keys))
            tasks = [reading(public, asked, wishes, piece) for piece in shared]
            with session(client, stream_name, keys, wishes) as outbox:
                entry = CATALOG[wishes.collaboration]
                read = drive(entry.coordinate(tuple(keys), joined(tasks)), outbox, entry.wire)
            assert isinstance(read, Read)  # noqa: S101  what these collaborations come to
            rows = np.split(read.sums, np.cumsum([len(piece) - 1 for piece in shared])[:-1])
            told = (_told(public, experts, task, part) for task, part in zip(tasks, rows, strict=True))
            nats, sums = [*nats, *(-each.sum(axis=1) for each in told)], sums + len(read.answered)
    found, at_home = [], home is not None
    for each in pieces:
        (together, alone, own), nats = np.sum(nats[: len(each)], axis=0).tolist(), nats[len(each) :]
        tokens = sum(len(piece) - 1 for piece in each)
        found.append(Score(tokens, together, alone, sums, stream_name, own if at_home else None))
    return tuple(found)


def _fitting(pieces: Sequence[list[int]], most: int) -> Iterator[list[list[int]]]:
    """Yield the pieces in groups of at most so many positions, or of one piece."""
    group, size = list[list[int]](), 0
    for piece in pieces:
        if group and size + len(piece) - 1 > most:
            yield group
            group, size = [], 0
        group, size = [*group, piece], size + len(piece) - 1
    yield group


def _told(
    public: PublicModel, experts: Experts | None, task: Reading, sums: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log q (3, n - 1) of each token but the first: together, by the public model alone, and mixed at home."""
    first, rest = task.tokens[:1].tolist(), task.tokens[1:].tolist()
    rows, at = public.block(first, rest).next[:-1], (np.arange(len(rest)), rest)
    told = np.log(combined(task.question, rows, sums, task.support[1:])[at])
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


def joined(tasks: Sequence[Reading]) -> Reading:
    """Return the task of reading what several tasks of one question read, in their order."""
    tokens, told, support = (
        np.concatenate(p) for p in zip(*((t.tokens, t.told, t.support) for t in tasks), strict=True)
    )
    lengths = tuple(length for task in tasks for length in task.lengths)
    return replace(tasks[0], tokens=tokens, lengths=lengths, told=told, support=support)


def text_in(file: Path) -> str:
    """Return a file's text. Raises: ConfigError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(file, "", f"a text in UTF-8 ({type(unreadable).__name__})") from None


def score_town(
    town: Path,
    model: str | None,
    files: Sequence[Path],
    wishes: Wishes,
    json_file: Path | None,
    home: Path | None = None,
) -> list[str]:
    """Score the texts in `files` with the members of the coordinator in the folder `town`; return what to print.

    Raises: as `score`.
    """
    texts = [text_in(file) for file in files]
    with asking(model, home) as (base, asker):
        found = score_all(Client(Folder.open(town)), base, texts, wishes, asker)
    figures: dict[str, object] = found[0].json
    if len(found) > 1:
        shared = {key: figures[key] for key in ("sums", "stream")}
        each = [{key: told for key, told in score.json.items() if key not in shared} for score in found]
        figures = shared | {"texts": [{"file": str(f)} | told for f, told in zip(files, each, strict=True)]}
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    named = [f"{file}: " if len(files) > 1 else "" for file in files]
    return [name + line for name, score in zip(named, found, strict=True) for line in score.lines]
