"""List how each collaboration is planned, ordered, read and compared: one file for each, one line here.

The commands look up `RUNS[experiment.collaboration.name]` and ask it what `Run` in `run.py` states:

    complete(experiment, declared)      the experiment with what follows from the members' declared sizes filled in
    plan, orders                        the forecast (`parley plan`), and the Renyi orders for the members' budgets
    task, trips, outcome                the order to the coordinator, its length in trips, what its result comes to
    cost, misfits                       what a home would charge, and why it would not fit (`parley member policy`)
    alone, saw                          the yardstick for one member, and what the coordinator saw (`parley report`)

Figures that every plan states (bytes of a sum, trips, seconds of a step) are in `figures.py`; rounds become an
`Outcome` by `average.outcome_of_rounds`; members protected as a whole are planned by `average.in_the_sum`.
What must be in the homes before a simulation begins, a run's `prepare` puts there, if it has one (`engine.py`).
A new collaboration adds its file, its line here, its line in `protocols/catalog.py` and in `client/homes`; tables of
its own in an experiment file are dataclasses in `simulations/tables.py`.
"""

from collections.abc import Mapping

from privacy.config import ConfigError
from simulations.collaborations.average import AverageRun
from simulations.collaborations.judged import JudgedRun
from simulations.collaborations.merge import MergeRun
from simulations.collaborations.pooled import PooledRun
from simulations.collaborations.pretrain import PretrainRun
from simulations.collaborations.run import Run
from simulations.collaborations.thinking import ThinkingRun
from simulations.experiment import Experiment

RUNS: Mapping[str, Run] = {
    "average": AverageRun(),
    "merge": MergeRun(),
    "pooled": PooledRun(),
    "pretrain": PretrainRun(),
    "soup": JudgedRun(),
    "search": JudgedRun(),
    "extrapolate": JudgedRun(),
    "mixture": ThinkingRun(),
    "product": ThinkingRun(),
    "contrast": ThinkingRun(),
}


def run_of(experiment: Experiment) -> Run:
    """Return how the experiment's collaboration is run. Raises: ConfigError for one that no experiment runs."""
    name = experiment.collaboration.name
    if name not in RUNS:
        raise ConfigError("experiment", "collaboration.name", f"expected one of {', '.join(sorted(RUNS))}")
    return RUNS[name]
