"""Be an expert by what tuning has changed: the public model, moved as far as a tuned model moved from its own start.

    log q  =  log p0 + strength (log p_tuned - log p_untuned)  - normaliser

All three tell the same symbols; the two private ones may be smaller than the public one, and not related to it.
Cites: Liu et al. 2024 (proxy tuning); Liu et al. 2021 (DExperts).
"""

import numpy as np
from numpy.typing import NDArray

from client.experts.expert import RememberingExpert, Rows, normalised


class ProxyExpert(RememberingExpert):
    """Tell what the public model would, were it tuned as `tuned` was from `untuned`."""

    def __init__(
        self, public: RememberingExpert, tuned: RememberingExpert, untuned: RememberingExpert, strength: float
    ) -> None:
        super().__init__(public.symbols)
        if not public.symbols == tuned.symbols == untuned.symbols:
            raise ValueError("experts over other symbols than the public model's")
        self._public, self._tuned, self._untuned, self._strength = public, tuned, untuned, strength

    def require_room(self, symbols: int) -> None:
        """Return if all three read so many symbols at once. Raises: PeerError."""
        for expert in (self._public, self._tuned, self._untuned):
            expert.require_room(symbols)

    def rows(self, symbols: NDArray[np.int64], first: int) -> Rows:
        """Return the moved distributions. Raises: PeerError."""
        moved = self._tuned.rows(symbols, first) - self._untuned.rows(symbols, first)
        return normalised(self._public.rows(symbols, first) + self._strength * moved)
