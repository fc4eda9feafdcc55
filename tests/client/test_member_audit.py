"""An auditor with a public key finds what was done to a ledger or to an export of it, and learns no value."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from dp_accounting import GaussianDpEvent
from typer.testing import CliRunner

from client.audit import check_proof, export, reconcile, verify
from client.audit_cli import audit
from client.folder import Folder
from client.init import Wishes, init
from client.opening import identity_of, open_home
from client.settings import Settings
from client.trails import opened, read_export
from privacy.config import ConfigError
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion, mark
from privacy.policy import Budget
from privacy.trail import HEAD_LABEL, SignedHead, line
from privacy.units import Level
from protocols.keys import Identity
from protocols.post import TAKEN, taken_bytes

Invite = Callable[..., Path]
ACCOUNT = Account("notes", Budget(8.0, 1e-5))


class Home:
    """A home as `init` makes it, on whose ledger letters are answered."""

    def __init__(self, root: Path, invitation: Path, model: Path, records: Path, ledger: Path | None = None) -> None:
        init(root, Wishes(invitation, str(model), records, ledger=ledger))
        self.root, self.folder = root, Folder(root)
        self.identity = identity_of(self.folder)
        self.key = str(self.identity.public)
        self.ledger = ledger or root / "ledger.db"

    def answer(self, coordinator: Identity, numbers: range, member: str, session: str = "s", **more: object) -> None:
        """Charge and emit letters of a session; every second one is acknowledged by the coordinator."""
        partner = str(coordinator.public)
        who = mark(partner, member, self.key)
        with closing(Ledger(self.ledger)) as ledger:
            for n in numbers:
                occasion = Occasion(f"{session}@{who}", n, "average", Level.WEIGHTS, partner, 3, plan='{"rounds":2}')
                occasion = replace(occasion, **more)
                ledger.charge(ACCOUNT, GaussianDpEvent(30.0), occasion)
                answer = hashlib.sha256(f"{member}{n}".encode()).digest()
                ledger.emit(occasion, bytes(32), answer, 10, lambda d: self.identity.sign(HEAD_LABEL, d), self.key)
                if n % 2:
                    told = taken_bytes(session, n, member, answer)
                    signed = coordinator.sign(TAKEN, told)
                    ledger.receipt(occasion.session, n, answer, signed, partner)

    def tamper(self, *statements: str, file: Path | None = None) -> None:
        """Change the file as whoever holds it can: without the triggers."""
        with closing(sqlite3.connect(file or self.ledger, isolation_level=None)) as db:
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                db.execute(statement)


@pytest.fixture
def home(invite: Invite, model_folder: Path, records: Path, tmp_path: Path, coordinator: Identity) -> Home:
    made = Home(tmp_path / "clinic", invite(), model_folder, records)
    made.answer(coordinator, range(6), "clinic")
    return made


def parley(*words: object) -> Result:
    return CliRunner().invoke(audit, [str(w) for w in words])


@pytest.fixture
def exported(home: Home, tmp_path: Path) -> Path:
    assert parley("export", home.root, "--out", tmp_path / "trail.jsonl").exit_code == 0
    return tmp_path / "trail.jsonl"


def test_an_honest_home_and_its_export_are_sound(home: Home, exported: Path) -> None:
    told = parley("verify", home.root)
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[-1] == "sound"
    assert home.key in told.output
    for more in ([], ["--every-signature"], ["--witness", exported]):
        assert parley("verify", exported, "--key", home.key, *more).exit_code == 0
    with opened(home.root) as trail:
        again = read_export(exported)
        assert list(again.lines()) == list(trail.lines())
        assert again.heads[:-1] == trail.heads  # and one that was signed for the export
    assert exported.stat().st_mode & 0o077 == 0


def test_what_is_exported_names_nothing_of_the_data(home: Home, exported: Path) -> None:
    text = exported.read_text()
    assert "note number" not in text
    assert "rounds" not in text  # of the plan a digest
    assert set(json.loads(text.splitlines()[0])) == {"format", "trail", "member", "key"}


def test_an_export_without_a_key_that_the_auditor_knows_proves_nothing(exported: Path) -> None:
    assert parley("verify", exported).exit_code == 2
    assert parley("verify", exported, "--key", Identity.generate().public).exit_code == 1
    assert parley("verify", exported, "--key", "ed25519:short").exit_code == 2


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE seq = 5",
        "DELETE FROM entries WHERE seq > 9",
        "DELETE FROM entries; DELETE FROM heads",
        "UPDATE entries SET line = replace(line, '\"crowd\":3', '\"crowd\":9') WHERE seq = 5",
        "UPDATE entries SET line = 'x' WHERE seq = 5",
        "UPDATE entries SET line = x'ff' WHERE seq = 5",
        "UPDATE entries SET line = NULL WHERE 0; UPDATE entries SET hash = x'00' WHERE seq = 5",
        "UPDATE entries SET seq = -seq WHERE seq IN (5, 6); UPDATE entries SET seq = 11 + seq WHERE seq < 0",
        "INSERT INTO entries SELECT 100, kind, NULL, session, number, share, line, hash FROM entries WHERE seq = 5",
        "UPDATE heads SET signature = zeroblob(64)",
        "UPDATE heads SET root = zeroblob(32)",
        "UPDATE heads SET key = 'ed25519:other'",
        "DELETE FROM heads",
        "DELETE FROM heads WHERE seq > 10",
        "UPDATE accounts SET nats = 'none'",
        "UPDATE accounts SET nats = replace(nats, '1', '0')",
        "UPDATE trail SET id = 'abababababababababababababababab'",
        "UPDATE trail SET chain = zeroblob(32)",
        "UPDATE trail SET seq = seq + 1",
    ],
)
def test_a_ledger_that_was_changed_on_disk_is_not_sound(home: Home, statement: str) -> None:
    home.tamper(*statement.split("; "))
    told = parley("verify", home.root)
    assert told.exit_code == 1, told.output
    assert "NOT SOUND" in told.output


def test_an_edit_is_named_by_its_line_and_does_not_show_its_text(home: Home) -> None:
    home.tamper("UPDATE entries SET line = replace(line, '\"crowd\":3', '\"crowd\":9') WHERE seq = 5")
    assert 5 in {fault.seq for fault in verify(home.root).faults}
    home.tamper("UPDATE entries SET line = 'canary' WHERE seq = 5")
    told = parley("verify", home.root)
    assert "line 5: not a canonical line" in told.output
    assert "canary" not in told.output


def test_every_line_and_head_of_an_export_counts(home: Home, exported: Path, tmp_path: Path) -> None:
    rows = exported.read_text().splitlines(keepends=True)
    changed = tmp_path / "changed.jsonl"
    ends = next(at for at, row in enumerate(rows) if row.startswith('{"head"'))
    for at in range(ends):
        for other in ([*rows[:at], *rows[at + 1 :]], [*rows[:at], rows[at].replace("a", "b", 1), *rows[at + 1 :]]):
            changed.write_text("".join(other))
            assert parley("verify", changed, "--key", home.key).exit_code > 0, rows[at]
    for other in (rows[:at] for at in range(ends)):
        changed.write_text("".join([*other, *rows[ends:]]))
        assert parley("verify", changed, "--key", home.key).exit_code > 0
    changed.write_text("".join(rows)[:-1])
    assert parley("verify", changed, "--key", home.key).exit_code == 2
    for at in (a for a, row in enumerate(rows) if row.startswith('{"head"')):
        changed.write_text("".join([*rows[:at], rows[at].replace('"chain":"', '"chain":"0', 1), *rows[at + 1 :]]))
        assert parley("verify", changed, "--key", home.key).exit_code > 0


def test_lines_that_no_signature_covers_are_no_part_of_a_sound_export(
    home: Home, exported: Path, tmp_path: Path
) -> None:
    rows = exported.read_text().splitlines(keepends=True)
    ends = next(at for at, row in enumerate(rows) if row.startswith('{"head"'))
    forged = line(ends, "2999-01-01T00:00:00.000000Z", "approved", {"partner": "whoever"}) + "\n"
    opening = line(1, "2026-01-01T00:00:00.000000Z", "charged", {"session": "s", "number": 0}) + "\n"
    for other in ([*rows[:ends], forged, *rows[ends:]], [rows[0], opening], [rows[0], *rows[1:2]]):
        (changed := tmp_path / "changed.jsonl").write_text("".join(other))
        told = parley("verify", changed, "--key", home.key)
        assert told.exit_code == 1, told.output
        assert "no signature covers" in told.output
        assert parley("reconcile", changed, exported).exit_code == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}\n", b"[]\n", b"\xff\xfe", b'{"format":"parley-trail/1"}\n',
     b'{"format":"parley-trail/1","trail":"x"}\n', b'{"format":"parley-trail/2","trail":"' + b"ab" * 16 + b'"}\n',
     b"[" * 100_000 + b"\n"],
)  # fmt: skip
def test_a_file_that_is_no_export_is_not_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    key = Identity.generate().public
    for words in (("verify", tmp_path / "file", "--key", key), ("check", tmp_path / "file", "--key", key),
                  ("verify", tmp_path / "nothing", "--key", key),
                  ("reconcile", tmp_path / "file", tmp_path / "file")):  # fmt: skip
        told = parley(*words)
        assert told.exit_code == 2, told.output
        assert told.exception is None or isinstance(told.exception, SystemExit)


def test_a_home_without_its_ledger_or_with_another_file_is_not_read(home: Home) -> None:
    home.ledger.write_bytes(b"no database")
    for beside in ("-wal", "-shm"):
        home.ledger.with_name(home.ledger.name + beside).unlink(missing_ok=True)
    assert parley("verify", home.root).exit_code == 2
    home.ledger.unlink()
    assert parley("verify", home.root).exit_code == 2
    assert not home.ledger.exists()


def test_nothing_is_written_over(home: Home, exported: Path) -> None:
    before = exported.read_bytes()
    assert parley("export", home.root, "--out", exported).exit_code == 2
    assert parley("prove", home.root, 3, "--out", exported).exit_code == 2
    assert exported.read_bytes() == before


def test_an_old_ledger_that_was_put_back_is_behind_what_an_auditor_saw(
    home: Home, tmp_path: Path, coordinator: Identity
) -> None:
    shutil.copytree(home.root, tmp_path / "old")
    home.answer(coordinator, range(6, 8), "clinic")
    export(home.root, tmp_path / "seen.jsonl")
    parley("prove", home.root, 3, "--out", tmp_path / "proof.json")
    with opened(home.root) as trail:
        (tmp_path / "head.json").write_text(trail.heads[-1].to_json() + "\n")
    assert parley("verify", tmp_path / "old").exit_code == 0  # nobody else knows better
    for witness in ("seen.jsonl", "proof.json", "head.json"):
        told = parley("verify", tmp_path / "old", "--witness", tmp_path / witness)
        assert told.exit_code == 1
        assert "are missing" in told.output
        assert parley("verify", home.root, "--witness", tmp_path / witness).exit_code == 0


def test_the_head_that_a_home_kept_beside_its_answers_is_a_witness(home: Home) -> None:
    with opened(home.root) as trail:
        newest = trail.heads[-1]
    later = replace(newest.head, seq=newest.head.seq + 2, chain=bytes(32), root=bytes(32))
    kept = SignedHead(later, home.key, home.identity.sign(HEAD_LABEL, later.signed_bytes()))
    with closing(sqlite3.connect(home.folder.mailbox, isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS head (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), head TEXT)")
        db.execute("INSERT OR REPLACE INTO head VALUES (1, ?)", (newest.to_json(),))
    assert verify(home.root).sound
    with closing(sqlite3.connect(home.folder.mailbox, isolation_level=None)) as db:
        db.execute("INSERT OR REPLACE INTO head VALUES (1, ?)", (kept.to_json(),))
    assert "are missing" in str(verify(home.root).faults[0])


def test_a_fork_is_found_by_whoever_saw_the_other_branch(home: Home, tmp_path: Path, coordinator: Identity) -> None:
    fork = tmp_path / "fork"
    shutil.copytree(home.root, fork)
    home.answer(coordinator, range(6, 8), "clinic")
    other = Home.__new__(Home)
    other.ledger, other.identity, other.key = fork / "ledger.db", home.identity, home.key
    other.answer(coordinator, range(8, 12), "clinic")
    export(fork, tmp_path / "fork.jsonl")
    assert verify(fork).sound
    told = parley("verify", fork, "--witness", _exported(home, tmp_path))
    assert told.exit_code == 1
    assert "two histories were signed" in told.output


def _exported(home: Home, folder: Path) -> Path:
    export(home.root, folder / "branch.jsonl")
    return folder / "branch.jsonl"


def test_one_line_is_proven_to_somebody_who_sees_no_other(home: Home, exported: Path, tmp_path: Path) -> None:
    for n, source in enumerate((home.root, exported)):
        proof = tmp_path / f"proof{n}.json"
        assert parley("prove", source, 4, "--out", proof).exit_code == 0
        told = parley("check", proof, "--key", home.key)
        assert told.exit_code == 0
        assert json.loads(told.output.splitlines()[-1])["seq"] == 4
        assert len(proof.read_text()) < 4000
        assert check_proof(proof, [home.identity.public]).holds
        assert parley("check", proof, "--key", Identity.generate().public).exit_code == 1
        assert parley("check", proof).exit_code == 2
        for old, new in (('\\"crowd\\":3', '\\"crowd\\":4'), ('"path": ["', '"path": ["00'),
                         ('"signature":"', '"signature":"00'), ('\\"seq\\":4', '\\"seq\\":5')):  # fmt: skip
            text = proof.read_text().replace('"path":["', '"path": ["').replace('"signature": "', '"signature":"')
            assert old in text
            (tmp_path / "changed.json").write_text(text.replace(old, new))
            assert parley("check", tmp_path / "changed.json", "--key", home.key).exit_code > 0
    for seq in (0, 10_000):
        assert parley("prove", home.root, seq, "--out", tmp_path / "none.json").exit_code == 2


def test_no_proof_is_made_of_a_trail_that_was_changed(home: Home, tmp_path: Path) -> None:
    home.tamper("UPDATE entries SET line = replace(line, '\"crowd\":3', '\"crowd\":9') WHERE seq = 5")
    assert parley("prove", home.root, 5, "--out", tmp_path / "proof.json").exit_code == 2
    assert not (tmp_path / "proof.json").exists()


@pytest.fixture
def bank(invite: Invite, model_folder: Path, records: Path, tmp_path: Path) -> Home:
    (tmp_path / "invitation.toml").unlink(missing_ok=True)
    return Home(tmp_path / "bank", invite(member="bank"), model_folder, records)


def test_two_members_that_were_told_the_same_agree(
    home: Home, bank: Home, coordinator: Identity, tmp_path: Path
) -> None:
    bank.answer(coordinator, range(4), "bank")
    found = reconcile(home.root, bank.root)
    assert (found.both, found.differences) == (4, ())
    assert [(d.number, d.what) for d in found.alone] == [(4, "only clinic has it"), (5, "only clinic has it")]
    told = parley("reconcile", _exported(home, tmp_path), bank.root)
    assert told.exit_code == 0
    assert "on 4 occasions" in told.output


@pytest.mark.parametrize(
    "change",
    [{"crowd": 2}, {"plan": '{"rounds":3}'}, {"purpose": "another"}, {"summed": True},
     {"members": ("bank", "court")}],
    ids=str,
)  # fmt: skip
def test_a_coordinator_that_tells_two_members_different_things_is_found(
    home: Home, bank: Home, coordinator: Identity, change: dict[str, object]
) -> None:
    home.answer(coordinator, range(2), "clinic", "t", **({"purpose": "x", "members": ("bank",)} | {}))
    bank.answer(coordinator, range(2), "bank", "t", **({"purpose": "x", "members": ("bank",)} | change))
    found = reconcile(home.root, bank.root)
    differences = found.differences
    assert found.both == 2
    assert [(d.session, d.number) for d in differences] == [("t", 0), ("t", 1)]
    assert next(iter(change)) in differences[0].what
    assert parley("reconcile", home.root, bank.root).exit_code == 1


def test_a_receipt_that_the_coordinator_did_not_sign_is_found(home: Home, bank: Home, coordinator: Identity) -> None:
    with closing(Ledger(bank.ledger)) as ledger:
        partner = str(coordinator.public)
        who = hashlib.sha256(f"{partner}\nbank\n{bank.key}".encode()).hexdigest()[:16]
        occasion = Occasion(f"s@{who}", 0, "average", Level.WEIGHTS, partner, 3, plan='{"rounds":2}')
        ledger.charge(ACCOUNT, GaussianDpEvent(30.0), occasion)
        answer = hashlib.sha256(b"x").digest()
        ledger.emit(occasion, bytes(32), answer, 10, lambda d: bank.identity.sign(HEAD_LABEL, d), bank.key)
        told = taken_bytes("s", 0, "court", answer)  # a receipt for another member
        ledger.receipt(occasion.session, 0, answer, coordinator.sign(TAKEN, told), partner)
    differences = reconcile(home.root, bank.root).differences
    assert [d.what for d in differences] == ["bank: a receipt whose signature does not verify"]


def test_what_is_reconciled_is_verified_first(home: Home, bank: Home, coordinator: Identity) -> None:
    bank.answer(coordinator, range(4), "bank")
    bank.tamper("DELETE FROM entries WHERE seq = 3")
    differences = reconcile(home.root, bank.root).differences
    assert differences[0].what.startswith("bank: the trail is not sound: line 3")
    assert reconcile(home.root, bank.root, [home.identity.public]).differences


def test_two_homes_on_one_ledger_are_told_apart_and_both_keys_have_to_be_named(
    home: Home, invite: Invite, model_folder: Path, records: Path, tmp_path: Path, coordinator: Identity
) -> None:
    (tmp_path / "invitation.toml").unlink(missing_ok=True)
    ward = Home(tmp_path / "ward", invite(member="ward"), model_folder, records, home.ledger)
    ward.answer(coordinator, range(6), "ward")
    assert parley("verify", home.root, "--key", ward.key).exit_code == 0
    told = parley("verify", home.root)
    assert told.exit_code == 1
    assert f"signed by {ward.key}, which was not named" in told.output
    keys = [home.identity.public, ward.identity.public]
    found = reconcile(home.root, ward.root, keys)
    assert (found.both, found.differences, found.alone) == (6, (), ())


def test_an_export_is_under_one_signature_to_its_last_line_and_nothing_forged_is_signed(
    home: Home, exported: Path, tmp_path: Path
) -> None:
    with opened(home.root) as trail:
        assert verify(home.root).signed < verify(home.root).head.seq  # a receipt came after the newest head
    report = verify(exported, [home.identity.public])
    assert report.signed == report.head.seq
    home.tamper("UPDATE entries SET line = replace(line, '\"crowd\":3', '\"crowd\":9') WHERE seq = 5")
    assert parley("export", home.root, "--out", tmp_path / "forged.jsonl").exit_code == 1
    assert read_export(tmp_path / "forged.jsonl").heads == trail.heads
    assert parley("verify", tmp_path / "forged.jsonl", "--key", home.key).exit_code == 1


def _changed(exported: Path, old: str, new: str) -> Path:
    rows = exported.read_text().splitlines(keepends=True)
    changed = exported.with_name("changed.jsonl")
    changed.write_text("".join([rows[0].replace(old, new), *rows[1:]]))
    return changed


def test_an_export_whose_header_names_another_member_or_key_does_not_agree_by_comparing_nothing(
    home: Home, bank: Home, coordinator: Identity, exported: Path
) -> None:
    bank.answer(coordinator, range(4), "bank")
    told = parley("reconcile", _changed(exported, '"clinic"', '"clinix"'), bank.root)
    assert told.exit_code == 1, told.output
    assert "clinix: no line is of the home that this trail names as its own" in told.output
    assert "nothing was compared" in told.output
    other = _changed(exported, home.key, str(Identity.generate().public))
    for words in (("verify", other, "--key", home.key), ("reconcile", other, bank.root)):
        told = parley(*words)
        assert told.exit_code == 1, told.output
    told = parley("verify", other, "--key", home.key)
    assert "the key that the file names as its home's signed no head in it" in told.output


def test_two_trails_without_an_occasion_in_common_do_not_agree(home: Home, bank: Home, coordinator: Identity) -> None:
    assert parley("reconcile", home.root, bank.root).exit_code == 1  # the bank has answered nothing
    bank.answer(coordinator, range(3), "bank", session="another")
    told = parley("reconcile", home.root, bank.root)
    assert told.exit_code == 1
    assert "no occasion in common: nothing was compared" in told.output


def test_the_occasions_that_a_cut_took_away_are_listed(
    home: Home, bank: Home, coordinator: Identity, exported: Path
) -> None:
    bank.answer(coordinator, range(6), "bank")
    rows = exported.read_text().splitlines(keepends=True)
    ends = next(at for at, row in enumerate(rows) if row.startswith('{"head"'))
    newest = [row for row in rows[ends:] if json.loads(row)["head"]["seq"] <= ends - 4]
    (cut := exported.with_name("cut.jsonl")).write_text("".join([*rows[: ends - 3], *newest]))
    told = parley("reconcile", cut, bank.root)
    assert "session s, letter 5: only bank has it" in told.output
    assert "both answered on 5 occasions; 1 are in one trail only" in told.output


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET epsilon = 800",
        "UPDATE accounts SET dataset = 'old'",
        "UPDATE accounts SET most_disclosures = 1e8",
        "UPDATE accounts SET delta = 0.1",
        "UPDATE shares SET bytes = 1",
        "UPDATE shares SET last_event = NULL",
        "INSERT INTO approvals (at, state, partner, collaboration, level, purpose, plan, summed)"
        " VALUES ('2030', 'approved', 'p', 'average', 'weights', '', '{}', 1)",
    ],
    ids=lambda words: words[:40],
)
def test_a_table_that_no_line_bears_out_is_not_sound_and_such_a_home_does_not_come_up(
    home: Home, statement: str
) -> None:
    home.tamper(statement)
    told = parley("verify", home.root)
    assert told.exit_code == 1, told.output
    assert "NOT SOUND  not what the ledger's own lines say: " in told.output
    with pytest.raises(ConfigError, match="find out who"):
        open_home(home.folder, Settings.load(home.folder.settings))


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("UPDATE heads SET signature = 'abc'", 1),
        ("UPDATE heads SET signature = NULL WHERE 0; UPDATE heads SET signature = 5", 1),
        ("UPDATE heads SET root = 'abcdefghabcdefghabcdefghabcdefgh'", 1),
        ("UPDATE heads SET key = 7", 1),
        ("UPDATE entries SET hash = 'abcdefghabcdefghabcdefghabcdefgh'", 1),
        ("UPDATE entries SET line = 'hello' WHERE seq = 5", 1),
        ("UPDATE entries SET line = x'ff00ff' WHERE seq = 5", 1),
        ("UPDATE trail SET id = x'ff'", 2),
        ("UPDATE trail SET seq = 'many'", 2),
        ("DELETE FROM trail", 2),
    ],
)
def test_no_column_of_another_type_ends_an_audit_in_a_traceback(home: Home, statement: str, status: int) -> None:
    home.tamper(*statement.split("; "))
    told = parley("verify", home.root)
    assert (told.exit_code, type(told.exception)) == (status, SystemExit), told.output


def test_a_witness_of_another_home_is_called_that(
    home: Home, bank: Home, coordinator: Identity, tmp_path: Path, exported: Path
) -> None:
    bank.answer(coordinator, range(2), "bank")
    told = parley("verify", exported, "--key", home.key, "--witness", _exported(bank, tmp_path))
    assert told.exit_code == 1
    assert "the witness is of another trail, or by a key that was not named" in told.output
    assert "does not verify" not in told.output


def test_what_cannot_be_read_or_written_is_named_in_words(home: Home, exported: Path, tmp_path: Path) -> None:
    told = parley("verify", tmp_path / "nothing", "--key", home.key)
    assert (told.exit_code, told.output) == (2, f"{tmp_path / 'nothing'}: no such file\n")
    told = parley("export", home.root, "--out", tmp_path / "nowhere" / "trail.jsonl")
    assert (told.exit_code, "no such folder to write into" in told.output) == (2, True)
    rows = exported.read_text().splitlines(keepends=True)
    for at in (2, len(rows) - 1):
        (cut := tmp_path / "cut.jsonl").write_text("".join(rows[: at + 1])[:-5])
        told = parley("verify", cut, "--key", home.key)
        assert (told.exit_code, f"row {at + 1} does not end" in told.output) == (2, True), told.output


def test_a_single_line_under_no_signature_is_no_range_of_lines(home: Home) -> None:
    report = verify(home.root)
    assert report.signed == report.head.seq - 1
    assert f"  line {report.head.seq} is under no signature yet" in parley("verify", home.root).output
