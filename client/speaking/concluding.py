"""Make one answer of what a talk came to, at the asker's home, with the question as it was.

Here alone what the asker's own tokens stand for is put back: in what others wrote, before the asker's model reads it.
Nothing of this leaves: no letter is written after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from client.speaking.mouth import Mouth
from client.speaking.prompts import Prompt
from protocols.text.abstain import VERDICTS
from protocols.text.poll import Polled
from protocols.text.talk import Step, Talked

UNSURE = "no answer: the members hold it wrong, or do not know"


@dataclass(frozen=True, slots=True)
class Concluded:
    """Hold the answer, restored, and how many stood behind each of the options, if they were voted on."""

    text: str = field(repr=False)
    support: tuple[tuple[str, float], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Concluding:
    """Conclude talks at a home: `restore` puts back what its own tokens stand for."""

    mouth: Mouth
    restore: Callable[[str], str]

    def answer(self, question: str, heard: Sequence[str] = ()) -> str:
        """Return what the home's own model answers, having heard this. Raises: PeerError, Silent."""
        shown = tuple(self.restore(text) for text in heard)
        return self.mouth.speaker().say(Prompt(Step.ANSWER, question, heard=shown, notes=self.mouth.near(question)))

    def choose(self, question: str, options: Sequence[str], heard: Sequence[str] = ()) -> str:
        """Return the option that the home's own model holds right, having heard this. Raises: PeerError, Silent."""
        shown = tuple(self.restore(text) for text in heard)
        prompt = Prompt(Step.ANSWER, question, heard=shown, notes=self.mouth.near(question))
        return options[int(self.mouth.speaker().weigh(prompt, options).argmax())]

    def fused(self, question: str, result: Talked | Polled) -> Concluded:
        """Return one answer made of all that stand: of cards, debates, feedback, and the best of a blend."""
        return Concluded(self.answer(question, result.answers), self._support(result))

    def elected(self, result: Polled) -> Concluded:
        """Return the answer with most votes: of a vote or a blackboard. What nobody votes for is none."""
        chosen = bool(result.answers) and (not result.tallies or float(result.points[0]) > 0)
        return Concluded(self.restore(result.answers[0]) if chosen else UNSURE, self._support(result))

    def all_of(self, result: Polled) -> Concluded:
        """Return every answer, a line each: of a panel."""
        support = self._support(result)
        return Concluded("\n".join(text for text, _ in support), support)

    def upheld(self, question: str, draft: str, result: Polled) -> Concluded:
        """Return the draft if it stands, or that there is no answer: what the asker has of `abstain`.

        It stands if more hold it right than wrong; or if the home's own model says the same, having heard what speaks
        against it.
        """
        if result.tallies:
            votes = dict(zip(result.answers, result.points, strict=True))
            stands = votes.get(VERDICTS[0], 0.0) > votes.get(VERDICTS[1], 0.0)
        else:
            stands = _same(self.answer(question, result.answers), draft)
        return Concluded(draft if stands else UNSURE, self._support(result) if result.tallies else ())

    def _support(self, result: Talked | Polled) -> tuple[tuple[str, float], ...]:
        if not isinstance(result, Polled):
            return ()
        return tuple((self.restore(a), float(p)) for a, p in zip(result.answers, result.points, strict=True))


def _same(one: str, other: str) -> bool:
    return " ".join(one.casefold().split()) == " ".join(other.casefold().split())
