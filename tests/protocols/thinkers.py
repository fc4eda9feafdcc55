"""Experts for tests of the logit level: bigram models, questions about them, and what members then ought to add."""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from protocols.faults import PeerError
from protocols.logits.asking import NO_SUPPORT, Reading
from protocols.logits.question import Alphabet, Question, Sends
from protocols.secure_sum.terms import Mode, Terms

SYMBOLS, LONGEST = 6, 40
PLAIN = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)  # without noise two honest members hide one
TEXT = (1, 4, 2, 2, 5, 0, 3, 1, 1, 4)


@dataclass
class Bigram:
    """Be a model of a table of logits, shape (symbols, symbols): the next symbol depends on the last one."""

    table: np.ndarray
    read: int = 0

    @property
    def symbols(self) -> int:
        return len(self.table)

    @property
    def logs(self) -> np.ndarray:
        """Return log p(next | last)."""
        shifted = self.table - self.table.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def require_room(self, symbols: int) -> None:
        if symbols > LONGEST:
            raise PeerError("more than is read at once")

    def block(self, context, drafts) -> SimpleNamespace:
        self.read += 1
        self.require_room(len(context) + len(drafts))
        logs, whole = self.logs, [*context, *drafts]
        told = np.array([0.0, *(logs[a, b] for a, b in itertools.pairwise(whole))])
        rows = logs[whole[len(context) - 1 :]]
        return SimpleNamespace(told=told[: len(context)], drafted=told[len(context) :], next=rows)


def bigram(seed: int, spread: float = 1.5, symbols: int = SYMBOLS) -> Bigram:
    return Bigram(np.random.default_rng(seed).normal(0, spread, (symbols, symbols)))


PUBLIC = bigram(0, 1.0)


@dataclass
class Thinkers:
    """Be a home's experts: the public model and its own, one for each shard."""

    public: Bigram = field(default_factory=lambda: PUBLIC)
    own: tuple[Bigram, ...] = ()
    artefact: object = None

    @property
    def digest(self) -> str | None:
        return None if self.artefact is None else self.artefact.digest


def question(**changes) -> Question:
    given = {
        "base": "b" * 64, "alphabet": Alphabet.TOKENS, "symbols": SYMBOLS, "support": 0, "block": 4, "most": 64,
        "sends": Sends.WEIGHTED, "experts": 3,
    }  # fmt: skip
    return Question(**(given | changes))


def told(text=TEXT, public: Bigram = PUBLIC) -> np.ndarray:
    return public.block(text, ()).told.astype(np.float32)


def public_rows(text=TEXT, given: int = 1, public: Bigram = PUBLIC) -> np.ndarray:
    """Return log p0 of every symbol at each position that is asked about."""
    return public.logs[list(text[given - 1 : -1])]


def support_of(text, count: int, public: Bigram = PUBLIC) -> np.ndarray:
    """Return the public model's likeliest symbols at each position of a text, by the symbol that stands there."""
    if not count:
        return NO_SUPPORT
    rows = public.logs[[text[0], *text[:-1]]]
    return np.sort(np.argsort(-rows, axis=1, kind="stable")[:, :count], axis=1).astype(np.uint32)


def reading(asked: Question | None = None, *texts, given: int = 1, terms: Terms = PLAIN, quorum: int = 2) -> Reading:
    asked, texts = asked or question(), texts or (TEXT,)
    tokens = np.concatenate([np.array(t, np.int32) for t in texts])
    support = [support_of(t, asked.support) for t in texts]
    whole = np.concatenate(support) if asked.support else NO_SUPPORT
    known = np.concatenate([told(t) for t in texts])
    return Reading(asked, quorum, terms, tokens, tuple(map(len, texts)), given, known, whole)
