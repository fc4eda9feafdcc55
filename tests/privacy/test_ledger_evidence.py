"""What leaves is written down and signed before it leaves; what was written cannot be changed or put back unseen."""

import hashlib
import shutil
import sqlite3
import threading
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dp_accounting import GaussianDpEvent

from privacy.auditing import check
from privacy.books import schema
from privacy.books.releases import REFUSED_AN_HOUR
from privacy.ledger import Account, Ledger
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import LedgerUnavailable, RateExceeded, Refused, RolledBack
from privacy.units import Level

ACCOUNT = Account("data", Budget(epsilon=4.0, delta=1e-5))
EVENT = GaussianDpEvent(4.0)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ASKED, ANSWER, OTHER = (hashlib.sha256(x).digest() for x in (b"asked", b"answer", b"other"))
NOON = 1_800_000_000.0


def occasion(number: int, session: str = "s", partner: str = "partner") -> Occasion:
    return Occasion(session, number, "average", Level.WEIGHTS, partner, 3)


def emit(ledger, on, answer=ANSWER, size=100):
    return ledger.emit(on, ASKED, answer, size, KEY.sign, "me")


def genuine(key, data, signature):
    if key != "me":
        return False
    KEY.public_key().verify(signature, data)
    return True


def report(ledger):
    return check(ledger.lines(), ledger.heads(), genuine, trail=ledger.head().trail, every_signature=True)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_nothing_is_emitted_that_was_not_charged_disclosed_or_said(ledger):
    with pytest.raises(Refused, match="nothing was charged"):
        emit(ledger, occasion(0))
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    ledger.disclose(ACCOUNT, occasion(1))
    ledger.say(ACCOUNT, occasion(2))
    for number in range(3):
        emit(ledger, occasion(number))
    with pytest.raises(Refused, match="nothing was charged"):
        emit(ledger, occasion(0, "another session"))
    assert report(ledger).sound
    assert ledger.last_emitted("s") == 2
    assert ledger.last_emitted("another session") is None


def test_the_same_answer_again_is_no_second_emission_and_another_answer_is_refused(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    first = emit(ledger, occasion(0))
    lines = list(ledger.lines())
    assert emit(ledger, occasion(0)) == first
    with pytest.raises(Refused, match="another answer"):
        emit(ledger, occasion(0), OTHER)
    assert list(ledger.lines()) == lines
    assert ledger.emitted("s", 0) == ANSWER
    assert ledger.emitted("s", 1) is None


def test_an_occasion_whose_answer_has_left_is_not_charged_disclosed_or_said_again(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    emit(ledger, occasion(0))
    for again in (ledger.disclose, ledger.say):
        with pytest.raises(Refused, match="second look"):
            again(ACCOUNT, occasion(0))
    with pytest.raises(Refused, match="second look"):
        ledger.charge(ACCOUNT, EVENT, occasion(0))  # not even the same: it would be drawn again


def test_an_emission_whose_signature_fails_is_none(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))

    def no_key(_data):
        raise RuntimeError("no key")

    with pytest.raises(RuntimeError):
        ledger.emit(occasion(0), ASKED, ANSWER, 1, no_key, "me")
    assert ledger.emitted("s", 0) is None
    emit(ledger, occasion(0))
    assert report(ledger).sound


def test_a_metric_beside_an_answer_is_a_disclosure_of_its_own(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    ledger.disclose(ACCOUNT, occasion(0), kind="metric")
    ledger.disclose(ACCOUNT, occasion(0), kind="metric")
    with pytest.raises(Refused, match="something else"):
        ledger.disclose(ACCOUNT, occasion(0), kind="text")
    assert ledger.statement(ACCOUNT).disclosures == 1


def test_what_is_said_costs_nothing_and_is_no_release(ledger):
    ledger.say(ACCOUNT, occasion(0))
    statement = ledger.statement(ACCOUNT)
    assert (statement.charges, statement.disclosures, statement.spent.epsilon) == (0, 0, 0.0)
    assert list(ledger.entries()) == []


def test_more_bytes_than_a_day_may_have_do_not_leave(tmp_path):
    now = [NOON]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0])
    limits = Limits(bytes_per_day=250)
    for number in range(3):
        ledger.charge(ACCOUNT, EVENT, occasion(number), limits)
    emit(ledger, occasion(0))
    emit(ledger, occasion(1))
    with pytest.raises(RateExceeded, match="300 bytes"):
        emit(ledger, occasion(2))
    assert ledger.emitted("s", 2) is None
    now[0] += 24 * 3600 - 60
    with pytest.raises(RateExceeded):
        emit(ledger, occasion(2))
    now[0] += 180
    emit(ledger, occasion(2))
    assert ledger.statement(ACCOUNT).shares[0].bytes == 300


def test_a_counterparts_receipt_is_kept_once_and_only_for_what_left(ledger):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    with pytest.raises(Refused, match="did not leave"):
        ledger.receipt("s", 0, ANSWER, b"signed", "partner")
    emit(ledger, occasion(0))
    with pytest.raises(Refused, match="did not leave"):
        ledger.receipt("s", 0, OTHER, b"signed", "partner")
    ledger.receipt("s", 0, ANSWER, b"signed", "partner")
    ledger.receipt("s", 0, ANSWER, b"signed", "partner")
    assert sum('"kind":"receipt"' in line for line in ledger.lines()) == 1


def test_refusals_are_listed_until_they_would_fill_the_disk_and_then_counted(tmp_path):
    now = [NOON]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0], durable=False)
    for number in range(500):
        ledger.refuse(occasion(number), "BudgetExceeded")
    assert ledger.head().seq == REFUSED_AN_HOUR
    ledger.refuse(occasion(0, partner="another"), "LevelForbidden")
    assert ledger.head().seq == REFUSED_AN_HOUR + 1
    now[0] += 3600
    ledger.refuse(occasion(500), "BudgetExceeded")
    assert f'"count":{500 - REFUSED_AN_HOUR + 1},' in list(ledger.lines())[-1]


def test_a_stranger_with_many_names_does_not_fill_the_disk_with_refusals(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: NOON, durable=False)
    for number in range(2000):
        ledger.refuse(occasion(0, partner=f"name {number}"), "LevelForbidden")
    assert ledger.head().seq < 200


def test_a_refusal_is_named_by_its_class_and_by_nothing_else(ledger):
    with pytest.raises(ValueError, match="class"):
        ledger.refuse(occasion(0), "the patient's name is")
    assert ledger.head().seq == 0


def test_a_clock_that_goes_backwards_makes_no_line_older_and_no_day_longer(tmp_path):
    now = [NOON]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0])
    limits = Limits(releases_per_day=2)
    ledger.charge(ACCOUNT, EVENT, occasion(0), limits)
    now[0] -= 10 * 24 * 3600
    ledger.charge(ACCOUNT, EVENT, occasion(1), limits)
    with pytest.raises(RateExceeded):
        ledger.charge(ACCOUNT, EVENT, occasion(2), limits)
    times = [entry.at for entry in ledger.entries()]
    assert times == sorted(times)
    assert report(ledger).sound


def test_a_copy_that_is_put_back_is_older_than_the_head_that_was_seen(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    emit(ledger, occasion(0))
    ledger.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.charge(ACCOUNT, EVENT, occasion(1))
    head = emit(ledger, occasion(1)).head
    ledger.require_head(head)
    copy = Ledger(tmp_path / "copy.db")
    with pytest.raises(RolledBack, match="3 lines, and was seen with 5"):
        copy.require_head(head)
    copy.disclose(ACCOUNT, occasion(7))
    copy.disclose(ACCOUNT, occasion(8))  # as long again, and not the same
    with pytest.raises(RolledBack, match="others than were seen"):
        copy.require_head(head)


def test_another_ledger_is_not_the_one_that_was_seen(tmp_path):
    one, other = Ledger(tmp_path / "one.db"), Ledger(tmp_path / "other.db")
    one.require_head(one.head())
    with pytest.raises(RolledBack, match="another ledger"):
        other.require_head(one.head())


def unlocked(file):
    """Whoever owns the file can drop the triggers."""
    db = sqlite3.connect(file)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    return db


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM entries WHERE seq = 2",
        "DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)",
        "UPDATE entries SET line = replace(line, 'noise_multiplier', 'noise_multiplies') WHERE seq = 2",
        "UPDATE entries SET line = replace(line, '\"crowd\":3', '\"crowd\":9')",
        "UPDATE entries SET seq = -seq WHERE seq IN (2, 4); UPDATE entries SET seq = 6 + seq WHERE seq < 0",
    ],
)
def test_a_tampered_ledger_does_not_verify(ledger, tmp_path, tampering):
    for number in range(3):
        ledger.charge(ACCOUNT, EVENT, occasion(number))
        emit(ledger, occasion(number))
    heads = ledger.heads()
    assert report(ledger).sound
    with unlocked(tmp_path / "ledger.db") as db:
        for statement in tampering.split("; "):
            db.execute(statement)
    assert not check(ledger.lines(), heads, genuine, trail=ledger.head().trail).sound


def test_a_total_that_was_lowered_is_found_to_be_no_sum_of_its_lines(ledger, tmp_path):
    ledger.charge(ACCOUNT, EVENT, occasion(0))
    ledger.charge(ACCOUNT, EVENT, occasion(1))
    ledger.require_totals()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("UPDATE accounts SET nats = '1'")
    with pytest.raises(LedgerUnavailable, match="not the sum"):
        ledger.require_totals()


def test_a_truncated_file_is_a_refusal(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    for number in range(20):
        ledger.disclose(ACCOUNT, occasion(number))
    ledger.close()
    data = (tmp_path / "ledger.db").read_bytes()
    (tmp_path / "ledger.db").write_bytes(data[: len(data) // 2 // 4096 * 4096])

    def use():
        ledger = Ledger(tmp_path / "ledger.db")
        ledger.disclose(ACCOUNT, occasion(100))
        return list(ledger.lines())

    with pytest.raises(LedgerUnavailable):
        use()


def test_a_ledger_of_another_version_is_not_written_to(tmp_path):
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    with pytest.raises(LedgerUnavailable, match="version"):
        Ledger(tmp_path / "ledger.db")


def test_jobs_of_many_threads_commit_together_and_a_refused_one_takes_back_only_itself(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    gate, slow = threading.Event(), threading.Thread(target=lambda: ledger._writer.run(lambda _book: gate.wait(10)))
    slow.start()
    while not ledger._writer._lock.locked():
        time.sleep(0.001)
    outcomes = {}

    def spend(number):
        try:
            outcomes[number] = ledger.charge(ACCOUNT, GaussianDpEvent(2.0), occasion(number)).seq
        except Refused:
            outcomes[number] = None

    threads = [threading.Thread(target=spend, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    while len(ledger._writer._waiting) < 20:
        time.sleep(0.001)
    gate.set()
    for thread in (slow, *threads):
        thread.join()
    won = [seq for seq in outcomes.values() if seq]
    assert 0 < len(won) < 20
    assert ledger.statement(ACCOUNT).charges == len(won) == len(set(won))
    assert {entry.at for entry in ledger.entries()} == {next(ledger.entries()).at}  # one transaction, one time
    ledger.require_totals()
    assert report(ledger).sound


def test_a_canary_in_every_field_is_in_no_error(tmp_path):
    canary = "CANARY-7f3a"
    on = Occasion(
        canary, 0, canary, Level.WEIGHTS, canary, 3, (canary,), purpose=canary, plan=f'"{canary}"', redaction=canary
    )
    account = Account(canary, ACCOUNT.budget)
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.charge(account, EVENT, on)
    ledger.emit(on, ASKED, ANSWER, 1, KEY.sign, canary)
    later = replace(on, number=1)
    attempts = [
        lambda: ledger.charge(account, EVENT, on),
        lambda: ledger.charge(account, GaussianDpEvent(0.1), later),
        lambda: ledger.charge(account, EVENT, later, Limits(epsilon=1e-6)),
        lambda: ledger.charge(account, EVENT, later, Limits(releases_per_day=0)),
        lambda: ledger.charge(account, EVENT, later, Limits(approval=True)),
        lambda: ledger.charge(Account(canary, replace(account.budget, delta=1e-6)), EVENT, later),
        lambda: ledger.charge(account, EVENT, replace(later, session=canary * 9000)),
        lambda: ledger.charge(account, EVENT, replace(later, plan=canary * 900), Limits(approval=True)),
        lambda: ledger.disclose(account, later, Limits(disclosures=0)),
        lambda: ledger.emit(on, ASKED, OTHER, 1, KEY.sign, canary),
        lambda: ledger.emit(later, ASKED, OTHER, 1, KEY.sign, canary),
        lambda: ledger.receipt(canary, 9, OTHER, b"", canary),
        lambda: ledger.refuse(later, canary),
        lambda: ledger.note(canary, {canary: canary}),
        lambda: ledger.note("policy", {canary: canary}),
        lambda: ledger.require_head(replace(ledger.head(), seq=99)),
        lambda: ledger.recognise(canary * 99, [canary]),
    ]
    for attempt in attempts:
        with pytest.raises((Refused, ValueError)) as said:
            attempt()
        assert canary not in f"{said.value!r} {said.value.__cause__!r} {said.value.__context__!r}"


def test_nobody_else_may_read_a_ledger_also_not_one_that_was_restored(tmp_path):
    file = tmp_path / "ledger.db"
    Ledger(file).close()
    file.chmod(0o644)
    Ledger(file).close()
    assert file.stat().st_mode & 0o777 == 0o600
