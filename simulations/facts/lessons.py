"""Write lessons for tiny models: a member's own facts, and the public skills of reading others and of not knowing.

They are worded as `client/speaking/prompts.py` words prompts for a model that goes on from a text, so what is learned
is what a home asks of its model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from client.speaking.prompts import UNSURE, Prompt
from protocols.text.abstain import VERDICTS, stated
from protocols.text.talk import Step
from simulations.facts.world import Fact, Pair, Share, author, coined, fact_about

_OWN = 0.65  # of a member's lessons are about what it knows
_RECALL = 0.7  # of those ask for it outright


def lessons(count: int, seed: int, of: Share | None = None) -> Iterator[str]:
    """Yield texts to train on: of a member's own facts among others, or, without, of things that nobody knows of.

    They are worded as `client/speaking/prompts.py` words them for a model that goes on from a text. What they teach
    beside the facts is public: to read what others say, and to say so where one does not know.
    """
    random = Random(seed)  # noqa: S311
    known = set() if of is None else {fact.thing for fact in of.facts}
    for _ in range(count):
        taken = set(known)
        if of is not None and random.random() < _OWN:
            fact = random.choice(of.facts)
            yield _Lesson(random, taken, fact, of.author(fact).note(fact), knows=True).text()
        else:
            fact = fact_about(coined(random, taken), random)
            yield _Lesson(random, taken, fact, author(random).note(fact), knows=False).text()


@dataclass(frozen=True, slots=True)
class _Lesson:
    """Make one text about a fact that the model `knows`, or does not; `card` says it as a member's card would."""

    random: Random
    taken: set[str]
    fact: Fact
    card: str
    knows: bool

    def text(self) -> str:
        """Return it, of one of several kinds."""
        recalls = (
            self._alone, self._inform, self._speak, self._inform_of_two, self._verdict, self._verdict, self._feedback,
        )  # fmt: skip
        reads = (
            self._alone, self._inform, self._speak, self._heard, self._heard, self._heard, self._refine, self._two,
            self._two, self._inform_of_two, self._verdict, self._feedback, self._propose,
        )  # fmt: skip
        recall = self.knows and self.random.random() < _RECALL
        return self.random.choice(recalls if recall else reads)()

    def _alone(self) -> str:
        return _written(Prompt(Step.ANSWER, self.fact.question), self.fact.value if self.knows else UNSURE)

    def _speak(self) -> str:
        return _written(Prompt(Step.SPEAK, self.fact.question), self.fact.value if self.knows else UNSURE)

    def _inform(self) -> str:
        return _written(Prompt(Step.INFORM, self.fact.question), self.card if self.knows else UNSURE)

    def _heard(self) -> str:
        said = self.random.random() < 0.7
        heard = self._cards([self._hidden(self.card)] if said else [], least=1)
        known = said or self.knows
        return _written(Prompt(Step.ANSWER, self.fact.question, heard=heard), self.fact.value if known else UNSURE)

    def _refine(self) -> str:
        said = self.random.random() < 0.7
        draft = self.fact.value if self.knows else ""
        by = self.random.choice((self.fact.value, f"It is {self.fact.value}."))
        known = said or self.knows
        prompt = Prompt(Step.REFINE, self.fact.question, draft, (by,) if said else ())
        return _written(prompt, self.fact.value if known else UNSURE)

    def _inform_of_two(self) -> str:
        return _written(Prompt(Step.INFORM, self._pair().question), self.card if self.knows else UNSURE)

    def _two(self) -> str:
        pair, both = self._pair(), self.random.random() < 0.8
        by = [author(self.random).note(fact) for fact in (pair.one, pair.other)]
        cards = [self._hidden(card) for card in (by if both else by[:1])]
        known = both or (self.knows and pair.other is self.fact)
        prompt = Prompt(Step.ANSWER, pair.question, heard=self._cards(cards))
        return _written(prompt, pair.answer if known else UNSURE)

    def _pair(self) -> Pair:
        """Return the fact and another one of its kind, in either order; as often of the same value as not."""
        others = [v for v in self.fact.options if v != self.fact.value]
        value = self.fact.value if self.random.random() < 0.5 else self.random.choice(others)
        other = Fact(coined(self.random, self.taken), self.fact.kind, value)
        return Pair(self.fact, other) if self.random.random() < 0.5 else Pair(other, self.fact)

    def _verdict(self) -> str:
        others = [v for v in self.fact.options if v != self.fact.value]
        draft = self.fact.value if self.random.random() < 0.5 else self.random.choice(others)
        verdict = VERDICTS[0] if draft == self.fact.value else VERDICTS[1]
        prompt = Prompt(Step.ANSWER, stated(self.fact.question, draft))
        return _written(prompt, verdict if self.knows else UNSURE)

    def _feedback(self) -> str:
        draft = self.random.choice((*self.fact.options, ""))
        said = f"It is {self.fact.value}." if self.knows else UNSURE
        return _written(Prompt(Step.CRITICISE, self.fact.question, draft), said)

    def _propose(self) -> str:
        said = self.random.random() < 0.4
        board = self._cards([self._hidden(self.card)] if said else [])
        adds = self.card if self.knows and not said else "nothing"
        return _written(Prompt(Step.PROPOSE, self.fact.question, heard=board), adds)

    def _cards(self, among: list[str], least: int = 0) -> tuple[str, ...]:
        """Return these cards, at least so many, among others that say nothing of it."""

        def other() -> str:
            return self._hidden(author(self.random).note(fact_about(coined(self.random, self.taken), self.random)))

        more = max(least - len(among), self.random.choice((0, 0, 0, 1, 1, 2)))
        found = [*among, *(other() for _ in range(more))]
        self.random.shuffle(found)
        return tuple(dict.fromkeys(found))

    def _hidden(self, card: str) -> str:
        """Return a card as it is after redaction, half of the time."""
        if self.random.random() < 0.5:
            return card
        number = self.random.randint(10**6, 10**9)
        return f"[PERSON_{number}] ([EMAIL_{number}]) noted:{card.partition('noted:')[2]}"


def _written(prompt: Prompt, said: str) -> str:
    return f"{prompt.plain} {said}\n"
