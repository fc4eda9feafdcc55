"""Twelve private silos far from the base model's text: PyTorch's own C++ headers, split by folder.

Every installation has them, for PyTorch is a dependency. The base was trained on Markdown, reStructuredText and
Python alone (`public.py` lends nothing else), so there is much to learn here. Generated files and other people's
work, which PyTorch ships too, are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from simulations.corpora import stdlib
from simulations.corpora.licences import licence_of, permitted
from simulations.corpora.public import draw
from simulations.corpora.silos import Silo, Source, up_to

# Folders below torch/include, over PyTorch 2.13.
FOLDERS = {
    "utilities": "c10/util",
    "core": "c10/core c10/cuda",
    "operators": "ATen/native",
    "tensors": "ATen/core",
    "vectors": "ATen/cpu",
    "graphs": "torch/csrc/jit",
    "frontend": "torch/csrc/api",
    "autograd": "torch/csrc/autograd",
    "distributed": "torch/csrc/distributed torch/csrc/dynamo torch/csrc/utils torch/csrc/profiler",
    "compilers": "torch/csrc/lazy torch/csrc/inductor",
    "portable": "torch/headeronly torch/csrc/stable",
    "devices": "ATen/cuda ATen/functorch ATen/mps ATen/detail ATen/xpu ATen/hip ATen/miopen c10/metal c10/xpu",
}
TRAIN_BYTES = 350_000  # at most, so that the silos stay balanced
HELD_OUT_BYTES = 20_000
LARGEST_HELD_OUT = 8_000  # bytes of one file: held-out text comes from many files
LARGEST, SMALLEST = 60_000, 200  # bytes of any file: above are tables, below is one line of includes
_GENERATED = "@generated"


def silo(name: str) -> Silo:
    """Return one silo: its files, shuffled by name, first the held-out ones, then as many to train on as fit.

    It is empty where PyTorch came without its headers, or under a licence that is not on the list.
    """
    files = sorted(_files(FOLDERS[name].split()), key=lambda s: (draw(s.name), s.name))
    held_out = up_to(HELD_OUT_BYTES, (s for s in files if s.size <= LARGEST_HELD_OUT))
    return Silo(name, up_to(TRAIN_BYTES, (s for s in files if s not in held_out)), held_out)


def root() -> Path | None:
    """Return the folder of PyTorch's headers; it is not imported for that."""
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parent / "include" if found is not None and found.origin else None


def _files(folders: list[str]) -> Iterator[Source]:
    include = root()
    if include is None or not permitted(licence_of("torch")):
        return
    for folder in folders:
        for path in (include / folder).rglob("*.h"):
            source = Source(path.relative_to(include).as_posix(), stdlib.read(path))
            if SMALLEST <= source.size <= LARGEST and _GENERATED not in source.text:
                yield source
