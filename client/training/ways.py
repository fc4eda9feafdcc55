"""Name the ways in which a model may be run: what `home.toml` says, and no torch, which is loaded late."""

from enum import Enum


class Checkpointing(Enum):
    """Name how activations are kept: all of them, or layers are run again for the backward, in torch's two ways."""

    OFF = "off"
    REENTRANT = "reentrant"
    NON_REENTRANT = "non-reentrant"


class Precision(Enum):
    """Name in which numbers products of matrices are computed: the model's own, or lower ones (torch.autocast)."""

    OWN = "own"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
