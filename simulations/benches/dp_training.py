"""Measure a private training step beside the same without privacy, and beside its peers: `parley bench dp-training`.

    step      CPU time of one step of `DpSgd` (choose, clip, sum, noise, Adam) and of peft's LoRA with AdamW, in one
              thread of one process, in turns; the median of the pairs' ratios, with their quartiles.
    memory    what a process takes at its peak over what it held with the model loaded, each in a process of its own.
    exact     sums of clipped gradients beside torch.func's, and how far one record moves them at the worst.

Random weights, on which a step costs what it costs on trained ones. Outside: the self-test before a round's first
step (a row of its own), reading records, and the gate.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from client.training.clipping import torch_threads
from simulations.benches import dp_peers
from simulations.benches.dp_exactness import exactness
from simulations.benches.dp_models import LARGE, SMALL, Ours, Shape, Step, adapted_of, our_step, plain_step
from simulations.benches.rows import PeerMissing, Row, at_most, undisturbed

Maker = Callable[[Shape], Step]
OURS, PLAIN = "ours", "plain"
STEPS: Mapping[str, Maker] = {
    PLAIN: plain_step,
    OURS: our_step,
    "opacus_hooks": dp_peers.hooks_step,
    "opacus_ghost": dp_peers.ghost_step,
    "opacus_functorch": dp_peers.functorch_step,
    "vmap": dp_peers.vmap_step,
}
_WITHOUT = "the same without privacy"
_FASTDP = "fast-differential-privacy is in no package index at hand, and asks for Python 3.8 and torch 1.11"


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what is measured at a size: which methods beside ours, in how many turns, and up to which ratio."""

    shape: Shape
    methods: tuple[str, ...]
    turns: int
    most: float


PLANS = (
    Plan(SMALL, ("opacus_hooks", "opacus_ghost", "opacus_functorch", "vmap"), 7, 1.10),
    Plan(LARGE, ("opacus_hooks", "opacus_ghost"), 3, 1.05),
)
REMEMBERED = Plan(LARGE, ("opacus_hooks", "opacus_ghost"), 2, 1.05)


def dp_training(plans: Sequence[Plan] = PLANS, remembered: Plan = REMEMBERED) -> list[Row]:
    """Return all rows; what has no peer installed is left out, and said on the error stream."""
    rows = exactness()
    for plan in plans:
        rows += steps(plan)
    return [*rows, *memory(remembered), not_installed()]


def steps(plan: Plan) -> list[Row]:
    """Time the steps of a size in turns."""
    name = plan.shape.name
    with torch_threads(1), undisturbed():
        ours = Ours(adapted_of(plan.shape), plan.shape)
        made = {PLAIN: plain_step(plan.shape), OURS: ours.step} | _made(plan)
        took = in_pairs(made, plan.turns)
        noise = statistics.median(_seconds(ours.noise) for _ in range(5))
        test = _seconds(lambda: ours.clipper.check_isolation(ours.point, plan.shape.tokens))
    step = statistics.median(took[OURS])
    rows = [_beside(f"step_vs_nonprivate_{name}", took[OURS], took[PLAIN], plan.most)]
    rows += [_peer(f"{m}_{name}", took[m], took[PLAIN]) for m in plan.methods if m in took]
    rows.append(at_most(f"noise_share_of_step_{name}", noise / step, 0.01, "1"))
    rows.append(Row(f"self_test_in_steps_{name}", test / step, "x", goal="for comparison", peer="once in a round"))
    return rows


def memory(plan: Plan) -> list[Row]:
    """Take each method's peak memory in a process of its own."""
    name, peaks = plan.shape.name, {}
    for method in (PLAIN, OURS, *plan.methods):
        try:
            peaks[method] = peak(method, plan.shape, plan.turns)
        except PeerMissing as missing:
            _left_out(f"{method}_memory_{name}", missing)
    rows = [_beside(f"memory_vs_nonprivate_{name}", [peaks[OURS]], [peaks[PLAIN]], plan.most, "MB")]
    return rows + [_peer(f"{m}_memory_{name}", [peaks[m]], [peaks[PLAIN]], "MB") for m in plan.methods if m in peaks]


def peak(method: str, shape: Shape, count: int) -> float:
    """Return the megabytes that so many steps take at their peak over the loaded model. Raises: PeerMissing."""
    directly = {
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
    }  # a freed tensor is given back
    command = [sys.executable, "-m", "simulations.benches.dp_memory", method, shape.name, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | directly)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "missing" in answer:
        raise PeerMissing(answer["missing"])
    return float(answer["megabytes"])


def not_installed() -> Row:
    """Return the row of the peer that cannot be had."""
    return Row("fast_differential_privacy", 0.0, "-", peer=_FASTDP, goal="not measured")


def in_pairs(made: Mapping[str, Step], turns: int) -> dict[str, list[float]]:
    """Return each step's CPU seconds in every turn, the first turn not counted; every other one runs backwards."""
    took: dict[str, list[float]] = {name: [] for name in made}
    for step in made.values():
        step()
    for turn in range(turns):
        for name in list(made) if turn % 2 == 0 else list(made)[::-1]:
            took[name].append(_seconds(made[name]))
    return took


def _made(plan: Plan) -> dict[str, Step]:
    made = {}
    for method in plan.methods:
        try:
            made[method] = STEPS[method](plan.shape)
        except PeerMissing as missing:
            _left_out(f"{method}_{plan.shape.name}", missing)
    return made


def _left_out(row: str, missing: PeerMissing) -> None:
    sys.stderr.write(f"parley: left out {row}: {missing}\n")


def _seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call: on a busy machine they say more than the wall's."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _beside(measure: str, ours: Sequence[float], plain: Sequence[float], most: float, unit: str = "CPU s") -> Row:
    """Return a row of ours: the median of the pairs' ratios."""
    ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
    peer = f"{_WITHOUT}, {unit}{_spread(ours, plain)}"
    return Row(
        measure, ratio, "x", peer, statistics.median(plain), ratio, f"at most {most:g} x", ratio <= most,
        statistics.median(ours),
    )  # fmt: skip


def _peer(measure: str, theirs: Sequence[float], plain: Sequence[float], unit: str = "CPU s") -> Row:
    """Return a row of a peer: its own ratio to the step without privacy, to be compared with ours."""
    ratio = statistics.median(a / b for a, b in zip(theirs, plain, strict=True))
    peer = f"the peer, {unit}{_spread(theirs, plain)}"
    return Row(measure, ratio, "x", peer, statistics.median(theirs), goal="for comparison")


def _spread(ours: Sequence[float], plain: Sequence[float]) -> str:
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return "" if len(ratios) < 2 else f" ({len(ratios)} pairs, {min(ratios):.2f} to {max(ratios):.2f} x)"
