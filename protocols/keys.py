"""Hold long-term Ed25519 identities: made at their owner, never leaving it, pinned by everybody else."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from protocols.faults import PeerError

_PREFIX = "ed25519:"


@dataclass(frozen=True)
class PublicKey:
    """Verify what one identity signed. Its text form is "ed25519:" and 43 base64url characters."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise ValueError("a public key has 32 bytes")

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Read the text form. Raises: ValueError, which does not quote the text."""
        body = text.removeprefix(_PREFIX)
        try:
            if body == text or len(body) != 43:
                raise ValueError
            return cls(base64.b64decode(body + "=", altchars=b"-_", validate=True))
        except (ValueError, binascii.Error):
            raise ValueError("not a public key of the form ed25519:...") from None

    def __str__(self) -> str:
        return _PREFIX + base64.urlsafe_b64encode(self.raw).decode().rstrip("=")

    def verify(self, label: bytes, data: bytes, signature: bytes) -> None:
        """Return if this identity signed `data` under `label`. Raises: PeerError otherwise."""
        try:
            self._key.verify(signature, _labelled(label, data))
        except InvalidSignature:
            raise PeerError("a signature does not verify") from None

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


class Identity:
    """Sign as one member or coordinator. The private key has no textual form but its owner's PEM file."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def generate(cls) -> "Identity":
        """Make a new identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> "Identity":
        """Read a private key. Raises: ValueError, which holds nothing of the key."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not an unencrypted private key in PEM form") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the private key as PEM, for a file that only its owner reads."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, label: bytes, data: bytes) -> bytes:
        """Return 64 bytes that only this identity can make for `data` under `label`.

        The label separates domains: a signature on a letter is no signature on an enrolment.
        """
        return self._key.sign(_labelled(label, data))

    def __repr__(self) -> str:
        return f"Identity({self.public})"


def _labelled(label: bytes, data: bytes) -> bytes:
    if not label or len(label) > 255:
        raise ValueError("a label has 1 to 255 bytes")
    return bytes([len(label)]) + label + hashlib.sha256(data).digest()  # Ed25519 would read long data twice, slowly
