"""Load any transformers causal language model, frozen; know it by its digest; give it FFA-LoRA matrices by peft."""

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn

from client.adapter import Layout, Slot
from privacy.config import ConfigError, nearest

_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures")
_NAME = "default"  # what peft calls the only adapter of a model


@dataclass(frozen=True, slots=True)
class Base:
    """Hold a frozen causal language model and its tokenizer.

    `model` is a transformers PreTrainedModel in evaluation mode; none of its own parameters is trained.
    """

    source: str
    model: Any
    tokenizer: Any
    digest: str


def load_base(source: str, *, download: bool = False, dtype: str = "auto", bits: int | None = None) -> Base:
    """Load a model and its tokenizer from a folder, or by id from the local cache of models.

    Weights come from safetensors alone, one file or shards, mapped into memory and not copied; no code comes with
    them: pickle is refused, and so is a model that needs code of its own. Only with `download` is a model hub asked.
    `dtype` is that of the weights in memory, "auto" for as saved; `bits` 4 or 8 quantises the frozen ones. Whatever
    they are, the digest is that of the weights as saved: members may differ in it.
    Raises:  ConfigError, naming the model and what was expected.
    """
    from transformers import AutoTokenizer  # late: half a second, and 30 MB
    from transformers.utils import logging

    logging.disable_progress_bar()  # a daemon's log, and a command's own progress, are no place for another
    _check_folder(source)
    _require_bits(source, bits)
    options = {"local_files_only": not download, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = _model(source, options, {"dtype": "auto"})
        known = digest(model, tokenizer)
        if bits is not None or dtype != "auto":
            del model  # it was mapped: what is loaded now has the memory to itself
            model = _model(source, options, _kept(dtype, bits))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as wrong:
        raise ConfigError(source, "model", _reason(source, download)) from wrong  # what transformers lets through
    model.eval().requires_grad_(False)
    return Base(source, model, tokenizer, known)


def _model(source: str, options: Mapping[str, bool], kept: Mapping[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        source, use_safetensors=True, output_loading_info=True, **options, **kept
    )
    if report["missing_keys"] or report["mismatched_keys"]:  # transformers would make such weights up, at random
        raise ConfigError(source, "model", "weights that the configuration asks for are missing, or of another shape")
    return model


def _kept(dtype: str, bits: int | None) -> dict[str, Any]:
    """Return how transformers is told in which form to keep the weights."""
    kept: dict[str, Any] = {"dtype": dtype if dtype == "auto" else getattr(torch, dtype)}
    if bits is not None:
        from transformers import BitsAndBytesConfig

        compute = torch.float32 if dtype == "auto" else kept["dtype"]
        # Without a threshold: a column that is an outlier for one record is rounded otherwise for all.
        how = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute} if bits == 4 else {}
        kept["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=bits == 4, load_in_8bit=bits == 8, llm_int8_threshold=0.0, **how
        )
    return kept


def _require_bits(source: str, bits: int | None) -> None:
    if bits is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(source, "model.bits", "weights in 4 or 8 bits take bitsandbytes, which is not installed")


def longest(base: Base) -> int:
    """Return how many tokens the model reads at once."""
    return int(getattr(base.model.config, "max_position_embeddings", 2**31))


def digest(model: Any, tokenizer: Any) -> str:
    """Return SHA-256 over the configuration, the vocabulary and every weight: names, types, shapes and bytes.

    The vocabulary, since one record of tokens must be the same record everywhere. What only says where or by which
    version the model was saved is left out.
    """
    config = {key: value for key, value in model.config.to_dict().items() if key not in _VOLATILE}
    state = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":"), default=str).encode())
    state.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    if template := getattr(tokenizer, "chat_template", None):  # it makes records, too
        state.update(json.dumps(template, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        state.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        state.update(memoryview(flat.numpy()))
    return state.hexdigest()


def linear_modules(model: Any) -> dict[str, Any]:
    """Return the modules that LoRA can adapt, by full name: linear ones, the output layer excepted.

    A model that is adapted already has the same ones, under the same names.
    """
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    return {
        name.removesuffix(".base_layer"): module
        for name, module in sorted(model.named_modules())
        if isinstance(module, nn.Linear | Conv1D) and module is not output and ".lora_" not in name
    }


def layout_of(
    base: Base, *, rank: int, alpha: float, targets: Sequence[str], adapter_seed: int, half_a: bool = False
) -> Layout:
    """Return the layout of an adapter on the modules whose names end in one of `targets`; with A's too if `half_a`.

    Raises:  ConfigError, naming each target that the model does not have, and the nearest that it has.
    """
    known = linear_modules(base.model)
    for target in targets:
        if not any(_ends_in(name, target) for name in known):
            short = sorted({name.rpartition(".")[2] for name in known})
            raise ConfigError(base.source, "targets", f"no module is named {target} ({nearest(target, short)})")
    chosen = sorted(name for name in known if any(_ends_in(name, target) for target in targets))
    return Layout(
        tuple(_slot(name, known[name]) for name in chosen), rank, alpha, tuple(targets), adapter_seed, half_a
    )


class Adapted:
    """Hold a base model with LoRA matrices in it: B as `set` left it; A from the layout's seed, and what `set` added.

    It borrows the base's model and changes it; `remove` gives it back as it was.
    """

    def __init__(self, base: Base, layout: Layout) -> None:
        from peft import LoraConfig, get_peft_model  # late: it imports most of transformers

        self.base, self.layout = base, layout
        config = LoraConfig(
            r=layout.rank,
            lora_alpha=layout.alpha,
            target_modules=[slot.name for slot in layout.slots],
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
            fan_in_fan_out=_is_transposed(base.model.get_submodule(layout.slots[0].name)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in a way that will go
            self.model = get_peft_model(base.model, config).eval()
        self.modules = {slot.name: base.model.get_submodule(slot.name) for slot in layout.slots}
        with torch.no_grad():
            for slot in layout.slots:
                a = self.modules[slot.name].lora_A[_NAME].weight
                a.copy_(torch.from_numpy(layout.frozen(slot)))
        self._frozen = {slot.name: layout.frozen(slot) for slot in layout.slots if layout.half_a}
        self.model.requires_grad_(False)
        self.set(np.zeros(layout.size, dtype=np.float32))

    def set(self, vector: NDArray[np.floating]) -> None:
        """Put the flat vector of shape (layout.size,) into the matrices: B's, and what is added to the seed's A's."""
        with torch.no_grad():
            for name, matrix in self.layout.split(vector).items():
                self.b(name).copy_(torch.from_numpy(np.ascontiguousarray(matrix)))
            for name, delta in self.layout.split_a(vector).items():
                self.a(name).copy_(torch.from_numpy(self._frozen[name] + delta))

    def get(self) -> NDArray[np.float32]:
        """Return the matrices as one flat vector of shape (layout.size,); A's to within their rounding."""
        deltas = {name: self.a(name).detach().cpu().numpy() - frozen for name, frozen in self._frozen.items()}
        return self.layout.join({name: self.b(name).detach().cpu().numpy() for name in self.modules}, deltas)

    def a(self, name: str) -> Any:
        """Return the A of a slot, a tensor of shape (rank, inputs)."""
        return self.modules[name].lora_A[_NAME].weight

    def b(self, name: str) -> Any:
        """Return the B of a slot, a tensor of shape (outputs, rank)."""
        return self.modules[name].lora_B[_NAME].weight

    def remove(self) -> None:
        """Give the base model back as it was before; this object is of no use afterwards."""
        self.model.unload()


def _slot(name: str, module: Any) -> Slot:
    if _is_transposed(module):
        inputs, outputs = (int(width) for width in module.weight.shape)
        return Slot(name, outputs, inputs)
    return Slot(name, int(module.out_features), int(module.in_features))  # quantised weights have another shape


def _is_transposed(module: Any) -> bool:
    """Tell whether the weight is (inputs, outputs), as in the Conv1D of GPT-2."""
    return not isinstance(module, nn.Linear)


def _ends_in(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _check_folder(source: str) -> None:
    folder = Path(source)
    if not folder.exists():
        if folder.is_absolute() or source.startswith((".", "~")):
            raise ConfigError(source, "model", "no such folder")
        return
    if not (folder / "config.json").is_file():
        raise ConfigError(source, "model", "no config.json: not the folder of a transformers model")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        found = f"; {pickled[0]} is pickled, and pickle is refused" if pickled else ""
        raise ConfigError(source, "model", f"no weights in safetensors{found}")


def _reason(source: str, download: bool) -> str:
    if Path(source).exists():
        return "expected a causal language model with its tokenizer, whole, and without code of its own"
    if download:
        return "no causal language model in safetensors under this id"
    return "neither a folder nor a model in the local cache (downloads are off)"
