"""Say what a member's records are trained for: text, the answers of conversations, or preferred answers.

    TEXT         the mean loss over all tokens of a record
    ANSWERS      the mean loss over what the assistant says; the records know which tokens those are
    PREFERENCE   -log sigmoid(beta ((c - c0) - (r - r0))),  c and r being the log-probabilities of the chosen and the
                 rejected answer now, c0 and r0 those at the round's start

The gradient of the last is that of  w (-c) - w (-r)  with  w = beta sigmoid(-beta ((c - c0) - (r - r0)))  held fixed.
So each step first finds w without gradients, and then every row is a weighed sum of its own tokens' losses: whoever
clips need not know that two rows are a pair, only that they belong to one unit.
Cites:  Rafailov et al. 2023, Direct Preference Optimization, equation 7 and the gradient in section 4.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data import Records
from client.model import Adapted
from client.training.clipping import MEAN_LOSS, Loss, record_losses
from client.training.evaluation import row_nats
from protocols.weights.recipe import Objective


def loss_of(objective: Objective, beta: float, start: NDArray[np.floating]) -> Loss:
    """Return the loss of one round that starts at the adapter `start`, for one draw."""
    return Preference(beta, start) if objective is Objective.PREFERENCE else MEAN_LOSS


@dataclass(slots=True)
class Preference:
    """Prefer the chosen answer to the rejected one, by no more than `beta` allows against the adapter `start`.

    It remembers what the rows' log-probabilities at `start` are, so one object serves one draw on the same records.
    """

    beta: float
    start: NDArray[np.floating]
    _before: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_), init=False, repr=False)

    def prepared(self, adapted: Adapted, records: Records, rows: NDArray[np.intp]) -> Records:
        """Return the records with the weights of these rows' losses, and of their partners', at this point.

        The two rows of a pair have opposite weights of one size: at most `beta`.
        """
        if not records.paired:
            raise ValueError("records: expected pairs")
        pairs = np.unique(rows // 2)
        both = (2 * pairs[:, None] + np.arange(2)).ravel()
        now = log_probabilities(adapted, records.take(both))
        gained = (now - self._at_start(adapted, records, both)).reshape(-1, 2)
        with np.errstate(over="ignore"):  # exp of a huge margin: the weight is zero, as it should be
            pull = self.beta / (1.0 + np.exp(self.beta * (gained[:, 0] - gained[:, 1])))
        weights = np.zeros(len(records))
        weights[both] = np.stack([pull, -pull], axis=1).ravel()
        return replace(records, weights=weights)

    def losses(self, model: Any, tokens: Any, lengths: Any, counted: Any, weights: Any) -> Any:
        """Return each row's summed loss times its weight, shape (rows,)."""
        return record_losses(model, tokens, lengths, counted, weights)

    def _at_start(self, adapted: Adapted, records: Records, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the rows' log-probabilities at the round's start; each is computed once."""
        if self._known.size != len(records):
            self._before, self._known = np.zeros(len(records)), np.zeros(len(records), np.bool_)
        new = rows[~self._known[rows]]
        if new.size:
            here = adapted.get()
            adapted.set(self.start)
            try:
                self._before[new] = log_probabilities(adapted, records.take(new))
            finally:
                adapted.set(here)
            self._known[new] = True
        return self._before[rows]


def log_probabilities(adapted: Adapted, records: Records) -> NDArray[np.float64]:
    """Return the summed log-probability of each row's counted tokens, shape (rows,), without gradients."""
    return -row_nats(adapted.base.model, records, adapted.a(adapted.layout.slots[0].name).device)
