"""A real ledger as its operator sees it: what is enforced, what is certified, whose share, and what still fits."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from typer.testing import CliRunner

from client import metrics, page
from client.cli import app
from client.folder import Folder
from client.init import Wishes, init
from client.ledger_view import LAST, as_json, as_table, look
from privacy.config import ConfigError
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.refusal import BudgetExceeded, LedgerUnavailable, NotApproved
from privacy.units import Level, rounded_up

EVENT = PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0))
BIG = GaussianDpEvent(2.0)


class Home:
    """A home and its open ledger."""

    def __init__(self, root: Path) -> None:
        self.root, self.ledger = root, Ledger(root / "ledger.db")
        self.policy = Folder(root).policy
        self.policy.write_text(re.sub(r'partner = ".*?"', 'partner = "ed25519:aa"', self.policy.read_text()))
        self.account = Account("notes", Policy.load(Folder(root).policy).budget)

    def occasion(self, number: int, partner: str = "ed25519:aa", level: Level = Level.WEIGHTS) -> Occasion:
        return Occasion("canary-session", number, "average", level, partner, 3, purpose="canary-purpose")


@pytest.fixture
def home(invite: Callable[..., Path], model_folder: Path, records: Path, tmp_path: Path) -> Home:
    init(tmp_path / "home", Wishes(invite(), str(model_folder), records))
    return Home(tmp_path / "home")


def test_each_partners_share_says_how_many_more_of_its_last_event_fit_and_just_so_many_do(home: Home) -> None:
    for n in range(2):
        home.ledger.charge(home.account, BIG, home.occasion(n))
    (own,) = look(home.root).accounts
    (share,) = own.shares
    assert share.more is not None
    assert share.more > 0
    for n in range(share.more):
        home.ledger.charge(home.account, BIG, home.occasion(10 + n))
    assert look(home.root).accounts[0].shares[0].more == 0
    with pytest.raises(BudgetExceeded):
        home.ledger.charge(home.account, BIG, home.occasion(99))


def test_the_certified_epsilon_is_tighter_than_the_enforced_one_and_says_what_it_rests_on(home: Home) -> None:
    for n in range(20):
        home.ledger.charge(home.account, EVENT, home.occasion(n))
    seen = look(home.root)
    (own,) = seen.accounts
    assert own.certified is not None
    assert 0 < own.certified.epsilon < own.spent.epsilon < own.limit
    text = "\n".join(as_table(seen))
    assert "only if every event was fixed before any answer was seen" in text
    assert f"enforced   epsilon {rounded_up(own.spent.epsilon)}" in text


def test_disclosures_stand_apart_and_change_no_epsilon(home: Home) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    before = look(home.root).accounts[0].spent.epsilon
    home.ledger.disclose(home.account, home.occasion(1, "ed25519:bb", Level.TEXT))
    (own,) = look(home.root).accounts
    assert (own.spent.epsilon, own.charges, own.disclosures) == (before, 1, 1)
    assert {(s.partner, s.level, s.disclosures) for s in own.shares} == {
        ("ed25519:aa", Level.WEIGHTS, 0),
        ("ed25519:bb", Level.TEXT, 1),
    }


def test_answers_that_were_derived_from_earlier_charges_are_shown_as_such_and_cost_nothing(home: Home) -> None:
    def lines() -> tuple[str, str, str]:
        seen = look(home.root)
        return "\n".join(as_table(seen)), as_json(seen), page.draw({}, seen)

    home.ledger.charge(home.account, BIG, home.occasion(0))
    home.ledger.tie(home.occasion(0), "ab" * 32)  # kept at home: nothing has left
    before = look(home.root).accounts[0]
    assert before.answers_derived == 0
    assert not any("cost nothing more" in shown for shown in lines())
    for n in (1, 2):
        home.ledger.derive(home.account, home.occasion(n), "ab" * 32)
    home.ledger.derive(home.account, home.occasion(3, "ed25519:bb"), "ab" * 32)
    own = look(home.root).accounts[0]
    assert (own.spent, own.charges, own.disclosures) == (before.spent, 1, 0)
    assert {s.partner: own.derived_for(s) for s in own.shares} == {"ed25519:aa": 2, "ed25519:bb": 1}
    table, as_text, drawn = lines()
    assert "derived 3, answers made of what was charged earlier, or paid for with it: they cost nothing more" in table
    assert re.search(r"average +\S+ +\S+ +1 +2 +0 ", table)
    (told,) = json.loads(as_text)["accounts"]
    assert (told["derived"], [share["derived"] for share in told["shares"]]) == (3, [2, 1])
    assert "3 derived: answers made of what was charged earlier" in drawn


def test_what_waits_for_approval_and_the_last_lines_are_shown_and_no_more_than_those(home: Home) -> None:
    with pytest.raises(NotApproved):
        home.ledger.charge(home.account, BIG, home.occasion(0), Limits(approval=True))
    for n in range(1, 40):
        home.ledger.charge(home.account, EVENT, home.occasion(n))
    home.ledger.refuse(home.occasion(50), "BudgetExceeded")
    seen = look(home.root)
    assert [w.purpose for w in seen.waiting] == ["canary-purpose"]
    assert len(seen.last) == LAST < seen.lines
    assert seen.last[-1]["why"] == "BudgetExceeded"
    assert json.loads(as_json(seen))["last"][-1]["seq"] == seen.lines
    assert "BudgetExceeded" in as_table(seen)[-1]


def test_no_metric_of_a_real_ledger_names_whoever_took_part(home: Home) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0, "canary-partner"))
    home.ledger.refuse(home.occasion(1, "canary-partner"), "LevelForbidden")
    text = metrics.exposition({"loaded": True, "letters": 1, "silent": {}, "uptime_s": 1}, look(home.root))
    assert "canary" not in text
    assert "notes" not in text
    assert 'parley_level_charges_total{level="weights"} 1' in text


def test_an_account_that_the_policy_no_longer_fits_is_shown_as_it_was_opened_with_a_warning(home: Home) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    policy = Folder(home.root).policy
    policy.write_text(policy.read_text().replace("delta = 1e-5", "delta = 1e-6"))
    seen = look(home.root)
    assert seen.accounts[0].charges == 1
    assert "fixed for its life" in seen.wrong
    assert as_table(seen)[0].startswith("warning: the policy does not fit this account")


def test_a_lower_limit_in_the_policy_is_the_limit_that_is_shown(home: Home) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    policy = Folder(home.root).policy
    policy.write_text(policy.read_text().replace("epsilon = 8.0 ", "epsilon = 4.5 "))
    assert look(home.root).accounts[0].limit == 4.5


def test_a_look_writes_nothing_and_makes_no_ledger_where_there_is_none(home: Home) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    before = home.ledger.head()
    look(home.root)
    assert home.ledger.head() == before
    home.ledger.close()
    (home.root / "ledger.db").unlink()
    with pytest.raises(ConfigError, match="no such ledger"):
        look(home.root)
    (home.root / "ledger.db").write_bytes(b"not a database, canary")
    with pytest.raises(LedgerUnavailable) as broken:
        look(home.root)
    assert "canary" not in str(broken.value)


def _damage(home: Home, *statements: str) -> None:
    """Change the file as whoever holds it can: without the triggers."""
    with closing(sqlite3.connect(home.root / "ledger.db", isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def test_the_limit_of_a_share_is_the_one_that_the_policy_enforces_now(home: Home) -> None:
    home.ledger.say(home.account, home.occasion(0))
    home.ledger.charge(home.account, BIG, home.occasion(1), Limits(epsilon=6.0))
    home.ledger.charge(home.account, BIG, home.occasion(2, "ed25519:stranger"))
    before = home.policy.read_text()
    for epsilon, fits in ((3.0, False), (7.5, True)):
        home.policy.write_text(before.replace("# epsilon = 2.0 ", f"epsilon = {epsilon} "))
        mine, strangers = look(home.root).accounts[0].shares
        assert (mine.limit, bool(mine.more)) == (epsilon, fits)
        with nullcontext() if fits else pytest.raises(BudgetExceeded):
            home.ledger.require_room(home.account, BIG, home.occasion(3), Limits(epsilon=epsilon))
        assert (strangers.limit, strangers.more) == (0.0, 0)  # no entry allows it anything
    home.policy.write_text(before)
    assert look(home.root).accounts[0].shares[0].limit is None


def test_before_any_charge_a_share_shows_its_limit_too(home: Home) -> None:
    home.ledger.say(home.account, home.occasion(0))
    home.policy.write_text(home.policy.read_text().replace("# epsilon = 2.0 ", "epsilon = 2.0 "))
    assert look(home.root).accounts[0].shares[0].limit == 2.0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET line = 'hello' WHERE seq = 2",
        "UPDATE entries SET line = '{}' WHERE seq = 2",
        "UPDATE entries SET line = x'ff00ff' WHERE seq = 2",
        "UPDATE entries SET line = CAST(x'ff00ff' AS TEXT) WHERE seq = 2",
        "UPDATE accounts SET delta = 0.1",
        "UPDATE accounts SET orders = 3",
        "UPDATE accounts SET nats = 'x'",
        "UPDATE shares SET last_event = 'x'",
        "UPDATE shares SET level = 'x'",
    ],
)
def test_a_damaged_ledger_is_said_to_be_damaged_without_a_traceback(home: Home, statement: str) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    _damage(home, statement)
    told = CliRunner().invoke(app, ["ledger", str(home.root)])
    assert (told.exit_code, type(told.exception)) == (1, SystemExit), told.output
    with pytest.raises(LedgerUnavailable):
        look(home.root)


@pytest.mark.parametrize("statement", ["UPDATE accounts SET epsilon = 800", "UPDATE shares SET bytes = 1"])
def test_figures_that_no_line_bears_out_are_not_shown_without_a_word(home: Home, statement: str) -> None:
    home.ledger.charge(home.account, BIG, home.occasion(0))
    assert look(home.root).changed == ""
    _damage(home, statement)
    seen = look(home.root)
    assert seen.changed
    assert as_table(seen)[0].startswith("warning: somebody has changed this ledger")
    assert json.loads(as_json(seen))["changed"] == seen.changed
    assert "Somebody has changed this ledger" in page.draw({}, seen)
    assert "parley_ledger_matches 0" in metrics.exposition({"loaded": True, "silent": {}}, seen)
