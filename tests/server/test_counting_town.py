"""Counting over a stream: records choose a public model's texts and phrases, and models label questions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment import until
from streaming import Town
from transformers import LlamaConfig, LlamaForCausalLM
from village import COORDINATOR

from client.model import load_base
from client.speaking.prompts import Prompt
from privacy.config import ConfigError
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.session import MemberId, drive
from protocols.text.evolve import Elected
from simulations.authoring import ModelAuthor
from simulations.benches.logits_models import vocabulary_of
from simulations.counting import Counting, evolve_town, keyphrases_town, label_town
from simulations.facts.hall import Hall, raise_hall
from simulations.facts.lessons import lessons
from simulations.facts.world import share_out
from simulations.talks import Consultation
from simulations.village import Villager

SHARES = share_out(["ash", "birch", "cedar"], facts=20, authors=2, seed=3)


@dataclass
class Home:
    """What a town needs of a house: its mailbox, and where it dials."""

    villager: Villager

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["villager"], name)

    @property
    def dial(self):
        return self.villager.house.dial

    @dial.setter
    def dial(self, dial):
        self.villager.house.dial = dial


@dataclass
class Homes:
    hall: Hall

    @property
    def houses(self) -> dict[MemberId, Home]:
        return {m: Home(v) for m, v in self.hall.village.villagers.items()}

    def run(self, the_task, session: str, collaboration: str):
        outbox = self.hall.village.outbox(session, collaboration, MemoryRoad(self.hall.village.ends))
        entry = CATALOG[collaboration]
        return drive(entry.coordinate(list(self.houses), the_task), outbox, entry.wire)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(5)
    widths = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=400, max_position_embeddings=512, eos_token_id=0, pad_token_id=0, **widths)
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary_of(list(lessons(300, 1)), 400).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def town(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root, base = tmp_path_factory.mktemp("counting"), load_base(str(model))
    bases = {share.member: base for share in SHARES}
    hall = raise_hall(SHARES, bases, root / "homes", redacted=True, epsilon=900.0, coordinator=COORDINATOR)
    made = Town.make(root, Homes(hall))  # type: ignore[arg-type]
    made.up()
    name = made.dialled()
    yield made
    with made.control() as control:
        control.delete(f"/streams/{name}")
    until(lambda: not made.here(name))
    made.stop()
    hall.close()


def counting(name: str, **changes: float) -> Counting:
    given = {"population": 200, "record_tokens": 128, "epsilon": 100.0, "delta": 1e-5} | changes
    return Counting(**given, asked=Consultation(name, quorum=3))  # type: ignore[arg-type]


def test_the_texts_that_records_are_near_to_come_first_and_are_written_down(town: Town, model: Path, tmp_path: Path):
    (tmp_path / "examples.txt").write_text("the storage of the box is cold.\n\nthe lid of the jar is wax.\n")
    out, before = tmp_path / "texts.jsonl", charges(town)
    found = evolve_town(town.folder.root, str(model), tmp_path / "examples.txt", counting("evolve"), out, 6, 2, 2)
    assert isinstance(found, Elected)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == list(found.texts)
    assert len(rows) == 6
    assert rows == sorted(rows, key=lambda row: -row["votes"])
    assert [after - b for after, b in zip(charges(town), before, strict=True)] == [2, 2, 2]  # a charge a generation
    with pytest.raises(ConfigError, match="written over"):
        evolve_town(town.folder.root, str(model), tmp_path / "examples.txt", counting("evolve"), out, 6, 2, 2)


def test_phrases_that_many_records_hold_stand_out(town: Town, tmp_path: Path):
    (tmp_path / "phrases.txt").write_text("noted\nstorage\nunheard of\nnoted\n")
    out = tmp_path / "found.jsonl"
    found = keyphrases_town(
        town.folder.root, tmp_path / "phrases.txt", counting("keyphrases"), out, votes=3, pairs=False
    )
    assert found.phrases[0] == "noted"
    assert "unheard of" not in found.phrases
    rows = {row["phrase"]: row["records"] for row in map(json.loads, out.read_text().splitlines())}
    assert rows["noted"] == pytest.approx(60, abs=6 * found.deviation)


def test_a_label_that_leads_is_a_conversation_to_train_on(town: Town, tmp_path: Path):
    class Says:
        def __init__(self, said: str) -> None:
            self.said = said

        def say(self, _prompt: Prompt) -> str:
            return self.said

        def weigh(self, _prompt: Prompt, options):
            return np.array([float(o == self.said) for o in options])

    for said, home in zip(("yes", "no", "yes"), town.there.houses.values(), strict=True):
        home.villager.house.mouth.speaker = lambda said=said: Says(said)
    (tmp_path / "questions.txt").write_text("Is ice cold?\nIs it?\n")
    out = tmp_path / "labels.jsonl"
    found = label_town(town.folder.root, tmp_path / "questions.txt", Consultation("critique", quorum=3), out, 1.0)
    assert [label.answer for label in found.labels] == ["yes", "yes"]
    first = json.loads(out.read_text().splitlines()[0])
    turns = [("user", "Is ice cold?"), ("assistant", "yes")]
    assert first == {"messages": [{"role": r, "content": c} for r, c in turns]}


@pytest.mark.parametrize(("changes", "key"), [({"epsilon": 1e-9}, "--epsilon"), ({"population": 0}, "population")])
def test_terms_that_cannot_be_are_refused_before_anybody_is_asked(town: Town, tmp_path: Path, changes, key):
    (tmp_path / "phrases.txt").write_text("one\n")
    terms = counting("keyphrases", **changes)
    with pytest.raises(ConfigError, match=key):
        keyphrases_town(town.folder.root, tmp_path / "phrases.txt", terms, tmp_path / "out", 1, pairs=False)
    assert "epsilon 100 at delta 1e-05" in counting("keyphrases").claim


def test_an_author_varies_by_going_on_from_a_part_and_needs_an_example(model: Path):
    author = ModelAuthor(load_base(str(model)), ["the lid of the jar is wax."], tokens=12)
    first = author.begin(3)
    assert len(first) == 3
    (varied,) = author.vary(["the storage of the box"])
    assert varied.startswith("the")
    with pytest.raises(ValueError, match="examples"):
        ModelAuthor(load_base(str(model)), [" "])


def charges(town: Town) -> list[int]:
    return [home.villager.statement.charges for home in town.there.houses.values()]
