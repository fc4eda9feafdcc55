"""The coordinator's roster holds who has enrolled, with the keys they enrolled with, and says whom it leaves out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocols.keys import Identity
from protocols.roster import Roster
from protocols.session import MemberId
from server.cli import app
from server.folder import Folder, init
from server.store import Keys, Store

ALICE, BOB, CAROL = MemberId("alice"), MemberId("bob"), MemberId("carol")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A coordinator that has invited alice, bob and carol."""
    made = init(tmp_path / "c", "127.0.0.1:8443")
    for name in (CAROL, ALICE, BOB):
        Store(made.store).invite(name, "token")
    return made


def enrol(folder: Folder, *names: MemberId) -> Roster:
    identities = {name: Identity.generate().public for name in names}
    for node, (name, key) in enumerate(identities.items(), 1):
        Store(folder.store).enrol(name, Keys(f"ssh {name}", str(key)), node)
    return Roster(tuple(identities.items()))


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["roster", *(str(w) for w in words)])
    return result.exit_code, result.stdout, result.stderr


def test_the_roster_is_written_with_its_digest_said_and_the_invited_left_out_by_name(
    folder: Folder, tmp_path: Path
) -> None:
    roster = enrol(folder, ALICE, CAROL)
    code, said, _ = run(folder.root, "--out", tmp_path / "roster.toml")
    assert code == 0
    assert Roster.load(tmp_path / "roster.toml") == roster
    assert f"digest: {roster.spoken}" in said
    assert "left out, since not enrolled yet: bob" in said
    assert "roster of 2 members: alice, carol" in said
    assert "parley member roster approve" in said
    assert "ssh" not in (tmp_path / "roster.toml").read_text()


def test_when_all_have_enrolled_nobody_is_left_out(folder: Folder, tmp_path: Path) -> None:
    enrol(folder, ALICE, BOB, CAROL)
    _, said, _ = run(folder.root, "--out", tmp_path / "roster.toml")
    assert "left out" not in said


def test_without_a_file_the_roster_alone_goes_to_standard_output(folder: Folder, tmp_path: Path) -> None:
    roster = enrol(folder, ALICE, BOB)
    code, out, err = run(folder.root)
    assert code == 0
    (tmp_path / "piped.toml").write_text(out)
    assert Roster.load(tmp_path / "piped.toml") == roster
    assert roster.spoken in err
    assert "left out, since not enrolled yet: carol" in err


def test_nobody_enrolled_an_old_file_and_no_coordinator_are_one_line_each(folder: Folder, tmp_path: Path) -> None:
    code, _, err = run(folder.root, "--out", tmp_path / "roster.toml")
    assert (code, "at least one member that has enrolled" in err) == (2, True)
    assert not (tmp_path / "roster.toml").exists()
    enrol(folder, ALICE)
    (tmp_path / "roster.toml").write_text("mine")
    for out, words in ((tmp_path / "roster.toml", "does not exist yet"), (tmp_path / "no" / "f", "can be written")):
        code, _, err = run(folder.root, "--out", out)
        assert (code, words in err, len(err.splitlines())) == (2, True, 1)
    assert (tmp_path / "roster.toml").read_text() == "mine"
    code, _, err = run(tmp_path)
    assert (code, "coordinator init" in err) == (2, True)
