"""Add and take away masks: AES-256-CTR key streams, added modulo a power of two while they are still in the cache.

Every key masks one sum and no other, so each stream starts at counter zero. A mask is never materialised whole: for
each chunk, each key's stream is drawn into one small buffer and added at once. Both calls release the interpreter's
lock, so two halves of a vector are masked by two threads at the same time.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.unsignedinteger[Any]]
Bytes = NDArray[np.uint8]
CHUNK = 128 * 1024  # bytes: stream, zeros and sum then lie in a second-level cache of half a megabyte
_BLOCK = 16
_LINE = 64  # a cache line: vectors that straddle lines are added at two thirds of the speed


def aligned(nbytes: int) -> Bytes:
    """Return shape (nbytes,) uint8, not filled with anything, whose first byte is the first of a cache line."""
    raw = np.empty(nbytes + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + nbytes]


_ZEROS = aligned(CHUNK)
_ZEROS.fill(0)
_ZEROS.setflags(write=False)


def add_masks(words: Words, keys: Sequence[tuple[int, bytes]], threads: int = 1) -> None:
    """Add sign * mask(key) to `words` in place, for every (sign, key), modulo 2**(bits of a word).

    Shapes:  words (length,) uint16 or uint32, contiguous; keys of 32 bytes; signs +1 or -1.
    Trusts:  that no key was, or will be, used for another vector.
    """
    if any(len(key) != 32 or sign not in (1, -1) for sign, key in keys):
        raise ValueError("a mask wants a sign and a key of 32 bytes")
    if not (words.flags.c_contiguous and words.flags.writeable and words.dtype in (np.uint16, np.uint32)):
        raise ValueError("masks are added to contiguous uint16 or uint32 words")
    per_chunk = CHUNK // words.itemsize
    parts = _parts(words.size, per_chunk, threads)
    if len(parts) == 1:
        _add(words, keys, per_chunk, 0)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(_add, words[a:b], keys, per_chunk, a * words.itemsize) for a, b in parts]:
            done.result()


def sum_words(vectors: Iterable[Words], length: int, dtype: Any) -> Words:
    """Return the sum (length,) of the vectors modulo 2**(bits of a word), chunk by chunk."""
    rows = list(vectors)
    total: Words = aligned(length * np.dtype(dtype).itemsize).view(dtype)
    total.fill(0)
    step = 2 * CHUNK // total.itemsize
    for start in range(0, length, step):
        here = total[start : start + step]
        for row in rows:
            np.add(here, row[start : start + step], out=here)
    return total


def blank(length: int, bits: int) -> Words:
    """Return shape (length,), not filled with anything, of the type in which sums of `bits` are computed."""
    words: Words = aligned(length * np.dtype(dtype_of(bits)).itemsize).view(dtype_of(bits))
    return words


def in_place(values: NDArray[np.signedinteger[Any]], bits: int) -> Words:
    """Return `values` as words, modulo 2**bits: in their own memory if it begins with a cache line, else in new."""
    free = values.flags.writeable and values.flags.c_contiguous and values.ctypes.data % _LINE == 0
    if bits != 16 and values.dtype == np.int32 and free:
        return values.view(np.uint32)
    words = blank(values.size, bits)
    np.copyto(words, values, casting="unsafe")  # modulo 2**bits, negative ones too
    return words


def pack(words: Words, bits: int) -> Bytes:
    """Return the low `bits` of each word (16, 24 or 32), little-endian, nothing between them: a view if it can be."""
    if bits == 24:
        return words.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)
    return words.astype("<u2" if bits == 16 else "<u4", copy=False).view(np.uint8)


def unpack(data: Bytes, bits: int) -> Words:
    """Return the words that `pack` packed; of 24 bits they come as uint32. The length must be a multiple."""
    if bits != 24:
        return data.view("<u2" if bits == 16 else "<u4")
    words = np.zeros((len(data) // 3, 4), np.uint8)
    words[:, :3] = data.reshape(-1, 3)
    return words.reshape(-1).view("<u4")


def dtype_of(bits: int) -> type[np.uint16] | type[np.uint32]:
    """Return the type in which sums of `bits` are computed: 24 bits are the low ones of 32."""
    return np.uint16 if bits == 16 else np.uint32


def _add(words: Words, keys: Sequence[tuple[int, bytes]], per_chunk: int, offset: int) -> None:
    """Add the masks' part that begins `offset` bytes, a multiple of the block, into the streams."""
    counter = (offset // _BLOCK).to_bytes(_BLOCK, "big")
    streams = [
        (np.add if sign > 0 else np.subtract, Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update_into)
        for sign, key in keys
    ]
    width = words.itemsize
    zeros, drawn = _ZEROS.data, aligned(CHUNK + _BLOCK)
    view, stream = drawn.data, drawn[:CHUNK].view(words.dtype)
    for start in range(0, words.size, per_chunk):
        here = words[start : start + per_chunk]
        zero, mask = zeros[: here.size * width], stream[: here.size]
        for join, draw in streams:
            draw(zero, view)
            join(here, mask, out=here)


def _parts(size: int, per_chunk: int, threads: int) -> list[tuple[int, int]]:
    """Cut 0..size into at most `threads` ranges that begin at whole chunks."""
    chunks = -(-size // per_chunk)
    each = -(-chunks // max(1, min(threads, chunks))) * per_chunk if chunks else size
    return [(a, min(a + each, size)) for a in range(0, size, each)] if size else [(0, 0)]
