"""Whoever changes what the ledger decides by, and cannot change its signed lines, is found by those lines."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

from privacy.books import schema
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import LedgerUnavailable, NotApproved
from privacy.units import Level

BUDGET = Budget(epsilon=8.0, delta=1e-5)
ACCOUNT = Account("notes", BUDGET)
BOTH = Account("more", BUDGET, ("notes",))
EVENT = GaussianDpEvent(8.0)
ON = Occasion("s", 0, "average", Level.WEIGHTS, "p", 3, summed=True, purpose="care", plan='{"rounds":2}')
LETTER = replace(ON, crowd=7, summed=False, plan="", purpose="")


def emit(ledger, number):
    ledger.emit(replace(LETTER, number=number), bytes(32), bytes([number]) * 32, 100, lambda _: bytes(64), "key")


@pytest.fixture
def file(tmp_path):
    """A ledger with all that can be in one, closed."""
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.charge(ACCOUNT, EVENT, ON)
        emit(ledger, 0)
        ledger.disclose(ACCOUNT, replace(ON, number=1))
        emit(ledger, 1)
        ledger.say(ACCOUNT, replace(ON, number=2, partner="r"))
        ledger.charge(Account("more", BUDGET), GaussianDpEvent(9.0), replace(ON, number=3, partner="q"))
        ledger.charge(BOTH, EVENT, replace(ON, number=4))
        ledger.disclose(BOTH, replace(ON, number=5, partner="q"))
        for purpose in ("to wait", "to be approved", "to be withdrawn"):
            with pytest.raises(NotApproved):
                ledger.charge(ACCOUNT, EVENT, replace(ON, number=9, purpose=purpose), Limits(approval=True))
        ledger.approve(2)
        ledger.withdraw(3)
        assert ledger.contradiction() == ""
    return tmp_path / "ledger.db"


def found(file, *statements):
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
    with closing(Ledger(file)) as ledger:
        with pytest.raises(LedgerUnavailable):
            ledger.require_totals()
        try:
            return ledger.contradiction()
        except LedgerUnavailable as broken:
            return str(broken)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE accounts SET epsilon = 800", "opened"),
        ("UPDATE accounts SET epsilon = 8000", "opened"),
        ("UPDATE accounts SET dataset = 'old' WHERE dataset = 'more'", "another place"),
        ("UPDATE accounts SET delta = 0.1", "opened"),
        ("UPDATE accounts SET reserved = 1e-6", "opened"),
        ("UPDATE accounts SET orders = '[3.0]'", "opened"),
        ("UPDATE accounts SET orders = 3", "opened"),
        ("UPDATE accounts SET record_tokens = 2", "opened"),
        ("UPDATE accounts SET relation = 'zero-out'", "opened"),
        ("UPDATE accounts SET most_disclosures = 1e8", "opened"),
        ("INSERT INTO accounts SELECT 9, 'new', unit, relation, 99, delta, reserved, orders, record_tokens,"
         " most_disclosures, '0', 0, 0, 0 FROM accounts WHERE id = 1", "opened"),
        ("DELETE FROM accounts WHERE dataset = 'more'", "another place"),
        ("UPDATE shares SET bytes = 1 WHERE partner = 'p'", "total"),
        ("UPDATE shares SET last_event = NULL", "total"),
        ("UPDATE shares SET last_event = '{\"kind\":\"gaussian\",\"noise_multiplier\":99.0}'", "total"),
        ("UPDATE shares SET partner = 'x' WHERE partner = 'p'", "another place"),
        ("UPDATE shares SET level = 'text'", "another place"),
        ("DELETE FROM shares WHERE partner = 'r'", "another place"),
        ("UPDATE entries SET kind = 'said' WHERE kind = 'disclosed'", "another place"),
        ("UPDATE entries SET slot = NULL WHERE kind = 'emitted'", "another place"),
        ("UPDATE entries SET session = 'other' WHERE seq = 2", "another place"),
        ("UPDATE entries SET kind = 'note' WHERE kind = 'opened'", "another place"),
        ("INSERT INTO approvals (at, state, partner, collaboration, level, purpose, plan, summed)"
         " VALUES ('2030', 'approved', 'p', 'average', 'weights', '', '{}', 1)", "approval"),
        ("UPDATE approvals SET state = 'approved' WHERE id = 1", "approval"),
        ("UPDATE approvals SET state = 'approved' WHERE id = 3", "approval"),
        ("UPDATE approvals SET plan = '{\"rounds\":2000}' WHERE id = 2", "approval"),
        ("UPDATE approvals SET partner = 'x' WHERE id = 2", "approval"),
        ("UPDATE approvals SET summed = 0 WHERE id = 2", "approval"),
        ("DELETE FROM approvals WHERE id = 3", "approval"),
    ],
    ids=lambda words: words[:48],
)  # fmt: skip
def test_a_budget_an_account_a_share_or_an_approval_that_was_changed_in_the_file_is_found(file, statement, words):
    assert words in found(file, statement)


def test_an_account_that_no_longer_counts_what_it_shares_with_another_is_found(file):
    with closing(sqlite3.connect(file)) as db:
        (other,) = db.execute("SELECT id FROM accounts WHERE dataset = 'notes'").fetchone()
        of_p = "SELECT nats, extra FROM shares WHERE partner = 'p' AND account = ?"
        (nats, extra) = db.execute(of_p, (other,)).fetchone()
    half = [str(int(n) // 2) for n in nats.split(",")]  # two equal charges to p: one is forgotten
    wrong = found(
        file,
        f"DELETE FROM belongs WHERE account = {other}",
        f"DELETE FROM shares WHERE account = {other} AND partner = 'q'",
        f"UPDATE shares SET nats = '{','.join(half)}', extra = {extra}, charges = 1 WHERE partner = 'p'"
        f" AND account = {other}",
        f"UPDATE accounts SET nats = '{','.join(half)}', charges = 1, disclosures = 1 WHERE id = {other}",
    )
    assert wrong == "an account does not count a release that concerned it too"


def test_the_line_of_an_answer_says_on_which_terms_it_was_paid_for_and_not_what_the_letter_knew(file):
    with closing(Ledger(file)) as ledger:
        told = [json.loads(line) for line in ledger.lines()]
    charged, emitted = (next(line for line in told if line["kind"] == kind) for kind in ("charged", "emitted"))
    for name in ("summed", "crowd", "plan", "purpose", "account"):
        assert emitted[name] == charged[name]
    assert emitted["summed"] is True
    assert emitted["crowd"] == 3


def test_an_approval_of_a_sum_is_none_for_values_by_themselves(file):
    with closing(Ledger(file)) as ledger:
        asked = replace(ON, number=9, purpose="to be approved")
        with pytest.raises(NotApproved):
            ledger.charge(ACCOUNT, EVENT, replace(asked, summed=False), Limits(approval=True))
        ledger.charge(ACCOUNT, EVENT, asked, Limits(approval=True))


def test_what_waits_says_what_it_will_cost_by_the_very_account_that_is_charged(tmp_path):
    account = Account("notes", replace(BUDGET, orders=(3.0,)))
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        with pytest.raises(NotApproved):
            ledger.require_room(account, SelfComposedDpEvent(EVENT, 2), ON, Limits(approval=True))
        (waiting,) = ledger.pending()
        assert (waiting.crowd, waiting.summed) == (3, True)
        ledger.approve(waiting.id)
        for number in range(2):
            ledger.charge(account, EVENT, replace(ON, number=number), Limits(approval=True))
        assert waiting.cost == f"{ledger.statement(account).spent}, for the whole run"
        with pytest.raises(NotApproved):
            ledger.disclose(account, replace(ON, number=7, session="t"), Limits(approval=True))
        assert ledger.pending()[0].cost == "no epsilon: a disclosure"


def test_a_ledger_of_the_version_before_is_carried_over_and_its_approvals_are_asked_for_anew(file):
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for column in ("crowd", "summed", "cost"):
            db.execute(f"ALTER TABLE approvals DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 2")
    with closing(Ledger(file)) as ledger:
        assert [(a.id, a.state, a.summed, a.cost) for a in ledger.approvals()][1] == (2, "approved", None, None)
        with pytest.raises(NotApproved):
            ledger.charge(ACCOUNT, EVENT, replace(ON, number=9, purpose="to be approved"), Limits(approval=True))
        assert ledger.statement(ACCOUNT).charges == 3
    with closing(schema.connect(file, reading=True)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION


def test_what_was_derived_of_a_charge_stands_where_its_line_says(tmp_path):
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.charge(ACCOUNT, EVENT, ON)
        ledger.tie(ON, "ab" * 32)
        later = replace(ON, number=1, partner="q")
        with pytest.raises(NotApproved):
            ledger.derive(ACCOUNT, later, "ab" * 32, Limits(approval=True))
        assert ledger.pending()[0].cost == "nothing: it was charged when it was made"
        ledger.derive(ACCOUNT, later, "ab" * 32)
        assert ledger.contradiction() == ""
    assert "another place" in found(tmp_path / "ledger.db", "UPDATE entries SET slot = 'artefact' WHERE number = 1")
