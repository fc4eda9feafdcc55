"""A run on streams, on real nodes: Flower's messages open them, and the letters are those of any road."""

import numpy as np
import pytest
from rich.console import Console

from simulations import nodes as real
from simulations.collaborations import run_of
from simulations.engine import simulate
from simulations.ordering import collect, order_for, watch
from simulations.texts import training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_on_streams_gives_the_adapter_of_every_engine_and_is_charged_like_any(
    experiment_file, short, deployment
):
    experiment_file.write_text(experiment_file.read_text().replace("seed = 7", 'seed = 7\ncarrier = "stream"', 1))
    with deployment(experiment_file, short / "real") as (experiment, texts, base, nodes):
        here, village = simulate(experiment, training(texts), base, short / "village")
        village.close()
        with real.up(nodes, lambda _line: None) as client:
            run = client.submit(order_for(experiment, base))
            view = watch(client, run, run_of(experiment).trips(experiment), Console(quiet=True))
            result = collect(client, run, experiment.collaboration.name)
            print([(t["asked"], len(t["answered"]), t["seconds"]) for t in view["trips"]])  # noqa: T201
            name = nodes.coordinator.runs / run / "stream"
            assert not (nodes.coordinator.streams / name.read_text()).exists(), "the run has ended, and its stream"
        np.testing.assert_array_equal(result.adapter, here.adapter)
        for member, home in nodes.homes.items():
            assert nodes.statement(member).charges == experiment.collaboration.rounds
            log = (home / "run" / "daemon.log").read_text()
            assert "on a stream" in log
            assert "a stream is over" in log
