"""Measure a model of a real size as a member has it, saved in shards: `parley bench real-size`, only when asked for.

    load      what a process holds at its peak while the home's own loader reads the shards, over what it held before
    step      CPU time of a private step on the loaded model beside one without privacy, in one thread, in turns
    memory    what either takes at its peak over the loaded model, each in a process of its own

Random weights, on which both cost what they cost on trained ones. The weights are written to a temporary folder.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.model import Base, load_base
from client.training.clipping import torch_threads
from simulations.benches.dp_memory import rise
from simulations.benches.dp_models import SMALL, TINY, Ours, Shape, Step, adapted_on, model_of, plain_step_on
from simulations.benches.dp_training import OURS, PLAIN, in_pairs
from simulations.benches.rows import Row, undisturbed

REAL = Shape("real", 32_000, 896, 2432, 16, 14, tokens=128, batch=8)  # 213 M parameters, 2.1 M trained
SHAPES = {shape.name: shape for shape in (TINY, SMALL, REAL)}
TURNS, SHARDS = 3, 5
LOAD = "load"
_MEMORY_STEPS = 2


def real_size(shape: Shape = REAL, turns: int = TURNS) -> list[Row]:
    """Return all rows."""
    with saved(shape) as folder:
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
        load, plain, ours = (_in_a_process(folder, method, shape) for method in (LOAD, PLAIN, OURS))
        steps = pairs(folder, shape, turns)
    ratios = [a / b for a, b in zip(steps[OURS], steps[PLAIN], strict=True)]
    held, asked = load["megabytes"], "for comparison"
    spread = f"the same without privacy, CPU s ({turns} pairs, {min(ratios):.2f} to {max(ratios):.2f} x)"
    took, without = statistics.median(steps[OURS]), statistics.median(steps[PLAIN])
    memory = ours["megabytes"] / plain["megabytes"]
    return [
        Row("real_size_load_peak", held / size, "x", "the weights on disk, MB", size, held / size, asked, None, held),
        Row("real_size_load_s", load["seconds"], "s", "wall, and the weights' digest with it", goal=asked),
        Row(
            "real_size_step_vs_nonprivate", statistics.median(ratios), "x", spread, without,
            statistics.median(ratios), asked, None, took,
        ),
        Row(
            "real_size_memory_vs_nonprivate", memory, "x", "the same without privacy, MB", plain["megabytes"], memory,
            asked, None, ours["megabytes"],
        ),
    ]  # fmt: skip


@contextmanager
def saved(shape: Shape) -> Iterator[Path]:
    """Save the model, with a tokenizer of bytes, in a temporary folder: about `SHARDS` files of weights."""
    from transformers import ByT5Tokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="parley-real-size-") as name:
        folder, model = Path(name), model_of(shape)
        count = sum(p.numel() * p.element_size() for p in model.parameters())
        model.save_pretrained(folder, max_shard_size=count // (SHARDS - 1))
        ByT5Tokenizer(extra_ids=0).save_pretrained(folder)
        del model
        yield folder


def pairs(folder: Path, shape: Shape, turns: int) -> dict[str, list[float]]:
    """Return both steps' CPU seconds, turn by turn; each has loaded the same files for itself."""
    with torch_threads(1), undisturbed():
        return in_pairs({method: step_of(load_base(str(folder)), method, shape) for method in (PLAIN, OURS)}, turns)


def step_of(base: Base, method: str, shape: Shape) -> Step:
    """Return the step of a method on a loaded model."""
    return Ours(adapted_on(base), shape).step if method == OURS else plain_step_on(base.model, shape)


def main(arguments: list[str]) -> None:
    """Print {"megabytes": ..., "seconds": ...} of one method on the model in a folder."""
    import torch
    import transformers  # noqa: F401  # else its own modules are taken for a part of the model

    torch.set_num_threads(1)
    name, method, shape = Path(arguments[0]), arguments[1], SHAPES[arguments[2]]
    loaded: list[Base] = []
    began = time.perf_counter()
    took = rise(lambda: loaded.append(load_base(str(name))))
    seconds = time.perf_counter() - began
    if method != LOAD:
        step = step_of(loaded[0], method, shape)
        took = rise(lambda: [step() for _ in range(_MEMORY_STEPS)])
    print(json.dumps({"megabytes": took, "seconds": seconds}))  # noqa: T201  # the answer to who started this


def _in_a_process(folder: Path, method: str, shape: Shape) -> dict[str, float]:
    directly = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}  # what is freed is given back
    command = [sys.executable, "-m", "simulations.benches.real_size", str(folder), method, shape.name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | directly)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
