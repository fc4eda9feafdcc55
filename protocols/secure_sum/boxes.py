"""Deal shares of one sum's secrets to the members that could be missed without, and take them up again.

The shares of the first threshold - 1 holders are derived from a key that dealer and holder have in common: they cost
no bytes. They and the secret determine the polynomial, and so the other holders' shares, which travel in boxes.

Shapes:  secrets (count, 16) elements of GF(65521); a share of them (count, 16).
Trusts:  AES-256 and HMAC as pseudo-random functions: then all shares are distributed as Shamir's, for threshold - 1
         shares of such a polynomial are independent and uniform, and the rest follows from them and the secret.
Cites:   Shamir 1979.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from protocols import field as elements
from protocols import shamir
from protocols.faults import PeerError
from protocols.secure_sum.pairs import mac

Limbs = NDArray[np.uint16]
LIMBS = 16
SHARE_BYTES = 2 * LIMBS
TAG = 16
_NONCE = bytes(12)  # each sealing key seals one box


@dataclass(frozen=True, slots=True)
class Dealing:
    """Say who holds shares of one dealer's secrets, in order, and at which points; `threshold` of them can open."""

    dealer: str
    holders: tuple[str, ...]
    points: tuple[int, ...]
    threshold: int

    @property
    def derived(self) -> tuple[str, ...]:
        """Return the holders whose shares are derived, and never sent."""
        return self.holders[: self.threshold - 1]

    @property
    def boxed(self) -> tuple[str, ...]:
        """Return the holders whose shares travel in boxes, in the order of the boxes."""
        return self.holders[self.threshold - 1 :]


@dataclass(frozen=True, slots=True)
class Dealt:
    """Hold what a dealer has dealt: the boxes, in order, and its own share (count, 16)."""

    boxes: tuple[bytes, ...]
    own: Limbs = field(repr=False)


def deal(dealing: Dealing, secrets: Limbs, ctx: bytes, keys: Callable[[str], bytes]) -> Dealt:
    """Share `secrets` (count, 16) among the holders, of whom the dealer is one; `keys(holder)` seals to it.

    Raises: ValueError if there are fewer holders than the threshold.
    """
    count, names, points = len(secrets), dealing.holders, dealing.points
    if len(names) < dealing.threshold:
        raise ValueError(f"{len(names)} holders, the threshold is {dealing.threshold}")
    known = [secrets.reshape(-1)]
    known += [derived_share(keys(h), ctx, count).reshape(-1) for h in dealing.derived]
    split = dealing.threshold - 1
    rest = shamir.extend([0, *points[:split]], np.stack(known), points[split:])
    boxes, own = [], None
    for holder, share in zip(dealing.boxed, rest, strict=True):
        if holder == dealing.dealer:
            own = share.reshape(count, LIMBS)
            boxes.append(b"")
        else:
            key = AESGCM(mac(keys(holder), "seal", ctx))
            boxes.append(key.encrypt(_NONCE, share.astype("<u2").tobytes(), _about(dealing.dealer, holder, ctx)))
    if own is None:
        own = known[1 + dealing.derived.index(dealing.dealer)].reshape(count, LIMBS)
    return Dealt(tuple(boxes), own)


def derived_share(key: bytes, ctx: bytes, count: int) -> Limbs:
    """Return the share (count, 16) that dealer and holder derive alike from their sealing key and the sum."""
    return uniform(mac(key, "derive", ctx), count)


def open_box(key: bytes, ctx: bytes, dealer: str, holder: str, box: bytes, count: int) -> Limbs:
    """Return the share (count, 16) in a box. Raises: PeerError for a box that was changed, or is another's."""
    if len(box) != count * SHARE_BYTES + TAG:
        raise PeerError(f"a box of {dealer} has another length")
    try:
        data = AESGCM(mac(key, "seal", ctx)).decrypt(_NONCE, box, _about(dealer, holder, ctx))
    except InvalidTag:
        raise PeerError(f"a box of {dealer} does not open") from None
    share = np.frombuffer(data, "<u2")
    if (share >= elements.PRIME).any():
        raise PeerError(f"a box of {dealer} holds what is no share")
    return share.reshape(count, LIMBS)


def uniform(key: bytes, count: int) -> Limbs:
    """Return (count, 16) elements, uniform to whoever does not have `key` (32 bytes, for one use)."""
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return elements.uniform(lambda size: stream.update(bytes(size)), count * LIMBS).reshape(count, LIMBS)


def _about(dealer: str, holder: str, ctx: bytes) -> bytes:
    return mac(ctx, "box", dealer.encode(), holder.encode())
