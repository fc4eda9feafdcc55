"""Real homes vote: records are cut, placed and counted, each count is charged; the coordinator sees sums."""

from dataclasses import replace

import numpy as np
import pytest

from client.model import load_base
from privacy.refusal import LevelForbidden, Refused
from privacy.units import Relation, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import PeerError
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import drive
from protocols.text.ballot import Ballot, Votes
from protocols.text.evolve import Evolve
from protocols.text.keyphrases import Keyphrases
from simulations.engine import settle
from simulations.experiment import load_experiment
from simulations.texts import lay_out, training
from simulations.village import policy_for

TERMS = Terms(Mode.STRICT, smallest_crowd=3, colluding=1)


@pytest.fixture
def village(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    there = settle(experiment, texts, load_base(experiment.model_path), tmp_path / "village")
    for villager in there.villagers.values():
        budget = villager.house.policy().budget
        named = [
            policy_for(
                replace(experiment, collaboration=replace(experiment.collaboration, name=name)),
                str(there.coordinator.public),
            )
            for name in ("evolve", "keyphrases")
        ]
        policy = replace(named[0], budget=budget, allow=(*named[0].allow, *named[1].allow))
        villager.house.policy = lambda policy=policy: policy
    yield there
    there.close()


def ballot(village, **changes) -> Ballot:
    budget = next(iter(village.villagers.values())).house.policy().budget
    given = {
        "by": Votes.NEAREST, "choices": 3, "counts": 1, "votes": 1, "looks": 1, "population": 10_000,
        "record_tokens": budget.record_tokens, "unit": Unit.RECORD, "epsilon": 4.0, "delta": 1e-5,
        "noise_multiplier": 3.0,
    }  # fmt: skip
    return Ballot(**(given | changes))


def run(village, task, why=None):
    name = type(task).__name__.lower()

    def told(end):
        def deliver(sealed):
            try:
                return end(sealed)
            except (Refused, PeerError) as fault:
                if why is not None:
                    why.append(fault)
                raise

        return deliver

    outbox = village.outbox("5e55", name, MemoryRoad({m: told(end) for m, end in village.ends.items()}))
    try:
        return drive(CATALOG[name].coordinate(village.members, task), outbox, CATALOG[name].wire)
    finally:
        outbox.close()


def test_records_of_all_members_are_counted_and_each_member_is_charged(village):
    texts = ("class def return self import", "und der die das nicht", "1 2 3 4 5 6 7 8 9")
    found = run(village, Evolve(ballot(village), 3, TERMS, texts))
    assert found.members == (3,)
    assert np.sum(found.votes) > 0
    for villager in village.villagers.values():
        assert villager.statement.charges == 1
        assert 0 < villager.statement.spent.epsilon <= villager.statement.limit


def test_phrases_that_the_records_hold_are_found(village):
    given = ballot(village, by=Votes.HELD, choices=4, votes=2)
    words = ("import", "zzyzx", "return", "qqqqq")
    found = run(village, Keyphrases(given, 3, TERMS, words))
    assert set(found.phrases) <= {"import", "return"}
    assert found.deviation > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"record_tokens": 9}, {"unit": Unit.MEMBER}, {"unit": Unit.GROUP}, {"noise_multiplier": 0.01},
        {"epsilon": None, "noise_multiplier": None},
    ],
    ids=["another record", "another unit", "no groups", "a broken promise", "no noise"],
)  # fmt: skip
def test_a_ballot_that_the_home_would_not_make_is_refused_and_costs_nothing(village, changes):
    why = []
    with pytest.raises(Exception, match="of 3"):
        run(village, Evolve(ballot(village, **changes), 3, TERMS, ("a", "b", "c")), why)
    assert len(why) == 3
    assert all(isinstance(fault, (LevelForbidden, PeerError)) for fault in why)
    assert all(v.statement.charges == 0 for v in village.villagers.values())


def test_whole_members_are_counted_within_one_norm(village):
    for villager in village.villagers.values():
        policy = villager.house.policy()
        budget = replace(policy.budget, unit=Unit.MEMBER, relation=Relation.ZERO_OUT, orders=())
        changed = replace(policy, budget=budget)
        villager.house.policy = lambda changed=changed: changed
    given = ballot(village, unit=Unit.MEMBER, noise_multiplier=4.0, population=3)
    found = run(village, Evolve(given, 3, TERMS, ("class def return", "und der die", "1 2 3 4")))
    assert found.members == (3,)
    assert all(v.statement.charges == 1 for v in village.villagers.values())
