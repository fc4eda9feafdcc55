"""Time how many prompts are answered in the same blocks: `python -m simulations.benches.logits_strands`.

Three homes in this process, each with the shipped base model moved its own way by noise; the carrier adds a round
trip's time, as a network would.
Every answer is of as many symbols, drafted by the public model.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.experts.tokens import TokenExpert
from client.experts.view import View
from client.model import Base, load_base
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.logits.question import Sends
from protocols.logits.speaking import Talk, speak_together
from protocols.session import MemberId, drive
from simulations.benches.logits_homes import TERMS, Speaker, homes, question
from simulations.experiment import SHIPPED

NAMES = ("clinic", "depot", "forge")
SYMBOLS, BLOCK, PROMPT, ROUNDS = 32, 4, 64, 3
_MOVED = 0.2  # of a matrix's spread


@dataclass
class Distant:
    """Be a carrier whose every trip takes `seconds` more, and count them."""

    road: MemoryRoad
    seconds: float
    trips: int = 0

    def __call__(self, letters: Mapping[MemberId, bytes]) -> Mapping[MemberId, bytes]:
        """Carry, late."""
        self.trips += 1
        time.sleep(self.seconds)
        return self.road(letters)


def measure(base: Base, models: Mapping[str, tuple[Base, ...]], at_once: int, away_s: float) -> tuple[float, float]:
    """Return the seconds and the trips of one answer, where so many are given in the same blocks."""
    numbers = np.random.default_rng(at_once)
    asked = question(base, Sends.WEIGHTED, block=BLOCK * at_once, most=SYMBOLS * at_once, experts=len(NAMES))
    spent, trips, drafter = 0.0, 0, TokenExpert(View(base))
    with tempfile.TemporaryDirectory(prefix="parley-") as folder, homes(base, models, Path(folder)) as village:
        for number in range(ROUNDS + 1):
            prompts = numbers.integers(3, asked.symbols, (at_once, PROMPT)).tolist()
            talks = [Talk(prompt, Speaker(base, drafter)) for prompt in prompts]
            road = Distant(MemoryRoad(village.ends), away_s)
            outbox = village.outbox(f"{number:032x}", "mixture", road)
            began = time.perf_counter()
            talk = speak_together("mixture", village.members, asked, TERMS, len(NAMES), talks)
            drive(talk, outbox, CATALOG["mixture"].wire)
            if number:  # the first one warms up
                spent, trips = spent + time.perf_counter() - began, trips + road.trips
            outbox.close()
    return spent / ROUNDS / at_once, trips / ROUNDS / at_once


def _moved(seed: int) -> Base:
    base, draw = load_base(str(SHIPPED)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in base.model.parameters():
            weight.add_(_MOVED * weight.std() * torch.randn(weight.shape, generator=draw))
    return base


def main() -> None:
    """Print a row for each number of prompts, near by and far away."""
    torch.set_num_threads(1)
    base, models = load_base(str(SHIPPED)), {name: (_moved(seed),) for seed, name in enumerate(NAMES)}
    for away_s in (0.0, 0.05):
        for at_once in (1, 2, 4):
            seconds, trips = measure(base, models, at_once, away_s)
            told = f"{away_s * 1e3:.0f} ms away, {at_once} at once: {seconds:.2f} s and {trips:.1f} trips an answer"
            sys.stdout.write(told + "\n")


if __name__ == "__main__":
    main()
