"""A roster counts in a home once its operator has compared it, and whatever goes wrong, the old one counts on."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.folder import Folder
from client.init import Wishes, init
from client.opening import identity_of
from client.roster import approve, approved_roster, propose
from privacy.config import ConfigError
from privacy.refusal import RosterNotApproved
from protocols.keys import Identity, PublicKey
from protocols.roster import Roster
from protocols.session import MemberId

CLINIC, BANK, COURT = MemberId("clinic"), MemberId("bank"), MemberId("court")
Invite = Callable[..., Path]


@pytest.fixture(scope="module")
def others() -> dict[MemberId, PublicKey]:
    return {BANK: Identity.generate().public, COURT: Identity.generate().public}


@pytest.fixture
def home(invite: Invite, model_folder: Path, records: Path, tmp_path: Path) -> Folder:
    """A clinic's home, as `init` makes it."""
    init(tmp_path / "home", Wishes(invite(), str(model_folder), records))
    return Folder(tmp_path / "home")


def roster_of(home: Folder, **keys: PublicKey) -> Roster:
    return Roster(tuple((MemberId(m), k) for m, k in ({CLINIC: identity_of(home).public} | keys).items()))


@pytest.fixture
def roster(home: Folder, others: dict[MemberId, PublicKey]) -> Roster:
    return roster_of(home, **others)


@pytest.fixture
def file(tmp_path: Path, roster: Roster) -> Path:
    """The roster as the coordinator sent it."""
    (tmp_path / "sent.toml").write_text(roster.to_toml())
    return tmp_path / "sent.toml"


def parley(*words: object, answer: str | None = None, color: bool = False) -> Result:
    return CliRunner().invoke(app, ["roster", *(str(w) for w in words)], input=answer, color=color)


def listing(home: Folder) -> list[str]:
    return sorted(p.name for p in home.root.iterdir())


def test_a_new_home_has_approved_nobody(home: Folder) -> None:
    with pytest.raises(RosterNotApproved, match="parley member roster approve"):
        approved_roster(home)
    shown = parley("show", home.root)
    assert (shown.exit_code, "no roster is approved" in shown.output) == (1, True)


def test_a_roster_counts_once_the_operator_has_said_yes(home: Folder, file: Path, roster: Roster) -> None:
    done = parley("approve", home.root, file, answer="y\n")
    assert done.exit_code == 0
    assert approved_roster(home) == roster
    assert stat.S_IMODE(home.roster.stat().st_mode) == 0o600
    for said in (done.output, parley("show", home.root).output):
        assert roster.spoken in said.splitlines()
        assert all(f"  {name} " in said for name in roster.members)
        assert [line.split()[0] for line in said.splitlines() if line.endswith("this home")] == ["clinic"]
        for _, key in roster.keys:
            assert str(key)[:24] in said


@pytest.mark.parametrize("answer", ["n\n", "\n", "", None])
def test_without_a_yes_nothing_is_approved(home: Folder, file: Path, answer: str | None) -> None:
    before = listing(home)
    assert parley("approve", home.root, file, answer=answer).exit_code == 1
    assert listing(home) == before


def test_the_right_digest_approves_without_a_question_however_it_is_spaced(
    home: Folder, file: Path, roster: Roster
) -> None:
    for digest in (roster.digest, roster.spoken, f" {roster.spoken.upper()}\n"):
        home.roster.unlink(missing_ok=True)
        done = parley("approve", home.root, file, "--digest", digest)
        assert (done.exit_code, "?" in done.output) == (0, False)
        assert approved_roster(home) == roster


def test_another_digest_approves_nothing_not_even_what_is_approved_already(
    home: Folder, file: Path, roster: Roster
) -> None:
    wrong = roster.digest[:-1] + ("0" if roster.digest[-1] != "0" else "1")
    for _ in range(2):
        refused = parley("approve", home.root, file, "--digest", wrong, answer="y\n")
        assert refused.exit_code == 1
        assert "another digest" in refused.output
        approve(home, roster)
    home.roster.unlink()
    for cut in ("", roster.digest[:16], roster.digest[:-1], roster.digest + "0", "0x" + roster.digest, "g" * 64):
        refused = parley("approve", home.root, file, "--digest", cut, answer="y\n")
        assert (refused.exit_code, "--digest: expected all 64" in refused.output) == (2, True)
    assert not home.roster.exists()


def test_an_error_shows_nothing_of_a_private_key(home: Folder, file: Path) -> None:
    secret = home.identity.read_text().splitlines()[1]
    for words in (("approve", home.root, file, "--digest", "0" * 64), ("show", home.root)):
        assert secret not in parley(*words).output


def test_a_roster_that_names_this_member_with_another_key_is_refused(
    home: Folder, file: Path, others: dict[MemberId, PublicKey]
) -> None:
    file.write_text(Roster(((CLINIC, Identity.generate().public), *others.items())).to_toml())
    _refused(home, file, "members.clinic: another key than this home's")


def test_a_roster_that_leaves_this_member_out_or_gives_its_key_another_name_is_refused(
    home: Folder, file: Path, others: dict[MemberId, PublicKey]
) -> None:
    file.write_text(Roster(tuple(others.items())).to_toml())
    _refused(home, file, "members.clinic: missing")
    mine = identity_of(home).public
    file.write_text(Roster(((MemberId("klinik"), mine), *others.items())).to_toml())
    _refused(home, file, "members.clinic: missing")
    file.write_text(Roster(((CLINIC, others[BANK]), (BANK, mine))).to_toml())
    _refused(home, file, "members.clinic: another key than this home's")


def test_a_roster_with_two_names_for_one_key_is_refused(home: Folder, file: Path, roster: Roster) -> None:
    file.write_text(roster.to_toml() + f'alias = "{roster.key(BANK)}"\n')
    _refused(home, file, "members.alias: the same key as members.bank")


def test_a_name_that_would_draw_on_the_terminal_is_not_shown(home: Folder, file: Path, roster: Roster) -> None:
    file.write_text(roster.to_toml().replace("bank =", '"\\u001b[2Jbank" ='))
    said = _refused(home, file, "members: expected names of lower-case letters")
    assert "\x1b" not in said
    assert "bank" not in said


def test_a_file_that_is_missing_huge_or_no_roster_is_one_line(home: Folder, file: Path, tmp_path: Path) -> None:
    _refused(home, tmp_path / "none.toml", "no such file")
    os.truncate(file, 2**40)
    assert len(_refused(home, file, "expected at most").splitlines()) == 1
    file.write_bytes(bytes(range(256)))
    assert len(_refused(home, file, "UTF-8").splitlines()) == 1


def test_a_folder_that_is_no_home_is_named(tmp_path: Path, file: Path) -> None:
    for words in (("show", tmp_path), ("approve", tmp_path, file)):
        refused = parley(*words)
        assert (refused.exit_code, "home.toml: no such file" in refused.output) == (2, True)


def test_what_is_shown_is_what_is_approved_even_if_the_file_is_exchanged_meanwhile(
    home: Folder, file: Path, roster: Roster
) -> None:
    proposal = propose(home, file, CLINIC, identity_of(home).public)
    file.write_text(roster_of(home, mallory=Identity.generate().public).to_toml())
    approve(home, proposal.roster)
    assert approved_roster(home) == roster


def test_what_changes_is_shown_and_a_changed_key_in_red(home: Folder, file: Path, roster: Roster) -> None:
    assert "no roster is approved here so far" in parley("approve", home.root, file, answer="y\n").output
    new = Identity.generate().public
    changed = roster_of(home, bank=new, library=Identity.generate().public)
    file.write_text(changed.to_toml())
    said = parley("approve", home.root, file, answer="n\n", color=True).output.splitlines()
    assert "  added        library" in said
    assert "  removed      court" in said
    (red,) = [line for line in said if "\x1b[31m" in line]
    assert "KEY CHANGED  bank" in red
    assert str(new)[:24] in red
    assert str(roster.key(BANK))[:24] in red
    assert not any("clinic" in line and ("CHANGED" in line or "added" in line) for line in said)
    assert changed.spoken in said
    assert approved_roster(home) == roster
    assert parley("approve", home.root, file, answer="y\n").exit_code == 0
    assert approved_roster(home) == changed


def test_keys_that_begin_alike_are_still_shown_as_changed(home: Folder, file: Path, roster: Roster) -> None:
    approve(home, roster)
    alike = PublicKey(roster.key(BANK).raw[:-1] + bytes([roster.key(BANK).raw[-1] ^ 1]))
    file.write_text(roster_of(home, bank=alike, court=roster.key(COURT)).to_toml())
    assert "KEY CHANGED  bank" in parley("approve", home.root, file, answer="n\n").output


def test_to_approve_the_same_again_asks_nothing_and_writes_nothing(home: Folder, file: Path, roster: Roster) -> None:
    approve(home, roster)
    before = home.roster.stat()
    file.write_text("\n# another comment, another order\n" + roster.to_toml())
    for options in ((), ("--digest", roster.digest)):
        done = parley("approve", home.root, file, *options)
        assert (done.exit_code, "approved already" in done.output) == (0, True)
    assert home.roster.stat() == before


def test_an_edit_of_the_approved_roster_counts_at_once(home: Folder, roster: Roster) -> None:
    approve(home, roster)
    times = home.roster.stat()
    assert approved_roster(home) == approved_roster(home) == roster
    edited = home.roster.read_text().replace("court", "count")  # of the same size and, below, of the same age
    home.roster.write_text(edited)
    os.utime(home.roster, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert approved_roster(home).members == ("bank", "clinic", "count")
    home.roster.unlink()
    with pytest.raises(RosterNotApproved):
        approved_roster(home)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_approved_roster_that_others_may_write_does_not_count(
    home: Folder, roster: Roster, file: Path, mode: int
) -> None:
    approve(home, roster)
    home.roster.chmod(mode)
    with pytest.raises(ConfigError, match=r"roster\.toml: others may write this file: chmod 600"):
        approved_roster(home)
    _refused(home, file, "others may write this file")
    home.roster.chmod(0o644)
    assert approved_roster(home) == roster


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_approved_roster_of_another_user_does_not_count(home: Folder, roster: Roster) -> None:
    approve(home, roster)
    os.chown(home.roster, 12345, -1)
    with pytest.raises(ConfigError, match="others may write"):
        approved_roster(home)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"version = 1\n[members]\n"])
def test_an_approved_roster_that_is_broken_is_an_error_and_not_an_empty_one(home: Folder, content: bytes) -> None:
    home.roster.write_bytes(content)
    with pytest.raises(ConfigError, match=r"home/roster\.toml: "):
        approved_roster(home)
    shown = parley("show", home.root)
    assert shown.exit_code == 2


INTERRUPT = """
import os, resource, signal, sys
from pathlib import Path
from client.folder import Folder
from client.roster import approve
from protocols.roster import Roster

def interrupt(event, arguments):
    if event == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sys.addaudithook(interrupt)
approve(Folder(Path(sys.argv[1])), Roster.load(Path(sys.argv[2])))
"""


@pytest.mark.parametrize(("moment", "status"), [("os.rename", -9), ("full", 1)])
def test_an_approval_that_is_killed_or_finds_the_disk_full_leaves_the_old_roster(
    home: Folder, file: Path, roster: Roster, moment: str, status: int
) -> None:
    approve(home, roster)
    file.write_text(roster_of(home, library=Identity.generate().public).to_toml())
    before = listing(home)
    command = [sys.executable, "-c", INTERRUPT, str(home.root), str(file), moment]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    if moment == "full":
        assert "roster.toml: cannot be written (File too large)" in done.stderr
        assert listing(home) == before
    assert approved_roster(home) == roster
    assert parley("approve", home.root, file, answer="y\n").exit_code == 0  # and the next one goes through
    assert approved_roster(home) == Roster.load(file)


def test_an_approval_leaves_nothing_beside_it_and_survives_any_umask(home: Folder, roster: Roster) -> None:
    before, umask = listing(home), os.umask(0)
    try:
        approve(home, roster)
        approve(home, roster_of(home))
    finally:
        os.umask(umask)
    assert listing(home) == sorted([*before, "roster.toml"])
    assert stat.S_IMODE(home.roster.stat().st_mode) == 0o600


def test_a_home_that_was_given_another_key_sees_that_the_roster_does_not_name_it(
    home: Folder, roster: Roster
) -> None:
    approve(home, roster)
    home.identity.write_bytes(Identity.generate().to_pem())
    assert "this home" not in parley("show", home.root).output


def test_the_policys_view_warns_of_a_roster_that_is_missing_or_too_small(home: Folder, roster: Roster) -> None:
    def said() -> str:
        return CliRunner().invoke(app, ["policy", str(home.root)]).output

    assert "warning: no roster is approved" in said()
    approve(home, roster_of(home))
    assert "warning: the roster has 1 members, smallest_crowd asks for 2" in said()
    approve(home, roster)
    assert "warning" not in said()


def test_the_policys_view_says_what_it_comes_down_to_for_sums(home: Folder, roster: Roster) -> None:
    approve(home, roster)
    shown = CliRunner().invoke(app, ["policy", str(home.root)]).output
    assert "at least 2 members, 1 of them taken to collude, in at most 1 attempts" in shown
    assert "NOT SUMMED" not in shown
    home.policy.write_text(home.policy.read_text().replace("# unsafe_plain_sum = true", "unsafe_plain_sum = true"))
    assert "NOT SUMMED" in CliRunner().invoke(app, ["policy", str(home.root)]).output


def _refused(home: Folder, file: Path, words: str) -> str:
    before = listing(home)
    refused = parley("approve", home.root, file, answer="y\n")
    assert refused.exit_code == 2, refused.output
    assert words in refused.output
    assert listing(home) == before
    return refused.output
