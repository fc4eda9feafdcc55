"""Hold token prefixes that share their beginnings as one tree, and their keys and values in one cache.

    the ── cat ── sat            each token is read once, whichever prefixes it is part of; it attends to its
     └──── c ── at               ancestors alone, and its position is its depth

What is read together goes in one forward. A model that cannot be run so (tried once, on a few tokens) reads each
prefix by itself, to the same end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.experts.expert import Rows
from client.experts.trie import Row, Trie
from client.experts.view import View, alike, new_cache
from protocols.faults import LocalError

_LEAST = 1e-30  # of a token's probability: partial sums know no less than 1e-16
_SPARE = 256  # places of the cache that may lie waste before it is tidied


@dataclass(slots=True, eq=False)
class Prefix:
    """Be one prefix: its last token and the prefix before it. `total` is the logarithm of its probability.

    `path` are the places in the cache of all its tokens, in order; `row` is the distribution of the next one, as
    long as it is kept.
    """

    token: int
    parent: "Prefix | None"
    depth: int
    total: float
    path: NDArray[np.int64] = field(repr=False)
    row: Row | None = field(default=None, repr=False)
    children: "dict[int, Prefix]" = field(default_factory=dict, repr=False)

    @property
    def known(self) -> Row:
        """Return the distribution of the next token. Raises: LocalError for a prefix that has not been read."""
        if self.row is None:
            raise LocalError("a prefix that has not been read")
        return self.row

    @property
    def shorter(self) -> "Prefix":
        """Return the prefix without its last token. Raises: LocalError for the root, which has none."""
        if self.parent is None:
            raise LocalError("there is nothing before the root")
        return self.parent

    def tokens(self) -> list[int]:
        """Return its tokens, in order."""
        found: list[int] = []
        here = self
        while here.parent is not None:
            found.append(here.token)
            here = here.parent
        return found[::-1]


class Prefixes:
    """Hold the prefixes of one conversation. The root is the empty one, or the token that opens every text.

    With `shares` they share one cache, for a model that `branches` says can.
    """

    def __init__(self, view: View, trie: Trie, *, shares: bool) -> None:
        self._view, self._trie, self._shares = view, trie, shares
        self._cache, self._size = new_cache(), 0
        self.root = Prefix(-1, None, 0, 0.0, np.zeros(0, np.int64))
        self._opening = [] if trie.table.opening is None else [trie.table.opening]

    @property
    def opened(self) -> int:
        """Return how many tokens stand before every text: one or none."""
        return len(self._opening)

    def after(self, prefix: Prefix, place: int) -> Prefix:
        """Return the prefix that has one token more, by its place in the trie; `prefix` has been read."""
        return self._longer(prefix, int(self._trie.numbers[place]))

    def chain(self, prefix: Prefix, tokens: Sequence[int]) -> Prefix:
        """Read all the prefixes that one grows through by these tokens, in one forward; return the last of them."""
        here, grown = prefix, []
        for token in tokens:
            here = here.children.get(token) or Prefix(token, here, here.depth + 1, math.nan, here.path)
            grown.append(here)
        self.read(grown)
        for here in grown:  # how likely each is was not known before
            here.total = self._total(here.shorter, here.token)
            here.shorter.children[here.token] = here
        return grown[-1]

    def read(self, prefixes: Sequence[Prefix]) -> None:
        """Find out what comes next after each: a parent stands before its children, or was read earlier.

        Raises: PeerError for a prefix that is longer than the model reads at once.
        """
        new = [prefix for prefix in prefixes if prefix.row is None]
        if not new:
            return
        self._view.require_room(max(prefix.depth for prefix in new) + len(self._opening))
        if new[0] is self.root:
            self._begin()
            new = new[1:]
        if new:
            rows = self._together(new) if self._shares else self._apart(new)
            for prefix, row in zip(new, rows, strict=True):
                prefix.row = self._trie.row(row)

    def keep(self, wanted: Sequence[Prefix]) -> None:
        """Forget all but these prefixes and what they begin with; of the latter, what comes next."""
        rows = {id(prefix) for prefix in wanted}
        alive: dict[int, Prefix] = {}
        for prefix in wanted:
            here: Prefix | None = prefix
            while here is not None and id(here) not in alive:
                alive[id(here)] = here
                here = here.parent
        for prefix in [*alive.values(), self.root]:
            prefix.children = {token: child for token, child in prefix.children.items() if id(child) in alive}
            if id(prefix) not in rows and prefix is not self.root:
                prefix.row = None
        self._tidy([*alive.values(), self.root])

    def _longer(self, prefix: Prefix, token: int) -> Prefix:
        if token not in prefix.children:
            longer = Prefix(token, prefix, prefix.depth + 1, self._total(prefix, token), prefix.path)
            prefix.children[token] = longer
        return prefix.children[token]

    def _total(self, prefix: Prefix, token: int) -> float:
        place, sums = self._trie.places[token], prefix.known.sums
        told = float(sums[place + 1] - sums[place])
        return prefix.total + math.log(max(told, _LEAST))

    def _begin(self) -> None:
        """Read what opens every text; where nothing does, a first token is as likely as after the hint."""
        table, root = self._trie.table, self.root
        if self._opening:
            root.path = np.arange(1) + self._size
            rows = self._run(np.array(self._opening), np.zeros((1, 1), np.bool_), np.zeros(1, np.int64), 1)
        elif table.hint is not None:
            rows = self._view.rows(np.array([table.hint]), None, 1)
        else:
            rows = np.full((1, self._view.vocabulary), -np.log(self._view.vocabulary))
        root.row = self._trie.row(rows[0])

    def _together(self, new: Sequence[Prefix]) -> Rows:
        """Read them in one forward, each attending to its ancestors and itself."""
        seen = np.zeros((len(new), self._size + len(new)), np.bool_)
        for i, prefix in enumerate(new):
            prefix.path = np.append(prefix.shorter.path, self._size + i)
            seen[i, prefix.path] = True
        depths = np.array([prefix.path.size - 1 for prefix in new])
        return self._run(np.array([prefix.token for prefix in new]), ~seen, depths, len(new))

    def _run(
        self, tokens: NDArray[np.int64], hidden: NDArray[np.bool_], depths: NDArray[np.int64], last: int
    ) -> Rows:
        if not self._shares:
            return self._view.rows(tokens, None, last)
        self._size += tokens.size
        return self._view.rows(tokens, self._cache, last, **_tree(self._view, hidden, depths))

    def _apart(self, new: Sequence[Prefix]) -> Rows:
        """Read each by itself, from the first token on; a chain of them in one forward."""
        if all(after.parent is before for before, after in pairwise(new)):
            return self._view.rows(np.array([*self._opening, *new[-1].tokens()]), None, len(new))
        found = [self._view.rows(np.array([*self._opening, *prefix.tokens()]), None, 1) for prefix in new]
        return np.concatenate(found)

    def _tidy(self, alive: Sequence[Prefix]) -> None:
        """Take out of the cache what no prefix is made of any more, once it is worth it."""
        used = np.unique(np.concatenate([prefix.path for prefix in alive]))
        if self._size <= 2 * used.size + _SPARE:
            return
        for layer in self._cache.layers:
            places = torch.from_numpy(used).to(layer.keys.device)
            layer.keys, layer.values = layer.keys.index_select(-2, places), layer.values.index_select(-2, places)
        for prefix in alive:
            prefix.path = np.searchsorted(used, prefix.path)
        self._size = int(used.size)


def branches(view: View) -> bool:
    """Tell whether a model reads branching prefixes from one cache as it reads each by itself: tried here."""
    if not view.keeps:
        return False
    with view.running():
        return _tried(view)


def _tried(view: View) -> bool:
    before, view.count = view.count, type(view.count)()
    tokens = np.arange(5, dtype=np.int64) * 11 % view.vocabulary
    apart = [view.rows(tokens[list(path)], None, 1) for path in ((0, 1, 2), (0, 1, 3), (0, 1, 3, 4))]
    seen = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]], np.bool_)
    cache = new_cache()
    try:
        view.rows(tokens[:2], cache, 1)
        together = view.rows(tokens[2:], cache, 3, **_tree(view, ~seen, np.array([2, 2, 3])))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # it does not take masks of its own
        return False
    finally:
        view.count = before
    return alike(np.concatenate(apart), together)


def _tree(view: View, hidden: NDArray[np.bool_], depths: NDArray[np.int64]) -> dict[str, Any]:
    """Return what a forward is told of a tree: who is hidden from whom, and where each token stands."""
    model = view.base.model
    mask = torch.zeros(hidden.shape, dtype=model.dtype, device=model.device)
    mask.masked_fill_(torch.from_numpy(hidden).to(model.device), torch.finfo(model.dtype).min)
    return {"attention_mask": mask[None, None], "position_ids": torch.from_numpy(depths[None]).to(model.device)}
