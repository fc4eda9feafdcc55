"""Say beforehand what an experiment will cost: epsilon, bytes, memory, time. Nothing private is touched.

The privacy figures are exact: they come from the sum that the members' ledgers will make. Bytes are counted on a
real encoded message. Memory and time are measured on this machine, with one real step on random tokens.
"""

from collections.abc import Mapping

from client.declared import Declared
from client.model import Base
from simulations.collaborations import run_of
from simulations.collaborations.run import Plan
from simulations.experiment import Experiment

FLOWER_ROUND_S = 3.0  # what Flower's road adds to a round with three members on two cores, measured (docs/log.md)


def make_plan(experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
    """Forecast the experiment for members who declare their sizes. Raises: ConfigError."""
    run = run_of(experiment)
    return run.plan(run.complete(experiment, declared), base, declared)
