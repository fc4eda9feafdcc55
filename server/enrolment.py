"""Let an invited member in: check its token and its signature, register its SuperNode, bind its keys."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from protocols.carriers.flower_road import ENROL_LABEL, enrolment_bytes
from protocols.faults import PeerError
from protocols.keys import PublicKey
from protocols.session import MemberId
from server.store import Keys, OtherKeys, Store, WrongToken

LARGEST = 16_384  # bytes of a request
Register = Callable[[MemberId, bytes], int]  # (name, SuperNode key as PEM) -> Flower's node id

_FIELDS = ("member", "token", "supernode_key", "identity_key", "signature")


@dataclass(frozen=True, slots=True)
class Reply:
    """Be an HTTP status and a JSON body that is one of a few fixed ones."""

    status: int
    body: bytes


ENROLLED = Reply(200, b'{"enrolled": true}')
MALFORMED = Reply(422, b'{"error": "malformed"}')
REFUSED = Reply(403, b'{"error": "refused"}')
TAKEN = Reply(409, b'{"error": "other keys are enrolled"}')
LATER = Reply(503, b'{"error": "try again"}')


def enrol(request: bytes, store: Store, register: Register) -> Reply:
    """Enrol the member that `request` is from; the same request again is answered the same.

    Learns:  the coordinator: the member's two public keys. A stranger: nothing, not even whether a name exists.
    Trusts:  that only the invited member holds the token.
    """
    try:
        fields = _fields(request)
        node_key = _node_key(fields["supernode_key"])
        identity = PublicKey.parse(fields["identity_key"])
        signature = base64.b64decode(_padded(fields["signature"]), altchars=b"-_", validate=True)
    except (ValueError, RecursionError, binascii.Error):
        return MALFORMED
    member, token = fields["member"], fields["token"]
    signed = enrolment_bytes(member, token, fields["supernode_key"], fields["identity_key"])
    try:
        known = store.check(member, token)
        identity.verify(ENROL_LABEL, signed, signature)
        keys = Keys(_canonical(fields["supernode_key"]), str(identity))
        if known.keys is not None:
            return ENROLLED if known.keys == keys else TAKEN
        store.enrol(known.name, keys, register(known.name, node_key))
    except (WrongToken, PeerError):
        return REFUSED
    except OtherKeys:
        return TAKEN
    return ENROLLED


def _fields(request: bytes) -> dict[str, str]:
    """Return exactly the five strings an enrolment has. Raises: ValueError."""
    if len(request) > LARGEST:
        raise ValueError("too long")
    tree = json.loads(request)
    if not isinstance(tree, dict) or sorted(tree) != sorted(_FIELDS):
        raise ValueError("not an enrolment")
    if not all(isinstance(value, str) and "\n" not in value for value in tree.values()):
        raise ValueError("not an enrolment")
    return tree


def _node_key(text: str) -> bytes:
    """Return a SuperNode's OpenSSH public key as PEM. Raises: ValueError unless it is on P-384."""
    try:
        key = load_ssh_public_key(text.encode())
    except UnsupportedAlgorithm:
        raise ValueError("not a key we know") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP384R1):
        raise ValueError("not a P-384 key")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _canonical(text: str) -> str:
    """Return the OpenSSH text without its comment, so that one key has one form."""
    return " ".join(text.split()[:2])


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
