"""Plan what thinks together symbol by symbol: mixture, product and contrast of models trained at home; see `Run`.

Each member's expert is an adapter that it trains for itself first, as `parley member train` does: that is all that is
charged. How the models do together is read from sums over held-out text: `simulations/thinking.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.declared import Declared
from client.home import House
from client.model import Base
from client.settings import ExpertSettings
from privacy.config import ConfigError
from privacy.units import Unit
from protocols.logits import contrast, mixture, product
from protocols.logits.block import Strand, Think
from protocols.logits.mixture import WIRE
from protocols.logits.question import Alphabet, Question, Sends
from protocols.secure_sum.messages import Request
from protocols.wire import Message
from simulations.collaborations.average import AverageRun
from simulations.collaborations.figures import upload_of
from simulations.collaborations.merge import MergeRun
from simulations.collaborations.run import Plan
from simulations.experiment import Experiment

_FILES = {
    "mixture": (mixture, Sends.WEIGHTED),
    "product": (product, Sends.RATIOS),
    "contrast": (contrast, Sends.RATIOS),
}


class ThinkingRun(MergeRun):
    """Be the `Run` of models that think together: what it costs is the training of each at home, charged then."""

    def plan(self, experiment: Experiment, base: Base, declared: Mapping[str, Declared]) -> Plan:
        """Forecast it: the training at home, and the letters of one text's sum."""
        plan, question = AverageRun.plan(self, experiment, base, declared), question_of(experiment, base, 1)
        if experiment.privacy.unit is not Unit.RECORD:
            raise ConfigError(
                "experiment", "privacy.unit", "expected record: experts are trained at home for no other"
            )
        if experiment.terms is None:
            raise ConfigError("experiment", "collaboration.unsafe_plain_sum", "expected false: only sums are seen")
        window = experiment.thinking.window
        spec = question.spec(experiment.terms, len(declared), window)
        tokens, told = np.zeros(window, np.int32), np.zeros(window, np.float32)
        request = Request(bytes(32), 0, experiment.collaboration.name, tuple(declared), spec, bytes(32), 0, 0)
        none = np.zeros((0, 0), np.uint32)
        strand = Strand(0, 0, tokens[:1], told[:1], tokens[1:], told[1:], none)
        ask = Think(question, 0, (strand,), request, ())
        up = len(WIRE.encode(upload_of(spec, experiment.terms, len(declared))))
        return replace(plan, bytes_down=len(WIRE.encode(ask)), bytes_up=up)

    def task(self, experiment: Experiment, base: Base) -> Message:  # noqa: ARG002
        """Refuse: there is no adapter that comes of it. Raises: ConfigError."""
        told = "expected one that trains: this one is simulated (parley simulate) or asked (parley ask)"
        raise ConfigError("experiment", "collaboration.name", told)

    def prepare(self, experiment: Experiment, house: House, adapters: Path) -> None:
        """Train the home's expert, and let the home think with it. Raises: Refused."""
        super().prepare(experiment, house, adapters)
        house.expert = ExpertSettings(adapters=(experiment.merge.adapter,))

    def saw(self, experiment: Experiment) -> str:
        """Say which sums it saw."""
        what = {
            "mixture": "the sum of the members' weighted distributions, and of their weights",
        }.get(experiment.collaboration.name, "the sum of the members' clipped log-ratios to the public model")
        noised = "" if experiment.privacy.epsilon is not None else "UNNOISED: "
        return f"{noised}at every position {what}, by secure sums, and no member's by itself"


def question_of(experiment: Experiment, base: Base, positions: int) -> Question:
    """Return the public terms by which so many positions are read. Raises: ConfigError."""
    table, name = experiment.thinking, experiment.collaboration.name
    file, sends = _FILES[name]
    try:
        question = Question(
            base=base.digest,
            alphabet=Alphabet.TOKENS,
            symbols=int(base.model.get_output_embeddings().weight.shape[0]),
            support=0,
            block=table.window,
            most=max(positions, table.window),
            sends=sends,
            experts=len(experiment.members),
            weight_bound=table.weight_bound,
            decay=table.decay,
            clip=table.clip,
            strength=table.strength,
            plausible=table.plausible if file is contrast else 0.0,
        )
    except ValueError as wrong:
        raise ConfigError("experiment", "thinking", str(wrong)) from None
    if not file.fits(question):
        raise ConfigError("experiment", "thinking.strength", f"expected what a {name} takes: see its file")
    return question
