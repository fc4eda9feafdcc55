"""A redactor hides what its settings name, says what it is worth, and lets text go through the gate alone."""

import json
from dataclasses import replace

import pytest

from privacy.gate import Disclosed, Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.redaction.measured import Measured, Protection, clopper_pearson
from privacy.redaction.redacted import Redacted
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import Settings, profile
from privacy.redaction.spans import Entity
from privacy.redaction.vault import Vault
from privacy.refusal import NotRedacted, RateExceeded
from privacy.units import Level

NOTE = (
    "Dear Anna Schmidt, we met Mr. Okonkwo of Initech Ltd in Kenya on 12 March 2020. "
    "Schmidt paid; anna schmidt did. Call +1 415 555 2671."
)
REDACTOR = Redactor()


def texts(redactor: Redactor, text: str = NOTE) -> list[str]:
    return [text[s.start : s.end] for s in redactor.find(text)]


def test_what_was_found_once_is_hidden_wherever_it_stands() -> None:
    left = REDACTOR.redact(NOTE, Vault("p")).text
    for secret in ("Anna", "Schmidt", "schmidt", "Okonkwo", "Initech", "Kenya", "2020", "2671"):
        assert secret not in left


def test_only_the_kinds_that_are_named_are_hidden() -> None:
    assert texts(Redactor(Settings("own", entities=(Entity.PHONE,)))) == ["+1 415 555 2671"]


def test_what_is_allowed_is_left_and_what_is_denied_is_hidden() -> None:
    own = Redactor(Settings("own", allow=("KENYA",), deny=("we met",)))
    assert "Kenya" not in texts(own)
    assert "we met" in texts(own)
    assert "we met" in texts(Redactor(Settings(deny=("We Met",))))


def test_an_own_pattern_is_hidden_as_custom() -> None:
    own = Redactor(Settings(patterns=(("ticket", r"\bTK-\d{4}\b"),)))
    assert [(s.kind, s.why) for s in own.find("see TK-1234")] == [(Entity.CUSTOM, "own pattern ticket")]


def test_a_threshold_of_a_kind_leaves_what_is_less_sure() -> None:
    assert texts(Redactor(Settings("own", thresholds={Entity.DATE: 0.5})), "on Tuesday") == []
    assert texts(REDACTOR, "on Tuesday") == ["Tuesday"]


def test_strict_hides_every_run_of_capitals_other_scripts_and_numbers() -> None:
    text = "the Blorptown Quandary met Жуковка with code 88231"
    assert texts(Redactor(profile("strict")), text) == ["Blorptown Quandary", "Жуковка", "88231"]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.9},
        {"entities": (Entity.PHONE,)},
        {"allow": ("x",)},
        {"strict": True},
        {"thresholds": {Entity.DATE: 0.9}},
    ],
)
def test_the_name_of_a_profile_stands_for_no_less_than_it(change: dict) -> None:
    with pytest.raises(ValueError, match="need another name"):
        replace(Settings(), **change)
    assert replace(Settings(), name="own", **change).name == "own"
    assert Settings(deny=("x",)).name == "default"


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"threshold": 0.0}, {"language": "xx"}, {"plugs": ("os",)}, {"allow": ("",)}]
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Settings(**{"name": "own", **wrong})


def test_redacted_text_has_no_guarantee_and_says_so() -> None:
    protection = REDACTOR.redact(NOTE, Vault("p")).protection
    record = json.loads(protection.as_json())
    assert (record["guarantee"], record["epsilon"], record["delta"], record["unit"]) == ("none", None, None, None)
    assert str(protection).startswith("guarantee: none.")
    with pytest.raises(ValueError, match="has none"):
        Protection("default", (), guarantee="dp")


def test_of_an_operators_own_settings_nothing_is_claimed() -> None:
    assert Redactor(Settings("own", threshold=0.9)).protection.measured == ()


def test_what_was_replaced_holds_no_value() -> None:
    redacted = REDACTOR.redact(NOTE, Vault("p"))
    assert "Schmidt" not in repr(redacted)
    assert all(redacted.text[r.at : r.at + len(r.token)] == r.token for r in redacted.replaced)
    assert sum(r.end - r.start for r in redacted.replaced) == pytest.approx(redacted.masked * len(NOTE))


def test_a_miss_rate_has_the_interval_of_clopper_and_pearson() -> None:
    assert clopper_pearson(0, 100) == (0.0, pytest.approx(0.0362167, abs=1e-6))
    assert clopper_pearson(10, 100) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)
    assert clopper_pearson(5, 5) == (pytest.approx(0.4781762, abs=1e-6), 1.0)
    assert "(10 of 100; 95 % interval 4.9% to 17.6%)" in str(Measured("notes", "names", 10, 100))
    with pytest.raises(ValueError, match="missed <= n"):
        Measured("notes", "names", 3, 2)


@pytest.fixture
def home(tmp_path):
    allowed = Permission(
        "p", Level.TEXT, ("ask",), unsafe_without_noise=True, unsafe_plain_sum=True, redaction="strict", disclosures=2
    )
    ledger = Ledger(tmp_path / "ledger.db", durable=False)
    account = Account("data", Budget(epsilon=1.0, delta=1e-5))
    gate = Gate(Policy(1, account.budget, (allowed,)), ledger, SystemRandomness())
    yield gate, account
    ledger.close()


def as_it_is(redacted):
    return redacted


def test_redacted_text_is_counted_and_capped_and_never_gets_an_epsilon(home) -> None:
    gate, account = home
    redacted = Redactor(profile("strict")).redact(NOTE, Vault("p"))
    for number in range(2):
        passed = gate.pass_on(redacted, account, Occasion("s", number, "ask", Level.TEXT, "p", 5), as_it_is)
        assert isinstance(passed, Disclosed)
        assert passed.value is redacted
    statement = gate.ledger.statement(account)
    assert (statement.disclosures, statement.charges, statement.spent.epsilon) == (2, 0, 0.0)
    with pytest.raises(RateExceeded):
        gate.pass_on(redacted, account, Occasion("s", 2, "ask", Level.TEXT, "p", 5), as_it_is)


def test_text_of_another_profile_does_not_pass_whatever_the_caller_says(home) -> None:
    gate, account = home
    redacted = REDACTOR.redact(NOTE, Vault("p"))
    with pytest.raises(NotRedacted):
        gate.pass_on(redacted, account, Occasion("s", 0, "ask", Level.TEXT, "p", 5, redaction="strict"), as_it_is)
    assert gate.ledger.statement(account).disclosures == 0


def test_a_redacted_text_is_made_by_a_redactor() -> None:
    assert isinstance(REDACTOR.redact(NOTE, Vault("p")), Redacted)


def test_a_text_that_is_cut_off_reports_only_what_was_replaced_in_what_is_left() -> None:
    whole = Redactor().redact("Write to ann@x.org and then, much later, to bob@y.org.", Vault("p"))
    cut = Redactor().redact("Write to ann@x.org and then, much later, to bob@y.org.", Vault("p"), longest=30)
    assert (len(whole.replaced), len(cut.replaced)) == (2, 1)
    assert all(cut.text[r.at :].startswith(r.token) for r in cut.replaced)
    assert len(cut.text) <= 30
