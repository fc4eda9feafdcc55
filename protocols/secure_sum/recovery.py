"""Put secrets together from the shares that members revealed, and find whose shares were wrong.

Each secret was committed to by its dealer, so a result is right or is seen to be wrong. With as many shares as the
threshold there is nothing to choose; with more, holders whose shares spoil the result are found by leaving some out,
those first that spoilt another dealer's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from protocols import shamir
from protocols.field import PRIME
from protocols.secure_sum.aggregation import commitment, wanted
from protocols.secure_sum.boxes import LIMBS, Limbs
from protocols.secure_sum.layout import Layout
from protocols.secure_sum.messages import Revealed, Upload

_MOST_TRIES = 2000  # subsets of holders, when some of them lie
_SHORT = 32


@dataclass(frozen=True, slots=True)
class Recovered:
    """Hold the masks' keys by (survivor, row), how many survivors' are lost, and the holders that lied.

    A holder lied if its shares do not fit most of the dealers it spoke of; one that does not fit a few may have been
    dealt what is no share.
    """

    keys: Mapping[tuple[str, int], bytes]
    lost: int
    liars: frozenset[str]


def recovered(layout: Layout, uploads: Mapping[str, Upload], shares: Mapping[str, Revealed]) -> Recovered:
    """Recover every survivor's own mask, and those it has with the dropped, from what its holders revealed."""
    survivors = tuple(uploads)
    held = _by_dealer(layout, survivors, shares)
    keys: dict[tuple[str, int], bytes] = {}
    misfits: Counter[str] = Counter()
    lost = 0
    tries = iter(range(_MOST_TRIES + len(survivors)))  # for all dealers together
    for dealer in survivors:
        rows = wanted(layout, dealer, survivors)
        goal = [_committed(uploads[dealer], row) for row in rows]
        trusted = dict(sorted(held[dealer].items(), key=lambda one: (misfits[one[0]], one[0])))
        found = _find(layout, trusted, goal, tries)
        if found is None:
            lost += 1
            continue
        limbs, bad = found
        misfits.update(bad)
        keys |= {(dealer, row): shamir.seed(limbs[i]) for i, row in enumerate(rows)}
    spoken = Counter(h for holders in held.values() for h in holders)
    return Recovered(keys, lost, frozenset(h for h, n in misfits.items() if 2 * n > spoken[h]))


def _by_dealer(
    layout: Layout, survivors: Sequence[str], shares: Mapping[str, Revealed]
) -> dict[str, dict[str, Limbs]]:
    """Return, for each dealer, its holders' shares (rows, 16); what has another shape than it should is left out."""
    counts = {s: len(wanted(layout, s, survivors)) for s in survivors}
    held: dict[str, dict[str, Limbs]] = {s: {} for s in survivors}
    for holder, revealed in shares.items():
        broken = set(revealed.broken)
        dealers = [s for s in survivors if (s == holder or holder in layout.neighbours[s]) and s not in broken]
        if revealed.shares.shape != (sum(counts[d] for d in dealers), LIMBS) or (revealed.shares >= PRIME).any():
            continue
        start = 0
        for dealer in dealers:
            held[dealer][holder] = revealed.shares[start : start + counts[dealer]]
            start += counts[dealer]
    return held


def _find(
    layout: Layout, held: Mapping[str, Limbs], goal: Sequence[bytes], tries: Iterator[int]
) -> tuple[Limbs, set[str]] | None:
    """Return the secrets (rows, 16) that were committed to, and which of the holders' shares do not fit them."""
    for chosen, _ in zip(_subsets(tuple(held), layout.threshold), tries, strict=False):
        points = layout.points(chosen)
        stacked = np.stack([held[h].reshape(-1) for h in chosen])
        secrets = shamir.reconstruct(points, stacked).reshape(-1, LIMBS)
        if [commitment(row) for row in secrets] == list(goal):
            others = [h for h in held if h not in chosen]
            return secrets, _liars(others, layout.points(others), points, stacked, held)
    return None


def _liars(
    others: Sequence[str], at: Sequence[int], points: Sequence[int], good: Limbs, held: Mapping[str, Limbs]
) -> set[str]:
    if not others:
        return set()
    right = shamir.extend(points, good, at)
    return {h for h, row in zip(others, right, strict=True) if not np.array_equal(row, held[h].reshape(-1))}


def _subsets(holders: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Yield sets of `size` holders: the first of all, then without each one, without each two, and so on."""
    without = (set(out) for missing in range(len(holders) - size + 1) for out in combinations(holders, missing))
    return (tuple(h for h in holders if h not in out)[:size] for out in without)


def _committed(upload: Upload, row: int) -> bytes:
    return upload.own if row == 0 else upload.commitments[_SHORT * (row - 1) : _SHORT * row]
