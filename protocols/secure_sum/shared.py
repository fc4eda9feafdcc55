"""Know once in a process what is public and the same for many: a home has one member in it, a simulation a thousand.

Each of these is a function of public bytes alone. What is remembered are its last results; no secret comes here, and
nothing is found good or bad but by the bytes themselves.
"""

from collections.abc import Hashable
from functools import lru_cache
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols.faults import PeerError, WireError
from protocols.keys import PublicKey
from protocols.secure_sum.messages import ANNOUNCEMENTS, Announcement

T = TypeVar("T", bound=Hashable)
_MOST = 2048  # members of two such sessions, or of one; some 10 MB at the most


def shared(value: T) -> T:
    """Return the first of equal values, so that many who hold it hold one."""
    return _first(value)  # type: ignore[return-value]  # it is equal


@lru_cache(maxsize=_MOST)
def decoded(announcement: bytes) -> Announcement:
    """Return the announcement in these bytes. Raises: WireError."""
    found = ANNOUNCEMENTS.decode(announcement)
    if not isinstance(found, Announcement):
        raise WireError("not an announcement")
    return found


@lru_cache(maxsize=_MOST)
def verified(key: PublicKey, what: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether the owner of `key` signed `data` under the label `what`."""
    try:
        key.verify(what, data, signature)
    except PeerError:
        return False
    return True


@lru_cache(maxsize=_MOST)
def kem_key(raw: bytes) -> MLKEM768PublicKey:
    """Return the ML-KEM-768 public key in these bytes. Raises: ValueError."""
    return MLKEM768PublicKey.from_public_bytes(raw)


@lru_cache(maxsize=16)
def _first(value: Hashable) -> Hashable:
    return value
