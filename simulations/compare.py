"""Put a run beside its yardsticks: one comparison out of losses, ledgers and progress."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from privacy.ledger import Statement
from privacy.units import Unit
from simulations.collaborations import run_of
from simulations.collaborations.run import Outcome
from simulations.experiment import Experiment
from simulations.report import Comparison, MemberResult, RoundResult
from simulations.yardsticks import POOLED, Losses

BASE, TOGETHER = "base", "together"


@dataclass(frozen=True, slots=True)
class Witness:
    """Hold what one member's own side says of the run: its ledger, its declared records, the bytes of its letters."""

    statement: Statement
    records: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Hold how long things took, in seconds."""

    rounds: tuple[RoundResult, ...]
    startup: float
    total: float


def rounds_of(outcome: Outcome) -> tuple[RoundResult, ...]:
    """Return a run's rounds, counted from 1."""
    pairs = zip(outcome.answered, outcome.seconds, strict=True)
    return tuple(RoundResult(i + 1, answered, seconds) for i, (answered, seconds) in enumerate(pairs))


def compared(
    experiment: Experiment, road: str, losses: Mapping[str, Losses], witnesses: Mapping[str, Witness], timing: Timing
) -> Comparison:
    """Join it all. `losses` holds, by name (members, base, together, pooled), the loss on each held-out text."""
    members = tuple(_member(name, losses, witness) for name, witness in witnesses.items())
    return Comparison(
        experiment=experiment.name,
        road=road,
        members=members,
        mixed_base=_mean(losses[BASE]),
        mixed_together=_mean(losses[TOGETHER]),
        mixed_pooled=_mean(losses[POOLED]),
        rounds=timing.rounds,
        seconds=timing.total,
        startup_seconds=timing.startup,
        saw=what_the_coordinator_saw(experiment),
        warnings=tuple(_warnings(experiment)),
        collaboration=experiment.collaboration.name,
    )


def what_the_coordinator_saw(experiment: Experiment) -> tuple[str, ...]:
    """Say plainly what reached the coordinator."""
    return (
        run_of(experiment).saw(experiment),
        "who took part, when, and the size of each letter",
        "no text, no record, no gradient of a single record",
    )


def _warnings(experiment: Experiment) -> Sequence[str]:
    found = []
    if experiment.unsafe_seeded_randomness:
        found.append("UNSAFE: all randomness came from the experiment's seed; nothing here is private")
    if experiment.privacy.unsafe_without_noise:
        found.append("UNSAFE: released without noise; no epsilon describes it")
    if experiment.noise_in_the_sum and experiment.privacy.unit is Unit.MEMBER:
        found.append("members are protected as a whole; alone and pooled, the yardsticks, were trained without noise")
    if experiment.collaboration.unsafe_plain_sum:
        found.append("UNSAFE: a plain sum; the coordinator saw every member's contribution by itself")
    return found


def _member(name: str, losses: Mapping[str, Losses], witness: Witness) -> MemberResult:
    statement = witness.statement
    return MemberResult(
        name=name,
        records=witness.records,
        loss_base=losses[BASE][name],
        loss_alone=losses[name][name],
        loss_together=losses[TOGETHER][name],
        loss_pooled=losses[POOLED][name],
        mixed_alone=_mean(losses[name]),
        guarantee=statement.spent if statement.charges and not statement.disclosures else None,
        bytes_sent=witness.bytes_sent,
        bytes_received=witness.bytes_received,
    )


def _mean(losses: Losses) -> float:
    """Return the loss on the mixed text: the members' held-out texts have the same length."""
    return math.fsum(losses.values()) / len(losses)
