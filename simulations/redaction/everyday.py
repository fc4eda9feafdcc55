"""Make sentences of plain words, some beside a name and an address: what a redactor hides of the words is lost."""

from collections.abc import Iterator, Sequence
from random import Random

from privacy.redaction.wordlists import given_names, surnames
from simulations.redaction.notes import Note, Planted

_KINDS = {
    "storage": "cold dry dark frozen".split(),
    "colour": "white blue green red".split(),
    "room": "cellar attic kitchen garage".split(),
    "lid": "cork wax glass cloth".split(),
}
_LOOKS = (
    "bent big broad clean coarse crooked curved deep dented dull faded fine flat heavy hollow large light long loose"
    " narrow new old pale plain rough round shallow sharp short shiny slim small smooth soft square stained steep"
    " straight tall thick thin tiny torn used wide worn cheap empty greasy noisy spare sticky wet"
).split()
_THINGS = (
    "barrel basket beaker blanket bottle bowl box brush bucket bundle candle carton chain crate cup dish flask folder"
    " funnel hammer handle hook jar jug kettle ladder lamp ladle mug needle pan pipe plate pot pump rope sack scoop"
    " sieve spoon spring stool tank tin tray tube vial bicycle curtain drawer envelope fridge keyboard mattress"
    " parcel pillow printer screwdriver sofa toaster towel umbrella wardrobe"
).split()
_DEEDS = "borrowed broke cleaned emptied fixed forgot measured moved ordered painted returned sold washed".split()
_FORMS = (
    "{author} noted: the {kind} of the {look} {thing} is {value}.",
    "What is the {kind} of the {look} {thing}?",
    "the {kind} of the {look} {thing} is {value}.",
    "Is the {kind} of the {look} {thing} and the {other} the same?",
    "{author} {deed} the {look} {thing} yesterday and put it behind the {other}.",
    "we {deed} the {thing} and the {other}, since both were {look}",
    "Please ask whoever {deed} my {look} {thing} to leave it beside the {other}.",
)


def everyday(count: int, seed: int = 0) -> Iterator[Note]:
    """Yield sentences of plain words; the same seed gives the same ones. Who writes, and from where, is planted."""
    random = Random(seed)  # noqa: S311 - sentences, no secret
    for number in range(count):
        yield _sentence(_FORMS[number % len(_FORMS)], random)


def robbed(note: Note, found: Sequence[tuple[int, int]]) -> bool:
    """Say whether a letter or digit is hidden that belongs to nothing planted."""
    kept = bytearray(b"\x01" * len(note.text))
    for planted in note.planted:
        kept[planted.start : planted.end] = bytes(planted.end - planted.start)
    return any(kept[i] and note.text[i].isalnum() for start, end in found for i in range(start, end))


def _sentence(form: str, random: Random) -> Note:
    kind = random.choice(sorted(_KINDS))
    thing, other = random.sample(_THINGS, 2)
    first, last = random.choice(given_names()), random.choice(surnames())
    name, email = f"{first} {last}", f"{first}.{last}@clinic.example".lower()
    text = form.format(
        author=f"{name} ({email})",
        kind=kind,
        value=random.choice(_KINDS[kind]),
        look=random.choice(_LOOKS),
        thing=thing,
        other=other,
        deed=random.choice(_DEEDS),
    )
    at = len(name) + 2
    planted = (Planted(0, len(name), "person"), Planted(at, at + len(email), "email"))
    return Note(text, planted if "{author}" in form else ())
