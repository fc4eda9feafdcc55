"""Say what a speaker is: a model that writes a text, and that weighs given texts against each other.

Learns:  who is given its words: whatever the model knows, or was shown. They stay at home until they are redacted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client.speaking.prompts import Prompt
from privacy.refusal import Refused

Shares = NDArray[np.float64]


class Silent(Refused):
    """A model did not answer in time, or not in words: nothing leaves. The text says which; it quotes nothing."""


class Speaker(Protocol):
    """Be a model at home, or a server of one within the organisation."""

    def say(self, prompt: Prompt) -> str:
        """Return what the model writes: the same for the same prompt, where it can be had.

        Raises: PeerError for a prompt that it cannot read; Silent.
        """

    def weigh(self, prompt: Prompt, options: Sequence[str]) -> Shares:
        """Return how probable the model finds each option as the answer: (options,), of sum 1 at most.

        What is left of 1 is how probable it finds that it does not know.
        Raises: PeerError for a prompt that it cannot read; Silent.
        """


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say how much a model may write, and how long it may take.

    Units:  `tokens` of one text; seconds for one text, tries included.
    """

    tokens: int
    seconds: float
