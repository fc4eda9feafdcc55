"""What a malicious coordinator tries where a secure sum joins a home, and what is said of it."""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from client.data import Records
from client.dp_training import Schedule, UnsafePlainSgd
from client.home import Fitted
from client.masking import Masked, MaskedRelease
from client.model import load_base
from privacy.config import ConfigError
from privacy.policy import Policy
from privacy.refusal import Refused
from privacy.units import Relation, Unit
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.faults import Abort, PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum.messages import Acknowledge, Agree, Reveal
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId, drive
from protocols.weights.average import Average, Contribute
from protocols.wire import Message
from simulations.collaborations.average import AverageRun
from simulations.engine import settle
from simulations.experiment import Experiment, PrivacyTable, SecureSumTable, load_experiment
from simulations.planning import plan_file
from simulations.texts import lay_out, training
from simulations.village import Village


@dataclass
class Scene:
    """A village, the task of its experiment, and what happens at each trip."""

    experiment: Experiment
    village: Village
    task: Average
    answered: dict[type, int] = field(default_factory=dict)
    why: dict[str, Exception] = field(default_factory=dict)
    sealed: dict[str, bytes] = field(default_factory=dict)

    def run(self, before: Callable[[type], None] = lambda _kind: None) -> Message:
        """Run to the result; `before` is told what kind of ask the coordinator is about to send."""
        entry = CATALOG["average"]
        road = MemoryRoad({m: self._witness(m, end) for m, end in self.village.ends.items()})
        outbox = self.village.outbox(secrets.token_hex(8), "average", road)
        return drive(self._watched(entry.coordinate(self.village.members, self.task), before), outbox, entry.wire)

    @property
    def charges(self) -> int:
        return sum(len(list(v.house.ledger.entries())) for v in self.village.villagers.values())

    def _witness(self, name, deliver):
        def end(sealed: bytes) -> bytes:
            self.sealed[name] = sealed
            try:
                return deliver(sealed)
            except (Refused, PeerError) as fault:
                self.why[name] = fault
                raise

        return end

    def _watched(self, running, before):
        asks = next(running)
        while True:
            (kind,) = {type(a) for a in asks.values()}
            before(kind)
            answers = yield asks
            self.answered[kind] = self.answered.get(kind, 0) + len(answers)
            try:
                asks = running.send(answers)
            except StopIteration as end:
                return end.value


@pytest.fixture
def raised(experiment_file, tmp_path):
    """Raise villages: three members, one round, of the experiment with changes."""
    villages = []

    def make(**changes) -> Scene:
        experiment = load_experiment(experiment_file)
        texts = training(lay_out(experiment, experiment_file, tmp_path / f"data{len(villages)}"))
        base = load_base(experiment.model_path)
        one = replace(experiment, collaboration=replace(experiment.collaboration, rounds=1), **changes)
        village = settle(one, texts, base, tmp_path / f"village{len(villages)}")
        villages.append(village)
        return Scene(one, village, AverageRun().task(one, base))

    yield make
    for village in villages:
        village.close()


WHOLE = {"privacy": PrivacyTable(unit=Unit.MEMBER, epsilon=8.0)}
RESILIENT = {"secure_sum": SecureSumTable(mode=Mode.RESILIENT)}


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """How many charges were in the home's ledger each time that somebody trained on private records."""
    draws, draw = [], UnsafePlainSgd.draw

    def counted(self, randomness):
        draws.append(1)
        return draw(self, randomness)

    monkeypatch.setattr(UnsafePlainSgd, "draw", counted)
    return draws


def test_a_recipe_whose_noise_breaks_its_promise_is_refused_before_a_record_is_read(raised, trained):
    scene = raised(**WHOLE)
    recipe = scene.task.recipe
    scene.task = replace(scene.task, recipe=replace(recipe, noise_multiplier=recipe.noise_multiplier / 2))
    with pytest.raises(Abort):
        scene.run()
    assert scene.charges == 0
    assert trained == []


def test_a_home_whose_budget_is_spent_trains_no_more_however_often_the_letter_is_sent(raised, trained):
    scene = raised(**WHOLE)
    for villager in scene.village.villagers.values():
        policy = villager.house.policy()
        spent = Policy(1, replace(policy.budget, epsilon=1e-3), policy.allow, policy.unsafe_seeded_randomness)
        villager.house.policy = lambda spent=spent: spent
    with pytest.raises(Abort):
        scene.run()
    for _ in range(3):  # a refused letter may be sent again
        with pytest.raises(Refused):
            scene.village.villagers[MemberId("ash")].mailbox.deliver(scene.sealed["ash"])
    assert scene.charges == 0
    assert trained == []


def test_no_record_of_a_whole_member_is_drawn_before_its_charge(raised, monkeypatch):
    scene, at_the_draw, draw = raised(**WHOLE), [], UnsafePlainSgd.draw

    def noted(self, randomness):
        at_the_draw.append(scene.charges)
        return draw(self, randomness)

    monkeypatch.setattr(UnsafePlainSgd, "draw", noted)
    scene.run()
    assert at_the_draw == [1, 2, 3]  # each member's own charge was on disk


@pytest.mark.parametrize("stage", [Acknowledge, Agree, Reveal])
def test_a_partner_whom_the_operator_has_struck_out_gets_not_even_the_next_letter_of_a_sum(raised, stage):
    scene = raised(**RESILIENT)

    def strike_out(kind: type) -> None:
        for villager in scene.village.villagers.values() if kind is stage else ():
            policy = villager.house.policy()
            villager.house.policy = lambda policy=policy: replace(policy, allow=())

    with pytest.raises(Abort):
        scene.run(strike_out)
    assert scene.answered[stage] == 0


@pytest.mark.parametrize("stage", [Acknowledge, Agree, Reveal])
def test_a_roster_that_is_replaced_counts_from_the_next_letter_of_a_sum_on(raised, stage):
    scene = raised(**RESILIENT)

    def replace_roster(kind: type) -> None:
        for villager in scene.village.villagers.values() if kind is stage else ():
            keys = villager.house.roster().keys
            other = Roster((*keys[:-1], (keys[-1][0], Identity.generate().public)))  # the last one's key was stolen
            villager.house.roster = lambda other=other: other

    with pytest.raises(Abort):
        scene.run(replace_roster)
    assert scene.answered[stage] == 0


@pytest.mark.parametrize("stage", [Agree, Reveal])
def test_keys_that_have_expired_sign_and_reveal_nothing(raised, stage):
    scene = raised(**RESILIENT)

    def expire(kind: type) -> None:
        for villager in scene.village.villagers.values() if kind is stage else ():
            villager.house.sums.now = lambda: time.time() + 8 * 24 * 3600  # beyond the longest life

    with pytest.raises(Abort):
        scene.run(expire)
    assert scene.answered[stage] == 0


def test_keys_that_have_expired_are_dropped_when_the_next_session_opens(raised):
    scene = raised()
    scene.run()
    for villager in scene.village.villagers.values():
        villager.house.sums.now = lambda: time.time() + 8 * 24 * 3600
    with pytest.raises(Abort):
        scene.run(lambda kind: None if kind is not Contribute else stop())
    assert {len(v.house.sums) for v in scene.village.villagers.values()} == {1}


def stop() -> None:
    raise Abort("enough seen")


def test_a_coordinator_that_asks_for_a_larger_crowd_gets_no_smaller_share_of_noise_than_the_policy_counts_on(raised):
    scene = raised(**WHOLE)
    for villager in scene.village.villagers.values():  # the policy that every home begins with: of two, one is honest
        policy = villager.house.policy()
        careful = replace(policy, allow=tuple(replace(p, smallest_crowd=2, colluding=1) for p in policy.allow))
        villager.house.policy = lambda careful=careful: careful
    with pytest.raises(Abort):  # terms of three with one colluding: each adds noise for two honest ones
        scene.run()
    assert scene.charges == 0


def test_what_whole_members_are_promised_names_the_honesty_that_it_rests_on(raised):
    scene = raised(**WHOLE)
    scene.run()
    said = next(iter(scene.village.villagers.values())).statement.spent
    assert any("collude" in line or "honest" in line for line in said.assumptions)
    assert not any("Poisson" in line or "record" in line for line in said.assumptions)


def test_what_is_proven_for_a_vector_or_zeros_is_not_called_add_or_remove(raised):
    scene = raised(**WHOLE)
    scene.run()
    said = next(iter(scene.village.villagers.values())).statement.spent
    assert said.relation is Relation.ZERO_OUT


def test_a_report_says_that_the_yardsticks_of_whole_members_had_no_noise(raised):
    from simulations.compare import _warnings

    scene = raised(**WHOLE)
    assert any("alone" in line and "noise" in line for line in _warnings(scene.experiment))


@pytest.mark.parametrize(("bits", "epsilon"), [(16, 0.002), (32, 0.00001)])
def test_an_experiment_whose_noise_fits_into_no_word_is_refused_by_key(experiment_file, bits, epsilon):
    from rich.console import Console

    text = experiment_file.read_text().replace(
        "[privacy]", f'[secure_sum]\nbits = {bits}\n\n[privacy]\nunit = "member"'
    )
    experiment_file.write_text(text.replace("epsilon = 8.0", f"epsilon = {epsilon}"), encoding="utf-8")
    with pytest.raises(ConfigError):
        plan_file(experiment_file, Console(file=open(os.devnull, "w")), None)  # noqa: SIM115


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("[privacy]", '[privacy]\nunit = "member"'), 'unit = "member"'),
        (("rounds = 2", "rounds = 2\nunsafe_plain_sum = true"), "unsafe_plain_sum = true"),
        (("epsilon = 8.0", "unsafe_without_noise = true"), "unsafe_without_noise = true"),
    ],
)
def test_a_plan_prints_every_line_that_a_policy_needs_for_it(experiment_file, tmp_path, change, line):
    from rich.console import Console

    experiment_file.write_text(experiment_file.read_text().replace(*change), encoding="utf-8")
    out = tmp_path / "plan.txt"
    with out.open("w") as file:
        plan_file(experiment_file, Console(file=file, width=400), None)
    assert line in out.read_text()


def test_no_record_is_in_what_is_printed_of_a_release():
    records = Records(np.array([[104, 31337]], np.int32), np.array([2], np.int32))
    task = UnsafePlainSgd(None, records, np.zeros(2, np.float32), Schedule(1, 1, 1, 0.1, 1.0))
    for held in (records, task, Masked(task, None, None), MaskedRelease(task, None, None), Fitted(None, records)):
        assert "31337" not in repr(held)
