"""Asking further: at a home of one's own, by bytes, at a stated epsilon, and with a student that drafts."""

# ruff: noqa: F811  pytest's fixtures

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streaming import Town
from test_asking import NAMES, speaker, town  # noqa: F401  fixtures
from village import COORDINATOR

from client.asker import Asker
from client.model import Base, load_base
from client.vault import Vaults
from privacy.accounting.accountant import Filter, default_orders, price
from privacy.accounting.events import from_json
from privacy.config import ConfigError
from privacy.units import Relation
from protocols.logits.question import Alphabet
from server.control import Client
from simulations.asking import ask
from simulations.distilling import distil
from simulations.scoring import score
from simulations.student import Schooling
from simulations.wishes import Spend, Wishes

TEXT = "the note of the day says " * 2


@pytest.fixture
def home(town: Town, model_folder: Path, tmp_path: Path) -> Iterator[Asker]:
    """Return the first member's home, opened once more by its operator: another copy of the model, one ledger."""
    there = town.there.houses[NAMES[0]]
    ledger = town.folder.root.parent / f"{NAMES[0]}.db"
    opened = speaker(NAMES[0], there.identity, there.house.roster(), load_base(str(model_folder)), ledger, asks=True)
    yield Asker(opened.house, str(COORDINATOR.public), tmp_path / "policy.toml", Vaults(tmp_path / "vaults"))
    opened.house._undress()
    opened.house.ledger.close()


def lines(asker: Asker) -> list[dict[str, object]]:
    return [e for e in map(json.loads, asker.house.ledger.lines()) if e.get("collaboration") == "ask"]


def own_nats(asker: Asker, text: str) -> float:
    house = asker.house
    ids = house.base.tokenizer(text, add_special_tokens=False)["input_ids"]
    return -float(house.experts(by_bytes=False).own[0].block(ids, ()).told[1:].sum())


def test_who_asks_at_home_loses_at_most_log_2_to_its_own_model_and_to_the_sum(
    town: Town,
    stream: str,
    home: Asker,
) -> None:
    found = score(Client(town.folder), home.house.base, TEXT, Wishes(block=32), home)
    assert found.home_nats is not None
    assert found.home_nats <= min(found.nats, own_nats(home, TEXT)) + math.log(2) + 1e-6
    assert "home_perplexity" in found.json
    assert len(found.lines) == 2
    assert [(e["kind"], e["level"]) for e in lines(home)] == [("disclosed", "text")]


def test_a_prompt_leaves_redacted_and_both_it_and_the_answer_are_written_down(
    town: Town,
    stream: str,
    home: Asker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crossed, before = list[str](), len(lines(home))
    let_go = Asker.let_go

    def watched(self: Asker, *given: object) -> str:
        crossed.append(let_go(self, *given))  # type: ignore[arg-type]
        return crossed[-1]

    monkeypatch.setattr(Asker, "let_go", watched)
    said: list[str] = []
    answer = ask(Client(town.folder), home.house.base, "to ann@x.org: ", Wishes(most=5, block=3), said.append, home)
    assert crossed == ["to [EMAIL_1]: "]
    assert home.restored(crossed[0]) == "to ann@x.org: "
    assert said == [answer.text]  # at once, when it is whole: tokens are put back in it
    assert 1 <= len(answer.spoken.symbols) <= 5
    assert [(e["kind"], e["level"], e["number"]) for e in lines(home)[before:]] == [
        ("disclosed", "text", 0),
        ("disclosed", "logits", 1),
    ]
    ask(Client(town.folder), home.house.base, "to ann@x.org: ", Wishes(most=1), said.append, home)
    assert len(lines(home)) == before + 4
    assert all("ann" not in json.dumps(e) for e in map(json.loads, home.house.ledger.lines()))


def test_a_home_whose_policy_does_not_let_it_ask_sends_nothing(
    town: Town,
    stream: str,
    home: Asker,
) -> None:
    client, before = Client(town.folder), [len(list(s.house.ledger.lines())) for s in town.there.houses.values()]
    home.house.policy = town.there.houses[NAMES[0]].house.policy
    with pytest.raises(ConfigError, match="collaboration ask"):
        ask(client, home.house.base, "a prompt", Wishes(most=3), [].append, home)
    with pytest.raises(ConfigError, match="a sample of the sum alone protects"):
        central = Wishes("private_predict", most=3, spend=Spend(2.0))
        ask(client, home.house.base, "a prompt", central, [].append, home)
    assert [len(list(s.house.ledger.lines())) for s in town.there.houses.values()] == before


@pytest.mark.parametrize("collaboration", ["mixture", "product"])
def test_an_answer_by_bytes_is_whole_characters_from_models_of_any_tokenizer(
    town: Town,
    stream: str,
    base: Base,
    collaboration: str,
) -> None:
    said: list[str] = []
    wishes = Wishes(collaboration, most=5, block=3, alphabet=Alphabet.BYTES)
    answer = ask(Client(town.folder), base, "Füße ", wishes, said.append)
    assert 1 <= len(answer.spoken.symbols) <= 5
    assert all(0 <= s <= 256 for s in answer.spoken.symbols)
    assert answer.text.startswith("".join(said))


def test_a_text_is_scored_by_bytes_as_the_definition_says(town: Town, stream: str, base: Base) -> None:
    text = "a note, a day"
    found = score(Client(town.folder), base, text, Wishes(alphabet=Alphabet.BYTES))
    symbols, experts = list(text.encode()), [s.house.experts(by_bytes=True) for s in town.there.houses.values()]
    public = experts[0].public.block(symbols[:1], symbols[1:])
    own = [e.own[0].block(symbols[:1], symbols[1:]) for e in experts]
    nats, scores = 0.0, [0.0] * 3
    for at, byte in enumerate(symbols[1:]):
        weights = np.exp(np.clip(scores, -2, 2))
        total = np.exp(public.next[at, byte]) + sum(
            w * np.exp(o.next[at, byte]) for w, o in zip(weights, own, strict=True)
        )
        nats -= math.log(total / (1 + weights.sum()))
        scores = [0.9 * s + o.next[at, byte] - public.next[at, byte] for s, o in zip(scores, own, strict=True)]
    assert found.tokens == len(symbols) - 1
    assert found.nats == pytest.approx(nats, rel=1e-4)
    assert found.public_nats == pytest.approx(-public.drafted.sum(), rel=1e-6)


def test_an_answer_costs_what_was_to_be_spent_at_every_home_and_no_more(
    town: Town,
    stream: str,
    base: Base,
) -> None:
    def spent() -> list[dict[str, object]]:
        houses = (s.house for s in town.there.houses.values())
        return [e for h in houses for e in map(json.loads, h.ledger.lines()) if e["kind"] == "charged"]

    before = len(spent())
    wishes = Wishes("private_predict", most=6, block=3, spend=Spend(2.0, clip=1.5))
    answer = ask(Client(town.folder), base, "the note says", wishes, [].append)
    assert 1 <= len(answer.spoken.symbols) <= 6
    charged = spent()[before:]
    assert len(charged) == 3
    orders = default_orders(2.0, 1e-5)
    for entry in charged:
        cost = price(from_json(str(entry["event"])), orders, Relation.ADD_OR_REMOVE)
        assert Filter(orders, 1e-5).fits(cost, 2.0)
        assert not Filter(orders, 1e-5).fits(cost, 1.99)


def test_what_does_not_belong_together_is_said_before_anybody_is_asked(town: Town, base: Base) -> None:
    client = Client(town.folder)
    for wishes, words in (
        (Wishes("private_predict"), "--epsilon"),
        (Wishes("mixture", spend=Spend(1.0)), "--epsilon"),
        (Wishes("private_predict", spend=Spend(1.0, clip=1e-9)), "clip"),
    ):
        with pytest.raises(ConfigError, match=words):
            ask(client, base, "a prompt", wishes, [].append)
    with pytest.raises(ConfigError, match="--epsilon"):
        Spend(-1.0)
    with pytest.raises(ConfigError, match="this one is for sampling"):
        score(client, base, TEXT, Wishes("private_predict", spend=Spend(1.0)))


def test_a_student_of_the_mean_comes_nearer_to_it_on_text_it_has_not_seen_and_drafts(
    town: Town,
    stream: str,
    base: Base,
    tmp_path: Path,
) -> None:
    client = Client(town.folder)
    text = "".join(f"note {n} of day {n % 7} says: {'abc'[n % 3] * 5}. " for n in range(8))
    schooling = Schooling(rank=4, steps=20, rate=2e-2)
    found = distil(client, base, text, Wishes(support=128), schooling, tmp_path / "student")
    assert found.before is not None
    assert found.after is not None
    assert found.after < 0.7 * found.before
    assert (tmp_path / "student" / "adapter_config.json").is_file()
    answer = ask(client, base, "the note", Wishes(most=4, block=3), [].append, draft=tmp_path / "student")
    assert len(answer.spoken.symbols) >= 1
    with pytest.raises(ConfigError, match="is there already"):
        distil(client, base, text, Wishes(), schooling, tmp_path / "student")
