"""Make a student of the members' own mean on public texts, with real members: `parley distill`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base
from privacy.config import ConfigError
from protocols.catalog import CATALOG
from protocols.logits import distill, mixture
from protocols.logits.distill import Distill, Labels
from protocols.logits.question import Alphabet, most_at_once
from protocols.session import drive
from server.control import Client
from server.folder import Folder
from simulations.asking import asking, keys_of, open_stream, session
from simulations.scoring import pieces_of, reading, text_in
from simulations.speaker import PublicModel
from simulations.student import Lesson, Schooling, divergence, keep, layout_for, teach, wearing
from simulations.wishes import Wishes, question_for

_HELD_OUT = 8  # of so many pieces one is not trained on, but judged by


@dataclass(frozen=True, slots=True)
class Distilled:
    """Say how far the base model and the student are from the labels that the student was not trained on.

    Units:  nats a token, of Kullback and Leibler's divergence; None where the text is one piece.
    """

    pieces: int
    before: float | None
    after: float | None

    @property
    def line(self) -> str:
        """Return what to print."""
        if self.before is None or self.after is None:
            return "one piece of text, trained on: nothing is left to judge the student by"
        held_out = f"from the members' mean on held-out text: {self.after:.4f} nats a token"
        return f"{self.pieces} pieces; {held_out}, the public model {self.before:.4f}"


def distil(client: Client, base: Base, text: str, wishes: Wishes, schooling: Schooling, out: Path) -> Distilled:
    """Have the members label a public text, train a student on most of it, and write it to the new folder `out`.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few answer.
    """
    if wishes.alphabet is not Alphabet.TOKENS:
        raise ConfigError(
            "parley distill", "--alphabet", "expected tokens: a student is an adapter of the base model"
        )
    if out.exists():
        raise ConfigError(out, "--out", "is there already; nothing was written over")
    layout_for(base, schooling)
    lessons = labelled(client, base, text, wishes)
    held_out = lessons[::_HELD_OUT] if len(lessons) > 1 else []
    taught = [lesson for n, lesson in enumerate(lessons) if n % _HELD_OUT] if held_out else lessons
    before = divergence(TokenExpert(View(base)), held_out) if held_out else None
    student = teach(base, taught, schooling)
    with wearing(base, student):
        after = divergence(TokenExpert(View(base)), held_out) if held_out else None
    facts = (("labels", f"the mean of members' models, on {len(taught)} pieces of public text"),
             ("training", f"{schooling.steps} steps of Adam, rate {schooling.rate:g}"))  # fmt: skip
    keep(out, base, student, facts)
    return Distilled(len(lessons), before, after)


def labelled(client: Client, base: Base, text: str, wishes: Wishes) -> list[Lesson]:
    """Return the members' labels of a public text, piece by piece. Raises: ConfigError, Abort, ..."""
    keys, public = keys_of(client, wishes), PublicModel(base, lambda _text: None, TokenExpert(View(base)))
    most = min(public.window, most_at_once(public.expert.symbols))
    whole = replace(wishes, collaboration=mixture.NAME, most=public.window, block=most)
    question = question_for(base.digest, public.expert.symbols, whole, len(keys))
    wishes = replace(wishes, collaboration=distill.NAME)
    pieces, lessons = pieces_of(public, text), []
    stream_name = open_stream(client, tuple(keys), wishes.purpose)
    for piece in pieces:
        task = reading(public, question, wishes, piece)
        rows = public.block(piece[:1], piece[1:]).next[:-1]
        named = np.take_along_axis(rows, task.support[1:].astype(np.intp), axis=1) if question.support else rows
        logs = np.maximum(np.concatenate([named[:1], named]), -1e4).astype(np.float32)
        with session(client, stream_name, keys, wishes) as outbox:
            entry = CATALOG[distill.NAME]
            made = drive(entry.coordinate(tuple(keys), Distill(task, logs)), outbox, entry.wire)
        assert isinstance(made, Labels)  # noqa: S101  what this collaboration comes to
        lessons.append(Lesson(task.tokens, task.support[1:], made.labels))
    return lessons


def distil_town(
    town: Path, model: str, files: Sequence[Path], wishes: Wishes, schooling: Schooling, out: Path
) -> Distilled:
    """Make a student of the public texts in `files` with the members of the coordinator in the folder `town`."""
    text = "\n".join(map(text_in, files))
    with asking(model, None) as (base, _):
        return distil(Client(Folder.open(town)), base, text, wishes, schooling, out)
