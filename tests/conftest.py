"""What all tests share: one thread for each worker, and property tests that no busy machine can fail."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads only wait for each other

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from client.model import Base

settings.register_profile("parley", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parley")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny Llama with a tokenizer of bytes, saved as transformers saves it."""
    import torch
    from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(7)
    widths = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=259, max_position_embeddings=64, tie_word_embeddings=True, **widths)
    LlamaForCausalLM(config).save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0, model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(model_folder: Path) -> "Base":
    """Return the tiny Llama, loaded: for one file of tests, since adapters are written into it."""
    from client.model import load_base

    return load_base(str(model_folder))
