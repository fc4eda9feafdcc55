"""Ask private models together: a prompt in, an answer out, symbol by symbol over a stream. `parley ask`.

    open stream ──▶ is one open on which all are? else Flower's messages ask them to dial
    speak       ──▶ the public model here; sealed letters to the members, whose sums say what comes next

Learns:  who asks, on the coordinator's machine: the answer, and the sums that it came from. Members: the prompt and
         the answer as it grows. So nothing private belongs into a prompt.
Trusts:  as the collaboration (`protocols/logits/`).
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.experts.expert import Thought
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base, load_base
from privacy.config import ConfigError, nearest
from protocols import stream
from protocols.catalog import CATALOG
from protocols.faults import PeerError
from protocols.keys import PublicKey
from protocols.logits.asking import Read, Reading
from protocols.logits.question import Alphabet, Question, Sends
from protocols.logits.sampling import combined, pick
from protocols.logits.speaking import Spoken, likeliest, speak
from protocols.post import Outbox
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive
from server.control import Client
from server.folder import Folder
from server.orders import ORDERS, Order
from server.road import StreamRoad
from server.rounds import NAME
from server.store import Store
from simulations.experiment import SHIPPED, SHIPPED_MODEL

DIAL_S, LASTS_S = 300.0, 3600.0
_KINDS: dict[str, dict[str, Any]] = {
    "mixture": {"sends": Sends.WEIGHTED},
    "product": {"sends": Sends.RATIOS},
    "contrast": {"sends": Sends.RATIOS, "strength": 1.5, "plausible": 0.1},
}
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Wishes:
    """Say how to ask: by which collaboration, whom (all who have enrolled, if nobody is named), and by which terms.

    At most `most` symbols, `block` of them in one round trip, each from `support` symbols that the public model finds
    likeliest. At least `smallest_crowd` members are in every sum, `colluding` of them with the coordinator. One round
    trip takes `deadline_s` at the most.
    """

    collaboration: str = "mixture"
    members: tuple[str, ...] = ()
    most: int = 64
    block: int = 4
    support: int = 64
    smallest_crowd: int = 3
    colluding: int = 1
    deadline_s: float = 60.0
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer and what it took: the symbols each block gave, who was in it, trips, seconds, and the stream."""

    text: str
    spoken: Spoken
    stream: str
    seconds: float

    @property
    def json(self) -> dict[str, object]:
        """Return the figures, and the text."""
        s = self.spoken
        figures = {"symbols": len(s.symbols), "given": s.given, "answered": s.answered, "trips": s.trips}
        return {"text": self.text, "stream": self.stream, "seconds": round(self.seconds, 3), **figures}


@dataclass
class PublicModel:
    """Be the coordinator's side of an answer: the public model, which also drafts, and who is shown the text."""

    base: Base
    say: Callable[[str], None]
    threads: int = 1
    expert: TokenExpert = field(init=False)
    ends: frozenset[int] = field(init=False)
    _said: list[int] = field(default_factory=list, init=False)
    _shown: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.expert = TokenExpert(View(self.base, threads=self.threads))
        end = self.base.tokenizer.eos_token_id
        self.ends = frozenset(() if end is None else (int(end),))

    def block(self, context: Sequence[int], drafts: Sequence[int]) -> Thought:
        """Return what the public model says. Raises: PeerError."""
        return self.expert.block(context, drafts)

    def draft(self, context: Sequence[int], count: int, *, greedy: bool) -> tuple[list[int], NDArray[np.float64]]:
        """Return `count` guesses of what follows, and what each was drawn from. Raises: PeerError."""
        drafts, rows = list[int](), np.zeros((count, self.expert.symbols))
        for place in range(count):
            likely = np.exp(self.expert.block([*context, *drafts], ()).next[-1])
            rows[place] = likely
            drafts.append(int(likely.argmax()) if greedy else pick(likely, self.uniform()))
        return drafts, rows

    def uniform(self) -> float:
        """Return a number from 0 to below 1 from the system's randomness."""
        return _random.random()

    def emit(self, symbols: Sequence[int]) -> None:
        """Show what is whole text by now: a character may take several symbols."""
        self._said += [s for s in symbols if s not in self.ends]
        text = str(self.base.tokenizer.decode(self._said, skip_special_tokens=True))
        if not text.endswith("\ufffd"):
            self.say(text[len(self._shown) :])
            self._shown = text

    @property
    def text(self) -> str:
        """Return the answer so far."""
        return str(self.base.tokenizer.decode(self._said, skip_special_tokens=True))


def ask(client: Client, base: Base, prompt: str, wishes: Wishes, say: Callable[[str], None]) -> Answer:
    """Answer `prompt` with the members of a coordinator that is up on this machine; `say` gets the text as it comes.

    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few answer.
    """
    keys = _keys(client, wishes)
    public = PublicModel(base, say)
    question = question_for(public, wishes, len(keys))
    terms = Terms(Mode.STRICT, wishes.smallest_crowd, wishes.colluding)
    symbols = _symbols(public, prompt, wishes.most)
    name = wishes.collaboration
    stream_name = open_stream(client, tuple(keys), wishes.purpose)
    began = time.monotonic()
    with _session(client, stream_name, keys, wishes) as outbox:
        talk = speak(name, tuple(keys), question, terms, wishes.smallest_crowd, symbols, public)
        spoken = drive(talk, outbox, CATALOG[name].wire)
    return Answer(public.text, spoken, stream_name, time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class Score:
    """Hold how well a public text was predicted, together and by the public model alone.

    Units:  `nats` and `public_nats` in all `tokens` of the text but the first of each piece.
    """

    tokens: int
    nats: float
    public_nats: float
    sums: int
    stream: str

    @property
    def json(self) -> dict[str, object]:
        """Return perplexities and counts."""
        together, alone = (math.exp(n / self.tokens) for n in (self.nats, self.public_nats))
        figures = {"perplexity": together, "public_perplexity": alone, "tokens": self.tokens}
        return figures | {"sums": self.sums, "stream": self.stream}


def score(client: Client, base: Base, text: str, wishes: Wishes) -> Score:
    """Have the members read a public text, in pieces as long as the model reads, and say how well it is predicted.

    Nothing is drawn: each piece is a session, and the same text gets the same score but for rounding.
    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few answer.
    """
    keys, public = _keys(client, wishes), PublicModel(base, lambda _text: None)
    window = public.expert.view.window
    symbols = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = [p for at in range(0, len(symbols), window) if len(p := symbols[at : at + window]) > 1]
    if not pieces:
        raise ConfigError("parley ask", "--score", "expected a text of at least two symbols")
    question = question_for(public, replace(wishes, most=window), len(keys))
    stream_name, nats, alone, sums = open_stream(client, tuple(keys), wishes.purpose), 0.0, 0.0, 0
    for piece in pieces:
        tokens, thought = np.array(piece, np.int32), public.block(piece[:1], piece[1:])
        rows, told = thought.next[:-1], np.concatenate([[0.0], thought.drafted]).astype(np.float32)
        named = likeliest(rows, question.support)
        terms = Terms(Mode.STRICT, wishes.smallest_crowd, wishes.colluding)
        support = np.concatenate([named[:1], named])  # by the symbol that stands there; of the first nothing is asked
        task = Reading(question, wishes.smallest_crowd, terms, tokens, (len(piece),), 1, told, support)
        with _session(client, stream_name, keys, wishes) as outbox:
            entry = CATALOG[wishes.collaboration]
            read = drive(entry.coordinate(tuple(keys), task), outbox, entry.wire)
        assert isinstance(read, Read)  # noqa: S101  what these collaborations come to
        at = np.arange(len(piece) - 1), tokens[1:]
        nats -= float(np.log(combined(question, rows, read.sums, named)[at]).sum())
        alone, sums = alone - float(rows[at].sum()), sums + len(read.answered)
    return Score(sum(len(p) - 1 for p in pieces), nats, alone, sums, stream_name)


@contextmanager
def _session(
    client: Client, stream_name: str, keys: Mapping[MemberId, PublicKey], wishes: Wishes
) -> Iterator[Outbox]:
    """Within, letters of one new session go over the stream; at its end everybody is told."""
    with StreamRoad(client.folder.control_socket, stream_name, wishes.deadline_s) as road:
        session, identity = secrets.token_hex(16), client.folder.identity()
        outbox = Outbox(road, identity, NAME, session, wishes.collaboration, keys, wishes.purpose)
        try:
            yield outbox
        finally:
            outbox.close()


def ask_town(
    town: Path, model: str, prompt: str, wishes: Wishes, say: Callable[[str], None], json_file: Path | None
) -> None:
    """Answer `prompt` with the members of the coordinator in the folder `town`, and write the figures if asked to."""
    base = load_base(str(SHIPPED) if model == SHIPPED_MODEL else model)
    answer = ask(Client(Folder.open(town)), base, prompt, wishes, say)
    if json_file is not None:
        json_file.write_text(json.dumps(answer.json, indent=2) + "\n", encoding="utf-8")


def score_town(town: Path, model: str, file: Path, wishes: Wishes, json_file: Path | None) -> Score:
    """Score the text in `file` with the members of the coordinator in the folder `town`. Raises: ConfigError, ..."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(file, "", f"a text in UTF-8 ({type(unreadable).__name__})") from None
    base = load_base(str(SHIPPED) if model == SHIPPED_MODEL else model)
    found = score(Client(Folder.open(town)), base, text, wishes)
    if json_file is not None:
        json_file.write_text(json.dumps(found.json, indent=2) + "\n", encoding="utf-8")
    return found


def question_for(public: PublicModel, wishes: Wishes, members: int) -> Question:
    """Return the public terms of the session, one expert for each member. Raises: ConfigError."""
    if wishes.collaboration not in _KINDS:
        hint = nearest(wishes.collaboration, list(_KINDS))
        raise ConfigError("parley ask", "--collaboration", f"one of {', '.join(_KINDS)} ({hint})")
    vocabulary = public.expert.symbols
    kind = _KINDS[wishes.collaboration]
    try:
        return Question(
            base=public.base.digest,
            alphabet=Alphabet.TOKENS,
            symbols=vocabulary,
            support=min(wishes.support, vocabulary),
            block=min(wishes.block, wishes.most),
            most=wishes.most,
            experts=members,
            **kind,
        )
    except ValueError as wrong:
        raise ConfigError("parley ask", "", str(wrong)) from None


def open_stream(client: Client, members: Sequence[str], purpose: str = "") -> str:
    """Return a stream on which all `members` are: one that is open, or a new one that they are asked to dial.

    Raises: ControlError; ConfigError for who has not enrolled; TimeoutError, if somebody does not dial.
    """
    wanted = set(members)
    for name, here in client.streams().items():
        if wanted <= here:
            return name
    name = client.open_stream(members, LASTS_S)
    order = Order(stream.NAME, tuple(sorted(members)), client.tickets(name), DIAL_S, purpose)
    run = client.submit(ORDERS.encode(order))
    deadline = time.monotonic() + DIAL_S
    while time.monotonic() < deadline:
        if wanted <= set(client.stream(name)["here"]):
            return name
        if client.view(run)["state"] == "failed":
            break
        time.sleep(0.2)
    missing = sorted(wanted - set(client.stream(name)["here"]))
    client.close_stream(name)
    raise TimeoutError(f"not on the stream: {', '.join(missing)}, of {len(wanted)} members")


def _symbols(public: PublicModel, prompt: str, most: int) -> list[int]:
    """Return the prompt's symbols, if an answer of `most` fits behind them. Raises: ConfigError."""
    found = public.base.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if not found:
        raise ConfigError("parley ask", "PROMPT", "expected some text")
    try:
        public.expert.require_room(len(found) + most)
    except PeerError as long:
        raise ConfigError("parley ask", "PROMPT, --most", str(long)) from None
    return [int(symbol) for symbol in found]


def _keys(client: Client, wishes: Wishes) -> dict[MemberId, PublicKey]:
    """Return the keys of who is asked, in the order of their names. Raises: ConfigError."""
    enrolled = {m.name: m.keys for m in Store(client.folder.store).members() if m.keys is not None}
    chosen = sorted(wishes.members or enrolled)
    strangers = [m for m in chosen if m not in enrolled]
    if strangers:
        raise ConfigError("parley ask", "--members", f"not enrolled: {', '.join(map(ascii, strangers))}")
    keys = {m.name: m.keys for m in Store(client.folder.store).members() if m.keys is not None and m.name in chosen}
    if len(chosen) < wishes.smallest_crowd:
        raise ConfigError("parley ask", "--smallest-crowd", f"at most {len(chosen)}, the members that are asked")
    return {name: PublicKey.parse(found.identity) for name, found in sorted(keys.items())}
