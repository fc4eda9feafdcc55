"""Real invitations, homes and certificates for the tests of the member's side."""

import base64
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from protocols.keys import Identity

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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny Llama with a tokenizer of bytes, saved as transformers saves it."""
    import torch
    from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(7)
    widths = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=259, max_position_embeddings=64, tie_word_embeddings=True, **widths)
    LlamaForCausalLM(config).save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0, model_max_length=64).save_pretrained(folder)
    return folder
