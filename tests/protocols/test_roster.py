"""A roster's file is strict, quotes nothing back, and its digest is the roster's and no other's."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.config import ConfigError
from protocols.keys import Identity, PublicKey
from protocols.roster import MOST_BYTES, Roster, is_name
from protocols.session import MemberId

A, B = PublicKey(bytes(range(32))), PublicKey(bytes(range(32, 64)))
GOOD = f'version = 1\n[members]\nclinic = "{A}"\nbank = "{B}"\n'
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True)


def load(folder: Path, content: str | bytes) -> Roster:
    file = folder / "roster.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Roster.load(file)


def refused(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigError) as error:
        load(folder, content)
    assert error.value.__suppress_context__ or error.value.__context__ is None  # nor does a cause quote the file
    return str(error.value)


def test_a_good_roster_is_read_whatever_its_order(tmp_path):
    roster = load(tmp_path, GOOD)
    assert roster.members == ("bank", "clinic")
    assert (roster.key(MemberId("clinic")), roster.key(MemberId("bank"))) == (A, B)
    swapped = load(tmp_path, f'version = 1\n[members]\nbank = "{B}"\nclinic = "{A}"\n')
    assert swapped == roster


@given(st.dictionaries(NAMES, st.binary(min_size=32, max_size=32), min_size=1, max_size=20))
def test_a_roster_is_read_as_it_was_written(entries):
    keys = {k: MemberId(m) for m, k in entries.items()}  # each key once
    roster = Roster(tuple((m, PublicKey(k)) for k, m in keys.items()))
    again = Roster.parse(roster.to_toml().encode(), Path("roster.toml"))
    assert (again, again.digest) == (roster, roster.digest)
    assert roster.digest not in roster.to_toml()  # who changes the file would change it there too
    for member in roster.members:
        assert roster.key(member) == dict(roster.keys)[member]


def test_the_digest_of_one_roster_is_what_it_was():
    roster = Roster(((MemberId("clinic"), A), (MemberId("bank"), B)))
    assert roster.digest == "b97ee132c2883847125cb3442dbdc0f8835c0fc612760cb492d40b72b2e9add3"  # by sha256sum
    assert roster.spoken == "b97e e132 c288 3847 125c b344 2dbd c0f8 835c 0fc6 1276 0cb4 92d4 0b72 b2e9 add3"


def test_who_is_not_in_the_roster_has_no_key():
    roster = Roster(((MemberId("clinic"), A), (MemberId("bank"), B)))
    for stranger in ("", "a", "bank2", "bban", "clinib", "zoo"):
        with pytest.raises(KeyError):
            roster.key(MemberId(stranger))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 2", "version: expected 1"),
        ("version = 1", "version = true", "version: expected 1"),
        ("version = 1", "version = 1.0", "version: expected 1"),
        ("version = 1", "", "version: expected 1"),
        ("version = 1", "version = 1\nmember = 1", r"member: unknown key (known: members, version)"),
        ("[members]", "[member]", "member: unknown key"),
        (GOOD[12:], "", "members: expected a table of at least one"),
        (GOOD[12:], "members = 3", "members: expected a table"),
        (GOOD[12:], "[members]", "members: expected a table of at least one"),
        (f'"{A}"', "3", "members.clinic: expected ed25519:"),
        (f'"{A}"', '{ key = "x" }', "members.clinic: expected ed25519:"),
        (f'"{A}"', f'"{A}="', "members.clinic: expected ed25519:"),
        (f'"{A}"', f'" {A}"', "members.clinic: expected ed25519:"),
        (f'"{A}"', '"ed25519:short"', "members.clinic: expected ed25519:"),
        ("clinic", "clinic.ward", "members.clinic: expected ed25519:"),
        ("version = 1", "version = ", "not TOML (at line 1, column 11)"),
        ("version = 1", "version = [" + "\n[" * 100_000, "not TOML"),
        ("version = 1", "version = 1 # " + "x" * 200, "expected lines of at most 200 characters"),
    ],
)
def test_a_bad_roster_names_the_file_and_the_key(tmp_path, old, new, words):
    assert old in GOOD
    said = refused(tmp_path, GOOD.replace(old, new))
    assert "roster.toml: " in said
    assert words in said


def test_two_names_with_one_key_are_refused_and_both_are_named(tmp_path):
    said = refused(tmp_path, GOOD.replace(str(B), str(A)))
    assert "members.bank: the same key as members.clinic" in said


def test_one_name_with_two_keys_is_refused(tmp_path):
    assert "not TOML" in refused(tmp_path, GOOD.replace("bank", "clinic"))


def test_a_second_way_to_write_a_key_is_refused(tmp_path):
    last = str(A)[-1]
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        if other != last:
            text = str(A)[:-1] + other
            if text != str(A) and _is_same(text):
                assert "members.clinic: expected" in refused(tmp_path, GOOD.replace(str(A), text))
    key = PublicKey(b"\xff" * 32)
    assert "members.clinic: expected" in refused(tmp_path, GOOD.replace(str(A), str(key).replace("_", "/")))


def _is_same(text: str) -> bool:
    return PublicKey.parse(text) == A


NO_NAMES = [
    "\x1b[2K\x1b[1Aclinic", "clinic\x07", "cli\tnic", "cli\nnic", "Clinic", "klinik-ü", "\u202ecinilc", "", "-clinic",
    "a" * 65, "clinic ", "../clinic", "cl\u0456nic",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_would_draw_on_the_operators_terminal_is_refused_and_not_shown(tmp_path, name):
    quoted = '"' + "".join(c if "-" <= c <= "z" else f"\\U{ord(c):08X}" for c in name) + '"'
    said = refused(tmp_path, GOOD.replace("clinic", quoted))
    assert "members: expected names of lower-case letters" in said
    assert not name or name not in said.replace(str(tmp_path), "")
    assert said.isprintable()
    said = refused(tmp_path, GOOD.replace("version = 1", f"version = 1\n{quoted} = 1"))
    assert "roster.toml: unknown key (known: members, version)" in said
    assert not is_name(name)
    with pytest.raises(ValueError, match="expected names") as error:
        Roster(((MemberId(name), A),))
    assert not name or name not in str(error.value)


def test_names_cannot_be_chosen_so_that_two_rosters_have_one_digest():
    with pytest.raises(ValueError, match="expected names"):
        Roster(((MemberId(f"bank\t{B}\nclinic"), A),))  # would hash as the two of GOOD do


def test_a_roster_of_control_characters_or_of_no_text_is_one_clean_line(tmp_path):
    for content in (b"", b"\xff\xfe\x00binary", b"\x00" * 100, b"\x1b[31mversion = 1", bytes(range(256))):
        assert refused(tmp_path, content).isprintable()


def test_a_huge_roster_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "roster.toml"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)  # a terabyte that takes no room
    with pytest.raises(ConfigError, match=f"expected at most {MOST_BYTES} bytes"):
        Roster.load(file)


def test_a_roster_of_the_greatest_size_is_refused_or_read_in_moderate_time(tmp_path):
    deep = "a." * 90 + "a"
    headers = (f"[{deep}{i}]\n" for i in range(MOST_BYTES // 200))
    for bomb in ("a." * (MOST_BYTES // 2 - 10) + "a = 1", "".join(headers), "a=[" + "\n[" * (MOST_BYTES // 2 - 2)):
        assert len(bomb) <= MOST_BYTES
        assert "roster.toml" in refused(tmp_path, bomb)
    keys = ((MemberId(f"{i:x}".rjust(64, "m")), PublicKey(i.to_bytes(32))) for i in range(4000))
    roster = Roster(tuple(keys))
    assert load(tmp_path, roster.to_toml()) == roster


def test_a_pipe_a_device_a_folder_and_nothing_are_no_rosters(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match=r"no such file|cannot be read"):
            Roster.load(file)


def test_fresh_identities_make_a_roster_that_reads_back(tmp_path):
    roster = Roster(tuple((MemberId(n), Identity.generate().public) for n in ("x", "y", "z")))
    assert load(tmp_path, roster.to_toml()) == roster
