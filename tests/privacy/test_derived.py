"""What is made of a value that was charged costs nothing more; what was not, or was changed, stays at home."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent

from privacy.artefact import Artefact
from privacy.auditing import check
from privacy.books.derived import _THAT_MANY_AGO, _TIED
from privacy.books.schema import connect
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import CrowdTooSmall, LevelForbidden, NotApproved, RateExceeded, Refused
from privacy.trail import line
from privacy.units import Level, Relation, Unit

BUDGET = Budget(epsilon=4.0, delta=1e-5)
ACCOUNT = Account("data", BUDGET)
AT_HOME = Permission("home", Level.WEIGHTS, ("train",), smallest_crowd=1, unsafe_plain_sum=True)


@dataclass(frozen=True)
class Noised:
    """A mechanism whose value is its noise."""

    deviation: float = 4.0

    @property
    def event(self):
        return GaussianDpEvent(self.deviation)

    def draw(self, randomness):
        return randomness.normal(6).astype(np.float32)


@dataclass(frozen=True)
class Doubled:
    """Something made of an artefact."""

    artefact: Artefact

    def draw(self, randomness):
        return 2 * self.artefact.values


def gate(ledger: Ledger, **changes) -> Gate:
    given = {"partner": "p", "level": Level.WEIGHTS, "collaborations": ("merge",)}
    return Gate(Policy(1, BUDGET, (AT_HOME, Permission(**(given | changes)))), ledger, SystemRandomness())


def trained(session: str = "at home") -> Occasion:
    return Occasion(session, 0, "train", Level.WEIGHTS, "home", 1)


def asked(number: int = 0, session: str = "s", crowd: int = 3) -> Occasion:
    return Occasion(session, number, "merge", Level.WEIGHTS, "p", crowd, summed=True)


@pytest.fixture
def ledger(tmp_path: Path):
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def kept(ledger) -> Artefact:
    return gate(ledger).keep(Noised(), "a shape", ACCOUNT, trained()).value


def lines(ledger: Ledger, kind: str) -> list[dict]:
    return [found for found in map(json.loads, ledger.lines()) if found["kind"] == kind]


def test_what_is_derived_costs_nothing_and_names_the_line_that_was_charged(ledger, kept):
    before = ledger.statement(ACCOUNT)
    released = gate(ledger).derive(Doubled(kept), ACCOUNT, asked())
    assert np.array_equal(released.value, 2 * kept.values)
    after = ledger.statement(ACCOUNT)
    assert (after.spent, after.charges, after.disclosures) == (before.spent, 1, 0)
    (charged,) = lines(ledger, "charged")
    tied, derived = lines(ledger, "derived")
    assert tied["of"] == derived["of"] == charged["seq"]
    assert tied["artefact"] == derived["artefact"] == kept.digest
    assert (derived["partner"], derived["collaboration"], tied["partner"]) == ("p", "merge", "home")
    ledger.require_totals()


def test_it_may_be_emitted_and_the_trail_is_sound(ledger, kept):
    gate(ledger).derive(Doubled(kept), ACCOUNT, asked())
    head = ledger.emit(asked(), bytes(32), bytes(32), 24, lambda data: b"s", "key")
    report = check(ledger.lines(), [head], lambda key, data, signature: True, trail=head.head.trail)
    assert report.sound
    assert report.signed == head.head.seq


@pytest.mark.parametrize("change", [{"values": np.zeros(6, np.float32)}, {"shape": "another"}])
def test_what_was_changed_after_it_was_drawn_leaves_nothing(ledger, kept, change):
    with pytest.raises(Refused, match="not what was drawn"):
        gate(ledger).derive(Doubled(replace(kept, **change)), ACCOUNT, asked())
    assert len(lines(ledger, "derived")) == 1


def test_one_bit_makes_another_artefact_and_a_longer_shape_cannot_stand_for_values():
    one = Artefact("ab", np.frombuffer(b"cdef", np.float32))
    assert one.digest != Artefact("abcdef", np.zeros(0, np.float32)).digest
    assert one.digest != Artefact("ab", np.frombuffer(b"cdeg", np.float32)).digest


def test_a_disclosed_value_is_no_artefact(ledger):
    with pytest.raises(Refused, match="nothing was charged"):
        ledger.tie(trained(), "aa")
    ledger.disclose(ACCOUNT, trained())
    with pytest.raises(Refused, match="nothing was charged"):
        ledger.tie(trained(), "aa")


def test_an_occasion_has_one_artefact(ledger, kept):
    assert ledger.tie(trained(), kept.digest) == lines(ledger, "derived")[0]["seq"]
    with pytest.raises(Refused, match="another value was drawn"):
        ledger.tie(trained(), "aa")


def test_a_value_that_left_cannot_be_tied_afterwards(ledger):
    ledger.charge(ACCOUNT, GaussianDpEvent(4.0), trained())
    ledger.emit(trained(), bytes(32), bytes(32), 1, lambda data: b"s", "key")
    with pytest.raises(Refused, match="has left"):
        ledger.tie(trained(), "aa")


def test_the_same_letter_again_is_the_same_line_and_one_gate_answers_it_once(ledger, kept):
    first = gate(ledger).derive(Doubled(kept), ACCOUNT, asked())
    assert gate(ledger).derive(Doubled(kept), ACCOUNT, asked()).receipt == first.receipt
    twice = gate(ledger)
    twice.derive(Doubled(kept), ACCOUNT, asked(1))
    with pytest.raises(Refused, match="drawn on already"):
        twice.derive(Doubled(kept), ACCOUNT, asked(1))


def test_a_letter_that_was_charged_derives_nothing_and_one_that_derived_is_not_charged(ledger, kept):
    ledger.charge(ACCOUNT, GaussianDpEvent(9.0), asked())
    with pytest.raises(Refused, match="something else"):
        gate(ledger).derive(Doubled(kept), ACCOUNT, asked())
    gate(ledger).derive(Doubled(kept), ACCOUNT, asked(1))
    with pytest.raises(Refused, match="something else"):
        ledger.charge(ACCOUNT, GaussianDpEvent(9.0), asked(1))


def test_the_policy_is_asked_as_for_any_other_release(ledger, kept):
    for changes, fault in (
        ({"smallest_crowd": 4}, CrowdTooSmall),
        ({"collaborations": ("average",)}, LevelForbidden),
        ({"least_noise": 4.5}, LevelForbidden),
        ({"approval": True}, NotApproved),
    ):
        with pytest.raises(fault):
            gate(ledger, **changes).derive(Doubled(kept), ACCOUNT, asked())
    gate(ledger, least_noise=3.5).derive(Doubled(kept), ACCOUNT, asked())


@pytest.mark.parametrize(
    ("unit", "relation"), [(Unit.GROUP, Relation.ADD_OR_REMOVE), (Unit.MEMBER, Relation.ZERO_OUT)]
)
def test_what_was_charged_per_record_does_not_leave_under_a_policy_that_promises_more(ledger, kept, unit, relation):
    budget = replace(BUDGET, unit=unit, relation=relation)  # edited after the adapter was trained
    edited = Policy(1, budget, gate(ledger).policy.allow)
    with pytest.raises(Refused, match=f"was charged per record, and the budget is per {unit.value}"):
        Gate(edited, ledger, SystemRandomness()).derive(Doubled(kept), Account("data", budget), asked())
    assert len(lines(ledger, "derived")) == 1
    gate(ledger).derive(Doubled(kept), Account("renamed", BUDGET), asked())


def test_a_partner_with_a_share_of_epsilon_gets_nothing_that_was_charged_to_no_share(ledger, kept):
    with pytest.raises(Refused, match="share of epsilon"):
        gate(ledger, epsilon=2.0).derive(Doubled(kept), ACCOUNT, asked())


def test_what_is_derived_counts_as_a_release_of_the_day(ledger, kept):
    for number in range(2):
        gate(ledger, releases_per_day=2).derive(Doubled(kept), ACCOUNT, asked(number))
    with pytest.raises(RateExceeded):
        gate(ledger, releases_per_day=2).derive(Doubled(kept), ACCOUNT, asked(2))


def test_what_was_derived_more_than_a_day_ago_counts_no_more(tmp_path):
    now = [1_700_000_000.0]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0])
    kept = gate(ledger).keep(Noised(), "a shape", ACCOUNT, trained()).value
    for number in range(2):
        gate(ledger, releases_per_day=2).derive(Doubled(kept), ACCOUNT, asked(number))
    now[0] += 86_401
    for number in (2, 3):
        gate(ledger, releases_per_day=2).derive(Doubled(kept), ACCOUNT, asked(number))
    with pytest.raises(RateExceeded):
        gate(ledger, releases_per_day=2).derive(Doubled(kept), ACCOUNT, asked(4))
    ledger.close()


@pytest.mark.parametrize("query", [_TIED, _THAT_MANY_AGO])
def test_no_question_about_free_answers_reads_the_whole_trail(ledger, tmp_path, query):
    """Also in a ledger that was laid out before there were these indexes."""
    ledger.close()
    file = next(tmp_path.rglob("ledger.db"))
    with closing(sqlite3.connect(file)) as db:
        for name in ("artefacts", "free_answers"):
            db.execute(f"DROP INDEX {name}")
    Ledger(file).close()
    with closing(connect(file, reading=True)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", ["x"] * query.count("?"))]
    assert plan
    assert all("INDEX" in step or "PRIMARY KEY" in step for step in plan), plan  # also a scan of an index of few


def test_nothing_is_kept_where_the_budget_is_spent(ledger):
    with pytest.raises(Refused):
        gate(ledger).keep(Noised(0.1), "a shape", ACCOUNT, trained())
    assert lines(ledger, "derived") == []


@pytest.mark.parametrize("of", [None, 2, 9])
def test_an_auditor_finds_what_is_derived_from_a_line_that_was_not_charged(of):
    at = "2026-01-01T00:00:00.000000Z"
    given = {"session": "s", "number": 0}
    written = [
        line(1, at, "charged", given | {"account": "a", "what": "value"}),
        line(2, at, "said", {"session": "s", "number": 1}),
        line(3, at, "derived", {"session": "s", "number": 2, "of": of, "artefact": "aa"}),
        line(4, at, "derived", {"session": "s", "number": 3, "of": 1, "artefact": "aa"}),
    ]
    report = check(written, [], lambda key, data, signature: True, trail="a" * 32)
    assert [fault.seq for fault in report.faults if "derived" in str(fault)] == [3]
