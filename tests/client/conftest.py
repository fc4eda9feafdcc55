"""Real invitations, homes and certificates for the tests of the member's side."""

import base64
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from client.declared import Declared
from client.documents import Document
from privacy.ledger import Ledger
from privacy.policy import Policy
from protocols.keys import Identity
from protocols.session import MemberId

if TYPE_CHECKING:
    from client.home import House
    from client.model import Base

sys.path.insert(0, str(Path(__file__).parent))  # so that tests share `town`


class Authority:
    """A certificate authority of this test, which can vouch for 127.0.0.1."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._certificate(self.name, self.key, ca=True)
        self.pem = self.certificate.public_bytes(Encoding.PEM).decode()

    def server(self, folder: Path) -> tuple[Path, Path]:
        """Write a server's certificate and key for the loopback device; return both files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
        certificate = self._certificate(subject, key, ca=False)
        files = folder / "server.crt", folder / "server.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
            .sign(self.key, hashes.SHA256())
        )


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def coordinator() -> Identity:
    return Identity.generate()


def toml(values: dict[str, Any]) -> str:
    """Return a flat TOML table of strings and numbers."""
    lines = []
    for key, value in values.items():
        lines.append(f"{key} = '''{value}'''" if isinstance(value, str) else f"{key} = {value}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def invite(tmp_path: Path, authority: Authority, coordinator: Identity) -> Callable[..., Path]:
    """Return a function that writes an invitation, with what it is told to change."""

    def write(**changes: Any) -> Path:
        values: dict[str, Any] = {
            "version": 1,
            "member": "clinic",
            "address": "127.0.0.1:9",
            "coordinator_key": str(coordinator.public),
            "ca_certificate": authority.pem,
            "token": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="),
        }
        file = tmp_path / "invitation.toml"
        file.write_text(toml({k: v for k, v in (values | changes).items() if v is not None}))
        return file

    return write


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Return a JSONL file of 123 records."""
    file = tmp_path / "notes.jsonl"
    file.write_text("".join(f'{{"text": "note number {n}"}}\n' for n in range(123)))
    return file


@pytest.fixture
def housed(base: "Base", tmp_path: Path) -> "Iterator[Callable[..., House]]":
    """Return a function that makes a home of documents on a ledger of its own; all are closed after the test."""
    from client.home import House

    made: list[House] = []

    def make(policy: Policy, documents: Sequence[str | Document], declared: Declared, **others: Any) -> House:
        ledger = others.pop("ledger", None) or Ledger(tmp_path / f"ledger{len(made)}.db")
        made.append(
            House(MemberId("clinic"), base, lambda: documents, declared, lambda: policy, ledger, "notes", **others)
        )
        return made[-1]

    yield make
    for house in made:
        house.close()
