"""`parley member train`, in a home on disk: charged before it is drawn, kept where only its owner reads it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.adapter import load
from client.artefacts import read_artefact
from client.cli import app
from client.data import Format
from client.folder import Folder
from client.init import Wishes, init
from client.opening import open_house
from client.settings import Settings
from client.settings_text import home_toml
from client.training.running import Running
from client.training.ways import Checkpointing, Precision
from privacy.auditing import check
from privacy.config import ConfigError
from protocols.faults import PeerError

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


def run(home: Path, name: str, plan: str):
    file = home.parent / "train.toml"
    file.write_text(plan)
    return CliRunner().invoke(app, ["train", str(home), name, "--plan", str(file)])


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


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epsilon = 1.0", "epsilon = 1000.0\nsurplus = 1", "surplus"),
        ("rank = 2", "rank = 0", "lora: rank: expected at least 1"),
        ('"q_proj"', '"k_prj"', "k_prj"),
        ("batch_size = 4", "batch_size = 100000", "batch_size: expected at most"),
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
