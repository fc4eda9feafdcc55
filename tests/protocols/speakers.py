"""Models whose words and votes a test writes down, in real homes: what they were shown is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from village import REDACTOR, Village

from client.speaking.mouth import Mouth
from client.speaking.prompts import Prompt
from privacy.redaction.redactor import Redactor
from protocols.faults import PeerError
from protocols.session import MemberId

MEMBERS = tuple(MemberId(f"m{i}") for i in range(3))
Words = Callable[[Prompt], str]
Likes = Callable[[str], float]


def silent(_prompt: Prompt) -> str:
    raise PeerError("a model that was not to be asked")


@dataclass
class Scripted:
    """Say what `words` makes of a prompt; find an option as likely as `likes` says."""

    words: Words = silent
    likes: Likes = len
    shown: list[Prompt] = field(default_factory=list)
    weighed: list[tuple[Prompt, tuple[str, ...]]] = field(default_factory=list)

    def say(self, prompt: Prompt) -> str:
        self.shown.append(prompt)
        return self.words(prompt)

    def weigh(self, prompt: Prompt, options: Sequence[str]) -> np.ndarray:
        self.weighed.append((prompt, tuple(options)))
        return np.array([self.likes(option) for option in options], np.float64)


def give(
    there: Village,
    speakers: Mapping[MemberId, Scripted],
    voters: Mapping[MemberId, Sequence[Scripted]] | None = None,
    redactor: Redactor = REDACTOR,
) -> Village:
    """Let these models write in the houses of a village, and those vote."""
    for name, house in there.houses.items():
        mine, votes = speakers[name], tuple((voters or {}).get(name, ()))
        house.mouth = Mouth(lambda mine=mine: mine, lambda votes=votes: votes, redactor, list, lambda: None)
    return there


def choosing(option: str) -> Likes:
    """Return what finds one option likely, and the others not."""
    return lambda other: 0.9 if other == option else 0.01
