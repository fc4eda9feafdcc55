"""Load a model's tokenizer alone, without its weights: enough to count what a data set holds."""

from typing import Any

from privacy.config import ConfigError


def load_tokenizer(source: str) -> Any:
    """Return the tokenizer in a folder, or of a model in the local cache; no download, no code of its own.

    Raises: ConfigError, naming the model.
    """
    from transformers import AutoTokenizer  # late: it takes seconds

    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError):  # what transformers raises for a tokenizer it cannot load
        expected = "expected a folder or a cached id of a transformers model with its tokenizer"
        raise ConfigError(source, "--model", expected) from None
