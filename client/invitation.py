"""Read the file with which a coordinator invites one member."""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from privacy.config import ConfigError, read_config

TOKEN_BYTES = 32
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_KEY = re.compile(r"ed25519:[A-Za-z0-9_-]{43}=?")


@dataclass(frozen=True, slots=True)
class Invitation:
    """Hold what a member needs to find its coordinator, to know it again, and to be let in once.

    Trusts: whoever handed over the file: the CA and the coordinator's key are believed because of it.
    """

    version: int
    member: str
    address: str
    coordinator_key: str
    ca_certificate: str
    token: str

    @classmethod
    def read(cls, file: Path) -> "Invitation":
        """Return the invitation in `file`; raise ConfigError that names the key that is wrong."""
        invitation = read_config(cls, file)
        for key, right, expected in invitation._checks():
            if not right:
                raise ConfigError(file, key, expected)
        return invitation

    def _checks(self) -> tuple[tuple[str, bool, str], ...]:
        return (
            ("version", self.version == 1, "expected 1; a newer invitation needs a newer parley"),
            ("member", is_name(self.member), "expected lower-case letters, digits and hyphens, at most 64"),
            ("address", is_address(self.address), "expected host:port"),
            ("coordinator_key", bool(_KEY.fullmatch(self.coordinator_key)), "expected ed25519:<base64url>"),
            ("ca_certificate", is_certificate(self.ca_certificate), "expected a certificate in PEM form"),
            ("token", _is_token(self.token), f"expected base64url of {TOKEN_BYTES} bytes"),
        )


def is_name(text: str) -> bool:
    """Say whether `text` can name a member."""
    return bool(NAME.fullmatch(text))


def is_address(text: str) -> bool:
    """Say whether `text` is host:port, with IPv6 hosts in brackets."""
    host, colon, port = text.rpartition(":")
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not plain or (":" in plain) is not host.startswith("["):
        return False
    return bool(re.fullmatch(r"[A-Za-z0-9._:-]+", plain)) and port.isdecimal() and 0 < int(port) < 65536


def is_certificate(text: str) -> bool:
    """Say whether `text` is one certificate in PEM form."""
    try:
        x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        return False
    return True


def _is_token(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) == TOKEN_BYTES
    except (binascii.Error, ValueError):
        return False
