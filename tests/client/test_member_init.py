"""`init` checks everything first, writes it all or nothing, and never over anything."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from hypothesis import given
from hypothesis import strategies as st

from client.declared import Declared, coarse
from client.documents import Columns, Content
from client.folder import Folder
from client.init import Wishes, init
from client.mailbox import SqliteShelf
from client.settings import (
    DoorSettings,
    Dtype,
    ExpertSettings,
    PageSettings,
    PersonalSettings,
    RoadSettings,
    Settings,
    TrainingSettings,
    require_private,
)
from client.settings_text import home_toml
from client.training.ways import Checkpointing, Precision
from privacy.config import ConfigError
from privacy.policy import Policy
from privacy.units import Level
from protocols.keys import Identity

Invite = Callable[..., Path]


@pytest.fixture
def wishes(invite: Invite, model_folder: Path, records: Path) -> Wishes:
    return Wishes(invite(), str(model_folder), records)


def test_a_new_home_holds_what_up_needs(wishes: Wishes, tmp_path: Path, coordinator: Identity) -> None:
    home = tmp_path / "home"
    init(home, wishes)
    folder = Folder(home)
    settings = Settings.load(folder.settings)
    assert (settings.member, settings.coordinator.key) == ("clinic", str(coordinator.public))
    assert settings.data.path == wishes.data
    assert settings.data.declared_documents == 120  # of 123: rounded down to two digits
    assert settings.data.declared_tokens == 1800  # of 1858
    Identity.from_pem(folder.identity.read_bytes())
    assert SqliteShelf(folder.mailbox).sessions() == 0
    assert settings.ledger_in(home).is_file()
    road = RoadSettings.load(folder.road.settings)
    assert (road.member, road.address) == ("clinic", "127.0.0.1:9")
    assert road.socket == home / "run" / "daemon.sock" == settings.socket_in(home)


def test_the_page_is_off_until_the_operator_names_a_port(wishes: Wishes, tmp_path: Path) -> None:
    settings = init(tmp_path / "home", wishes)
    file = Folder(tmp_path / "home").settings
    assert settings.page.port is Settings.load(file).page.port is None
    file.write_text(file.read_text().replace("# [page]", "[page]").replace("# port = 8645", "port = 8645"))
    assert Settings.load(file).page.port == 8645
    assert home_toml(Settings.load(file)) == file.read_text()
    file.write_text(file.read_text().replace("port = 8645", "port = 65536"))
    with pytest.raises(ConfigError, match="port: expected 1 to 65535"):
        Settings.load(file)


def test_the_supernodes_keys_are_the_pair_that_flower_asks_for(wishes: Wishes, tmp_path: Path) -> None:
    init(tmp_path / "home", wishes)
    folder = Folder(tmp_path / "home")
    private = load_ssh_private_key(folder.road.supernode_key.read_bytes(), None)
    public = load_ssh_public_key(folder.supernode_public.read_bytes().strip())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public


def test_a_new_homes_policy_allows_its_coordinator_one_thing_and_nothing_without_noise(
    wishes: Wishes, tmp_path: Path, coordinator: Identity
) -> None:
    init(tmp_path / "home", wishes)
    policy = Policy.load(Folder(tmp_path / "home").policy)
    (permission,) = policy.allow
    assert (permission.partner, permission.level) == (str(coordinator.public), Level.WEIGHTS)
    assert not permission.unsafe_without_noise
    assert not policy.unsafe_seeded_randomness
    assert policy.budget.epsilon == 8


def test_only_the_owner_can_read_a_home(wishes: Wishes, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        init(tmp_path / "home", wishes)
    finally:
        os.umask(before)
    for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_two_homes_share_no_key(wishes: Wishes, tmp_path: Path) -> None:
    init(tmp_path / "one", wishes)
    init(tmp_path / "two", wishes)
    for name in ("identity.key", "road/supernode.key", "road/superexec.secret", "road/local.key"):
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


def test_init_never_writes_over_anything(wishes: Wishes, tmp_path: Path) -> None:
    init(tmp_path / "home", wishes)
    before = {p: p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="never written over"):
        init(tmp_path / "home", wishes)
    assert before == {p: p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file()}
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="never written over"):
        init(tmp_path / "file", wishes)


def test_an_empty_folder_becomes_the_home(wishes: Wishes, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    init(tmp_path / "home", wishes)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version: expected 1"),
        ({"member": "../../etc"}, "member: expected"),
        ({"address": "127.0.0.1"}, "address: expected host:port"),
        ({"address": "127.0.0.1:99999"}, "address: expected host:port"),
        ({"coordinator_key": "ed25519:short"}, "coordinator_key: expected"),
        ({"ca_certificate": "-----BEGIN NOTHING-----"}, "ca_certificate: expected"),
        ({"token": "c2hvcnQ"}, "token: expected"),
        ({"token": None}, "token: missing"),
        ({"adress": "127.0.0.1:9"}, r"adress: unknown key \(nearest known: address\)"),
        ({"member": 7}, "member: expected a string"),
    ],
)
def test_a_wrong_invitation_is_named_with_its_key_and_nothing_is_written(
    wishes: Wishes, invite: Invite, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    invite(**change)
    _refused(wishes, tmp_path, rf"invitation\.toml: {words}")


def test_a_wrong_invitation_is_not_quoted(wishes: Wishes, invite: Invite, tmp_path: Path) -> None:
    invite(token="c2VjcmV0LXRva2Vu")
    assert "c2VjcmV0" not in _refused(wishes, tmp_path, "token")
    wishes.invitation.write_text("token = c2VjcmV0LXRva2Vu\n")
    assert "c2VjcmV0" not in _refused(wishes, tmp_path, "not TOML")


def test_an_invitation_that_is_missing_or_binary_is_a_clear_error(wishes: Wishes, tmp_path: Path) -> None:
    wishes.invitation.write_bytes(bytes(range(256)))
    _refused(wishes, tmp_path, "UTF-8")
    wishes.invitation.unlink()
    _refused(wishes, tmp_path, "no such file")


def test_missing_empty_and_binary_data_are_clear_errors(wishes: Wishes, tmp_path: Path) -> None:
    wishes.data.write_bytes(b"")
    _refused(wishes, tmp_path, r"notes\.jsonl")
    wishes.data.write_bytes(bytes(range(256)) * 10)
    _refused(wishes, tmp_path, r"notes\.jsonl")
    wishes.data.unlink()
    _refused(wishes, tmp_path, r"notes\.jsonl")


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "a/b/c"])
def test_a_missing_model_folder_is_a_clear_error(wishes: Wishes, tmp_path: Path, name: str) -> None:
    _refused(Wishes(wishes.invitation, name, wishes.data), tmp_path, "no such folder")


def test_a_folder_that_holds_no_model_is_a_clear_error(wishes: Wishes, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _refused(Wishes(wishes.invitation, str(tmp_path / "empty"), wishes.data), tmp_path, r"config\.json")


def test_a_folder_too_deep_for_a_socket_is_a_clear_error(wishes: Wishes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long a path"):
        init(tmp_path / ("x" * 120), wishes)


def test_a_home_in_a_place_that_cannot_be_written_leaves_nothing_behind(wishes: Wishes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        init(Path("/proc/home"), wishes)


def test_an_unknown_key_in_home_toml_is_an_error_that_names_the_nearest(wishes: Wishes, tmp_path: Path) -> None:
    init(tmp_path / "home", wishes)
    file = Folder(tmp_path / "home").settings
    file.write_text(file.read_text().replace("declared_tokens", "declared_token"))
    with pytest.raises(ConfigError, match=r"home\.toml: data\.declared_token: unknown key .*declared_tokens"):
        Settings.load(file)


def test_a_key_that_others_can_read_is_not_used(wishes: Wishes, tmp_path: Path) -> None:
    init(tmp_path / "home", wishes)
    identity = Folder(tmp_path / "home").identity
    require_private(identity)
    identity.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        require_private(identity)


def test_names_with_quotes_and_controls_survive_in_home_toml(
    invite: Invite, tmp_path: Path, model_folder: Path
) -> None:
    data = tmp_path / 'a "quoted" \\ \t ümläut \x7f.jsonl'
    data.write_text('{"text": "note"}\n')
    init(tmp_path / "home", Wishes(invite(), str(model_folder), data))
    assert Settings.load(Folder(tmp_path / "home").settings).data.path == data


def test_settings_are_read_as_they_were_written(wishes: Wishes, tmp_path: Path) -> None:
    plain = init(tmp_path / "home", wishes)
    doors = [DoorSettings(), DoorSettings(Path("/run/p.sock"), "parley"), DoorSettings(group="parley")]
    for door in doors:
        for seed, port in ((None, None), (7, 8645)):
            settings = replace(plain, door=door, page=PageSettings(port), unsafe_seed=seed)
            file = tmp_path / "written.toml"
            file.write_text(home_toml(settings))
            assert Settings.load(file) == settings


def test_a_home_can_start_from_a_policy_of_the_operators_own(wishes: Wishes, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("version = 1\n[budget]\nepsilon = 1.5\ndelta = 1e-6\n")
    init(tmp_path / "home", replace(wishes, policy=own))
    assert Policy.load(Folder(tmp_path / "home").policy).budget.epsilon == 1.5
    own.write_text("version = 1\n[budget]\nepsilom = 1.5\ndelta = 1e-6\n")
    with pytest.raises(ConfigError, match=r"own\.toml: budget\.epsilom: unknown key .*epsilon"):
        init(tmp_path / "other", replace(wishes, policy=own))


@given(st.integers(1, 10**12))
def test_a_declared_number_is_coarse_and_never_above_the_count(count: int) -> None:
    assert count * 0.9 < coarse(count) <= count
    assert len(str(coarse(count)).rstrip("0")) <= 2


@given(st.lists(st.integers(1, 300), min_size=1, max_size=50), st.integers(2, 64))
def test_the_declared_records_are_within_a_factor_of_two_of_the_true_ones(sizes: list[int], width: int) -> None:
    true = sum(-(-size // width) for size in sizes)
    declared = Declared(len(sizes), sum(sizes)).records(width)
    assert true / 2 <= declared <= 2 * true


def _refused(wishes: Wishes, tmp_path: Path, words: str) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=words) as refusal:
        init(tmp_path / "home", wishes)
    assert sorted(tmp_path.iterdir()) == before
    return str(refusal.value)


def test_a_home_may_hold_conversations_of_users_and_says_so_in_its_settings(wishes: Wishes, tmp_path: Path) -> None:
    rows = ({"messages": [{"role": "user", "content": f"note {n}"}], "user": n % 30} for n in range(60))
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = init(tmp_path / "home", replace(wishes, data=data, content=Content.CHAT, group_column="user"))
    settings = Settings.load(Folder(tmp_path / "home").settings)
    assert settings == made
    assert settings.data.columns == Columns(Content.CHAT, "text", "user")
    assert (settings.data.declared_documents, settings.data.declared_groups) == (60, 30)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('[model]\nname = "m"\nbits = 3', "bits: expected 4 or 8"),
        ('[model]\nname = "m"\ndtype = "float16"', "expected one of auto, bfloat16, float32"),
        ("validation = 1.0", "validation: expected at least 0"),
        ('[training]\nprecision = "int8"', "precision: expected one of own, bfloat16, float16"),
        ("[training]\ncheckpointing = true", "checkpointing"),
        ('group_column = "user"', "declared_groups: expected at least 1 with a group_column"),
        ("declared_groups = 7", "declared_groups: expected at least 1 with a group_column"),
        ('content = "chats"', "expected one of text, chat, preference"),
        ('[personal]\nrank = 0\nalpha = 1.0\ntargets = ["q"]\nsteps = 1\nlearning_rate = 0.1', "rank, steps"),
        ('[personal]\nrank = 1\nalpha = 0.0\ntargets = ["q"]\nsteps = 1\nlearning_rate = 0.1', "alpha, learning"),
        ("[expert]\nstrength = 1.0", "adapters, model: expected one of the two"),
        ('[expert]\nadapters = ["a"]\nmodel = "m"', "adapters, model: expected one of the two"),
        ('[expert]\nadapters = ["a", "a"]', "adapters: expected each name once"),
        ('[expert]\nadapters = ["a"]\nuntuned = "m"', "untuned: expected only with a model"),
        ('[expert]\nmodel = "m"\nstrength = 2.0', "strength: expected a positive number"),
        ('[expert]\nmodel = "m"\nuntuned = "u"\nstrength = 0.0', "strength: expected a positive number"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wishes: Wishes, tmp_path: Path, line: str, words: str) -> None:
    init(tmp_path / "home", wishes)
    file = Folder(tmp_path / "home").settings
    text = file.read_text()
    if line.startswith("[model]"):
        text = text[: text.index("[model]")] + line + text[text.index("\n[data]") :]
    elif line.startswith("["):
        text += line
    else:
        text = text.replace("[data]\n", f"[data]\n{line}\n")
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        Settings.load(file)


def test_settings_survive_being_written_and_read(wishes: Wishes, tmp_path: Path) -> None:
    settings = init(tmp_path / "home", wishes)
    file = tmp_path / "home.toml"
    personal = PersonalSettings(2, 4.0, ("q_proj", "v_proj"), 5, 0.01, 4)
    model = replace(settings.model, dtype=Dtype.BFLOAT16, bits=4)
    data = replace(settings.data, content=Content.CHAT, group_column="u", declared_groups=3, validation=0.25)
    rich = replace(settings, personal=personal, model=model, data=data)
    rich = replace(rich, training=TrainingSettings(Checkpointing.REENTRANT))
    lowered = replace(settings, training=TrainingSettings(Checkpointing.OFF, Precision.BFLOAT16))
    experts = (ExpertSettings(("a", "b")), ExpertSettings(model="m"), ExpertSettings((), "m", "u", 0.5))
    for changed in (settings, rich, lowered, *(replace(settings, expert=expert) for expert in experts)):
        file.write_text(home_toml(changed))
        assert Settings.load(file) == changed
