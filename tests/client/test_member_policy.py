"""A policy is read back to its operator as it counts for the data; what waits for approval is shown safely."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from dp_accounting import GaussianDpEvent
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.approving import plan_lines
from client.cli import app
from client.folder import Folder
from client.init import Wishes, init
from client.policy_template import policy_toml
from client.settings import Settings
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.refusal import NotApproved
from privacy.units import Level, Relation

Invite = Callable[..., Path]


@pytest.fixture
def home(invite: Invite, model_folder: Path, records: Path, tmp_path: Path) -> Folder:
    """A clinic's home, as `init` makes it."""
    init(tmp_path / "home", Wishes(invite(), str(model_folder), records))
    return Folder(tmp_path / "home")


def parley(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def show(home: Folder) -> str:
    """Return what `parley member policy show` prints, in one line."""
    done = parley("policy", "show", home.root)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def write(home: Folder, text: str) -> Policy:
    home.policy.write_text(text, encoding="utf-8")
    return Policy.load(home.policy)


def edit(home: Folder, old: str, new: str) -> Policy:
    text = home.policy.read_text(encoding="utf-8")
    assert old in text
    return write(home, text.replace(old, new, 1))


def open_account(home: Folder, **changes: object) -> Budget:
    """Charge the home's data once, as the policy stands but for the changes."""
    settings = Settings.load(home.settings)
    budget = replace(Policy.load(home.policy).budget, **changes)  # type: ignore[arg-type]
    ledger = Ledger(settings.ledger_in(home.root))
    occasion = Occasion("s", 0, "average", Level.WEIGHTS, settings.coordinator.key, 3)
    ledger.charge(Account(settings.data.account, budget), GaussianDpEvent(20.0), occasion)
    ledger.close()
    return budget


def test_a_new_homes_policy_is_read_back_and_no_account_is_open(home: Folder) -> None:
    shown = show(home)
    assert "is in order" in shown
    assert "epsilon 8 at delta 1e-05, per record, add-or-remove; at most 1000 disclosures" in shown
    assert "no account is open yet" in shown
    assert "average at level weights, with at least 2 members" in shown


def test_an_open_account_is_shown_with_what_was_fixed_and_the_limit_that_counts(home: Folder) -> None:
    open_account(home, orders=(9.5, 12.0))
    assert "the account is open: epsilon 8 at delta 1e-05, add-or-remove, of 128 tokens a record" in show(home)
    assert "at orders 9.5, 12; the limit now is epsilon 8" in show(home)
    edit(home, "epsilon = 8.0", "epsilon = 3.0")
    assert "the limit now is epsilon 3" in show(home)
    assert "warning: the account" not in show(home)


def test_a_budget_that_was_raised_is_told_that_the_old_one_counts(home: Folder) -> None:
    open_account(home)
    edit(home, "epsilon = 8.0", "epsilon = 20.0")
    assert "the limit now is epsilon 8" in show(home)
    assert "warning: the account was opened with epsilon 8: that stays the limit" in show(home)


@pytest.mark.parametrize(
    ("opened", "key", "fixed"),
    [
        ({"relation": Relation.ZERO_OUT}, "relation", "zero-out"),
        ({"delta": 1e-6}, "delta", "1e-06"),
        ({"record_tokens": 64}, "record_tokens", "64"),
    ],
)
def test_what_the_open_account_has_fixed_otherwise_is_a_warning(
    home: Folder, opened: dict[str, object], key: str, fixed: str
) -> None:
    open_account(home, **opened)
    assert f"warning: the account is open with {key} {fixed}, which is fixed for its life" in show(home)


def test_orders_that_a_policy_names_and_the_account_does_not_have_are_a_warning(home: Folder) -> None:
    open_account(home, orders=(9.5,))
    assert "warning: the account is open" not in show(home)
    edit(home, "record_tokens = 128", "orders = [7.5]\nrecord_tokens = 128")
    assert "warning: the account is open with orders 9.5" in show(home)


def test_every_bound_of_a_permission_is_shown(home: Folder) -> None:
    bounds = """
epsilon = 9.5
least_noise = 0.5
redaction = "names"
releases_per_day = 20
bytes_per_day = 1000
disclosures = 10
expires = 2001-12-31
purposes = ["care", "research"]
approval = true
tells = ["count", "timing"]
"""
    edit(home, "smallest_crowd = 2 ", f"{bounds}\nsmallest_crowd = 2 ")
    shown = show(home)
    for words in (
        "only until the end of 2001-12-31 (UTC); only for the purpose care or research;",
        "only after your approval of each piece of work; epsilon 9.5 in all; noise of 0.5 at least;",
        "20 releases a day; 1000 bytes a day; 10 disclosures in all; text redacted by names;",
        "may be told: count, timing",
        "warning: a permission's epsilon is above the budget's",
        "warning: what is allowed at level weights ran out on 2001-12-31",
    ):
        assert words in shown


def test_what_is_unsafe_is_shown_in_capitals(home: Folder) -> None:
    unsafe = "unsafe_plain_sum = true\nunsafe_without_noise = true\nunsafe_unredacted_text = true\n"
    edit(home, "smallest_crowd = 2 ", f"{unsafe}smallest_crowd = 2 ")
    shown = show(home)
    assert "WITHOUT NOISE" in shown
    assert "NOT SUMMED" in shown
    assert "TEXT AS IT IS" in shown


def test_a_policy_that_is_wrong_is_named_by_its_key(home: Folder) -> None:
    home.policy.write_text(home.policy.read_text().replace("epsilon = 8.0", "epsilom = 8.0"))
    done = parley("policy", "show", home.root)
    assert done.exit_code == 2
    assert "nearest known: epsilon" in done.output


TEMPLATE = policy_toml("ed25519:somebody", "1e-5")
OFFERED = re.findall(r"^# (\w+) = ", TEMPLATE, re.M)


def test_the_template_offers_every_key_that_a_policy_has() -> None:
    keys = {*OFFERED, *re.findall(r"^(\w+) = ", TEMPLATE, re.M)}
    for kind in (Policy, Budget, Permission):
        left_out = {"relation", "orders"} if kind is Budget else {"budget", "allow"} if kind is Policy else set()
        assert set(kind.__dataclass_fields__) - left_out <= keys


@pytest.mark.parametrize("key", OFFERED)
def test_each_line_that_the_template_offers_works_when_its_mark_is_taken_away(home: Folder, key: str) -> None:
    before = write(home, TEMPLATE)
    after = write(home, re.sub(rf"^# ({key} = )", r"\1", TEMPLATE, count=1, flags=re.M))
    assert key in ("disclosures",) or after != before  # the one shown for the whole budget is what it is anyway


def test_a_plan_is_shown_term_by_term_in_plain_words() -> None:
    plan = json.dumps({"recipe": {"rounds": 20, "epsilon": None, "targets": ["q", "v"]}, "unsafe_plain_sum": True})
    assert plan_lines(plan) == [
        "recipe, rounds: 20",
        "recipe, epsilon: none",
        "recipe, targets: q, v",
        "unsafe plain sum: yes",
    ]
    assert plan_lines("") == plan_lines("{}") == ["no plan was given"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON.map(json.dumps) | st.text())
def test_nothing_that_a_partner_writes_into_a_plan_reaches_the_terminal_but_plain_characters(plan: str) -> None:
    for line in plan_lines(plan):
        assert line.isascii()
        assert line.isprintable()


@pytest.mark.parametrize(
    "plan",
    [
        "[" * 4000,
        '{"a":' * 600 + "1" + "}" * 600,
        '{"":' * 900 + "1" + "}" * 900,
        "[" * 900 + "]" * 900,
        json.dumps({f"k{i}": i for i in range(500)}),
        json.dumps({"a": "x" * 4000, "b" * 3000: 1}),
        json.dumps([["y" * 99] * 40] * 40),
        "1" * 4090,
        "NaN",
    ],
    ids=lambda plan: plan[:12],
)
def test_a_plan_that_would_fill_the_screen_is_cut(plan: str) -> None:
    lines = plan_lines(plan)
    assert len(lines) <= 61
    assert all(len(line) <= 500 for line in lines)


PLAN = json.dumps({"rounds": 20, "epsilon": 8.0})


def ask(home: Folder, **changes: object) -> bool:
    """Ask the home's ledger for a release that needs approval; return whether it was charged."""
    settings = Settings.load(home.settings)
    ledger = Ledger(settings.ledger_in(home.root))
    occasion = Occasion("s", 0, "average", Level.WEIGHTS, "ed25519:x", 3, purpose="care", plan=PLAN)
    account = Account(settings.data.account, Policy.load(home.policy).budget)
    try:
        ledger.charge(account, GaussianDpEvent(50.0), replace(occasion, **changes), Limits(approval=True))  # type: ignore[arg-type]
    except NotApproved:
        return False
    finally:
        ledger.close()
    return True


def test_work_waits_until_it_is_approved_and_approval_serves_one_session(home: Folder) -> None:
    assert parley("approve", home.root).output == "nothing waits for your approval\n"
    assert not ask(home)
    listed = parley("approve", home.root).output
    for words in ("1: average at level weights, since 2", "by ed25519:x", "for care", "rounds: 20", "epsilon: 8.0"):
        assert words in listed
    approved = parley("approve", home.root, 1)
    assert (approved.exit_code, "approved, for the first session" in approved.output) == (0, True)
    assert "approved before: 1, average at level weights, not used so far" in parley("approve", home.root).output
    assert ask(home)
    assert "in use by one session" in parley("approve", home.root).output
    assert not ask(home, session="another")


def test_other_terms_or_another_purpose_than_was_approved_wait_again(home: Folder) -> None:
    assert not ask(home)
    parley("approve", home.root, 1)
    assert not ask(home, plan=json.dumps({"rounds": 2000}))
    assert not ask(home, purpose="research")
    assert parley("approve", home.root).output.count(" since ") == 2


def test_an_approval_that_is_withdrawn_lets_nothing_out_any_more(home: Folder) -> None:
    assert not ask(home)
    parley("approve", home.root, 1)
    assert ask(home)
    assert parley("approve", home.root, "--withdraw", 1).exit_code == 0
    assert not ask(home, number=1)


@pytest.mark.parametrize("words", [(7,), ("--withdraw", 7)])
def test_a_number_that_nothing_has_is_an_error_and_approves_nothing(home: Folder, words: tuple[object, ...]) -> None:
    assert not ask(home)
    wrong = parley("approve", home.root, *words)
    assert wrong.exit_code in (1, 2)
    assert "Traceback" not in wrong.output
    assert not ask(home)


def test_what_a_partner_says_cannot_paint_over_what_the_operator_sees(home: Folder) -> None:
    assert not ask(home, purpose="care\x1b[2K\n2: approved", plan=json.dumps({"a\nb": "\u202ec"}))
    listed = parley("approve", home.root).output
    assert "\x1b" not in listed
    assert "for care\\x1b[2K\\x0a2: approved" in listed
    assert "a\\x0ab: \\u202ec" in listed


def test_what_waits_says_what_it_costs_whether_it_is_summed_and_that_its_noise_is_the_homes(home: Folder) -> None:
    assert not ask(home, summed=True, plan=json.dumps({"epsilon": 3.0, "noise_multiplier": None}))
    listed = parley("approve", home.root).output
    assert re.search(r"costs this data epsilon \d\.\d\d at delta \S+, per record, add-or-remove, by RDP", listed)
    assert "within a secure sum of 3 members" in listed
    assert "noise multiplier: calibrated at home" in listed
    parley("approve", home.root, 1)
    assert not ask(home, summed=False, plan=json.dumps({"epsilon": 3.0, "noise_multiplier": None}))
    assert "NOT SUMMED" in parley("approve", home.root).output
    assert "noise multiplier: none" in plan_lines(json.dumps({"epsilon": None, "noise_multiplier": None}))


def test_an_approval_is_withdrawn_once_and_not_while_another_is_given(home: Folder) -> None:
    assert not ask(home)
    both = parley("approve", home.root, 1, "--withdraw", 1)
    assert (both.exit_code, "not both at once" in both.output) == (2, True)
    assert "1: average" in parley("approve", home.root).output  # it still waits
    assert parley("approve", home.root, "--withdraw", 1).exit_code == 0
    again = parley("approve", home.root, "--withdraw", 1)
    assert (again.exit_code, "can be taken back" in again.output) == (2, True)


def test_a_new_home_does_not_promise_a_new_budget_for_a_new_name(home: Folder) -> None:
    assert "new name is a new budget" not in home.settings.read_text()
    assert "another is no new budget" in home.settings.read_text()
