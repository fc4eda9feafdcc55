"""Asking: real models at three homes answer together over a stream; whoever asks sees their sums and no member."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from streaming import Town
from transformers import ByT5Tokenizer
from village import COORDINATOR

from client.declared import Declared
from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.home import House
from client.model import Base, layout_of, load_base
from client.settings import ExpertSettings
from privacy.artefact import Artefact
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.policy import Budget, Permission, Policy
from privacy.units import Level
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort
from protocols.keys import Identity
from protocols.post import Mailbox, MemoryShelf, Outbox
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.session import MemberId, drive
from protocols.wire import Message
from server import hub
from server.control import Client
from simulations.asking import _room, ask, ask_town
from simulations.page import Page
from simulations.scoring import score
from simulations.speaker import Bytes, PublicModel, Tokens
from simulations.wishes import Wishes

BUDGET = Budget(epsilon=20.0, delta=1e-5, record_tokens=16, disclosures=500)
NAMES = tuple(MemberId(n) for n in ("clinic", "depot", "forge"))


@dataclass
class Speaker:
    """One home with a model of its own, and its mailbox."""

    house: House
    identity: Identity
    mailbox: Mailbox

    @property
    def dial(self) -> Callable[[str, bytes, int], None]:
        return self.house.dial

    @dial.setter
    def dial(self, dial: Callable[[str, bytes, int], None]) -> None:
        self.house.dial = dial


@dataclass
class Speakers:
    """Three of them, who can be asked to dial."""

    houses: dict[MemberId, Speaker] = field(default_factory=dict)

    def run(self, the_task: Message, session: str, collaboration: str) -> Message:
        entry, road = CATALOG[collaboration], MemoryRoad({m: s.mailbox.deliver for m, s in self.houses.items()})
        keys = {m: s.identity.public for m, s in self.houses.items()}
        outbox = Outbox(road, COORDINATOR, "coordinator", session, collaboration, keys)
        return drive(entry.coordinate(list(self.houses), the_task), outbox, entry.wire)


def speaker(
    name: MemberId, identity: Identity, roster: Roster, base: Base, ledger: Path, *, asks: bool = False
) -> Speaker:
    layout = layout_of(base, rank=2, alpha=8.0, targets=("q_proj", "v_proj"), adapter_seed=3)
    vector = np.random.default_rng(len(name)).normal(0, 0.5, layout.size).astype(np.float32)
    allowed = ("mixture", "product", "contrast", "distill")
    permission = Permission(
        str(COORDINATOR.public), Level.LOGITS, allowed, smallest_crowd=3, unsafe_without_noise=True
    )
    central = replace(permission, collaborations=("private_predict",), trusts_coordinator=True)
    asking = replace(permission, collaborations=("ask",), unsafe_plain_sum=True)
    prompts = replace(asking, level=Level.TEXT, redaction="default")
    others = (central, replace(permission, collaborations=("stream",)), *((asking, prompts) if asks else ()))
    policy = Policy(1, BUDGET, (permission, *others))
    house = House(
        name, base, list, Declared(40, 1500), lambda: policy, Ledger(ledger), "notes",
        adapters={"own": Artefact(layout.to_json(), vector)}.__getitem__, expert=ExpertSettings(("own",)),
        roster=lambda: roster, sums=Sums(identity, time.time), identity=str(identity.public),
    )  # fmt: skip
    evidence = house.evidence(identity)
    key = COORDINATOR.public
    return Speaker(house, identity, Mailbox(name, identity, key, CATALOG, house.open, MemoryShelf(), evidence))


@pytest.fixture(scope="module")
def town(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("speaking")
    identities = {name: Identity.generate() for name in NAMES}
    roster = Roster(tuple((n, i.public) for n, i in identities.items()))
    speakers = {
        n: speaker(n, i, roster, load_base(str(model_folder)), root / f"{n}.db") for n, i in identities.items()
    }
    made = Town.make(root, Speakers(speakers))  # type: ignore[arg-type]
    made.up()
    yield made
    made.stop()


@pytest.mark.parametrize("collaboration", ["mixture", "product", "contrast"])
def test_three_models_answer_together_over_the_stream_that_is_open(
    town: Town, stream: str, base: Base, collaboration: str
) -> None:
    said: list[str] = []
    wishes = Wishes(collaboration, most=6, block=3)
    answer = ask(Client(town.folder), base, "the note says", wishes, said.append)
    assert answer.stream == stream
    assert 1 <= len(answer.spoken.symbols) <= 6
    assert set(answer.spoken.answered) == {3}
    assert sum(answer.spoken.given) == len(answer.spoken.symbols)
    assert answer.text.startswith("".join(said))
    houses = [s.house for s in town.there.houses.values()]
    assert all("the note" not in line for house in houses for line in house.ledger.lines())


def test_the_command_writes_its_figures(town: Town, stream: str, model_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    page = Page(("a",), said.append)
    ask_town(town.folder.root, str(model_folder), page, Wishes(most=2), tmp_path / "answer.json")
    figures = json.loads((tmp_path / "answer.json").read_text())
    assert figures["stream"] == stream
    assert 1 <= figures["symbols"] <= 2


@pytest.mark.parametrize("collaboration", ["mixture", "product"])
def test_a_text_is_scored_as_the_definition_says_and_again_the_same(
    town: Town, stream: str, base: Base, collaboration: str
) -> None:
    text, wishes = "the note of " * 8, Wishes(collaboration, support=259, block=32)
    first, second = (score(Client(town.folder), base, text, wishes) for _ in range(2))
    assert first.stream == stream
    assert first.nats == pytest.approx(second.nats, rel=1e-6)
    assert first.tokens == len(text) - 2  # two pieces, of 64 and of 32 bytes
    assert first.sums == 3
    public = TokenExpert(View(base))
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    nats, alone = 0.0, 0.0
    for piece in (ids[:64], ids[64:]):
        known = public.block(piece[:1], piece[1:]).next[:-1]
        own = [
            s.house.experts(by_bytes=False).own[0].block(piece[:1], piece[1:]).next[:-1]
            for s in town.there.houses.values()
        ]
        for at, token in enumerate(piece[1:]):
            alone -= known[at, token]
            if collaboration == "product":
                made = known[at] + sum(np.clip(np.rint((o[at] - known[at]) * 32) / 32, -4, 4) for o in own) / 3
                nats -= made[token] - np.log(np.exp(made).sum())
                continue
            total, weights = np.exp(known[at]), 1.0
            for o in own:
                told = 0.0
                for before in range(at):
                    told = 0.9 * told + o[before, piece[before + 1]] - known[before, piece[before + 1]]
                weight = np.exp(np.clip(told, -2, 2))
                total, weights = total + weight * np.exp(o[at]), weights + weight
            nats -= np.log(total[token] / weights)
    assert first.public_nats == pytest.approx(alone, rel=1e-6)
    assert first.nats == pytest.approx(nats, rel=1e-4)


def test_a_member_that_goes_away_in_mid_answer_ends_it_by_name_and_with_no_made_up_symbol(
    town: Town, stream: str, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "AWAY_S", 0.2)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        town.homes["forge"].close()

    try:
        with pytest.raises(Abort, match="2 of 3"):
            ask(Client(town.folder), base, "the note says", Wishes(most=40, block=1), say)
        assert len(said) == 1
    finally:
        town.dial_from("forge")


def test_what_cannot_be_asked_is_said_before_anybody_is(town: Town, base: Base) -> None:
    client, quiet = Client(town.folder), [].append
    for wishes, words in (
        (Wishes("average"), "mixture, product, contrast"),
        (Wishes(members=("clinic", "nobody")), "not enrolled: 'nobody'"),
        (Wishes(members=("clinic", "depot")), "at most 2"),
        (Wishes(most=0), "block, most"),
    ):
        with pytest.raises(ConfigError, match=words):
            ask(client, base, "a prompt", wishes, quiet)
    with pytest.raises(ConfigError, match="some text"):
        ask(client, base, "", Wishes(), quiet)
    before = [len(list(s.house.ledger.lines())) for s in town.there.houses.values()]
    with pytest.raises(ConfigError, match="reads 64 at once"):
        ask(client, base, "long " * 40, Wishes(), quiet)
    assert [len(list(s.house.ledger.lines())) for s in town.there.houses.values()] == before


def test_a_prompt_that_is_no_text_is_refused_and_not_shown(model_folder: Path) -> None:
    base = load_base(str(model_folder))
    public = PublicModel(base, lambda _text: None, TokenExpert(View(base)))
    for spelling in (public.spelling, Bytes()):
        public.spelling = spelling
        with pytest.raises(ConfigError, match=r"no UTF-8") as said:
            _room(public, "the secret of \udc80", 4)
        assert said.value.__suppress_context__
        assert "secret" not in str(said.value)


def test_a_symbol_that_the_tokenizer_cannot_spell_is_left_out_of_the_text() -> None:
    """Of a model whose vocabulary is padded any row may be drawn."""
    tokenizer, said = ByT5Tokenizer(extra_ids=0), list[str]()
    spelling = Tokens(tokenizer)
    symbols = spelling.symbols("so")
    assert spelling.text([symbols[0], len(tokenizer), symbols[1], len(tokenizer) + 7]) == "so"
    padded = SimpleNamespace(tokenizer=tokenizer)
    public = PublicModel(padded, said.append, SimpleNamespace(symbols=len(tokenizer) + 8))  # type: ignore[arg-type]
    for drawn in ([symbols[0], len(tokenizer)], [len(tokenizer) + 7], [symbols[1]]):
        public.emit(drawn)
    assert "".join(said) == public.text == "so"
