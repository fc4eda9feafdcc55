"""Whoever tries for a second draw on one charge, or to get out what no charge is for, gets nothing."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent

from privacy.books.releases import MOST_SAID_A_DAY
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import LedgerUnavailable, LevelForbidden, RateExceeded, Refused
from privacy.units import Kind, Level

BUDGET = Budget(epsilon=4.0, delta=1e-5)
ACCOUNT = Account("data", BUDGET)
EVENT = GaussianDpEvent(4.0)
ON = Occasion("s", 0, "average", Level.WEIGHTS, "p", 3, summed=True)
NOON = 1_800_000_000.0


@dataclass
class Draws:
    """A mechanism, and a value without noise, that counts how often somebody looked at the data."""

    looked: int = 0
    event = EVENT

    def draw(self, _randomness):
        self.looked += 1
        return self.looked


@pytest.fixture
def ledger(tmp_path: Path):
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def gate(ledger, **changes) -> Gate:
    return Gate(
        Policy(1, BUDGET, (Permission("p", Level.WEIGHTS, ("average",), **changes),)), ledger, SystemRandomness()
    )


def test_one_letter_draws_once_on_its_charge_however_often_its_gate_is_asked(ledger):
    door, draws = gate(ledger), Draws()
    door.release(draws, ACCOUNT, ON)
    with pytest.raises(Refused, match="drawn"):
        door.release(draws, ACCOUNT, ON)
    assert draws.looked == 1
    gate(ledger).release(draws, ACCOUNT, ON)  # the same letter after a crash: nothing of the first draw had left
    assert ledger.statement(ACCOUNT).charges == 1


def test_one_letter_discloses_one_value_and_tells_one_figure_of_a_kind(ledger):
    door, draws = gate(ledger, unsafe_without_noise=True, tells=(Kind.METRIC, Kind.COUNT)), Draws()
    door.disclose(draws, ACCOUNT, ON)
    with pytest.raises(Refused, match="drawn"):
        door.disclose(draws, ACCOUNT, ON)
    assert draws.looked == 1
    door.tell(Kind.METRIC, 1.0, ACCOUNT, ON)
    door.tell(Kind.COUNT, 1.0, ACCOUNT, ON)
    with pytest.raises(Refused, match="drawn"):
        door.tell(Kind.METRIC, 2.0, ACCOUNT, ON)
    assert ledger.statement(ACCOUNT).disclosures == 3


@pytest.mark.parametrize("kind", [Kind.KEYS, Kind.METRIC, Kind.COUNT, Kind.TIMING])
def test_a_value_does_not_leave_whole_by_being_called_a_key_or_a_figure(ledger, kind):
    draws = Draws()
    with pytest.raises(LevelForbidden):
        gate(ledger, tells=(Kind.METRIC, Kind.COUNT, Kind.TIMING)).disclose(draws, ACCOUNT, ON, kind)
    assert draws.looked == 0
    assert list(ledger.entries()) == []


def test_a_letter_that_was_charged_before_an_overlap_was_known_is_not_drawn_from_the_overlap(ledger):
    ledger.charge(ACCOUNT, EVENT, ON)  # and the machine stops; meanwhile the operator adds another clinic's documents
    with pytest.raises(Refused, match="something else"):
        ledger.charge(Account("data", BUDGET, ("clinic",)), EVENT, ON)
    ledger.charge(Account("data", BUDGET, ("clinic",)), EVENT, replace(ON, number=1))
    assert ledger.statement(Account("clinic", BUDGET)).charges == 2  # its documents may have been in both
    ledger.charge(ACCOUNT, EVENT, replace(ON, number=1))  # fewer data sets than were paid for: no harm


def test_a_partner_that_says_keys_without_end_does_not_fill_the_disk(tmp_path):
    now = [NOON]
    ledger = Ledger(tmp_path / "ledger.db", durable=False, clock=lambda: now[0])
    ledger.say(ACCOUNT, ON)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
        db.execute("UPDATE said SET count = ?", (MOST_SAID_A_DAY,))
    with pytest.raises(RateExceeded):
        ledger.say(ACCOUNT, replace(ON, number=1))
    ledger.say(ACCOUNT, replace(ON, number=1, partner="another"))
    ledger.charge(ACCOUNT, EVENT, replace(ON, number=2))  # what is paid for is not held up
    now[0] += 86400
    ledger.say(ACCOUNT, replace(ON, number=3))
    ledger.close()


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE accounts SET disclosures = 0",
        "UPDATE accounts SET charges = 0",
        "UPDATE shares SET nats = '0'",
        "UPDATE shares SET disclosures = 0",
        "UPDATE shares SET charges = 0",
    ],
)
def test_a_count_or_a_share_that_was_lowered_in_the_file_is_found(ledger, tmp_path, forgery):
    ledger.charge(ACCOUNT, EVENT, ON)
    ledger.disclose(ACCOUNT, replace(ON, number=1))
    ledger.charge(Account("more", BUDGET, ("data",)), EVENT, replace(ON, number=2))
    ledger.disclose(Account("more", BUDGET, ("data",)), replace(ON, number=3, partner="q"))
    ledger.say(ACCOUNT, replace(ON, number=4, partner="r"))
    ledger.require_totals()
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
        db.execute(forgery)
    with pytest.raises(LedgerUnavailable, match="total"):
        ledger.require_totals()


@pytest.mark.parametrize(
    "share", [{"epsilon": 1.0}, {"releases_per_day": 1}, {"bytes_per_day": 9}, {"disclosures": 1}]
)
def test_two_collaborations_in_one_permission_are_not_two_shares_where_the_operator_wrote_one(share):
    with pytest.raises(ValueError, match="one collaboration"):
        Permission("p", Level.WEIGHTS, ("average", "another"), **share)


def test_a_run_that_does_not_fit_into_a_partners_share_is_known_before_it_costs_anything(ledger):
    with pytest.raises(Refused):
        ledger.require_room(ACCOUNT, EVENT, ON, Limits(epsilon=0.01))
    assert list(ledger.entries()) == []
