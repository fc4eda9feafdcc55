"""Simulate rounds of so many members; print how many answered each, and how many bytes the process took for them."""

import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from client.model import load_base
from simulations.engine import simulate
from simulations.experiment import MemberTable, SecureSumTable, load_experiment


def main(count: int, rounds: int = 1) -> None:
    experiment = load_experiment(Path(__file__).parents[2] / "simulations" / "demo.toml")
    names = [f"device-{i:04d}" for i in range(count)]
    experiment = replace(
        experiment,
        members=tuple(map(MemberTable, names)),
        collaboration=replace(experiment.collaboration, rounds=rounds, quorum=count),
        secure_sum=SecureSumTable(smallest_crowd=count // 2, colluding=count // 10),
        training=replace(experiment.training, steps=1, batch_size=1),
    )
    base = load_base(experiment.model_path)
    texts = {
        n: [f"{n} writes a line after the other, and {i} is the number of this one. " * 4 for i in range(6)]
        for n in names
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        outcome, village = simulate(experiment, texts, base, Path(folder))
        charges = {v.statement.charges for v in village.villagers.values()}
        village.close()
    took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    sys.stdout.write(f"{min(outcome.answered)} {charges == {rounds}} {took}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
