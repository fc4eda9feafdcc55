"""Every kind of structured identifier is found, and what only looks like one is left."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.redaction import checks
from privacy.redaction.banking import iban
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import Settings
from privacy.redaction.spans import NAMES, Entity
from privacy.redaction.vault import Vault

SHAPED = tuple(e for e in Entity if e not in NAMES)  # whatever the recogniser of names makes of a text
REDACTOR = Redactor(Settings("own", entities=SHAPED))
FOUND = [
    (Entity.EMAIL, "write to {} today", ("ann.lee+x@mail.example.co.uk", "müller@exämple.de", "root@[10.0.0.1]")),
    (Entity.EMAIL, "write to {} today", ("ann (at) example (dot) com", "ann [at] example [dot] org")),
    (
        Entity.CARD,
        "paid with {}, thanks",
        ("4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009", "6304273733980000018"),
    ),
    (Entity.CARD, "my card {} is lost", ("4111 1111 1111 1112",)),  # a slip of the pen
    (
        Entity.IBAN,
        "to {} please",
        ("GB82 WEST 1234 5698 7654 32", "de89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"),
    ),
    (Entity.SSN, "it is {}.", ("536-90-4399", "536 90 4399")),
    (Entity.SSN, "my SSN is {}", ("536904399",)),
    (Entity.IP, "from {} at noon", ("192.168.2.77", "2001:db8::ff00:42:8329", "fe80::1ff:fe23:4567:890a")),
    (Entity.MAC, "device {} joined", ("00:1B:44:11:3A:B7",)),
    (
        Entity.URL,
        "look at {} now",
        ("https://example.com/a?b=c#d", "www.example.pl", "shop.example.org", "example.co.uk/x"),
    ),
    (
        Entity.PHONE,
        "{}",
        ("call +44 20 7946 0958", "Tel: 030 901820", "phone 467 3395", "(415) 555-2671", "fax 555.123.4567x89"),
    ),
    (
        Entity.DATE,
        "seen {} again",
        ("2020-04-16 11:34:35", "3/14/1962", "12 March 2020", "March 3rd, 1999", "on Tuesday", "in 1977"),
    ),
    (Entity.AGE, "{}", ("a 79 year old man", "aged 45", "I am 31 y/o", "he turned 60", "a 38-year-old patient")),
    (
        Entity.ADDRESS,
        "at {} there",
        ("221B Baker Street", "12 rue de la Paix", "Hauptstraße 5", "P.O. Box 149", "100 North Main St. Apt. 4"),
    ),
    (Entity.POSTCODE, "{}", ("zip code is 90210", "Boston, MA 02134", "SW1A 1AA", "K1A 0B1")),
    (Entity.TITLE, "{} Okonkwo called", ("Mr.", "Dr.", "Professor", "Mrs")),
    (Entity.HANDLE, "{}", ("my handle is sunshine", "the handle is jdoe_92", "handle: velvet", "username is cloth")),
    (Entity.LICENCE, "{}", ("my driver's license number is F162823540116",)),
    (Entity.PASSPORT, "{}", ("passport no. C01X00T47", "passport: 533380006")),
    (
        Entity.SECRET,
        "{}",
        ("AKIAIOSFODNN7EXAMPLE", "password: hunter2!x", "Authorization: Bearer abcdef0123456789abcdef"),
    ),
    (
        Entity.WALLET,
        "send to {}",
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ),
    (Entity.RECORD, "{}", ("MRN: 00123456", "customer number 884-221")),
    (
        Entity.NATIONAL_ID,
        "number {} was given",
        (
            "AB 12 34 56 C",
            "12345678Z",
            "RSSMRA85T10A562S",
            "811218-9876",
            "131052-308T",
            "111.444.777-35",
            "11010519491231002X",
            "S1234567D",
            "756.9217.0769.85",
            "20-12345678-6",
            "12.345.678-5",
            "2 55 08 14 168 025 38",
            "93.05.18-223.61",
        ),
    ),
    (
        Entity.NATIONAL_ID,
        "{}",
        (
            "BSN 111222333",
            "NHS number 943 476 5919",
            "SIN 046 454 286",
            "PESEL 44051401359",
            "Aadhaar 2341 2341 2346",
        ),
    ),
]
LEFT = [
    "version 1.2.3 of 10.5",
    "time.sl and request.Headers.Au",
    "self.model.fit(x)",
    "os.path.join(a, b)",
    "console.log(e.target.value)",
    "arr[0:10] at 10:20:30",
    "std::vector<int>::iterator",
    "f(x) = 3.14159265358979",
    "git commit 1f0e3dad99908345f7439f8ffabdffc4",
    "for i in range(100000): pass",
    "import numpy as np",
    "the ratio is 4:3",
    "the lid of the handle is cloth.",
    "chapter 7, verse 12",
    "let x = a.is_valid && b.to_s;",
]


@pytest.mark.parametrize(
    ("kind", "text"), [(k, t.format(v)) for k, t, values in FOUND for v in values], ids=lambda v: str(v)[:40]
)
def test_an_identifier_of_this_kind_is_found(kind: Entity, text: str) -> None:
    assert kind in {s.kind for s in REDACTOR.find(text)}


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, t, values in FOUND for v in values if t != "{}"])
def test_nothing_of_an_identifier_is_left_in_the_text(kind: Entity, value: str) -> None:
    template = next(t for k, t, values in FOUND if k is kind and value in values and t != "{}")
    left = REDACTOR.redact(template.format(value), Vault("partner")).text
    assert not [part for part in value.replace("(", " ").replace("[", " ").split() if len(part) > 4 and part in left]


@pytest.mark.parametrize("text", LEFT)
def test_code_and_plain_numbers_are_left_alone(text: str) -> None:
    assert REDACTOR.find(text) == []


@given(st.integers(10**13, 10**15 - 1))
def test_one_wrong_digit_of_a_card_is_noticed(body: int) -> None:
    text = f"4{body % 10**14:014d}"
    right = next(text + d for d in string.digits if checks.luhn(text + d))
    assert checks.card(right)
    wrong = [right[:i] + str((int(right[i]) + 1) % 10) + right[i + 1 :] for i in range(1, 16)]
    assert not any(map(checks.luhn, wrong))


@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=18, max_size=18))
def test_the_two_digits_of_an_iban_are_checked(body: str) -> None:
    right = [f"GB{d:02d}{body}" for d in range(2, 99) if checks.mod97(f"GB{d:02d}{body}")]
    assert len(right) == 1
    assert iban(right[0]) == 22
    assert iban(right[0] + " and more text") == 22  # not a letter of what stands behind it


CHECKED = [
    (checks.verhoeff, "234123412346"),
    (checks.mod11_10, "86095742719"),
    (checks.mod11_2, "11010519491231002X"),
    (checks.cpf, "11144477735"),
    (checks.cnpj, "11222333000181"),
    (checks.nhs, "9434765919"),
    (checks.nir, "255081416802538"),
    (checks.dni, "12345678Z"),
    (checks.dni, "X1234567L"),
    (checks.codice_fiscale, "RSSMRA85T10A562S"),
    (checks.belgian, "93051822361"),
    (checks.hetu, "131052-308T"),
    (checks.pesel, "44051401359"),
    (checks.personnummer, "8112189876"),
    (checks.nric, "S1234567D"),
    (checks.tckn, "10000000146"),
    (checks.rut, "123456785"),
    (checks.cuit, "20123456786"),
    (checks.nif, "123456789"),
    (checks.fodselsnummer, "01010750160"),
    (checks.born_south_african, "8001015009087"),
    (checks.japanese, "123456789018"),
]


@pytest.mark.parametrize(("check", "right"), CHECKED, ids=[c.__name__ for c, _ in CHECKED])
def test_a_checksum_takes_the_published_example_and_few_of_its_neighbours(check, right: str) -> None:
    assert check(right)
    numbers = [i for i, c in enumerate(right) if c.isdigit()]
    draw = random.Random(0)
    wrong = [(i, str((int(right[i]) + draw.randint(1, 9)) % 10)) for i in numbers]
    taken = [check(right[:i] + d + right[i + 1 :]) for i, d in wrong]
    assert sum(taken) <= 1  # ISO 7064's pure systems and weights by 11 notice every one; Belgium has two centuries
