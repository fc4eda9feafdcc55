"""Give the simulation tests a tiny model on disk, three small members, and an experiment file that names them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from client.declared import declare
from client.model import load_base
from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.experiment import load_experiment
from simulations.texts import lay_out, training

EXPERIMENT = """
version = 1
name = "three small members"
seed = 7
unsafe_seeded_randomness = true

[collaboration]
name = "average"
rounds = 2
quorum = 2

[model]
path = "{model}"

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
epsilon = 8.0
delta = 1e-5

[[members]]
name = "ash"
data = "ash"

[[members]]
name = "birch"
data = "birch"

[[members]]
name = "cedar"
data = "cedar"
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0).save_pretrained(folder)
    return folder


@pytest.fixture
def experiment_file(tmp_path, tiny_model) -> Path:
    for name in ("ash", "birch", "cedar"):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(20):
            (folder / f"{i:02d}.txt").write_text(f"{name} says {i} " * 12, encoding="utf-8")
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT.format(model=tiny_model), encoding="utf-8")
    return file


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        yield Path(folder)


@pytest.fixture
def deployment() -> Callable[..., AbstractContextManager[tuple]]:
    """What settles an experiment on real nodes in a folder: (experiment, texts, base, nodes)."""

    @contextmanager
    def settled(experiment_file: Path, folder: Path, dialled: str = "") -> Iterator[tuple]:
        experiment = load_experiment(experiment_file)
        texts = lay_out(experiment, experiment_file, folder / "data")
        base = load_base(experiment.model_path)
        declared = {n: declare(t, base.tokenizer) for n, t in training(texts).items()}
        orders = run_of(experiment).orders(experiment, base, declared)
        yield experiment, texts, base, real.settle(experiment, texts, folder / "nodes", orders, dialled)

    return settled
