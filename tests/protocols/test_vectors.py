"""Known answers: of the primitives, from their standards; of our own streams, keys and boxes, by an independent path.

The independent path is PyCryptodome for AES and the standard library's hmac and hashlib, spelled out; the digests of
what it gives are frozen, so that no change of ours, or of a library's, goes unseen.
"""

import base64
import hashlib
import hmac

import numpy as np
import pytest
from Crypto.Cipher import AES
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.fixed_point import FixedPoint
from protocols.faults import PeerError
from protocols.keys import Identity, PublicKey
from protocols.secure_sum.aggregation import commitment
from protocols.secure_sum.boxes import Dealing, deal, derived_share, open_box, uniform
from protocols.secure_sum.masks import CHUNK, add_masks, dtype_of, pack
from protocols.secure_sum.messages import Introduced, Request, Upload, agreement, session_id
from protocols.secure_sum.pairs import Pair, mac
from protocols.secure_sum.session import _proof, _root
from protocols.secure_sum.terms import Mode, Terms

raw = bytes.fromhex


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# X25519: RFC 7748 -----------------------------------------------------------------------------------------------


def x25519(scalar: bytes, point: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))


@pytest.mark.parametrize(("scalar", "point", "result"), [
    ("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
     "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
     "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"),
    ("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
     "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
     "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"),
])  # fmt: skip
def test_x25519_of_rfc_7748_section_5_2(scalar, point, result):
    assert x25519(raw(scalar), raw(point)) == raw(result)


def test_x25519_of_rfc_7748_section_5_2_iterated_a_thousand_times():
    scalar = point = raw("09" + "00" * 31)
    for iteration in range(1000):
        scalar, point = x25519(scalar, point), scalar
        if iteration == 0:
            assert scalar == raw("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    assert scalar == raw("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")


def test_x25519_of_rfc_7748_section_6_1():
    alice, bob = (
        raw("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
        raw("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
    )
    publics = [X25519PrivateKey.from_private_bytes(k).public_key().public_bytes_raw() for k in (alice, bob)]
    assert publics == [
        raw("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
        raw("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
    ]
    shared = raw("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert x25519(alice, publics[1]) == x25519(bob, publics[0]) == shared


def test_x25519_gives_no_secret_of_a_point_of_low_order():
    with pytest.raises(ValueError):  # noqa: PT011  the library's text is its own
        x25519(bytes([9] * 32), bytes(32))


# HKDF-SHA256: RFC 5869 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ikm", "salt", "info", "okm"), [
    (b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)),
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    (bytes(range(0x50)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)),
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
     "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"),
    (b"\x0b" * 22, b"", b"",
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
], ids=["A.1", "A.2", "A.3"])  # fmt: skip
def test_hkdf_of_rfc_5869_and_ours_spelled_out(ikm, salt, info, okm):
    assert HKDF(SHA256(), len(raw(okm)), salt, info).derive(ikm) == raw(okm)
    assert hkdf(ikm, salt, info, len(raw(okm))) == raw(okm)


def hkdf(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    extracted = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    block, out = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(extracted, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
    return out[:length]


# Ed25519: RFC 8032 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("secret", "public", "message", "signature"), [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
     "55141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
     "00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc"
     "027beceea1ec40a"),
], ids=["TEST 1", "TEST 2", "TEST 3"])  # fmt: skip
def test_ed25519_of_rfc_8032_section_7_1(secret, public, message, signature):
    key = Ed25519PrivateKey.from_private_bytes(raw(secret))
    assert key.public_key().public_bytes_raw() == raw(public)
    assert key.sign(raw(message)) == raw(signature)
    flipped = bytearray(raw(signature))
    flipped[40] ^= 1
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(raw(public)).verify(bytes(flipped), raw(message))


def test_a_signature_of_ours_is_on_the_label_behind_its_length_and_the_digest():
    identity = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    label, data = b"parley/v1/secure-sum/agreement", b"data"
    signed = bytes([len(label)]) + label + hashlib.sha256(data).digest()
    signature = identity.sign(label, data)
    assert signature == Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(signed)
    assert sha(signature) == "94dfdc7590c7071055628f70259db59d9a3bdb372ae1be32db566652739aa224"
    with pytest.raises(PeerError):
        PublicKey(identity.public.raw).verify(b"parley/v1/secure-sum/announcement", data, signature)


# AES: NIST SP 800-38A and 38D -----------------------------------------------------------------------------------

PLAIN = raw(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef"
        "f69f2445df4f9b17ad2b417be66c3710"
    )  # fmt: skip


def test_aes_256_ctr_of_nist_sp_800_38a_f_5_5():
    key = raw("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = raw("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    sealed = raw(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d84988d"
        "dfc9c58db67aada613c2dd08457941a6"
    )  # fmt: skip
    assert Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(PLAIN) == sealed
    assert AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=counter).encrypt(PLAIN) == sealed


def test_aes_256_gcm_of_mcgrew_and_viega_case_16_and_no_changed_bit_opens():
    key, nonce = raw("feffe9928665731c6d6a8f9467308308" * 2), raw("cafebabefacedbaddecaf888")
    plain = raw(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        "b16aedf5aa0de657ba637b39"
    )  # fmt: skip
    about = raw("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = raw(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
        "c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    )  # fmt: skip
    assert AESGCM(key).encrypt(nonce, plain, about) == sealed
    assert AESGCM(key).decrypt(nonce, sealed, about) == plain
    for at in range(0, len(sealed), 7):
        wrong = sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :]
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(nonce, wrong, about)
    for wrong in (about[:-1], b"", about + b"\0"):
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(nonce, sealed, wrong)
    assert AESGCM(bytes(32)).encrypt(bytes(12), b"", None) == raw("530f8afbc74536b9a963b4f1c4cb738b")  # case 13


# ML-KEM-768: FIPS 203 -------------------------------------------------------------------------------------------

# A known answer of the C2SP collection CCTV ("strcmp"), also in Wycheproof: the ciphertext is one that is to be
# rejected, which shows key generation, decryption, re-encryption and the rejection's key at once.
KEM_SEED = raw("cbfc4405d1b2a3a386c94c25e0f2d5f5ee92cb0388ff4d6aa04223086d51c3fd"
               "24752da14c9fc3b8ae0d9e4a8b1016b8d8fc69e229c03ea2ef08a4ae0cffc37f")  # fmt: skip
REJECTED = base64.b64decode(
    "AOlsROtfU4DYC0ywXWCJcaKPvoOLkStVi/lnbGxnyWku1uoGP8R7cNXWAEglwmm5y45otXKNZ/RIRNl2hqERVOPL1Kb55HUk2T2FG9zkgNd2"
    "Le0JvlPRfM4+4o3FoGkRwGK5myGDVd1YIhCMVeLGf36gt0thibM7RYnY/50Mhn0T7arxxfckZ1Mgvto+asxnPASPoEobMPiZIn1aVV4IpBKk"
    "e323XrEYqIRKcbGGiAQm9rtudxhtGOdTy8zpPJ+3bHKYdbTUc+7KjauZQZafrvBN+c4xeOc0HqtBbSi7eu4Sv7j0w9+BTv9FoBhzKQeaz8Qa"
    "jo26ewjREfAuN6HStp5X7vgI/MauIzhVNKQgqT37apXHPi8QFhd8T+nTztdp4ncpOqzt7W0H78eJDqqIW9HnP55dornP2g1Ey8kJBwWsLOPn"
    "vNd3W1k8cG5F3cl9OmXZt+c2c/lHPfW/7GiWcfc+f27nfHMKjr2h8LLBEqcZBNbyilHY1Hn4Mj+0heci9cTVhX6VmJqcuvJz79BPw8vemLqp"
    "lp4JXoiszs+9Eu8hVUl6WxX+kacNEQa5GlaDY7/C1nNsyBOMvEHd8eVP1AUR4n2J4sJsAntjwVbiu7mY+q7T1yGG8Mxiba05p4Lc2iCH/ROp"
    "SY4QtBtoVkaiJ+oRZqVjLBlZg/SrorcYtAdAMNVxJtNMODSYkgB6y+qeOTuWfcMUaycPCAofC+6Q1loJWmNSp3GO0XF6gCWivTjGbRILr0JH"
    "Z2of4ESlfOJowHj4/0bMJv5PnHoD1kZ62suEGNJic2Yrzh97wAuQbgCI6V3A+0GeIjLoWqx3uefNVj5gTeXh0+lpPc07GYZc9CUHc2kefgr5"
    "wnVc0x9J0flnCPO6LwuYGEUlq7hp4S1c6grBdAGBqHUDUwCwWlS41C7jtK6SsG5DzYB+Kwlsl38jxh74yYnFLtg3VAdt6hMj9jklC+9hvfkD"
    "v3lhzsibppQtnQZHrJyBldk+2KvO3yV1RkQDVxmloKHIwHmJEnJqmoJY5MEK50hTIu2bozH28JDEtJKk/PU9dTzTTyjsBEP84HJPQ8iaOUIW"
    "nVCZqPdDDzhpHrzi4/5PYA2Cx8zt9gZz+OXUwan4S4tbI/XtY977anIF4KixBb3G/0Vo/HjLRFawL+239MSPb9a2khajMZghA520DhmjGgsM"
    "nUcdWnpzhl0m+L41lVJbHsSoV579B+qY4mAuK//f2P68XHtMc20ya1AwzMb6+UIKnBVqj0UWuf/2dUWd/c1O+F1629/9YPSjlijjmcx1LC6Z"
    "qy9DHcdl58nSBr/jJkn77070ix15Nvx0dm1yQ1DuIkWo1fI/vGx+2LVxaM4ehk5J1/jEddzaFAvUJHOCWzxy64xUeAGIgTAR4ZYqUD+bUW4T"
    "Im3mN1sgRzOwGSGDyPVehw5hz4lHwxkXkLwLZXvEOuvJ2Gw="
)


def test_ml_kem_768_gives_the_key_of_a_known_seed_and_rejects_the_known_ciphertext():
    key = MLKEM768PrivateKey.from_seed_bytes(KEM_SEED)
    public = key.public_key().public_bytes_raw()
    assert public[:32] == raw("8b9a7354e8c1c17a9898f96caf99bba1c625ae0983c4d26e60c12f59bc25d756")
    assert public[-32:] == raw("486a6822b9bbf59fbfcaedc13284b9813cabdd526e326a6832d3b36efc3102ef")
    shared = raw("76c10bb1d86d96d7eb18e298363e51f7728e113f455df7d15017940ed3541451")
    assert key.decapsulate(REJECTED) == shared
    assert hashlib.shake_256(KEM_SEED[32:] + REJECTED).digest(32) == shared  # J(z, c) of FIPS 203, algorithm 18


def test_ml_kem_768_decapsulates_what_was_encapsulated_and_rejects_every_other_ciphertext_without_a_word():
    key = MLKEM768PrivateKey.from_seed_bytes(KEM_SEED)
    for _ in range(5):
        shared, ciphertext = key.public_key().encapsulate()
        assert key.decapsulate(ciphertext) == shared
        for at in (0, 500, 1087):
            wrong = ciphertext[:at] + bytes([ciphertext[at] ^ 1]) + ciphertext[at + 1 :]
            assert key.decapsulate(wrong) == hashlib.shake_256(KEM_SEED[32:] + wrong).digest(32) != shared


# our own ----------------------------------------------------------------------------------------------------------

KEY, SID, CTX = (hashlib.sha256(name).digest() for name in (b"key", b"session", b"request"))


def stream(key: bytes, size: int) -> bytes:
    return AES.new(key, AES.MODE_CTR, nonce=b"", initial_value=0).encrypt(bytes(size))


def labelled(key: bytes, what: str, *parts: bytes) -> bytes:
    data = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    return hmac.new(key, b"parley/v1/secure-sum/" + what.encode() + b"\0" + data, hashlib.sha256).digest()


def elements(key: bytes, count: int) -> list[int]:
    data = stream(key, 4 * count + 100)
    words = [data[i] + 256 * data[i + 1] for i in range(0, len(data), 2)]
    return [w for w in words if w < 65521][:count]


@pytest.mark.parametrize(
    ("bits", "frozen"),
    [
        (16, "b2d3d9a533583606c013f58d52aec0204e314a0b20472de85e444670f11fa165"),
        (24, "1164ee94082d32c5711b1321f0ded1f5928771f243cf09b17b1c1b82bc567311"),
        (32, "4bf7ba0c2ed40edf8823237a17f42a86ddaac7ed5afd650b47de795a1ccfab75"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_mask_is_the_aes_256_ctr_stream_from_counter_zero_in_little_endian_words(bits, frozen, sign):
    length = 3 * CHUNK // 4 + 5  # over several chunks, and not to the end of a block
    words = np.zeros(length, dtype_of(bits))
    add_masks(words, [(sign, KEY)], threads=2)
    width = 2 if bits == 16 else 4
    expected = np.frombuffer(stream(KEY, length * width), f"<u{width}").astype(np.int64) * sign % 2**bits
    assert np.array_equal(words.astype(np.int64) % 2**bits, expected)
    packed = pack(words, bits).tobytes()
    assert packed == b"".join(int(w).to_bytes(bits // 8, "little") for w in expected)
    if sign == 1:
        assert sha(packed) == frozen


def test_a_mask_is_another_for_any_changed_bit_of_its_key():
    seen = set()
    for bit in range(256):
        words = np.zeros(4, np.uint32)
        add_masks(words, [(1, (int.from_bytes(KEY, "big") ^ 1 << bit).to_bytes(32, "big"))])
        seen.add(words.tobytes())
    assert len(seen) == 256
    for wrong in ([(1, KEY[:31])], [(0, KEY)], [(2, KEY)], [(1, b"")]):
        with pytest.raises(ValueError, match="a sign and a key of 32 bytes"):
            add_masks(np.zeros(4, np.uint32), wrong)


def test_the_keys_of_a_pair_are_hkdf_and_hmac_of_both_secrets_the_session_the_names_and_the_ciphertext():
    classical, encapsulated, ciphertext = KEY, CTX, b"c" * 1088
    info = labelled(SID, "pair", b"a", b"b", ciphertext)
    root = hkdf(classical + encapsulated, SID, info, 32)
    assert _root(SID, classical + encapsulated, "b", "a", ciphertext) == root
    assert _root(SID, classical + encapsulated, "a", "b", ciphertext) == root
    pair = Pair.derive(root, "a", "b")
    assert pair.mask == labelled(root, "mask")
    assert pair.sealing == labelled(root, "box", b"a", b"b")
    assert pair.opening == labelled(root, "box", b"b", b"a")
    assert (
        sha(root + pair.mask + pair.sealing + pair.opening)
        == "5145799970267084ae57c8a7b1d2c01b6508df70110c0e06fd721f547814752b"
    )
    proof_key = mac(classical, "proof", SID)
    assert proof_key == labelled(classical, "proof", SID)
    assert _proof(proof_key, "a", "b", ciphertext) == labelled(proof_key, "slip", b"a", b"b", ciphertext)
    others = [(SID, CTX + KEY, "a", "b", ciphertext), (CTX, KEY + CTX, "a", "b", ciphertext),
              (SID, KEY + CTX, "a", "c", ciphertext), (SID, KEY + CTX, "a", "b", b"")]  # fmt: skip
    assert root not in {_root(*other) for other in others}


def test_the_elements_of_a_key_a_derived_share_and_a_commitment_are_spelled_out():
    assert uniform(KEY, 40).ravel().tolist() == elements(KEY, 640)
    assert derived_share(KEY, CTX, 3).ravel().tolist() == elements(labelled(KEY, "derive", CTX), 48)
    limbs = uniform(KEY, 1)[0]
    flat = b"".join(int(x).to_bytes(2, "little") for x in limbs)
    assert commitment(limbs) == labelled(b"", "commitment", flat)
    assert commitment(KEY) == labelled(b"", "commitment", KEY)
    assert (
        sha(uniform(KEY, 40).astype("<u2").tobytes() + commitment(limbs))
        == "ccd9bb4079a7f27f516307385b6f407bb9f62799f646030f9a60a917ddb07393"
    )


def test_a_box_is_aes_256_gcm_under_a_key_of_the_pair_and_the_sum_about_dealer_and_holder():
    dealing, keys = (
        Dealing("b", ("a", "b", "c", "d"), (1, 2, 3, 4), 2),
        {n: hashlib.sha256(n.encode()).digest() for n in "abcd"},
    )
    secrets = uniform(KEY, 2)
    dealt = deal(dealing, secrets, CTX, keys.__getitem__)
    first = elements(labelled(keys["a"], "derive", CTX), 32)
    assert [len(b) for b in dealt.boxes] == [0, 2 * 32 + 16, 2 * 32 + 16]
    for holder, point, box in zip("cd", (3, 4), dealt.boxes[1:], strict=True):
        share = [((1 - point) * int(s) + point * f) % 65521 for s, f in zip(secrets.ravel(), first, strict=True)]
        cipher = AES.new(labelled(keys[holder], "seal", CTX), AES.MODE_GCM, nonce=bytes(12), mac_len=16)
        cipher.update(labelled(CTX, "box", b"b", holder.encode()))
        sealed, tag = cipher.encrypt_and_digest(b"".join(x.to_bytes(2, "little") for x in share))
        assert box == sealed + tag
        assert open_box(keys[holder], CTX, "b", holder, box, 2).ravel().tolist() == share
    assert sha(b"".join(dealt.boxes)) == "e90ad7f62fbba5255fc9fc32f4e2df0ce38cad89da5ba1a6c4ae47ce0b0c3c07"


def test_the_digests_of_requests_uploads_terms_sessions_and_agreements_are_frozen():
    spec = FixedPoint(7, 32, 64.0, 8.0, None, 3, 0.0)
    request = Request(SID, 5, "average", ("a", "b", "c"), spec, CTX, 2, 0)
    packed = (
        b"\x99\xa7Request\xc4\x20" + SID + b"\x05\xa7average\x93\xa1a\xa1b\xa1c"
        b"\x97\x07\x20\xcb\x40\x50\0\0\0\0\0\0\xcb\x40\x20\0\0\0\0\0\0\xc0\x03\xcb\0\0\0\0\0\0\0\0"
        b"\xc4\x20" + CTX + b"\x02\x00"
    )  # fmt: skip
    assert request.ctx == hashlib.sha256(b"parley/v1/secure-sum/request\0" + packed).digest()
    upload = Upload(5, np.zeros(4, np.uint8), b"commitments", b"own", (b"box", b""))
    each = b"".join(hashlib.sha256(part).digest() for part in (b"commitments", b"own", b"box", b""))
    assert upload.digest(CTX) == hashlib.sha256(b"parley/v1/secure-sum/upload\0" + CTX + each).digest()
    said = agreement(CTX, ("a", "bc"), bytes(64))
    assert said == CTX + b"\0\0\0\2" + b"\0\0\0\1a" + b"\0\0\0\2bc" + bytes(64)
    shown = (Introduced(b"one", b"s"), Introduced(b"two", b"t"))
    both = hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()
    assert session_id(shown) == hashlib.sha256(b"parley/v1/secure-sum/session\0" + both).digest()
    terms = Terms(Mode.RESILIENT, 3, 1)
    assert (
        sha(request.ctx + upload.digest(CTX) + said + session_id(shown) + terms.digest)
        == "3c55b64a73069e914bc70894407dd8cc642505eb52605affc40e7bd8e974e9e0"
    )
