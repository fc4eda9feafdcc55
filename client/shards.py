"""Deal a member's records out into shards: each record, or each group with all its rows, is in one and no other.

    every unit  ──  digest keyed by the home's secret, modulo the number of shards  ──  its shard

Where a record goes depends on itself alone, so that one record more or less changes one shard, whatever else there
is; and on a secret, so that nobody can write records that all come into one.
Trusts:  that the secret stays at home, for the second half.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from client.data import Records
from client.validation import digests, of_rows
from protocols.keys import Identity

_LABEL = b"parley/v1/shards"


@dataclass(frozen=True, slots=True)
class Shards:
    """Say into how many shards records are dealt, and by which secret of 32 bytes."""

    count: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 1024 or len(self.secret) != 32:
            raise ValueError("shards: expected 1 to 1024, and a secret of 32 bytes")

    def of(self, records: Records, number: int) -> Records:
        """Return the records of the shard `number`, counted from 0; a duplicate is where the other one is."""
        return of_rows(records, digests(records, self.secret) % np.uint64(self.count) == number)


def shards_of(identity: Identity, count: int) -> Shards:
    """Return the home's own way to deal: the same each time, and nobody else's. Raises: ValueError."""
    return Shards(count, hashlib.sha256(identity.sign(_LABEL, b"")).digest())  # Ed25519 draws nothing: it stays
