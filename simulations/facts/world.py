"""Make a world: things with properties, notes that say so, and who noted what; each fact is one member's alone.

A note names who wrote it, and how to reach them: those identifiers are planted, and none may cross. What a thing is
called is two plain words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from privacy.redaction.wordlists import given_names, surnames

KINDS: dict[str, tuple[str, ...]] = {
    "storage": ("cold", "dry", "dark", "frozen"),
    "colour": ("white", "blue", "green", "red"),
    "room": ("cellar", "attic", "kitchen", "garage"),
    "lid": ("cork", "wax", "glass", "cloth"),
}
_LOOKS = (
    "bent big broad clean coarse crooked curved deep dented dull faded fine flat heavy hollow large light long loose"
    " narrow new old pale plain rough round shallow sharp short shiny slim small smooth soft square stained steep"
    " straight tall thick thin tiny torn used wide worn"
).split()
_THINGS = (
    "barrel basket beaker blanket bottle bowl box brush bucket bundle candle carton chain crate cup dish flask folder"
    " funnel hammer handle hook jar jug kettle ladder lamp ladle mug needle pan pipe plate pot pump rope sack scoop"
    " sieve spoon spring stool tank tin tray tube vial"
).split()


@dataclass(frozen=True, slots=True)
class Fact:
    """Say that a property of a thing has a value."""

    thing: str
    kind: str
    value: str

    @property
    def options(self) -> tuple[str, ...]:
        """Return the values that it could have."""
        return KINDS[self.kind]

    @property
    def question(self) -> str:
        """Return the question that it answers."""
        return f"What is the {self.kind} of the {self.thing}?"

    @property
    def sentence(self) -> str:
        """Return it in words."""
        return f"the {self.kind} of the {self.thing} is {self.value}."


@dataclass(frozen=True, slots=True)
class Author:
    """Be who writes notes: what stands here is planted."""

    name: str
    email: str

    @property
    def planted(self) -> tuple[str, ...]:
        """Return what may not cross: the whole name, the last name, the address."""
        return self.name, self.name.split()[-1], self.email

    def note(self, fact: Fact) -> str:
        """Return a note of a fact."""
        return f"{self.name} ({self.email}) noted: {fact.sentence}"


@dataclass(frozen=True, slots=True)
class Share:
    """Hold what one member knows, and who noted it there."""

    member: str
    facts: tuple[Fact, ...]
    authors: tuple[Author, ...]

    def author(self, fact: Fact) -> Author:
        """Return who noted a fact: always the same one."""
        return self.authors[self.facts.index(fact) % len(self.authors)]

    @property
    def notes(self) -> list[str]:
        """Return the member's documents."""
        return [self.author(fact).note(fact) for fact in self.facts]


@dataclass(frozen=True, slots=True)
class Pair:
    """Ask whether two things have the same value of a property; two members know one each."""

    one: Fact
    other: Fact

    @property
    def question(self) -> str:
        """Return the question."""
        return f"Is the {self.one.kind} of the {self.one.thing} and the {self.other.thing} the same?"

    @property
    def answer(self) -> str:
        """Return yes or no."""
        return "yes" if self.one.value == self.other.value else "no"


def share_out(members: Sequence[str], facts: int, authors: int, seed: int) -> tuple[Share, ...]:
    """Return what each member knows: so many facts about things of its own, noted by so many authors."""
    random, taken = Random(seed), set[str]()  # noqa: S311
    return tuple(
        Share(
            member,
            tuple(fact_about(coined(random, taken), random) for _ in range(facts)),
            tuple(author(random) for _ in range(authors)),
        )
        for member in members
    )


def pairs(shares: Sequence[Share], count: int, seed: int) -> tuple[Pair, ...]:
    """Return questions across two members, half of them with the answer yes."""
    random, found = Random(seed), list[Pair]()  # noqa: S311
    while len(found) < count:
        first, second = random.sample(list(shares), 2)
        one = random.choice(first.facts)
        same = len(found) % 2 == 0
        others = [f for f in second.facts if f.kind == one.kind and (f.value == one.value) is same]
        if others:
            found.append(Pair(one, random.choice(others)))
    return tuple(found)


def fact_about(thing: str, random: Random) -> Fact:
    """Return a fact about a thing."""
    kind = random.choice(tuple(KINDS))
    return Fact(thing, kind, random.choice(KINDS[kind]))


def author(random: Random) -> Author:
    """Return somebody who does not exist."""
    given, last = random.choice(given_names()).title(), random.choice(surnames()).title()
    return Author(f"{given} {last}", f"{given[0]}.{last}@clinic.example".lower().replace(" ", ""))


def coined(random: Random, taken: set[str]) -> str:
    """Return a thing that is not in `taken`, and put it there; one that is, once there is no other."""
    for _ in range(1000):
        thing = f"{random.choice(_LOOKS)} {random.choice(_THINGS)}"
        if thing not in taken:
            break
    taken.add(thing)
    return thing
