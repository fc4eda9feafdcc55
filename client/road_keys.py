"""Make the keys that a member's SuperNode needs: one for the road, one pair for its own loopback."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
_YEARS = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class RoadKeys:
    """Hold a SuperNode's secrets as the bytes of the files that it reads.

    None of them opens anything at home: they say who is on the road, not what may leave.
    """

    supernode: bytes  # OpenSSH private key, ECDSA P-384: Flower accepts no other curve
    supernode_public: bytes
    local_certificate: bytes  # for the SuperNode's API on loopback, so that nobody else on the machine can pose as it
    local_key: bytes
    superexec_secret: bytes

    @classmethod
    def generate(cls) -> "RoadKeys":
        """Return fresh keys from the system's randomness."""
        node = ec.generate_private_key(ec.SECP384R1())
        local = ec.generate_private_key(ec.SECP256R1())
        return cls(
            supernode=node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
            supernode_public=node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n",
            local_certificate=_self_signed(local).public_bytes(Encoding.PEM),
            local_key=local.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            superexec_secret=secrets.token_hex(32).encode(),
        )


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "parley supernode on loopback")])
    now = datetime.now(UTC)
    alternatives = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _YEARS)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
