"""Real homes in a secure sum: what each checks by itself, what it is charged, and what its share of the noise is."""

import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.declared import declare
from client.home import no_roster
from client.model import load_base
from privacy.config import ConfigError
from privacy.policy import Policy
from privacy.refusal import CrowdTooSmall, LevelForbidden, Refused, RosterNotApproved
from privacy.units import Unit
from protocols.catalog import CATALOG
from protocols.faults import Abort, PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum.messages import Request
from protocols.session import MemberId, drive
from protocols.weights.average import Contribute
from simulations.collaborations import run_of
from simulations.collaborations.average import AverageRun
from simulations.engine import run_in_process, settle, simulate
from simulations.experiment import PrivacyTable, SecureSumTable, load_experiment
from simulations.plan import make_plan
from simulations.texts import lay_out, training
from simulations.village import Village


@pytest.fixture
def scene(experiment_file, tmp_path):
    experiment = load_experiment(experiment_file)
    texts = training(lay_out(experiment, experiment_file, tmp_path / "data"))
    return experiment, texts, load_base(experiment.model_path)


class Witnessed:
    """A mailbox that remembers why it was silent."""

    def __init__(self, deliver: Callable[[bytes], bytes], why: dict[str, Exception], name: str) -> None:
        self.inner, self.why, self.name = deliver, why, name

    def __call__(self, sealed: bytes) -> bytes:
        try:
            return self.inner(sealed)
        except (Refused, PeerError) as fault:
            self.why[self.name] = fault
            raise


def silence(village: Village, experiment, base, alter=None, session="5e55") -> dict[str, Exception]:
    """Run, let the coordinator `alter` its asks, and return why members were silent. There must be no result."""
    from protocols.carriers.memory import MemoryRoad

    why: dict[str, Exception] = {}
    road = MemoryRoad({m: Witnessed(end, why, m) for m, end in village.ends.items()})
    entry = CATALOG["average"]
    running = entry.coordinate(village.members, run_of(experiment).task(experiment, base))
    with pytest.raises(Abort):
        drive(altered(running, alter) if alter else running, village.outbox(session, "average", road), entry.wire)
    return why


def altered(running, alter):
    """Be the same coordinator, but for the requests it sends."""
    asks = next(running)
    while True:
        asks = {m: alter(a) if isinstance(a, Contribute) else a for m, a in asks.items()}
        answers = yield asks
        try:
            asks = running.send(answers)
        except StopIteration as end:
            return end.value


def of_request(**changes):
    def alter(ask: Contribute) -> Contribute:
        assert isinstance(ask.request, Request)
        return replace(ask, request=replace(ask.request, **changes))

    return alter


def of_spec(**changes):
    def alter(ask: Contribute) -> Contribute:
        return replace(ask, request=replace(ask.request, spec=replace(ask.request.spec, **changes)))

    return alter


def charged(village: Village) -> int:
    return sum(len(list(v.house.ledger.entries())) for v in village.villagers.values())


def set_policy(village: Village, **changes) -> None:
    for villager in village.villagers.values():
        policy = villager.house.policy()
        (permission,) = policy.allow
        changed = Policy(1, policy.budget, (replace(permission, **changes),), policy.unsafe_seeded_randomness)
        villager.house.policy = lambda changed=changed: changed


@pytest.mark.parametrize(
    ("alter", "fault"),
    [
        (of_request(context=bytes(32)), "another purpose, encoding, context or query"),
        (of_request(purpose="other"), "another purpose"),
        (of_request(query=7), "another purpose"),
        (of_request(number=-5), "used up"),
        (of_request(attempt=1), "attempt 2"),
        (of_spec(scale=1.0), "another purpose"),
        (of_spec(coordinate=1.0), "another purpose"),
        (of_spec(norm=1e-9), "another purpose"),
        (of_spec(deviation=9.0), "another purpose"),
        (lambda ask: replace(ask, adapter=ask.adapter + 1), "another purpose"),
        (lambda ask: replace(ask, recipe=replace(ask.recipe, learning_rate=0.4)), "another purpose"),
    ],
)
def test_a_request_that_a_home_would_not_make_itself_is_refused_and_costs_nothing(scene, alter, fault, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    why = silence(village, experiment, base, alter)
    assert set(why) == {"ash", "birch", "cedar"}
    assert all(isinstance(w, PeerError) for w in why.values())
    assert all(fault in str(w) for w in why.values())
    assert charged(village) == 0
    assert not any(len(v.house.sums) for v in village.villagers.values())  # the keys are gone
    village.close()


def test_a_sum_of_fewer_than_the_terms_say_is_refused(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    why = silence(village, experiment, base, of_request(members=("ash", "birch")))
    assert {type(w) for w in why.values()} == {CrowdTooSmall}
    assert charged(village) == 0
    village.close()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"smallest_crowd": 4}, CrowdTooSmall),
        ({"colluding": 2}, LevelForbidden),
    ],
)
def test_terms_laxer_than_the_policy_are_refused_before_a_key_is_made(scene, changes, fault, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    set_policy(village, **changes)
    assert {type(w) for w in silence(village, experiment, base).values()} == {fault}
    assert charged(village) == 0
    village.close()


def test_a_plain_sum_is_refused_by_whoever_has_not_allowed_it_by_name(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    plain = replace(experiment, collaboration=replace(experiment.collaboration, unsafe_plain_sum=True))
    assert {str(w) for w in silence(village, plain, base).values()} == {
        "a release that is not in a secure sum, and unsafe_plain_sum is not set"
    }
    assert charged(village) == 0
    village.close()


def test_two_members_may_sum_what_has_its_own_noise_and_nothing_else(scene, tmp_path):
    experiment, texts, base = scene
    pair = replace(experiment, members=experiment.members[:2], secure_sum=SecureSumTable(smallest_crowd=2))
    two = {m.name: texts[m.name] for m in pair.members}
    outcome, village = simulate(pair, two, base, tmp_path / "noised")
    assert outcome.answered == (2, 2)
    village.close()
    bare = replace(pair, privacy=PrivacyTable(unsafe_without_noise=True))
    village = settle(bare, two, base, tmp_path / "bare")
    assert {type(w) for w in silence(village, bare, base).values()} == {CrowdTooSmall}
    assert charged(village) == 0
    village.close()


def test_a_home_without_an_approved_roster_or_with_another_one_joins_no_sum(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    real = {m: v.identity.public for m, v in village.villagers.items()}
    stranger = Roster(tuple((real | {MemberId("ash"): Identity.generate().public}).items()))
    village.villagers[MemberId("cedar")].house.roster = lambda: stranger
    assert silence(village, experiment, base) == {}  # it is left out, and two are too few
    for villager in village.villagers.values():
        villager.house.roster = no_roster
    why = silence(village, experiment, base, session="2e55")
    assert {type(w) for w in why.values()} == {RosterNotApproved}
    assert charged(village) == 0
    village.close()


def test_a_roster_that_the_operator_replaces_ends_the_sessions_that_were_opened_under_the_old_one(scene, tmp_path):
    experiment, texts, base = scene
    village = settle(experiment, texts, base, tmp_path / "village")
    house = village.villagers[MemberId("cedar")].house
    old, asked = house.roster(), []

    def replaced(ask: Contribute) -> Contribute:
        asked.append(ask)
        house.roster = lambda: Roster((*old.keys, (MemberId("dogwood"), Identity.generate().public)))
        return ask

    why = silence(village, experiment, base, replaced)
    assert set(why) == {"cedar"}
    assert isinstance(why["cedar"], RosterNotApproved)
    assert len(house.sums) == 0
    village.close()


def test_the_coordinator_cannot_read_a_delta_from_its_letters(scene, tmp_path):
    experiment, texts, base = scene
    seen: list[bytes] = []
    for name, plain in (("sum", False), ("plain", True)):
        kind = replace(experiment, collaboration=replace(experiment.collaboration, unsafe_plain_sum=plain, rounds=1))
        village = settle(kind, texts, base, tmp_path / name)
        for villager in village.villagers.values():
            deliver = villager.mailbox.deliver
            villager.mailbox.deliver = lambda sealed, deliver=deliver: seen.append(deliver(sealed)) or seen[-1]
        run_in_process(kind, village, base)
        village.close()
    masked, plain = (entropy(max(seen[i:j], key=len)) for i, j in ((6, 9), (9, 12)))
    assert masked > 7.75 > plain  # bits a byte: uniform, and not


def entropy(data: bytes) -> float:
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    share = counts[counts > 0] / len(data)
    return float(-(share * np.log2(share)).sum())


def test_whole_members_are_protected_by_noise_that_only_the_sum_has_in_full(scene, tmp_path):
    experiment, texts, base = scene
    whole = replace(experiment, privacy=replace(experiment.privacy, unit=Unit.MEMBER))
    plan = make_plan(whole, base, {n: declare(t, base.tokenizer) for n, t in texts.items()})
    outcome, village = simulate(whole, texts, base, tmp_path / "village")
    statements = [v.statement for v in village.villagers.values()]
    village.close()
    for statement in statements:
        assert (statement.charges, statement.disclosures) == (2, 0)
        assert statement.spent.unit is Unit.MEMBER
        assert statement.spent.epsilon == pytest.approx(plan.members[0].guarantee.epsilon, rel=1e-9)
        assert 7.9 < statement.spent.epsilon <= 8.0
    # Two of three are taken to be honest: in each round the mean has sqrt(3/2)/3 of the noise that two need.
    z = plan.recipe.noise_multiplier
    expected = z * np.sqrt(3 / 2) / 3 * np.sqrt(2)
    assert np.std(outcome.adapter) == pytest.approx(expected, rel=0.2)


def test_noise_that_does_not_keep_the_recipes_promise_is_refused(scene, tmp_path):
    experiment, texts, base = scene
    whole = replace(experiment, privacy=replace(experiment.privacy, unit=Unit.MEMBER))
    village = settle(whole, texts, base, tmp_path / "village")
    task = AverageRun().task(whole, base)
    weak = replace(task, recipe=replace(task.recipe, noise_multiplier=task.recipe.noise_multiplier / 2))
    entry = CATALOG["average"]
    with pytest.raises(Abort):
        outbox = village.outbox(secrets.token_hex(8), "average")
        drive(entry.coordinate(village.members, weak), outbox, entry.wire)
    assert charged(village) == 0
    village.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[secure_sum]\nsmallest_crowd = 4", "smallest_crowd: expected at most 3"),
        ("[secure_sum]\nbits = 20", "bits"),
        ("[secure_sum]\ncolluding = 3", "colluding"),
        ('[secure_sum]\nmode = "lax"', "strict, resilient"),
        ("[secure_sum]\nthreshold = 1", "unknown key"),
    ],
)
def test_an_experiment_with_terms_that_cannot_be_is_refused_by_key(experiment_file, line, words):
    experiment_file.write_text(experiment_file.read_text().replace("[lora]", line + "\n\n[lora]"))
    with pytest.raises(ConfigError, match=words):
        load_experiment(experiment_file)
