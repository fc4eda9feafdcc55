"""The data owns the budget: the same documents under another name, or in another data set, draw on the same one."""

import hashlib
import os
import sqlite3
import tracemalloc
import unicodedata

import pytest
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import strategies as st

from privacy.books.fingerprint import fingerprint
from privacy.ledger import Account, Ledger
from privacy.limits import NO_LIMITS, Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import BudgetExceeded, RateExceeded
from privacy.units import Level

BUDGET = Budget(epsilon=4.0, delta=1e-5)
EVENT = GaussianDpEvent(4.0)
NOTES = [f"note {n} of the ward" for n in range(10)]


def occasion(number: int, session: str = "s", partner: str = "partner") -> Occasion:
    return Occasion(session, number, "average", Level.WEIGHTS, partner, 3)


def account(names):
    return Account(names[0], BUDGET, names[1:])


def spent(ledger, name):
    return ledger.statement(Account(name, BUDGET)).spent.epsilon


def charged_until_refused(ledger, of, session="s"):
    count = 0
    with pytest.raises(BudgetExceeded):
        for count in range(1000):
            ledger.charge(of, EVENT, occasion(count, session))
    return count


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.db", durable=False)
    yield opened
    opened.close()


def test_the_same_documents_under_another_name_have_no_second_budget(ledger):
    first = ledger.recognise("ward", NOTES)
    again = ledger.recognise("clinic", reversed(NOTES))
    assert first == again == ("ward",)
    charged_until_refused(ledger, account(first))
    assert charged_until_refused(ledger, account(again), "other") == 0


@pytest.mark.parametrize(
    "disguise",
    [
        str.upper,
        lambda text: text.replace(" ", "\n\t  "),
        lambda text: f"  {text}\u00a0",
        lambda text: unicodedata.normalize("NFKD", text),
        lambda text: text.replace("i", "\uff49"),  # a full-width letter
    ],
)
def test_documents_in_disguise_are_recognised(ledger, disguise):
    texts = [f"{note} è finito" for note in NOTES]
    ledger.recognise("ward", texts)
    assert ledger.recognise("clinic", map(disguise, texts)) == ("ward",)


def test_a_growing_data_set_keeps_its_account_also_under_another_name(ledger):
    ledger.recognise("ward", NOTES[:5])
    assert ledger.recognise("ward", NOTES) == ("ward",)
    assert ledger.recognise("all of it", [*NOTES, "one more"]) == ("ward",)
    assert ledger.recognise("a part", NOTES[3:7]) == ("ward",)
    assert ledger.recognise("all of it", ["quite another"]) == ("ward",)  # a name once known stays what it is


def test_a_data_set_that_shares_one_document_is_charged_with_the_other(ledger):
    ward = account(ledger.recognise("ward", NOTES))
    mixed = account(ledger.recognise("mixed", ["something else", NOTES[0]]))
    assert mixed == Account("mixed", BUDGET, ("ward",))
    ledger.charge(mixed, EVENT, occasion(0))
    assert spent(ledger, "ward") == spent(ledger, "mixed") > 0
    assert ledger.recognise("ward", NOTES) == ("ward", "mixed")  # and the other way round
    ledger.charge(account(("ward", "mixed")), EVENT, occasion(1))
    ledger.charge(ward, EVENT, occasion(2))
    assert ledger.statement(Account("mixed", BUDGET)).charges == 2
    assert ledger.statement(Account("ward", BUDGET)).charges == 3
    ledger.require_totals()


def test_all_accounts_that_a_release_concerns_have_to_have_room(ledger):
    charged_until_refused(ledger, Account("ward", BUDGET))
    both = Account("mixed", BUDGET, ("ward",))
    with pytest.raises(BudgetExceeded):
        ledger.charge(both, EVENT, occasion(0, "other"))
    assert not ledger.decide(both, EVENT, NO_LIMITS, "partner", Level.WEIGHTS, "average").fits
    assert spent(ledger, "mixed") == 0
    ledger.charge(Account("mixed", BUDGET), EVENT, occasion(0, "other"))


def test_what_was_charged_before_data_sets_were_known_to_overlap_counts_in_both(ledger):
    for number in range(3):
        ledger.charge(Account("ward", BUDGET), EVENT, occasion(number, "w"), Limits(epsilon=3.9))
    ledger.charge(Account("clinic", BUDGET), GaussianDpEvent(8.0), occasion(0, "c", "another"))
    ledger.disclose(Account("clinic", BUDGET), occasion(1, "c", "another"))
    ledger.charge(Account("clinic", BUDGET, ("ward",)), EVENT, occasion(9))
    one, other = (ledger.statement(Account(name, BUDGET)) for name in ("ward", "clinic"))
    assert (one.charges, one.disclosures) == (other.charges, other.disclosures) == (5, 1)
    assert one.spent.epsilon == other.spent.epsilon
    assert ledger.events(Account("ward", BUDGET)) == ledger.events(Account("clinic", BUDGET))
    assert {(s.partner, s.charges, s.disclosures) for s in one.shares} == {("partner", 4, 0), ("another", 1, 1)}
    assert {s.epsilon for s in one.shares} == {s.epsilon for s in other.shares}
    ledger.require_totals()
    ledger.charge(Account("ward", BUDGET, ("clinic",)), EVENT, occasion(10))  # joined once, and not again
    assert ledger.statement(Account("ward", BUDGET)).charges == 6
    ledger.require_totals()


def test_of_three_data_sets_each_release_is_counted_once_in_each(ledger):
    a, b, c = ("a", "b", "c")
    ledger.charge(Account(a, BUDGET), EVENT, occasion(0))
    ledger.charge(Account(b, BUDGET, (a,)), EVENT, occasion(1))
    ledger.charge(Account(c, BUDGET, (a, b)), EVENT, occasion(2))
    assert [ledger.statement(Account(name, BUDGET)).charges for name in (a, b, c)] == [3, 3, 3]
    ledger.require_totals()


def test_rates_hold_for_every_data_set_that_a_release_concerns(ledger):
    limits = Limits(releases_per_day=2)
    ledger.charge(Account("ward", BUDGET), EVENT, occasion(0), limits)
    ledger.charge(Account("mixed", BUDGET, ("ward",)), EVENT, occasion(1), limits)
    with pytest.raises(RateExceeded):
        ledger.charge(Account("third", BUDGET, ("ward",)), EVENT, occasion(2), limits)


def test_documents_leave_nothing_but_fingerprints_in_the_file(ledger, tmp_path):
    canary = "the patient Canary-7f3a has measles"
    ledger.recognise("ward", [canary])
    ledger.charge(Account("ward", BUDGET), EVENT, occasion(0))
    for file in tmp_path.iterdir():
        data = file.read_bytes().lower()
        assert b"canary" not in data
        assert hashlib.sha256(canary.encode()).digest() not in data  # keyed: a list of guesses is no use without it
    prints = sqlite3.connect(tmp_path / "ledger.db").execute("SELECT print FROM fingerprints").fetchall()
    assert [len(print_) for (print_,) in prints] == [16]


def test_two_ledgers_have_other_fingerprints_of_one_document():
    assert fingerprint(b"one key", "a note") != fingerprint(b"another", "a note")


@given(text=st.text())
def test_any_text_has_a_fingerprint_that_does_not_hang_on_space_and_case(text):
    print_ = fingerprint(b"key", text)
    assert print_ == fingerprint(b"key", f"\n {text} ")
    assert (print_ is None) == (not unicodedata.normalize("NFKC", text).split())


def test_empty_documents_make_no_two_data_sets_one(ledger):
    assert ledger.recognise("ward", ["", "  ", "a note"]) == ("ward",)
    assert ledger.recognise("bank", ["", "\n", "an account"]) == ("bank",)
    assert ledger.recognise("empty", [""]) == ("empty",)


def test_many_documents_are_recognised_in_bounded_memory(ledger):
    def documents():
        for n in range(60_000):
            yield f"{n} {os.urandom(8).hex()}"

    tracemalloc.start()
    try:
        ledger.recognise("ward", documents())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
