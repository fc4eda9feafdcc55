"""Check the digits and letters by which identifiers guard themselves against slips of the pen."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from datetime import date

Check = Callable[[str], bool]  # of the identifier without spaces, dots, dashes and slashes, in capitals


def luhn(text: str) -> bool:
    """Check the sum of Luhn 1960 (ISO/IEC 7812-1)."""
    total = 0
    for i, c in enumerate(reversed(text)):
        value = int(c)
        total += value if i % 2 == 0 else value * 2 - 9 * (value > 4)
    return total % 10 == 0


def card(text: str) -> bool:
    """Check Luhn, and that an issuer gives out numbers of this length that begin so."""
    n, two, four = len(text), int(text[:2]), int(text[:4])
    issued = (
        (text[0] == "4" and n in (13, 16, 18, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and n == 16)
        or (two in (34, 37) and n == 15)
        or (two in (30, 36, 38, 39) and 14 <= n <= 19)
        or (two == 35 and 16 <= n <= 19)
        or (four in (1800, 2131) and n == 15)
        or (two in (50, 56, 57, 58, 59) and 12 <= n <= 19)
        or (text[0] == "6" and 12 <= n <= 19)
    )
    return issued and luhn(text)


def mod97(text: str) -> bool:
    """Check an IBAN's two digits (ISO 13616)."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def weighted(weights: Sequence[int], modulus: int, remainder: int = 0) -> Check:
    """Return a check that the digits, weighted, add up to `remainder` by `modulus`."""

    def check(text: str) -> bool:
        return sum(w * int(c) for w, c in zip(weights, text, strict=True)) % modulus == remainder

    return check


_VERHOEFF_D = """
    0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104
    9876543210
""".split()
_VERHOEFF_P = """
    0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258
""".split()


def verhoeff(text: str) -> bool:
    """Check the dihedral sum of Verhoeff 1969."""
    found = 0
    for i, c in enumerate(reversed(text)):
        found = int(_VERHOEFF_D[found][int(_VERHOEFF_P[i % 8][int(c)])])
    return found == 0


def mod11_10(text: str) -> bool:
    """Check the pure system of ISO/IEC 7064, MOD 11,10 (Germany's tax number)."""
    product = 10
    for c in text[:-1]:
        total = (int(c) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(text[-1])


def mod11_2(text: str) -> bool:
    """Check ISO/IEC 7064, MOD 11-2 (China's resident identity card)."""
    total = sum(int(c) * pow(2, 17 - i, 11) for i, c in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17]


def cpf(text: str) -> bool:
    """Check the two digits of a Brazilian CPF."""
    return len(set(text)) > 1 and all(
        (sum(int(c) * (n + 1 - i) for i, c in enumerate(text[:n])) * 10 % 11) % 10 == int(text[n]) for n in (9, 10)
    )


def cnpj(text: str) -> bool:
    """Check the two digits of a Brazilian CNPJ."""
    for n in (12, 13):
        weights = [(n - 1 - i) % 8 + 2 for i in range(n)]
        rest = sum(w * int(c) for w, c in zip(weights, text[:n], strict=True)) % 11
        if (0 if rest < 2 else 11 - rest) != int(text[n]):
            return False
    return len(set(text)) > 1


def nhs(text: str) -> bool:
    """Check an NHS number of England and Wales."""
    rest = 11 - sum(int(c) * (10 - i) for i, c in enumerate(text[:9])) % 11
    return rest % 11 == int(text[9]) and rest != 10


def nir(text: str) -> bool:
    """Check a French social security number, Corsica's letters included."""
    digits = text[:13].replace("2A", "19").replace("2B", "18")
    return digits.isdigit() and 97 - int(digits) % 97 == int(text[13:])


def dni(text: str) -> bool:
    """Check the letter of a Spanish DNI or NIE."""
    digits = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return digits.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == text[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (
            1,
            0,
            5,
            7,
            9,
            13,
            15,
            17,
            19,
            21,
            1,
            0,
            5,
            7,
            9,
            13,
            15,
            17,
            19,
            21,
            2,
            4,
            18,
            20,
            11,
            3,
            6,
            8,
            12,
            14,
            16,
            10,
            22,
            25,
            24,
            23,
        ),
        strict=True,
    )
)


def codice_fiscale(text: str) -> bool:
    """Check the letter of an Italian tax code."""
    odd = sum(_ODD[c] for c in text[0:15:2])
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in text[1:15:2])
    return chr(65 + (odd + even) % 26) == text[15]


def belgian(text: str) -> bool:
    """Check a Belgian national number, of either century."""
    head, tail = int(text[:9]), int(text[9:])
    return 97 - head % 97 == tail or 97 - (2_000_000_000 + head) % 97 == tail


def hetu(text: str) -> bool:
    """Check the last sign of a Finnish personal identity code."""
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(text[:6] + text[-4:-1]) % 31] == text[-1]


def fodselsnummer(text: str) -> bool:
    """Check both digits of a Norwegian birth number."""
    first = weighted((3, 7, 6, 1, 8, 9, 4, 5, 2, 1), 11)(text[:10])
    return first and weighted((5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), 11)(text)


def pesel(text: str) -> bool:
    """Check a Polish PESEL and that it begins with a day."""
    return weighted((1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), 10)(text) and is_day(
        text[:2], str(int(text[2:4]) % 20), text[4:6]
    )


def personnummer(text: str) -> bool:
    """Check a Swedish personal number."""
    text = text.replace("+", "")[-10:]
    return luhn(text) and is_day(text[:2], text[2:4], str(int(text[4:6]) % 60))


def is_day(year: str, month: str, day: str) -> bool:
    """Say whether the three are a day of the calendar."""
    try:
        date(2000 + int(year) % 100, int(month), int(day))
    except ValueError:
        return False
    return True


def nric(text: str) -> bool:
    """Check the letter of a Singaporean NRIC or FIN."""
    total = sum(w * int(c) for w, c in zip((2, 7, 6, 5, 4, 3, 2), text[1:8], strict=True))
    total += 4 * (text[0] in "TG") + 3 * (text[0] == "M")
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}
    place = total % 11 if text[0] != "M" else 10 - total % 11
    return letters[text[0]][place] == text[8]


def tckn(text: str) -> bool:
    """Check a Turkish identity number."""
    digits = [int(c) for c in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[0] != 0 and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10]


def rut(text: str) -> bool:
    """Check the last sign of a Chilean RUT."""
    total = sum(int(c) * (2 + i % 6) for i, c in enumerate(reversed(text[:-1])))
    return "0K987654321"[total % 11] == text[-1]


def cuit(text: str) -> bool:
    """Check an Argentinian CUIT or CUIL."""
    rest = 11 - sum(w * int(c) for w, c in zip((5, 4, 3, 2, 7, 6, 5, 4, 3, 2), text, strict=False)) % 11
    return rest % 11 == int(text[10])


def nif(text: str) -> bool:
    """Check a Portuguese NIF."""
    rest = 11 - sum(int(c) * (9 - i) for i, c in enumerate(text[:8])) % 11
    return (0 if rest > 9 else rest) == int(text[8])


def korean(text: str) -> bool:
    """Check a Korean resident number of before October 2020; later ones have no check digit."""
    return (
        11 - sum(w * int(c) for w, c in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), text, strict=False)) % 11
    ) % 10 == int(text[12])


def born_south_african(text: str) -> bool:
    """Check a South African identity number."""
    return luhn(text) and is_day(text[:2], text[2:4], text[4:6])


def japanese(text: str) -> bool:
    """Check a Japanese individual number."""
    rest = sum(int(c) * (n + 1 if n <= 6 else n - 5) for n, c in zip(range(11, 0, -1), text, strict=False)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(text[11])


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@functools.lru_cache(maxsize=256)
def base58check(text: str) -> bool:
    """Check the four bytes of a Bitcoin address."""
    number = 0
    for c in text:
        number = number * 58 + _BASE58.index(c)
    if number >= 1 << 200:
        return False
    whole = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(whole[:21]).digest()).digest()[:4] == whole[21:]
