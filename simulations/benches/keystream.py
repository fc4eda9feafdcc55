"""Draw the AES-256-CTR key stream and do nothing with it: the floor under every mask, which nobody can go below."""

import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.secure_sum.masks import aligned

_PIECE = 512 * 1024  # the fastest of 16 KiB to 4 MiB: the key's set-up no longer counts, and the cache still holds it


def keystream(count: int, nbytes: int) -> None:
    """Draw `count` streams of `nbytes`, each under a key of its own, into one small buffer."""
    zeros, drawn = aligned(_PIECE).data, aligned(_PIECE + 16).data
    for _ in range(count):
        draw = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor().update_into
        for start in range(0, nbytes, _PIECE):
            draw(zeros[: nbytes - start], drawn)
