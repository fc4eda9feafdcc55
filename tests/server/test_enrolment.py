"""An invitation lets one member in, once, with its own keys; nothing else lets anybody in."""

import base64
import json
import sqlite3
import stat
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from privacy.config import ConfigError
from protocols.carriers.flower_road import ENROL_LABEL, enrolment_bytes
from protocols.keys import Identity
from protocols.session import MemberId
from server.enrolment import ENROLLED, MALFORMED, REFUSED, TAKEN, Reply, enrol
from server.folder import Address, Folder, init
from server.invitation import invite
from server.store import Keys, OtherKeys, Store


def ssh(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass
class Office:
    """A coordinator's folder and store, and a register that hands out node ids as the SuperLink does."""

    folder: Folder
    nodes: dict[bytes, int] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder.store)

    def register(self, _member: MemberId, key: bytes) -> int:
        return self.nodes.setdefault(key, 2**63 + len(self.nodes))

    def invite(self, name: str) -> dict[str, str]:
        out = self.folder.root / f"{name}.{len(list(self.folder.root.iterdir()))}.toml"
        invite(self.folder, name, out)
        return tomllib.loads(out.read_text())

    def post(self, request: dict[str, str]) -> Reply:
        return enrol(json.dumps(request).encode(), self.store, self.register)


@dataclass
class Newcomer:
    name: str
    token: str
    identity: Identity = field(default_factory=Identity.generate)
    node_key: str = field(default_factory=lambda: ssh(ec.generate_private_key(ec.SECP384R1())))
    signed_by: Identity | None = None

    def request(self) -> dict[str, str]:
        data = enrolment_bytes(self.name, self.token, self.node_key, str(self.identity.public))
        signature = (self.signed_by or self.identity).sign(ENROL_LABEL, data)
        return {
            "member": self.name,
            "token": self.token,
            "supernode_key": self.node_key,
            "identity_key": str(self.identity.public),
            "signature": base64.urlsafe_b64encode(signature).decode().rstrip("="),
        }


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(init(tmp_path / "coordinator", "127.0.0.1:8443"))


def test_an_invited_member_enrols_and_the_same_request_again_is_answered_the_same(office: Office) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"])
    assert [office.post(alice.request()) for _ in range(3)] == [ENROLLED] * 3
    (member,) = office.store.members()
    assert (member.name, member.node) == ("alice", 2**63)
    assert member.keys == Keys(alice.node_key, str(alice.identity.public))


def test_padding_of_the_signature_and_a_comment_on_the_key_make_no_difference(office: Office) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"])
    assert office.post(alice.request()) == ENROLLED
    commented = replace(alice, node_key=alice.node_key + " root@laptop").request()
    assert office.post(commented | {"signature": commented["signature"] + "=="}) == ENROLLED


def test_a_wrong_token_and_an_unknown_name_are_refused_alike(office: Office) -> None:
    token = office.invite("alice")["token"]
    strangers = [Newcomer("alice", "x" * len(token)), Newcomer("mallory", token), Newcomer("alice", "")]
    assert [office.post(s.request()) for s in strangers] == [REFUSED] * 3
    assert office.nodes == {}


def test_an_invitation_that_was_replaced_is_void(office: Office) -> None:
    old, new = office.invite("alice")["token"], office.invite("alice")["token"]
    assert office.post(Newcomer("alice", old).request()) == REFUSED
    assert office.post(Newcomer("alice", new).request()) == ENROLLED


def test_a_stolen_invitation_cannot_replace_the_keys_that_enrolled_first(office: Office) -> None:
    token = office.invite("alice")["token"]
    assert office.post(Newcomer("alice", token).request()) == ENROLLED
    assert office.post(Newcomer("alice", token).request()) == TAKEN
    assert len(office.nodes) == 1


@pytest.mark.parametrize("shared", ["node_key", "identity"])
def test_one_key_cannot_stand_for_two_members(office: Office, shared: str) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"])
    copy = Newcomer("bob", office.invite("bob")["token"])
    setattr(copy, shared, getattr(alice, shared))
    assert office.post(alice.request()) == ENROLLED
    assert office.post(copy.request()) == TAKEN


def test_an_identity_must_be_proved_by_its_signature(office: Office) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"], signed_by=Identity.generate())
    assert office.post(alice.request()) == REFUSED


def test_a_signature_on_other_fields_is_no_signature_on_these(office: Office) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"])
    other = ssh(ec.generate_private_key(ec.SECP384R1()))
    assert office.post(alice.request() | {"supernode_key": other}) == REFUSED


@pytest.mark.parametrize(
    "spoiled",
    [
        {"supernode_key": ssh(ec.generate_private_key(ec.SECP256R1()))},
        {"supernode_key": ssh(ed25519.Ed25519PrivateKey.generate())},
        {"supernode_key": "ssh-rsa nonsense"},
        {"identity_key": "ed25519:short"},
        {"signature": "!!!"},
        {"extra": "field"},
        {"member": 7},
        {"token": None},
        {"member": "a\nb"},
    ],
)
def test_what_is_no_enrolment_is_malformed_and_registers_nothing(office: Office, spoiled: dict[str, str]) -> None:
    request = Newcomer("alice", office.invite("alice")["token"]).request()
    assert office.post(request | spoiled) == MALFORMED
    assert office.nodes == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"member": "a"}', b"[" * 10_000, b" " * 20_000])
def test_bytes_that_are_no_json_object_are_malformed(office: Office, body: bytes) -> None:
    assert enrol(body, office.store, office.register) == MALFORMED


def test_a_crash_between_registering_and_writing_down_is_mended_by_asking_again(office: Office) -> None:
    alice = Newcomer("alice", office.invite("alice")["token"])

    def crash(member: MemberId, key: bytes) -> int:
        office.register(member, key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enrol(json.dumps(alice.request()).encode(), office.store, crash)
    assert office.post(alice.request()) == ENROLLED
    assert len(office.nodes) == 1


def test_the_store_holds_no_token_and_the_folder_opens_to_its_owner_only(office: Office) -> None:
    token = office.invite("alice")["token"]
    office.post(Newcomer("alice", token).request())
    everything = office.folder.store.read_bytes()
    assert token.encode() not in everything
    assert base64.urlsafe_b64decode(token + "=") not in everything
    with sqlite3.connect(office.folder.store) as db:
        assert token not in "\n".join(db.iterdump())
    for file in (office.folder.root, *office.folder.root.rglob("*")):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file


def test_an_invitation_says_all_a_member_needs_and_is_for_its_holder_only(office: Office) -> None:
    out = office.folder.root / "alice.toml"
    invite(office.folder, "alice", out)
    read = tomllib.loads(out.read_text())
    assert read.keys() == {"version", "member", "address", "coordinator_key", "ca_certificate", "token"}
    assert (read["version"], read["member"], read["address"]) == (1, "alice", "127.0.0.1:8443")
    assert read["coordinator_key"] == str(office.folder.identity().public)
    assert read["ca_certificate"] == office.folder.ca_certificate.read_text()
    assert len(base64.urlsafe_b64decode(read["token"] + "=")) == 32
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_nobody_is_invited_by_a_bad_name_into_an_old_file_or_after_enrolling(office: Office) -> None:
    for name in ("", "Alice", "a/b", "../x", "-a", "a" * 33, 'a"b', "a\n"):
        with pytest.raises(ConfigError, match="NAME"):
            invite(office.folder, name, office.folder.root / "new.toml")
    with pytest.raises(ConfigError, match="does not exist yet"):
        invite(office.folder, "alice", office.folder.settings_file)
    office.post(Newcomer("alice", office.invite("alice")["token"]).request())
    with pytest.raises(ConfigError, match="has not enrolled"):
        office.invite("alice")
    with pytest.raises(OtherKeys):
        office.store.invite("alice", "token")


def test_init_overwrites_nothing(office: Office) -> None:
    key = office.folder.identity_key.read_bytes()
    with pytest.raises(ConfigError, match="empty or does not exist"):
        init(office.folder.root, "127.0.0.1:8443")
    assert office.folder.identity_key.read_bytes() == key


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "a b:1", "h/x:1", "h:١"]
)
def test_an_address_that_is_none_is_named_with_its_option(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="--address"):
        init(tmp_path / "c", address)
    assert not (tmp_path / "c").exists()


def test_addresses_survive_their_text_form() -> None:
    for text in ("127.0.0.1:1", "coordinator.example:443", "[::1]:8443"):
        assert str(Address.parse(text)) == text


def test_an_unknown_key_in_the_settings_is_named_with_the_nearest_known(office: Office) -> None:
    office.folder.settings_file.write_text('version = 1\naddress = "h:1"\nlisen = "h:2"\n')
    with pytest.raises(ConfigError, match=r"lisen.*listen"):
        _ = office.folder.settings
