"""An adapter is one flat vector: the B matrices of LoRA, laid out by name; then, if they are trained too, the A's.

A comes from a public seed. Where only B is trained, or only A in a round, the mean of the members' vectors is the
adapter of the mean: the other half is the same everywhere, and B A is linear in each. A's entries are deltas to the
seed's A, so that the zero vector is the untouched base for every half.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from client.card import Card
from privacy.config import ConfigError, build

Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."  # how PEFT names a module inside its wrapper


@dataclass(frozen=True, slots=True)
class Slot:
    """Name one adapted linear module of the base model and its two widths."""

    name: str
    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Say which matrices an adapter has, in which order, and where its frozen half comes from.

    Shapes:  A (rank, inputs) and B (outputs, rank), float32, for each slot; slots are sorted by name. The vector is
             all B's, then, if `half_a`, all A's as deltas to `frozen`.
    """

    slots: tuple[Slot, ...]
    rank: int
    alpha: float
    targets: tuple[str, ...]
    adapter_seed: int
    half_a: bool = False

    def __post_init__(self) -> None:
        names = [slot.name for slot in self.slots]
        if not names or names != sorted(set(names)) or self.rank < 1:
            raise ValueError("slots must be sorted, distinct and not empty, the rank positive")

    @property
    def size(self) -> int:
        """Return the length of the flat vector."""
        return self.b_entries + (self.rank * sum(slot.inputs for slot in self.slots) if self.half_a else 0)

    @property
    def b_entries(self) -> int:
        """Return how many entries of the vector are B's: the first ones."""
        return self.rank * sum(slot.outputs for slot in self.slots)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Return the widths of the A's, if they are trained."""
        return tuple(slot.inputs for slot in self.slots) if self.half_a else ()

    @property
    def scale(self) -> float:
        """Return the factor of B A in the adapted module, alpha / rank as in LoRA."""
        return self.alpha / self.rank

    @property
    def digest(self) -> str:
        """Return SHA-256 over all that two members must agree on for their vectors to be added."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the canonical JSON of the layout; `half_a` is said only where it holds: older digests stay."""
        tree = asdict(self)
        if not self.half_a:
            del tree["half_a"]
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def frozen(self, slot: Slot) -> Matrix:
        """Return the slot's A: the same bits on every machine, and nested: fewer rows are the first rows.

        Uniform with variance 1 / inputs, so that the rows have a norm near 1 and are nearly orthogonal.
        SHAKE-256 and IEEE arithmetic alone: no library's generator has to stay as it is.
        """
        label = f"parley/v1/adapter/{self.adapter_seed}/{slot.name}/{slot.inputs}"
        stream = hashlib.shake_256(label.encode()).digest(4 * self.rank * slot.inputs)
        centred = (np.frombuffer(stream, dtype="<u4").astype(np.float64) + 0.5) * 2.0**-31 - 1.0
        values = centred * math.sqrt(3.0 / slot.inputs)
        return values.astype(np.float32).reshape(self.rank, slot.inputs)

    def split(self, vector: NDArray[np.floating]) -> dict[str, Matrix]:
        """Return the B of each slot by name, shape (outputs, rank), float32."""
        widths = {slot.name: (slot.outputs, self.rank) for slot in self.slots}
        return _cut(self._checked(vector)[: self.b_entries], widths)

    def split_a(self, vector: NDArray[np.floating]) -> dict[str, Matrix]:
        """Return what is added to each slot's A by name, shape (rank, inputs), float32; empty unless A is trained."""
        if not self.half_a:
            return {}
        widths = {slot.name: (self.rank, slot.inputs) for slot in self.slots}
        return _cut(self._checked(vector)[self.b_entries :], widths)

    def join(self, matrices: Mapping[str, Matrix], deltas: Mapping[str, Matrix] | None = None) -> Vector:
        """Return the flat vector of each slot's B, and of what is added to its A; the inverse of both splits."""
        names, added = {slot.name for slot in self.slots}, deltas or {}
        if set(matrices) != names or set(added) != (names if self.half_a else set()):
            raise ValueError("the matrices are not those of the layout")
        shaped = all(matrices[s.name].shape == (s.outputs, self.rank) for s in self.slots)
        if not shaped or any(added[s.name].shape != (self.rank, s.inputs) for s in self.slots if self.half_a):
            raise ValueError("a matrix has not the shape of its slot")
        parts = [half[s.name].astype(np.float32).ravel() for half in (matrices, added) if half for s in self.slots]
        return np.concatenate(parts)

    def _checked(self, vector: NDArray[np.floating]) -> NDArray[np.floating]:
        if vector.shape != (self.size,):
            raise ValueError(f"a vector of shape {vector.shape} does not fit a layout of {self.size}")
        return vector


def layout_from(text: str, where: Path | str = "an adapter") -> Layout:
    """Return the layout of which this is the JSON; `where` names it in errors. Raises: ConfigError."""
    try:
        return build(Layout, json.loads(text), where)
    except json.JSONDecodeError:
        raise ConfigError(where, "parley_layout", "not JSON") from None


def save(folder: Path, layout: Layout, vector: NDArray[np.floating], card: Card) -> None:
    """Write the adapter as PEFT does: adapter_config.json, adapter_model.safetensors and a model card.

    The layout travels in the metadata of the weights, so that `load` can tell whose frozen half it is.
    """
    from peft import LoraConfig  # late: numpy is enough for everything else in this file

    folder.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        r=layout.rank,
        lora_alpha=layout.alpha,
        target_modules=list(layout.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=card.base,  # a public name: a path would tell where the model lies
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    matrices, deltas = layout.split(vector), layout.split_a(vector)
    tensors: dict[str, Matrix] = {}
    for slot in layout.slots:
        a = layout.frozen(slot)
        tensors[f"{_PREFIX}{slot.name}.lora_A.weight"] = a + deltas[slot.name] if deltas else a
        tensors[f"{_PREFIX}{slot.name}.lora_B.weight"] = np.ascontiguousarray(matrices[slot.name])
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt", "parley_layout": layout.to_json()})
    (folder / "README.md").write_text(card.markdown(), encoding="utf-8")


def load(folder: Path, expected: Layout | None = None) -> tuple[Layout, Vector]:
    """Read an adapter that `save` wrote; never pickle, and never one of another layout.

    What was added to an A comes back to within the rounding of that A: its sum with the seed's is what is saved.
    Raises:  ConfigError, naming the file and what was expected.
    """
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise ConfigError(weights, "", "no such file; adapters are read from safetensors, never from pickle")
    try:
        with safe_open(weights, framework="numpy") as file:
            layout = _layout(weights, (file.metadata() or {}).get("parley_layout"))
            if expected is not None and layout.digest != expected.digest:
                raise ConfigError(weights, "", "an adapter of another layout (names, shapes, rank, alpha or seed)")
            names = set(file.keys())
            return layout, _read(weights, layout, {name: file.get_tensor(name) for name in names})
    except SafetensorError as broken:
        raise ConfigError(weights, "", "not a whole safetensors file") from broken


def _layout(weights: Path, text: str | None) -> Layout:
    if text is None:
        raise ConfigError(weights, "parley_layout", "missing from the metadata; not an adapter saved here")
    return layout_from(text, weights)


def _read(weights: Path, layout: Layout, tensors: Mapping[str, Matrix]) -> Vector:
    halves = {slot: f"{_PREFIX}{slot.name}.lora_" for slot in layout.slots}
    if set(tensors) != {f"{half}{x}.weight" for half in halves.values() for x in "AB"}:
        raise ConfigError(weights, "", "its tensors are not those of its layout")
    deltas: dict[str, Matrix] = {}
    for slot, half in halves.items():
        a, frozen = tensors[f"{half}A.weight"], layout.frozen(slot)
        if layout.half_a and a.shape == frozen.shape:
            deltas[slot.name] = a.astype(np.float32) - frozen
        elif not np.array_equal(a, frozen):
            raise ConfigError(weights, slot.name, "its frozen half does not come from its seed")
    try:
        vector = layout.join({slot.name: tensors[f"{half}B.weight"] for slot, half in halves.items()}, deltas)
    except ValueError as wrong:
        raise ConfigError(weights, "", str(wrong)) from None
    if not np.isfinite(vector).all():
        raise ConfigError(weights, "", "expected finite numbers")
    return vector


def _cut(values: NDArray[np.floating], widths: Mapping[str, tuple[int, int]]) -> dict[str, Matrix]:
    ends = np.cumsum([rows * columns for rows, columns in widths.values()])[:-1]
    parts = np.split(values.astype(np.float32), ends)
    return {name: part.reshape(shape) for (name, shape), part in zip(widths.items(), parts, strict=True)}
