"""Hold part of the records back from training, to judge candidates on: by the content of each, under the data's name.

    every unit  ──  keyed digest below the share?  ──  yes: validation, which no training sees
                                                    └─  no:  training

Whether a record (or a group with all its rows) is held back depends on itself alone, so that a neighbouring data set
differs in one of the two parts, by one unit, and the accounting of each holds as it stands. The key is the name under
which the ledger knows the data: two homes on one data set hold the same records back.
"""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.data import Records


def set_apart(records: Records, share: float, key: str) -> tuple[Records, Records]:
    """Return the records to train on, and about `share` of them to judge with."""
    if not 0 <= share < 1:
        raise ValueError("validation: expected a number from 0 to below 1")
    secret = hashlib.sha256(f"parley/v1/validation/{key}".encode()).digest()
    held = digests(records, secret) < np.uint64(int(share * 2.0**64)) if share else np.zeros(len(records), np.bool_)
    return of_rows(records, ~held), of_rows(records, held)


def of_rows(records: Records, chosen: NDArray[np.bool_]) -> Records:
    """Return the chosen rows; units keep their order, and are numbered from 0 without a gap."""
    taken = records.take(np.flatnonzero(chosen))
    if taken.owner is None:
        return taken
    return replace(taken, owner=np.unique(taken.owner, return_inverse=True)[1].astype(np.int32))


def digests(records: Records, secret: bytes) -> NDArray[np.uint64]:
    """Return eight bytes for each row, its unit's: the same for the same tokens, wherever they stand."""
    found = np.zeros(len(records), dtype=np.uint64)
    for i, (row, length) in enumerate(zip(records.tokens, records.lengths, strict=True)):
        text = row[:length].astype("<i4").tobytes()
        found[i] = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=secret).digest(), "little")
    if records.owner is None:
        return found
    of_units = np.zeros(records.units, dtype=np.uint64)
    np.add.at(of_units, records.owner, found)  # modulo 2**64
    return of_units[records.owner]
