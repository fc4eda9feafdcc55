"""A charge that paid for several answers pays for so many, of its session and for its partner, and for no more."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from dp_accounting import SelfComposedDpEvent, ZCDpEvent

from privacy.auditing import check
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import BudgetExceeded, LevelForbidden, NotApproved, RateExceeded, Refused
from privacy.trail import line
from privacy.units import Level, Unit

BUDGET = Budget(epsilon=4.0, delta=1e-5)
PER_GROUP = replace(BUDGET, unit=Unit.GROUP)
ACCOUNT = Account("data", BUDGET)
ANSWERS = 3


@dataclass(frozen=True)
class Sampled:
    """A value whose randomness is drawn elsewhere; `answers` of them are paid for at once."""

    answers: int = ANSWERS
    rho: float = 0.01

    @property
    def event(self):
        return SelfComposedDpEvent(ZCDpEvent(self.rho), self.answers)

    def draw(self, randomness):
        return 7


def gate(ledger: Ledger, **changes) -> Gate:
    given = {"partner": "p", "level": Level.LOGITS, "collaborations": ("private_predict",)}
    return Gate(Policy(1, BUDGET, (Permission(**(given | changes)),)), ledger, SystemRandomness())


def asked(number: int = 0, session: str = "s", **changes) -> Occasion:
    of = Occasion(session, number, "private_predict", Level.LOGITS, "p", 3, summed=True, plan="{}")
    return replace(of, **changes)


@pytest.fixture
def ledger(tmp_path: Path):
    return Ledger(tmp_path / "ledger.db")


def lines(ledger: Ledger, kind: str) -> list[dict]:
    return [found for found in map(json.loads, ledger.lines()) if found["kind"] == kind]


def test_later_answers_cost_nothing_and_name_the_line_that_paid(ledger):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    before = ledger.statement(ACCOUNT)
    released = gate(ledger).go_on(Sampled(), ACCOUNT, asked(4), 0)
    after = ledger.statement(ACCOUNT)
    assert released.value == 7
    assert (after.spent, after.charges) == (before.spent, before.charges)
    assert lines(ledger, "continued")[0]["of"] == lines(ledger, "charged")[0]["seq"]
    assert ledger.derived(ACCOUNT) == {("p", Level.LOGITS.value, "private_predict"): 1}
    assert ledger.contradiction() == ""


def test_no_more_answers_leave_than_were_paid_for(ledger):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    for number in range(1, ANSWERS):
        gate(ledger).go_on(Sampled(), ACCOUNT, asked(number), 0)
    with pytest.raises(Refused, match="paid for 3 answers"):
        gate(ledger).go_on(Sampled(), ACCOUNT, asked(ANSWERS), 0)
    assert len(lines(ledger, "continued")) == ANSWERS - 1


def test_the_same_letter_again_is_the_same_answer_and_uses_nothing_up(ledger):
    gate(ledger).release(Sampled(2), ACCOUNT, asked())
    first = gate(ledger).go_on(Sampled(), ACCOUNT, asked(1), 0)
    assert gate(ledger).go_on(Sampled(), ACCOUNT, asked(1), 0).receipt == first.receipt
    ledger.emit(asked(1), bytes(32), bytes(32), 1, lambda _head: bytes(64), "key")
    with pytest.raises(Refused, match="has left"):
        gate(ledger).go_on(Sampled(), ACCOUNT, asked(1), 0)


def test_one_gate_draws_once(ledger):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    twice = gate(ledger)
    twice.go_on(Sampled(), ACCOUNT, asked(1), 0)
    with pytest.raises(Refused, match="drawn on already"):
        twice.go_on(Sampled(), ACCOUNT, asked(1), 0)


@pytest.mark.parametrize(
    "changes",
    [{"session": "t"}, {"partner": "q"}, {"purpose": "another"}, {"plan": '{"clip":9}'}, {"summed": False}],
    ids=lambda change: next(iter(change)),
)
def test_nobody_else_and_nothing_else_goes_on_with_a_charge(ledger, changes):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    with pytest.raises(Refused):
        ledger.go_on(ACCOUNT, asked(1, **changes), 0)
    for other in (Account("other", BUDGET), Account("data", PER_GROUP), Account("data", BUDGET, ("twin",))):
        with pytest.raises(Refused, match="another partner, account, unit"):
            ledger.go_on(other, asked(1), 0)
    assert lines(ledger, "continued") == []


def test_only_a_charge_for_several_answers_pays_for_a_second(ledger):
    gate(ledger, unsafe_without_noise=True).disclose(Sampled(), ACCOUNT, asked())
    ledger.charge(ACCOUNT, ZCDpEvent(0.01), asked(1))
    ledger.say(ACCOUNT, asked(2))
    for first in range(4):
        with pytest.raises(Refused, match="nothing was charged there"):
            gate(ledger).go_on(Sampled(), ACCOUNT, asked(9), first)


def test_all_answers_have_to_fit_before_the_first(ledger):
    with pytest.raises(BudgetExceeded):
        gate(ledger).release(Sampled(10_000, 0.1), ACCOUNT, asked())
    assert lines(ledger, "charged") == []


def test_the_policy_is_asked_again_for_each_answer(ledger):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    with pytest.raises(LevelForbidden):
        gate(ledger, least_noise=100.0).go_on(Sampled(), ACCOUNT, asked(1), 0)
    with pytest.raises(RateExceeded):
        gate(ledger, releases_per_day=1).go_on(Sampled(), ACCOUNT, asked(1), 0)


def test_what_the_operator_takes_back_goes_on_no_more(ledger):
    with pytest.raises(NotApproved):
        gate(ledger, approval=True).release(Sampled(), ACCOUNT, asked())
    ledger.approve(1)
    gate(ledger, approval=True).release(Sampled(), ACCOUNT, asked())
    gate(ledger, approval=True).go_on(Sampled(), ACCOUNT, asked(1), 0)
    ledger.withdraw(1)
    with pytest.raises(NotApproved):
        gate(ledger, approval=True).go_on(Sampled(), ACCOUNT, asked(2), 0)


def test_an_auditor_finds_what_goes_on_beyond_its_charge():
    at, occasion = "2026-05-01T12:00:00.000000Z", {"session": "s", "account": "data"}
    event = '{"count":2,"kind":"repeat","of":{"kind":"zcdp","rho":0.1,"xi":0.0}}'
    trail = [
        line(1, at, "charged", occasion | {"number": 0, "event": event}),
        line(2, at, "continued", occasion | {"number": 1, "of": 1}),
        line(3, at, "continued", occasion | {"number": 2, "of": 1}),
        line(4, at, "continued", occasion | {"number": 1, "of": 1, "session": "t"}),
        line(5, at, "charged", occasion | {"number": 5, "event": '{"kind":"zcdp","rho":0.1,"xi":0.0}'}),
        line(6, at, "continued", occasion | {"number": 6, "of": 5}),
    ]
    report = check(trail, (), lambda *_: True, trail="ab" * 16)
    assert [fault.seq for fault in report.faults if "continued" in str(fault)] == [3, 4, 6]


def test_a_trail_of_real_lines_is_sound(ledger):
    gate(ledger).release(Sampled(), ACCOUNT, asked())
    gate(ledger).go_on(Sampled(), ACCOUNT, asked(1), 0)
    report = check(ledger.lines(), (), lambda *_: True, trail="ab" * 16)
    assert (report.faults, report.head.seq) == ((), 3)
