"""Run a few steps of one method in this process, and print what they took at their peak over the loaded model.

    python -m simulations.benches.dp_memory METHOD SHAPE STEPS

Linux alone: the kernel's own count of pages (VmRSS, and VmHWM after it was reset).
"""

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

from simulations.benches.dp_models import SHAPES
from simulations.benches.rows import PeerMissing

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(arguments: list[str]) -> None:
    """Print {"megabytes": ...}, or {"missing": a package}."""
    import torch

    from simulations.benches.dp_training import STEPS

    torch.set_num_threads(1)
    method, shape, count = arguments
    try:
        step = STEPS[method](SHAPES[shape])
    except PeerMissing as missing:
        print(json.dumps({"missing": missing.package}))  # noqa: T201  # the answer to who started this process
        return

    def steps() -> None:
        for _ in range(int(count)):
            step()

    print(json.dumps({"megabytes": rise(steps)}))  # noqa: T201


def rise(call: Callable[[], object]) -> float:
    """Return the megabytes that a call takes at its peak over what this process held before it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what loading left behind is taken for nothing
    _RESET.write_text("5")  # VmHWM begins anew
    before = _kilobytes("VmRSS")
    call()
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(sys.argv[1:])
