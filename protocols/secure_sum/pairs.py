"""Hold what one member shares with each of its peers in one session: secrets side by side, keys made when asked for.

A thousand members have a million pairs: an object for each key of each would fill the memory of whoever simulates
them, and a home's own with ten times what the keys need.
"""

import hmac
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from protocols.secure_sum.messages import label

WIDTH = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold the keys that two members share in one session (32 bytes each)."""

    mask: bytes = field(repr=False)
    sealing: bytes = field(repr=False)
    opening: bytes = field(repr=False)

    @classmethod
    def derive(cls, root: bytes, me: str, peer: str) -> "Pair":
        """Return the keys at `me`: what it seals to `peer` with, `peer` opens with."""
        here, there = me.encode(), peer.encode()
        return cls(mac(root, "mask"), mac(root, "box", here, there), mac(root, "box", there, here))


@dataclass(frozen=True, slots=True)
class Secrets(Mapping[str, bytes]):
    """Map each peer's name to `width` bytes, all of them in one piece, in the names' order."""

    names: tuple[str, ...]
    width: int
    _data: bytes = field(repr=False)

    @classmethod
    def of(cls, found: Mapping[str, bytes], width: int) -> "Secrets":
        """Pack what was found. Raises: ValueError for a secret of another width."""
        names = tuple(sorted(found))
        data = b"".join(found[name] for name in names)
        if len(data) != width * len(names) or any(len(secret) != width for secret in found.values()):
            raise ValueError(f"secrets of {width} bytes each, and no others")
        return cls(names, width, data)

    def __getitem__(self, name: str) -> bytes:
        """Return the peer's secret. Raises: KeyError."""
        at = bisect_left(self.names, name)
        if at == len(self.names) or self.names[at] != name:
            raise KeyError(name)
        return self._data[self.width * at : self.width * (at + 1)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Pairs(Mapping[str, Pair]):
    """Map each confirmed peer's name to the pair's keys; held is the root (32 bytes) that they are derived from."""

    me: str
    _roots: Secrets = field(repr=False)

    @classmethod
    def none(cls, me: str) -> "Pairs":
        """Return the pairs of a member whose peers have not proved anything yet."""
        return cls(me, Secrets.of({}, WIDTH))

    def joined_by(self, roots: Mapping[str, bytes]) -> "Pairs":
        """Return these pairs and those with the given roots."""
        return Pairs(self.me, Secrets.of({**self._roots, **roots}, WIDTH))

    def __getitem__(self, peer: str) -> Pair:
        """Return the pair's keys at `me`. Raises: KeyError."""
        return Pair.derive(self._roots[peer], self.me, peer)

    def __contains__(self, peer: object) -> bool:
        return peer in self._roots

    def __iter__(self) -> Iterator[str]:
        return iter(self._roots)

    def __len__(self) -> int:
        return len(self._roots)


def mac(key: bytes, what: str, *parts: bytes) -> bytes:
    """Return HMAC-SHA256 (32 bytes) under `key` of the label of `what` and of the parts, each behind its length."""
    data = _named(what)
    for part in parts:
        data += len(part).to_bytes(4, "big") + part
    return hmac.digest(key, data, "sha256")


@lru_cache(maxsize=64)
def _named(what: str) -> bytes:
    return label(what) + b"\0"
