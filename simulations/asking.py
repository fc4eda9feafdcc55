"""Ask private models together: prompts in, answers out, symbol by symbol over a stream. `parley ask`.

    open stream ──▶ is one open on which all are? else Flower's messages ask them to dial
    speak       ──▶ the public model here; sealed letters to the members, whose sums say what comes next

Several prompts are one session, and strands of the same blocks: what it may cost is for all their answers together.

Whoever runs the coordinator asks. Who also runs a member's home may ask at that home: the prompt leaves through its
gate, and its own models are mixed in there (`client/asker.py`). A member cannot ask through somebody else's
coordinator: no letter goes that way.

Learns:  who asks, on the coordinator's machine: the answer, and the sums that it came from. Members: the prompt and
         the answer as it grows. So nothing private belongs into a prompt.
Trusts:  as the collaboration (`protocols/logits/`); of an asker's own home, that it is one of those who collude.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from client.asker import Asker, asking_at
from client.experts.opening import Experts
from client.experts.view import View
from client.model import Base, load_base
from privacy.config import ConfigError
from privacy.units import Guarantee
from protocols import stream
from protocols.catalog import CATALOG
from protocols.faults import PeerError
from protocols.keys import PublicKey
from protocols.logits.at_home import AtHome
from protocols.logits.question import Alphabet
from protocols.logits.speaking import Spoken, Talk, speak_together
from protocols.post import Outbox
from protocols.session import MemberId, drive
from server.control import Client
from server.folder import Folder
from server.orders import ORDERS, Order
from server.road import StreamRoad
from server.rounds import NAME
from server.store import Store
from simulations.experiment import SHIPPED, SHIPPED_MODEL
from simulations.page import Page
from simulations.speaker import PublicModel, expert_over
from simulations.student import Wardrobe, student_in
from simulations.wishes import Wishes, promised, question_for

DIAL_S, LASTS_S = 300.0, 3600.0


class Asked(Protocol):
    """Be what every wish says: by which collaboration whom is asked, and how long one round trip may take."""

    @property
    def collaboration(self) -> str:
        """Return its name."""

    @property
    def members(self) -> tuple[str, ...]:
        """Return who is asked; nobody stands for all."""

    @property
    def smallest_crowd(self) -> int:
        """Return how many are in every sum, at least."""

    @property
    def deadline_s(self) -> float:
        """Return the seconds of one round trip, at the most."""

    @property
    def purpose(self) -> str:
        """Return what the members are told it is for."""


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


@dataclass(frozen=True, slots=True)
class Answers:
    """Hold the answers to several prompts, in the prompts' order, and what all of them together promise, if any."""

    answers: tuple[Answer, ...]
    guarantee: Guarantee | None

    @property
    def lines(self) -> list[str]:
        """Return what stands beside the answers."""
        promise, many = self.guarantee, len(self.answers)
        if promise is None:
            return []
        return [
            f"{'the answer' if many == 1 else f'all {many} answers together'}: {promise}",
            f"assumed: {'; '.join(promise.assumptions)}",
            f"not covered: {'; '.join(promise.not_covered)}",
        ]

    @property
    def json(self) -> dict[str, object]:
        """Return texts and figures, of one answer by itself, and what they promise."""
        whole, promise = ("stream", "seconds"), self.guarantee
        plain = {} if promise is None else {"unit": promise.unit.value, "relation": promise.relation.value}
        said = {"guarantee": None if promise is None else asdict(promise) | plain}
        if len(self.answers) == 1:
            return self.answers[0].json | said
        shared = {key: self.answers[0].json[key] for key in whole}
        each = [{key: of for key, of in a.json.items() if key not in whole} for a in self.answers]
        return shared | said | {"answers": each}


def ask(
    client: Client,
    base: Base,
    prompt: str,
    wishes: Wishes,
    say: Callable[[str], None],
    home: Asker | None = None,
    draft: Path | None = None,
) -> Answer:
    """Answer `prompt` with the members of a coordinator that is up on this machine; `say` gets the text as it comes.

    At a `home` its own models are mixed in, and `base` is its own. A `draft` is an adapter that guesses what follows.
    Raises: ConfigError, before anybody is asked; ControlError, TimeoutError; Abort, if too few answer.
    """
    (answer,) = ask_together(client, base, Page((prompt,), say), wishes, home, draft).answers
    return answer


def ask_together(
    client: Client, base: Base, page: Page, wishes: Wishes, home: Asker | None = None, draft: Path | None = None
) -> Answers:
    """Answer all prompts of a page in one session, each as it would be by itself, and show the answers there.

    Each may have `wishes.most` symbols; what is spent is for all of them together. A home lets each prompt go by
    itself, through its gate. Raises: as `ask`; ConfigError names a prompt by its number.
    """
    keys, prompts = keys_of(client, wishes), page.prompts
    with public_model(base, wishes, _say_nothing, home, draft) as (public, experts):
        publics = [replace(public, say=partial(page.say, number)) for number in range(len(prompts))]
        terms = partial(question_for, base.digest, public.expert.symbols, wishes, len(keys), answers=len(prompts))
        question = terms()
        symbols = [_room(public, prompt, wishes.most, name) for name, prompt in _named(prompts)]
        if home is not None and question.central:
            what = f"expected none: in {wishes.collaboration} a sample of the sum alone protects"
            raise ConfigError("parley ask", "--home", what)
        if home is not None:
            terms(sum(len(each) - 1 for each in symbols))
        stream_name = open_stream(client, tuple(keys), wishes.purpose)
        if home is not None and experts is not None:
            crossing = zip(publics, _named(prompts), strict=True)
            symbols = [_let_go(home, experts, p, *named, wishes, tuple(keys)) for p, named in crossing]
            question = terms(sum(len(each) - 1 for each in symbols))
        began, talks = time.monotonic(), _talks(symbols, publics, page, experts)
        with session(client, stream_name, keys, wishes) as outbox:
            name, crowd = wishes.collaboration, wishes.smallest_crowd
            talk = speak_together(name, tuple(keys), question, wishes.terms, crowd, talks)
            spoken = drive(talk, outbox, CATALOG[name].wire)
        texts, seconds = _shown(page, publics, home), time.monotonic() - began
        answers = tuple(Answer(t, s, stream_name, seconds) for t, s in zip(texts, spoken, strict=True))
        return Answers(answers, promised(question, wishes, len(keys)))


def _talks(
    symbols: Sequence[list[int]], publics: Sequence[PublicModel], page: Page, experts: Experts | None
) -> list[Talk]:
    """Return what is asked: each prompt's symbols, by a public side of its own, and mixed with a home's experts."""
    talks = list[Talk]()
    for number, (each, public) in enumerate(zip(symbols, publics, strict=True)):
        ended = _end_nothing if public.say is _say_nothing else partial(page.end, number)
        talks.append(Talk(each, public, None if experts is None else AtHome(experts.own), ended))
    return talks


def _shown(page: Page, publics: Sequence[PublicModel], home: Asker | None) -> list[str]:
    """Show the answers in which tokens are put back, and return all of them."""
    texts = [public.text if home is None else home.restored(public.text) for public in publics]
    for number, public in enumerate(publics):
        if public.say is _say_nothing:
            page.say(number, texts[number])
            page.end(number)
    return texts


def _named(prompts: Sequence[str]) -> list[tuple[str, str]]:
    """Return each prompt with what it is called where something is wrong with it: it is never quoted there."""
    return [(f"PROMPT {n}" if len(prompts) > 1 else "PROMPT", prompt) for n, prompt in enumerate(prompts, 1)]


def _let_go(
    home: Asker,
    experts: Experts,
    public: PublicModel,
    name: str,
    prompt: str,
    wishes: Wishes,
    members: tuple[str, ...],
) -> list[int]:
    """Have the home let a prompt go, and the answer to it; return the symbols that may cross. Raises: ConfigError."""
    try:
        crossing = home.let_go(prompt, members, wishes.purpose)
        if crossing != prompt:
            public.say = _say_nothing  # tokens stand in it: what they stand for is put back at the end
        symbols = _room(public, crossing, wishes.most, name)
        home.let_answer_go(experts, members, wishes.purpose)
    except ConfigError as wrong:
        if name == "PROMPT" or name in wrong.key:
            raise
        raise ConfigError(wrong.file, f"{wrong.key} ({name})", wrong.expected) from None
    return symbols


def _end_nothing() -> None:
    """Leave it: this answer is shown when all are whole."""


def _say_nothing(_text: str) -> None:
    """Show nobody."""


@contextmanager
def public_model(
    base: Base, wishes: Wishes, say: Callable[[str], None], home: Asker | None = None, draft: Path | None = None
) -> Iterator[tuple[PublicModel, Experts | None]]:
    """Lend the coordinator's own side, and at a home its models. Raises: ConfigError."""
    alphabet = wishes.alphabet
    experts = None if home is None else home.experts(by_bytes=alphabet is Alphabet.BYTES)
    if draft is None:
        expert = expert_over(alphabet, View(base)) if experts is None else experts.public
        yield PublicModel(base, say, expert, alphabet), experts
        return
    student = student_in(base, draft)
    wardrobe = Wardrobe(base, student) if home is None else home.house
    try:
        plain, dressed = (View(base, partial(wardrobe.dress, worn)) for worn in (None, student))
        expert = expert_over(alphabet, plain) if experts is None else experts.public
        yield PublicModel(base, say, expert, alphabet, expert_over(alphabet, dressed)), experts
    finally:
        if isinstance(wardrobe, Wardrobe):
            wardrobe.close()


@contextmanager
def session(client: Client, stream_name: str, keys: Mapping[MemberId, PublicKey], wishes: Asked) -> Iterator[Outbox]:
    """Within, letters of one new session go over the stream; at its end everybody is told."""
    with StreamRoad(client.folder.control_socket, stream_name, wishes.deadline_s) as road:
        session, identity = secrets.token_hex(16), client.folder.identity()
        outbox = Outbox(road, identity, NAME, session, wishes.collaboration, keys, wishes.purpose)
        try:
            yield outbox
        finally:
            outbox.close()


def ask_town(
    town: Path,
    model: str | None,
    page: Page,
    wishes: Wishes,
    json_file: Path | None = None,
    home: Path | None = None,
    draft: Path | None = None,
) -> Answers:
    """Answer a page's prompts with the members of the coordinator in the folder `town`; write the figures if asked.

    Raises: as `ask_together`.
    """
    with asking(model, home) as (base, asker):
        found = ask_together(Client(Folder.open(town)), base, page, wishes, asker, draft)
    if json_file is not None:
        json_file.write_text(json.dumps(found.json, indent=2) + "\n", encoding="utf-8")
    return found


@contextmanager
def asking(model: str | None, home: Path | None) -> Iterator[tuple[Base, Asker | None]]:
    """Lend the public model; of who asks at home, that home and its base model. Raises: ConfigError."""
    if (model is None) is (home is None):
        raise ConfigError("parley ask", "--model, --home", "expected one of them: a home has its own model")
    if home is None:
        yield load_base(str(SHIPPED) if model == SHIPPED_MODEL else str(model)), None
        return
    with asking_at(home) as asker:
        yield asker.house.base, asker


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


def keys_of(client: Client, wishes: Asked) -> dict[MemberId, PublicKey]:
    """Return the keys of who is asked, in the order of their names. Raises: ConfigError."""
    enrolled = {m.name: m.keys for m in Store(client.folder.store).members() if m.keys is not None}
    chosen = sorted(wishes.members or enrolled)
    strangers = [m for m in chosen if m not in enrolled]
    if strangers:
        raise ConfigError("parley", "--members", f"not enrolled: {', '.join(map(ascii, strangers))}")
    keys = {m.name: m.keys for m in Store(client.folder.store).members() if m.keys is not None and m.name in chosen}
    if len(chosen) < wishes.smallest_crowd:
        raise ConfigError("parley", "--smallest-crowd", f"at most {len(chosen)}, the members that are asked")
    return {name: PublicKey.parse(found.identity) for name, found in sorted(keys.items())}


def _room(public: PublicModel, prompt: str, most: int, name: str = "PROMPT") -> list[int]:
    """Return the prompt's symbols, if an answer of `most` fits behind them. Raises: ConfigError."""
    try:
        found = public.spelling.symbols(prompt)
    except UnicodeEncodeError:  # it holds the prompt: not even its traceback is shown
        raise ConfigError("parley ask", name, "expected text: what is there is no UTF-8") from None
    if not found:
        raise ConfigError("parley ask", name, "expected some text")
    try:
        public.expert.require_room(len(found) + most)
    except PeerError as long:
        raise ConfigError("parley ask", f"{name}, --most", str(long)) from None
    return found
