"""Identities sign for one purpose, keys have one text form, and no error quotes a key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocols.faults import PeerError
from protocols.keys import Identity, PublicKey
from protocols.roster import Roster
from protocols.session import MemberId

# RFC 8032, section 7.1, test 3 (secret and public key)
SECRET = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")


def test_the_public_key_of_rfc_8032_comes_out():
    assert Identity(Ed25519PrivateKey.from_private_bytes(SECRET)).public == PublicKey(PUBLIC)


def test_a_signature_holds_for_its_label_data_and_signer_only():
    mine, other = Identity.generate(), Identity.generate()
    signature = mine.sign(b"label", b"data")
    mine.public.verify(b"label", b"data", signature)
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for key, label, data, signed in [
        (other.public, b"label", b"data", signature),
        (mine.public, b"labe", b"ldata", signature),
        (mine.public, b"label", b"date", signature),
        (mine.public, b"label", b"data", flipped),
        (mine.public, b"label", b"data", signature[:-1]),
        (mine.public, b"label", b"data", b""),
    ]:
        with pytest.raises(PeerError, match="does not verify"):
            key.verify(label, data, signed)


def test_an_identity_survives_its_file_and_never_prints_its_secret():
    identity = Identity.generate()
    again = Identity.from_pem(identity.to_pem())
    assert again.public == identity.public
    secret_lines = identity.to_pem().decode().splitlines()[1:-1]
    assert not any(line in repr(identity) for line in secret_lines)


def test_the_text_form_reads_back():
    key = Identity.generate().public
    assert PublicKey.parse(str(key)) == key
    assert len(str(key)) == len("ed25519:") + 43


@pytest.mark.parametrize(
    "text",
    ["", "ed25519:", "ed25519:canary", "rsa:" + "A" * 43, "A" * 43, "ed25519:" + "!" * 43, "ed25519:" + "A" * 44],
)
def test_what_is_no_key_is_refused_without_being_quoted(text):
    with pytest.raises(ValueError, match="not a public key") as error:
        PublicKey.parse(text)
    assert "canary" not in str(error.value)


def test_a_file_that_holds_another_kind_of_key_is_refused():
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="not an Ed25519 key"):
        Identity.from_pem(other)
    with pytest.raises(ValueError, match="PEM"):
        Identity.from_pem(b"garbage")


def test_a_rosters_digest_changes_with_every_name_and_key_and_not_with_order():
    a, b, c = (Identity.generate().public for _ in range(3))
    x, y = MemberId("x"), MemberId("y")
    roster = Roster(((x, a), (y, b)))
    assert roster.digest == Roster(((y, b), (x, a))).digest
    assert roster.members == (x, y)
    assert roster.key(y) == b
    for other in (Roster(((x, a), (y, c))), Roster(((x, b), (y, a))), Roster(((x, a),))):
        assert other.digest != roster.digest


def test_a_name_or_a_key_stands_once_in_a_roster():
    a, b = Identity.generate().public, Identity.generate().public
    for entries in (((MemberId("x"), a), (MemberId("x"), b)), ((MemberId("x"), a), (MemberId("y"), a))):
        with pytest.raises(ValueError, match="twice"):
            Roster(entries)
