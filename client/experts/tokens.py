"""Be an expert over the tokens of a model: one forward for what is new, the rest is kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.experts.expert import Recent, RememberingExpert, Rows
from client.experts.view import View, new_cache


class TokenExpert(RememberingExpert):
    """Tell how likely each token of a model's vocabulary is to be the next one.

    What was forwarded is kept for the last few conversations, as keys and values, and cut where the next call goes
    another way: a block of drafts costs one forward of what is new in it.
    Units:  memory: the keys and values of twice the model's window, at most, however many conversations share it.
    """

    def __init__(self, view: View, conversations: int = 8) -> None:
        super().__init__(view.vocabulary, 2 * conversations)
        self.view = view
        self._caches: Recent[Any] = Recent(conversations, 2 * view.window)

    def require_room(self, symbols: int) -> None:
        """Return if so many tokens may be read at once. Raises: PeerError."""
        self.view.require_room(symbols)

    def rows(self, symbols: NDArray[np.int64], first: int) -> Rows:
        """Return the distributions after the first `first` tokens, and so on to after all. Raises: PeerError."""
        self.view.require_room(symbols.size)
        wanted = symbols.size - first + 1
        if not self.view.keeps:
            with self.view.running():
                return self.view.rows(symbols, None, wanted)
        known, cache = self._caches.longest(symbols)
        known = min(known, first - 1)  # the last one's row is wanted, so it is read again
        if cache is None or cache.get_seq_length() > 2 * known:  # another conversation is not cut down for this
            known, cache = 0, new_cache()
        self._caches.drop(cache)
        if (beyond := cache.get_seq_length() - known) > 0:
            cache.crop(-beyond)
        with self.view.running():
            found = self.view.rows(symbols[known:], cache, wanted)
        self._caches.keep(symbols.copy(), cache)
        return found
