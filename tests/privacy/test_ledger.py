"""The ledger charges before anything leaves, once for each release, and never past a budget."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent, NonPrivateDpEvent, SelfComposedDpEvent

from privacy.accounting.events import SampledSumDpEvent
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded, LedgerUnavailable, Refused
from privacy.units import NOISE_OF_OTHERS, Level, Relation, Unit

BUDGET = Budget(epsilon=4.0, delta=1e-5)
ACCOUNT = Account("data", BUDGET)
EVENT = GaussianDpEvent(4.0)


def occasion(number: int, session: str = "s") -> Occasion:
    return Occasion(session, number, "average", Level.WEIGHTS, "partner", 3)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_a_charge_is_on_disk_before_charge_returns(ledger, tmp_path):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    other = sqlite3.connect(tmp_path / "ledger.db")  # another process would see the same
    assert other.execute("SELECT count(*) FROM entries WHERE kind = 'charged'").fetchone() == (1,)


def test_the_same_release_is_charged_once_however_often_it_is_asked(ledger):
    first = ledger.charge(ACCOUNT, EVENT, occasion(0))
    spent = ledger.statement(ACCOUNT).spent.epsilon
    assert ledger.charge(ACCOUNT, EVENT, occasion(0)) == first
    assert ledger.statement(ACCOUNT).spent.epsilon == spent


@pytest.mark.parametrize(
    ("event", "rests"),
    [
        (EVENT, False),
        (SampledSumDpEvent(0.1, 1.0, 8.0, 2, 10), True),
        (SelfComposedDpEvent(SampledSumDpEvent(0.1, 1.0, 8.0, 2, 10), 3), True),
    ],
)
def test_an_epsilon_that_rests_on_others_noise_says_so_whatever_the_unit(ledger, event, rests):
    assert NOISE_OF_OTHERS not in ledger.statement(ACCOUNT).spent.assumptions  # nothing was charged
    ledger.charge(ACCOUNT, event, occasion(0))
    assert (NOISE_OF_OTHERS in ledger.statement(ACCOUNT).spent.assumptions) is rests
    assert NOISE_OF_OTHERS not in ledger.statement(Account("other data", BUDGET)).spent.assumptions
    ledger.charge(ACCOUNT, EVENT, occasion(1))  # what is charged later takes nothing of that back
    assert (NOISE_OF_OTHERS in ledger.statement(ACCOUNT).spent.assumptions) is rests


def test_the_same_letter_charged_for_less_noise_is_refused(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    with pytest.raises(Refused, match="something else"):
        ledger.charge(ACCOUNT, GaussianDpEvent(5.0), occasion(0))
    with pytest.raises(Refused, match="something else"):
        ledger.disclose(ACCOUNT, occasion(0))
    with pytest.raises(Refused, match="something else"):
        ledger.charge(ACCOUNT, EVENT, replace(occasion(0), partner="another"))
    with pytest.raises(Refused, match="something else"):
        ledger.charge(Account("other data", BUDGET), EVENT, occasion(0))


def test_the_budget_cannot_be_passed_and_a_refusal_costs_nothing(ledger):
    charged = 0
    with pytest.raises(BudgetExceeded, match="the budget is 4"):
        for number in range(1000):
            ledger.charge(ACCOUNT, EVENT, occasion(number))
            charged += 1
    statement = ledger.statement(ACCOUNT)
    assert charged > 1
    assert statement.charges == charged
    assert statement.spent.epsilon <= 4.0


def test_two_sessions_on_the_same_data_draw_on_the_same_budget(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0, "one"))
    alone = ledger.statement(ACCOUNT).spent.epsilon
    ledger.charge(ACCOUNT, EVENT, occasion(0, "two"))
    assert ledger.statement(ACCOUNT).spent.epsilon > alone
    assert ledger.statement(Account("other data", BUDGET)).spent.epsilon == 0


def test_racing_threads_for_the_last_of_a_budget_never_pass_it(tmp_path):
    ledgers = [Ledger(tmp_path / "ledger.db") for _ in range(4)]

    def spend(number: int) -> bool:
        try:
            ledgers[number % 4].charge(ACCOUNT, GaussianDpEvent(2.0), occasion(number))
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(spend, range(16)))
    statement = ledgers[0].statement(ACCOUNT)
    assert statement.charges == won
    assert 0 < won < 16
    assert statement.spent.epsilon <= 4.0


def test_an_operator_may_lower_a_budget_and_not_raise_it(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    low = Account("data", replace(BUDGET, epsilon=0.1))
    with pytest.raises(BudgetExceeded):
        ledger.charge(low, EVENT, occasion(1))
    high = Account("data", replace(BUDGET, epsilon=400.0))
    assert ledger.statement(high).limit == 4.0


def test_delta_orders_and_what_a_record_is_are_fixed_once_the_account_is_open(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    for other in (replace(BUDGET, delta=1e-6), replace(BUDGET, orders=(9.0,)), replace(BUDGET, record_tokens=2)):
        with pytest.raises(Refused, match="fixed"):
            ledger.charge(Account("data", other), EVENT, occasion(1))


def test_another_relation_opens_no_second_budget_on_the_same_data(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    other = Account("data", replace(BUDGET, relation=Relation.ZERO_OUT))
    with pytest.raises(Refused, match="fixed"):
        ledger.charge(other, EVENT, occasion(1))
    assert len(ledger.accounts()) == 1


def test_another_unit_is_another_account_and_never_added(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    members = Account("data", replace(BUDGET, unit=Unit.MEMBER))
    assert ledger.statement(members).spent.epsilon == 0


def test_a_disclosure_is_counted_and_never_summed(ledger):
    ledger.disclose(ACCOUNT, occasion(0))
    statement = ledger.statement(ACCOUNT)
    assert (statement.charges, statement.disclosures, statement.spent.epsilon) == (0, 1, 0.0)


def test_entries_can_be_neither_changed_nor_deleted(ledger, tmp_path):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    other = sqlite3.connect(tmp_path / "ledger.db")
    for statement in ("DELETE FROM entries", "UPDATE entries SET line = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            other.execute(statement)


def test_an_event_that_cannot_be_added_charges_nothing(ledger):
    with pytest.raises(ValueError, match="NonPrivateDpEvent"):
        ledger.charge(ACCOUNT, NonPrivateDpEvent(), occasion(0))
    assert list(ledger.entries()) == []


def test_a_file_that_is_no_ledger_is_a_refusal(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerUnavailable, match=r"ledger\.db"):
        Ledger(tmp_path / "ledger.db")


def test_a_full_disk_is_a_refusal_and_charges_nothing(tmp_path):
    """In a process whose files may not grow: the write fails as on a full disk."""
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from dp_accounting import GaussianDpEvent
from privacy.accounting.events import SampledSumDpEvent
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import LedgerUnavailable
from privacy.units import Level
ledger = Ledger(Path({str(tmp_path / "ledger.db")!r}))
account = Account("data", Budget(1.0, 1e-5))
ledger.charge(account, GaussianDpEvent(50.0), Occasion("s", 0, "average", Level.WEIGHTS, "p", 3))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    ledger.charge(account, GaussianDpEvent(50.0), Occasion("s", 1, "average", Level.WEIGHTS, "p", 3))
except LedgerUnavailable:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert Ledger(tmp_path / "ledger.db").statement(Account("data", Budget(1.0, 1e-5))).charges == 1


def test_a_statement_prints_no_epsilon_without_what_it_means(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    said = str(ledger.statement(ACCOUNT).spent)
    for word in ("delta 1e-05", "per record", "add-or-remove", "RDP at a fixed order"):
        assert word in said


def test_a_listed_account_is_the_account_that_was_opened(ledger):
    account = Account("data", replace(BUDGET, record_tokens=64, orders=(10.0,)))
    ledger.charge(account, EVENT, occasion(0))
    assert ledger.accounts() == (account,)
    assert ledger.statement(ledger.accounts()[0]).charges == 1


def test_whether_a_whole_run_fits_is_answered_before_anything_is_charged(ledger):
    whole = SelfComposedDpEvent(EVENT, 1000)
    with pytest.raises(BudgetExceeded):
        ledger.require_room(ACCOUNT, whole, occasion(0))
    ledger.require_room(ACCOUNT, EVENT, occasion(0))
    assert list(ledger.entries()) == []
    assert ledger.accounts() == ()
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    ledger.require_room(ACCOUNT, whole, occasion(0))  # this one has begun: asked again after a crash, it goes on


def test_a_ledger_that_rests_has_no_file_open_and_goes_on_where_it_was(tmp_path):
    file = tmp_path / "ledger.db"
    ledger = Ledger(file)
    limits = (ACCOUNT, EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average")
    for number in range(3):
        ledger.rest()
        assert not [link for link in Path("/proc/self/fd").iterdir() if str(file) in os.path.realpath(link)]
        receipt = ledger.charge(ACCOUNT, EVENT, occasion(number))
        ledger.rest()
        assert ledger.charge(ACCOUNT, EVENT, occasion(number)) == receipt  # once, whatever was closed in between
        known = ledger.decide(*limits)
        ledger.rest()
        assert ledger.decide(*limits) == known
    assert ledger.statement(ACCOUNT).charges == 3
    ledger.require_totals()
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        ledger.charge(ACCOUNT, EVENT, occasion(9))
    with pytest.raises(LedgerUnavailable, match="closed"):
        ledger.statement(ACCOUNT)


def test_what_another_process_charged_while_a_ledger_rested_counts(tmp_path):
    ledger, other = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db")
    limits = (ACCOUNT, EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average")
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    before = ledger.decide(*limits)
    ledger.rest()
    other.charge(ACCOUNT, EVENT, occasion(1))
    other.close()
    assert ledger.decide(*limits).epsilon_now > before.epsilon_now
    assert ledger.statement(ACCOUNT).charges == 2
    ledger.close()
