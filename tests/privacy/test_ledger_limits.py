"""What the policy wants checked is checked in the transaction that charges; a decision says the same, at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting.accountant import Filter, price
from privacy.books.approvals import MOST_WAITING
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded, NotApproved, RateExceeded, Refused
from privacy.units import Level

BUDGET = Budget(epsilon=4.0, delta=1e-5)
ACCOUNT = Account("data", BUDGET)
EVENT = GaussianDpEvent(4.0)
NOON = 1_800_000_000.0


def occasion(number: int, session: str = "s", **changes) -> Occasion:
    return replace(Occasion(session, number, "average", Level.WEIGHTS, "partner", 3), **changes)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.db", durable=False)
    yield opened
    opened.close()


def charged_until_refused(ledger, refusal, limits, event=EVENT, start=0, **changes):
    with pytest.raises(refusal):
        for number in range(start, start + 1000):
            ledger.charge(ACCOUNT, event, occasion(number, **changes), limits)
    return ledger.statement(ACCOUNT)


def test_a_partner_gets_no_more_than_its_share_and_leaves_the_rest_to_others(ledger):
    limits = Limits(epsilon=2.0)
    charged_until_refused(ledger, BudgetExceeded, limits)
    (share,) = ledger.statement(ACCOUNT).shares
    assert 0 < share.epsilon <= 2.0 == share.limit
    ledger.charge(ACCOUNT, EVENT, occasion(0, "other", partner="another"), limits)
    assert ledger.statement(ACCOUNT).spent.epsilon > share.epsilon


@pytest.mark.parametrize("name", ["partner", "collaboration", "level"])
def test_another_name_has_another_share_and_never_another_budget(ledger, name):
    other = {"partner": "another", "collaboration": "search", "level": Level.LOGITS}[name]
    limits = Limits(epsilon=3.0)
    charged_until_refused(ledger, BudgetExceeded, limits)
    statement = charged_until_refused(ledger, BudgetExceeded, limits, session="other", **{name: other})
    assert len(statement.shares) == 2
    assert statement.spent.epsilon <= 4.0
    assert all(share.epsilon <= 3.0 for share in statement.shares)


def test_releases_of_a_day_are_counted_over_any_24_hours(tmp_path):
    now = [NOON]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0], durable=False)
    limits = Limits(releases_per_day=3)
    for number in range(3):
        ledger.charge(ACCOUNT, EVENT, occasion(number), limits)
        now[0] += 6 * 3600  # the first is 18 hours old by then
    with pytest.raises(RateExceeded):
        ledger.disclose(ACCOUNT, occasion(3), limits)
    assert not ledger.decide(ACCOUNT, EVENT, limits, "partner", Level.WEIGHTS, "average").fits
    now[0] += 6 * 3600 + 120
    ledger.disclose(ACCOUNT, occasion(3), limits)
    with pytest.raises(RateExceeded):
        ledger.disclose(ACCOUNT, occasion(4), limits)


def test_a_minute_that_is_not_over_does_not_shorten_the_day(tmp_path):
    now = [NOON + 59]  # the last second of a minute
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0], durable=False)
    ledger.disclose(ACCOUNT, occasion(0), Limits(releases_per_day=1))
    now[0] += 24 * 3600 - 59
    with pytest.raises(RateExceeded):
        ledger.disclose(ACCOUNT, occasion(1), Limits(releases_per_day=1))


@settings(max_examples=60, deadline=None)
@given(gaps=st.lists(st.integers(0, 16 * 3600), min_size=1, max_size=30), most=st.integers(1, 4))
def test_no_24_hours_hold_more_releases_than_allowed_however_they_are_spaced(tmp_path_factory, gaps, most):
    now, left = [NOON], []
    ledger = Ledger(tmp_path_factory.mktemp("l") / "ledger.db", clock=lambda: now[0], durable=False)
    for number, gap in enumerate(gaps):
        now[0] += gap
        try:
            ledger.disclose(ACCOUNT, occasion(number), Limits(releases_per_day=most))
        except RateExceeded:
            assert sum(at > now[0] - 24 * 3600 - 120 for at in left) >= most  # and never refused without need
        else:
            left.append(now[0])
    ledger.close()
    assert all(sum(at - 24 * 3600 < other <= at for other in left) <= most for at in left)


def test_disclosures_are_capped_for_a_partner_and_for_the_data(ledger):
    few = Account("data", replace(BUDGET, disclosures=3))
    ledger.disclose(few, occasion(0), Limits(disclosures=1))
    with pytest.raises(RateExceeded, match="to this partner"):
        ledger.disclose(few, occasion(1), Limits(disclosures=1))
    for number in (2, 3):
        ledger.disclose(few, occasion(number, partner="another"))
    with pytest.raises(RateExceeded, match="the budget allows 3"):
        ledger.disclose(few, occasion(4, partner="a third"))
    ledger.charge(few, EVENT, occasion(5))  # what has an epsilon is counted in epsilon


def test_racing_threads_get_no_more_than_a_limit_allows(tmp_path):
    ledgers = [Ledger(tmp_path / "ledger.db") for _ in range(4)]

    def disclose(number):
        try:
            ledgers[number % 4].disclose(ACCOUNT, occasion(number), Limits(disclosures=5))
        except RateExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(disclose, range(40))) == 5


def test_two_processes_that_race_for_the_last_of_a_budget_are_not_both_served(tmp_path):
    program = f"""
import sys
from pathlib import Path
from dp_accounting import GaussianDpEvent
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded
from privacy.units import Level
ledger = Ledger(Path({str(tmp_path / "ledger.db")!r}))
account = Account("data", Budget(1.0, 1e-5))
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    try:
        occasion = Occasion(sys.argv[1] + str(number), 0, "average", Level.WEIGHTS, "p", 3)
        ledger.charge(Account("data" + str(number), account.budget), GaussianDpEvent(4.5), occasion)
        print(number, flush=True)
    except BudgetExceeded:
        pass
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    won = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert sorted(won[0] + won[1], key=int) == [str(n) for n in range(20)]  # each budget holds one, and one got it


@settings(max_examples=25, deadline=None)
@given(noises=st.lists(st.sampled_from((3.0, 4.0, 8.0, 20.0)), max_size=25), share=st.sampled_from((None, 1.0, 3.0)))
def test_a_decision_says_what_a_charge_then_does(tmp_path_factory, noises, share):
    ledger = Ledger(tmp_path_factory.mktemp("l") / "ledger.db", durable=False)
    limits = Limits(epsilon=share)
    for number, noise in enumerate(noises):
        event = GaussianDpEvent(noise)
        said = ledger.decide(ACCOUNT, event, limits, "partner", Level.WEIGHTS, "average")
        assert said.epsilon_now == ledger.statement(ACCOUNT).spent.epsilon
        try:
            ledger.charge(ACCOUNT, event, occasion(number), limits)
        except BudgetExceeded:
            assert not said.fits
        else:
            assert said.fits
            assert said.epsilon_after == ledger.statement(ACCOUNT).spent.epsilon
    ledger.require_totals()
    ledger.close()


def test_a_decision_knows_at_once_what_another_process_charged(tmp_path):
    one, other = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db")
    asked = (ACCOUNT, EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average")
    assert one.decide(*asked).epsilon_now == 0
    other.charge(ACCOUNT, EVENT, occasion(0))
    assert one.decide(*asked).epsilon_now == other.statement(ACCOUNT).spent.epsilon > 0


def test_the_sum_kept_is_the_sum_of_all_that_was_charged(ledger):
    noises = [4.0, 8.0, 8.0, 20.0]
    for number, noise in enumerate(noises):
        ledger.charge(ACCOUNT, GaussianDpEvent(noise), occasion(number))
    (opened,) = ledger.accounts()
    costs = [price(GaussianDpEvent(noise), opened.budget.orders or (3.0,)) for noise in noises]
    total = costs[0] + costs[1] + costs[2] + costs[3]
    assert ledger.statement(ACCOUNT).spent.epsilon == Filter(opened.budget.orders, BUDGET.delta).epsilon(total)
    assert list(ledger.events(ACCOUNT).values()) == [1, 2, 1]


def test_the_forecast_is_how_many_more_really_fit(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0), Limits(epsilon=3.0))
    more = ledger.statement(ACCOUNT).shares[0].more
    statement = charged_until_refused(ledger, BudgetExceeded, Limits(epsilon=3.0), start=1)
    assert statement.charges == 1 + more
    assert statement.shares[0].more == 0


def test_whether_a_run_fits_is_asked_of_the_share_too(ledger):
    with pytest.raises(BudgetExceeded, match="share"):
        ledger.require_room(ACCOUNT, SelfComposedDpEvent(EVENT, 3), occasion(0), Limits(epsilon=1.0))
    assert ledger.accounts() == ()


def test_what_the_operator_has_to_approve_waits_until_it_is(ledger):
    limits, on = Limits(approval=True), occasion(0, purpose="triage", plan='{"rounds":3}')
    for _ in range(3):
        with pytest.raises(NotApproved):
            ledger.charge(ACCOUNT, EVENT, on, limits)
    (waiting,) = ledger.pending()
    assert (waiting.purpose, waiting.plan, waiting.session) == ("triage", '{"rounds":3}', None)
    assert ledger.approve(waiting.id).state == "approved"
    ledger.charge(ACCOUNT, EVENT, on, limits)
    ledger.charge(ACCOUNT, EVENT, replace(on, number=1), limits)
    assert ledger.pending() == ()


def test_an_approval_serves_one_session_and_just_what_was_asked(ledger):
    limits, on = Limits(approval=True), occasion(0, purpose="triage", plan="{}")
    with pytest.raises(NotApproved):
        ledger.require_room(ACCOUNT, EVENT, on, limits)
    ledger.approve(1)
    ledger.require_room(ACCOUNT, EVENT, on, limits)
    ledger.charge(ACCOUNT, EVENT, on, limits)
    changed = {
        "session": "another",
        "purpose": "marketing",
        "plan": '{"rounds":9}',
        "partner": "another",
        "collaboration": "search",
        "level": Level.TEXT,
    }
    for name, value in changed.items():
        with pytest.raises(NotApproved):
            ledger.charge(ACCOUNT, EVENT, replace(on, number=1, **{name: value}), limits)
    assert len(ledger.pending()) == len(changed)


def test_an_approval_taken_back_stops_a_session_that_runs(ledger):
    limits = Limits(approval=True)
    with pytest.raises(NotApproved):
        ledger.disclose(ACCOUNT, occasion(0), limits)
    ledger.approve(1)
    ledger.disclose(ACCOUNT, occasion(0), limits)
    ledger.withdraw(1)
    with pytest.raises(NotApproved):
        ledger.disclose(ACCOUNT, occasion(1), limits)
    kinds = [line.split('"kind":"')[1].split('"')[0] for line in ledger.lines()]
    assert kinds == ["approved", "opened", "disclosed", "withdrawn"]


def test_a_partner_cannot_fill_the_operators_list(ledger):
    for number in range(3 * MOST_WAITING):
        with pytest.raises(NotApproved):
            ledger.charge(ACCOUNT, EVENT, occasion(0, purpose=f"purpose {number}"), Limits(approval=True))
    assert len(ledger.pending()) == MOST_WAITING
    with pytest.raises(NotApproved):
        ledger.charge(ACCOUNT, EVENT, occasion(0, partner="another"), Limits(approval=True))
    assert len(ledger.pending()) == MOST_WAITING + 1


def test_terms_too_long_to_be_read_are_not_listed(ledger):
    with pytest.raises(Refused, match="4096"):
        ledger.charge(ACCOUNT, EVENT, occasion(0, plan="x" * 5000), Limits(approval=True))
    assert ledger.pending() == ()


def test_nothing_that_was_not_asked_for_can_be_approved(ledger):
    with pytest.raises(Refused, match="number 7"):
        ledger.approve(7)


def test_what_others_wrote_between_two_charges_is_not_missed(tmp_path):
    one, other = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db")
    asked = (ACCOUNT, EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average")
    one.charge(ACCOUNT, EVENT, occasion(0))
    one.decide(*asked)
    other.charge(Account("other data", BUDGET), EVENT, occasion(1))
    other.charge(ACCOUNT, GaussianDpEvent(5.0), occasion(2))
    one.charge(Account("other data", BUDGET), EVENT, occasion(3))
    assert one.decide(*asked).epsilon_now == one.statement(ACCOUNT).spent.epsilon


def test_what_a_refused_charge_would_have_changed_is_not_remembered(ledger):
    ward, clinic = (Account(name, BUDGET) for name in ("ward", "clinic"))
    charged = 0
    for account in (ward, clinic):
        with pytest.raises(BudgetExceeded):
            for charged in range(1000):
                ledger.charge(account, EVENT, occasion(charged, account.dataset))
    asked = (EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average")
    before = [ledger.decide(account, *asked) for account in (ward, clinic)]
    with pytest.raises(BudgetExceeded):
        ledger.charge(replace(ward, also=("clinic",)), EVENT, occasion(0, "both"))
    assert [ledger.decide(account, *asked) for account in (ward, clinic)] == before
