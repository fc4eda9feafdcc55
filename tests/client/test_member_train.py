"""`parley member train`, in a home on disk: charged before it is drawn, kept where only its owner reads it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.adapter import load
from client.artefacts import read_artefact
from client.cli import app
from client.data import Format, Records
from client.dp_training import UnsafePlainSgd
from client.folder import Folder
from client.init import Wishes, init
from client.opening import open_house
from client.settings import LoraSettings, Settings
from client.settings_text import home_toml
from client.shards import shards_of
from client.training.running import Running
from client.training.ways import Checkpointing, Precision
from privacy.auditing import check
from privacy.config import ConfigError
from privacy.refusal import Refused
from protocols.faults import PeerError
from protocols.keys import Identity

PLAN = """
seed = 7

[lora]
rank = 2
alpha = 4.0
targets = ["q_proj", "v_proj"]

[training]
record_tokens = 16
steps = 2
batch_size = 4
optimizer = "sgd"
learning_rate = 0.5
clipping_norm = 1.0

[privacy]
epsilon = 1.0
"""


@pytest.fixture
def home(tmp_path: Path, invite, records, model_folder) -> Path:
    made = tmp_path / "home"
    init(made, Wishes(invite(), str(model_folder), records, Format.JSONL))
    policy = made / "policy.toml"
    policy.write_text(policy.read_text().replace("record_tokens = 128", "record_tokens = 16"))
    return made


def run(home: Path, name: str, plan: str, *more: str):
    file = home.parent / "train.toml"
    file.write_text(plan)
    return CliRunner().invoke(app, ["train", str(home), name, "--plan", str(file), *more])


def lines(home: Path) -> list[dict]:
    house, shelf = open_house(Folder(home), Settings.load(Folder(home).settings))
    found = [json.loads(line) for line in house.ledger.lines()]
    assert check(house.ledger.lines(), [], lambda *_: True, trail=house.ledger.head().trail).sound
    house.close()
    shelf.close()
    return found


def test_the_command_trains_charges_and_keeps(home):
    said = run(home, "mine", PLAN)
    assert said.exit_code == 0, said.output
    assert "trained, charged, and kept here" in said.output
    assert "epsilon" in said.output
    _layout, vector = load(home / "adapters" / "mine")
    artefact = read_artefact(home / "adapters", "mine")
    kinds = [line["kind"] for line in lines(home)]
    assert kinds.count("charged") == kinds.count("derived") == 1
    assert next(line for line in lines(home) if line["kind"] == "derived")["artefact"] == artefact.digest
    assert vector.any()
    assert "epsilon" in (home / "adapters" / "mine" / "README.md").read_text()
    again = run(home, "mine", PLAN)
    assert (again.exit_code, "there is one already" in again.output) == (2, True)


def test_without_privacy_nothing_is_charged_and_the_card_and_the_command_say_so(home):
    said = run(home, "bare", PLAN.split("[privacy]", maxsplit=1)[0])
    assert said.exit_code == 0, said.output
    assert "WITHOUT noise" in said.output
    assert not {"charged", "derived", "disclosed"} & {line["kind"] for line in lines(home)}
    assert "without noise: it protects nobody" in (home / "adapters" / "bare" / "README.md").read_text()


def test_without_noise_is_an_option_too_and_nothing_can_be_derived_from_what_it_makes(home):
    said = run(home, "bare", PLAN, "--no-noise")
    assert said.exit_code == 0, said.output
    assert "WITHOUT noise, nothing charged" in said.output
    assert not {"charged", "derived", "disclosed"} & {line["kind"] for line in lines(home)}
    house, shelf = open_house(Folder(home), Settings.load(Folder(home).settings))
    with pytest.raises(Refused):
        house.ledger.paid_for(read_artefact(home / "adapters", "bare").digest)
    house.close()
    shelf.close()


def test_shards_are_trained_apart_for_nothing_and_their_cards_say_which_they_are(home):
    said = run(home, "expert", PLAN, "--no-noise", "--shards", "3")
    assert said.exit_code == 0, said.output
    vectors = [load(home / "adapters" / f"expert-{n}")[1] for n in (1, 2, 3)]
    assert all(vector.any() for vector in vectors)
    assert not np.array_equal(vectors[0], vectors[1])
    assert not {"charged", "derived", "disclosed"} & {line["kind"] for line in lines(home)}
    card = (home / "adapters" / "expert-2" / "README.md").read_text()
    assert "on shard 2 of 3, without noise: it protects nobody" in card
    again = run(home, "expert", PLAN, "--no-noise", "--shards", "3")
    assert (again.exit_code, "there is one already" in again.output) == (2, True)


@pytest.mark.parametrize("most_rank", [None, 1])
def test_each_shard_is_trained_on_its_own_records_and_no_others(home, monkeypatch, most_rank):
    file = Folder(home).settings
    settings = Settings.load(file)
    file.write_text(home_toml(replace(settings, lora=LoraSettings(most_rank))))
    seen: list[set[bytes]] = []
    draw = UnsafePlainSgd.draw

    def watched(task, randomness):
        seen.append({row.tobytes() for row in task.records.tokens})
        return draw(task, randomness)

    monkeypatch.setattr(UnsafePlainSgd, "draw", watched)
    assert run(home, "expert", PLAN, "--no-noise", "--shards", "2").exit_code == 0
    assert run(home, "whole", PLAN, "--no-noise").exit_code == 0
    assert seen[0] | seen[1] == seen[2]
    assert not seen[0] & seen[1]
    assert min(map(len, seen)) > 10


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--shards", "2"), "shards are trained without noise"),
        (("--no-noise", "--shards", "100"), "batches larger than one of 100 shards"),
        (("--no-noise", "--shards", "2000"), "shards: expected 1 to 1024"),
    ],
)
def test_shards_that_cannot_be_trained_are_refused_and_nothing_is_kept(home, more, words):
    said = run(home, "expert", PLAN, *more)
    assert (said.exit_code, words in said.output) == (2, True), said.output
    assert not (home / "adapters").exists()


def test_a_home_deals_alike_each_time_and_no_two_homes_do():
    one, other = Identity.generate(), Identity.generate()
    assert shards_of(one, 4).secret == shards_of(Identity.from_pem(one.to_pem()), 4).secret
    assert shards_of(one, 4).secret != shards_of(other, 4).secret
    assert shards_of(one, 4).secret.hex() not in repr(shards_of(one, 4))


@pytest.mark.parametrize("grouped", [False, True])
def test_each_record_or_group_is_in_one_shard_and_moves_no_other(grouped):
    random = np.random.default_rng(2)
    tokens = random.integers(0, 50, (120, 6)).astype(np.int32)
    owner = np.sort(random.integers(0, 30, 120)).astype(np.int32) if grouped else None
    if owner is not None:
        owner = np.unique(owner, return_inverse=True)[1].astype(np.int32)
    records = Records(tokens, np.full(120, 6, np.int32), owner)
    shards = shards_of(Identity.generate(), 4)

    def dealt(which: Records) -> dict[bytes, int]:
        return {row.tobytes(): n for n in range(4) for row in shards.of(which, n).tokens}

    whole = dealt(records)
    assert sorted(whole) == sorted(row.tobytes() for row in tokens)  # all of them, and none twice
    assert sum(len(shards.of(records, n)) for n in range(4)) == 120
    assert len(set(whole.values())) == 4
    left = 0 if owner is None else int(owner[0])
    rows = np.flatnonzero(owner != left) if owner is not None else np.arange(1, 120)
    fewer = records.take(rows)
    if owner is not None:
        fewer = replace(fewer, owner=np.unique(owner[rows], return_inverse=True)[1].astype(np.int32))
        assert all(len({whole[row.tobytes()] for row in tokens[owner == g]}) == 1 for g in set(owner))
    assert dealt(fewer).items() <= whole.items()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epsilon = 1.0", "epsilon = 1000.0\nsurplus = 1", "surplus"),
        ("rank = 2", "rank = 0", "lora: rank: expected at least 1"),
        ('"q_proj"', '"k_prj"', "k_prj"),
        ("batch_size = 4", "batch_size = 100000", "batch_size: expected at most"),
        (
            "record_tokens = 16",
            "record_tokens = 900",
            "training.record_tokens: expected 2 to 64, which is what the base",
        ),
        ('optimizer = "sgd"', 'optimizer = "magic"', "training: optimizer: expected one of sgd"),
        ("clipping_norm = 1.0", "clipping_norm = 0.0", "training: clipping_norm: expected a number from"),
        ("epsilon = 1.0", "epsilon = 1.0\ndelta = 2.0", "privacy: delta: expected"),
    ],
)
def test_a_training_file_that_cannot_be_followed_is_refused_and_costs_nothing(home, old, new, words):
    said = run(home, "mine", PLAN.replace(old, new))
    assert said.exit_code == 2
    assert words in said.output
    assert "charged" not in {line["kind"] for line in lines(home)}
    assert not (home / "adapters" / "mine").exists()


def test_more_than_the_budget_is_refused_and_nothing_is_kept(home):
    said = [run(home, name, PLAN.replace("epsilon = 1.0", "epsilon = 900.0")) for name in ("a", "b")]
    assert [s.exit_code for s in said] == [0, 1]
    assert not (home / "adapters" / "b").exists()


def asked_for(file: Path, *keys: str) -> None:
    """Take the comment signs from these keys of the table [training] of home.toml."""
    text = file.read_text()
    for line in ("[training]", *keys):
        assert f"\n# {line}" in text
        text = text.replace(f"\n# {line}", f"\n{line}")
    file.write_text(text)


def test_a_home_runs_its_model_as_its_own_file_says_and_trains_so(home):
    file = Folder(home).settings
    asked_for(file, "checkpointing", "precision")
    house, shelf = open_house(Folder(home), Settings.load(file))
    assert house.running == Running(Checkpointing.NON_REENTRANT, Precision.BFLOAT16)
    house.close()
    shelf.close()
    assert run(home, "mine", PLAN).exit_code == 0
    assert load(home / "adapters" / "mine")[1].any()


def test_a_model_that_has_no_layers_to_run_again_is_refused_by_the_key_before_any_letter(home, tmp_path):
    from transformers import ByT5Tokenizer, CTRLConfig, CTRLLMHeadModel  # its layers are of the old kind

    folder, file = tmp_path / "ctrl", Folder(home).settings
    CTRLLMHeadModel(
        CTRLConfig(vocab_size=259, n_positions=64, n_embd=32, dff=48, n_layer=1, n_head=2)
    ).save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0, model_max_length=64).save_pretrained(folder)
    settings = Settings.load(file)
    file.write_text(home_toml(replace(settings, model=replace(settings.model, name=str(folder)))))
    house, shelf = open_house(Folder(home), Settings.load(file))
    house.close()
    shelf.close()
    asked_for(file, "checkpointing")
    with pytest.raises(ConfigError, match=r"home\.toml: training\.checkpointing: this model has no layers"):
        open_house(Folder(home), Settings.load(file))


@pytest.mark.parametrize("name", ["../ledger", "", "mine/..", "missing", ".", "a" * 65])
def test_no_name_reads_anything_but_an_adapter(home, name):
    with pytest.raises(PeerError, match="no adapter"):
        read_artefact(home / "adapters", name)
