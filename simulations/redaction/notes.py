"""Make fictitious notes of clinics, banks and help desks, with identifiers of which every place is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from privacy.redaction import checks
from privacy.redaction.wordlists import countries, given_names, surnames


@dataclass(frozen=True, slots=True)
class Planted:
    """Say that note.text[start:end] is an identifier of a kind."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Note:
    """Hold a text, and what was planted in it."""

    text: str
    planted: tuple[Planted, ...]


TEMPLATES = (
    "{person} came in on {date} complaining of headaches. Reach her on {phone} or at {email}.",
    "Follow-up with {title} {surname}: blood pressure better, next visit {date}. Lives at {address}, ZIP code {zip}.",
    "The claim of {person} ({age} years old) was settled; transfer to {iban} by {date}.",
    "Hello, I am {person} and somebody has used my card {card} in {place}. Please block it and ring {phone}.",
    "Ticket from {email}: the printer at {org} stopped when {given} opened http://{domain}/manual.",
    "Server {ip} was reached from {place}; {given} at {org} has changed the password since.",
    "{org} asks whether {title} {surname} may be written to at {email}. His SSN is {ssn}.",
    "On {date}, {person}, aged {age}, moved from {place} to {place}. New address: {address}.",
    "Please charge {card} for the two nights that {given} {surname} booked; the receipt goes to {email}.",
    "we spoke to {surname} again. {given} says the invoice went to www.{domain} and not to {org}.",
    "Patient: {person}\nBorn: {date}\nPhone: {phone}\nInsured with: {org}\nSSN: {ssn}",
    "From: {person} <{email}>\nTo: {org}\n\nMy account {iban} shows two payments of {date}.\n\nRegards,\n{given}",
    "The driver, {person}, {age}, said that the van of {org} had turned without a sign near {place}.",
    "Reminder: {given} will be {age} years old in June, send flowers to {address}.",
    "login of {given} from {ip} and then from {ip}, both in {place}, on {date}",
    "{title} {surname} of {org} will be in {place} until {date}; call {phone} before.",
)
CODE = ("Dr.", "Mr.", "Mrs.", "Ms.", "Prof.")
_HEADS = (
    "Bran Cal Dor Eld Fen Gar Hol Ist Jar Kel Lom Mar Nor Ost Pell Quin Ros Sul Tam Ulm Vard Wend Yar Zel".split()
)
_TAILS = (
    "ack adan berg bury den dottir er ette field ford gard gren ham ides illo inen ley mont "
    "ova quist sen skaya stad ton vik wick yev"
).split()
_FIRMS = (
    "{} Ltd",
    "{} Inc",
    "{} GmbH",
    "{} & Sons",
    "{} Hospital",
    "University of {}",
    "{} Bank",
    "{}",
    "{} Logistics",
    "St {} Clinic",
)


def notes(count: int, seed: int = 0) -> Iterator[Note]:
    """Yield notes; the same seed gives the same ones. About half of the names are on no list: they were made up."""
    random = Random(seed)  # noqa: S311 - fictitious notes, no secret
    for _ in range(count):
        yield _note(random.choice(TEMPLATES), random)


def _note(template: str, random: Random) -> Note:
    text, planted = "", []
    while "{" in template:
        before, _, rest = template.partition("{")
        kind, _, template = rest.partition("}")
        value = MAKERS[kind](random)
        text += before
        planted.append(Planted(len(text), len(text) + len(value), kind))
        text += value
    return Note(text + template, tuple(planted))


def coined(random: Random) -> str:
    """Return a name that is on no list."""
    return random.choice(_HEADS) + random.choice(_TAILS)


def _given(random: Random) -> str:
    return random.choice(given_names()) if random.random() < 0.7 else coined(random)


def _surname(random: Random) -> str:
    return random.choice(surnames()) if random.random() < 0.3 else coined(random)


def _place(random: Random) -> str:
    return random.choice(countries()) if random.random() < 0.3 else coined(random)


def _date(random: Random) -> str:
    year, month, day = random.randint(1940, 2026), random.randint(1, 12), random.randint(1, 28)
    name = "January February March April May June July August September October November December".split()[month - 1]
    forms = (
        f"{year}-{month:02d}-{day:02d}",
        f"{day}/{month}/{year}",
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{day}.{month}.{year}",
    )
    return random.choice(forms)


def digits(random: Random, count: int) -> str:
    """Return so many digits."""
    return "".join(random.choice("0123456789") for _ in range(count))


def card(random: Random) -> str:
    """Return a card's number with a right check digit, written in one of three ways."""
    head = random.choice(("4", "51", "37", "6011"))
    body = head + digits(random, (14 if head == "37" else 15) - len(head))
    whole = next(body + d for d in "0123456789" if checks.luhn(body + d))
    sign = random.choice(("", " ", "-"))
    return sign.join(whole[i : i + 4] for i in range(0, len(whole), 4))


def iban(random: Random) -> str:
    """Return a British or German IBAN with right check digits."""
    country, body = random.choice((("GB", "WEST" + digits(random, 14)), ("DE", digits(random, 18))))
    whole = next(f"{country}{d:02d}{body}" for d in range(2, 99) if checks.mod97(f"{country}{d:02d}{body}"))
    return whole if random.random() < 0.5 else " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))


def ssn(random: Random) -> str:
    """Return a US social security number that may have been given out."""
    return f"{random.randint(100, 665)}-{random.randint(10, 99)}-{random.randint(1000, 9999)}"


def _phone(random: Random) -> str:
    a, b, c = random.randint(201, 989), random.randint(200, 999), digits(random, 4)
    return random.choice(
        (
            f"({a}) {b}-{c}",
            f"{a}-{b}-{c}",
            f"+1 {a} {b} {c}",
            f"+44 20 7{digits(random, 3)} {c}",
            f"0{a} {b}{c}",
            f"{a}.{b}.{c}",
        )
    )


def _email(random: Random) -> str:
    return f"{coined(random).lower()}.{coined(random).lower()}@{_domain(random)}"


def _domain(random: Random) -> str:
    return f"{coined(random).lower()}.{random.choice(('com', 'org', 'net', 'co.uk', 'de', 'fr'))}"


def _address(random: Random) -> str:
    street = random.choice(("Street", "Road", "Avenue", "Lane", "Close"))
    return random.choice(
        (f"{random.randint(1, 400)} {coined(random)} {street}", f"{coined(random)}straße {random.randint(1, 99)}")
    )


def _ip(random: Random) -> str:
    return ".".join(str(random.randint(1, 254)) for _ in range(4))


MAKERS: dict[str, Callable[[Random], str]] = {
    "given": _given,
    "surname": _surname,
    "person": lambda random: f"{_given(random)} {_surname(random)}",
    "org": lambda random: random.choice(_FIRMS).format(coined(random)),
    "place": _place,
    "title": lambda random: random.choice(CODE),
    "date": _date,
    "age": lambda random: str(random.randint(18, 97)),
    "zip": lambda random: digits(random, 5),
    "phone": _phone,
    "email": _email,
    "domain": _domain,
    "ip": _ip,
    "card": card,
    "iban": iban,
    "ssn": ssn,
    "address": _address,
}
