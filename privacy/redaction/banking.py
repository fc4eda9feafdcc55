"""Describe what banks, wallets and machines hand out: cards, IBANs, accounts, keys and passwords."""

import re

from privacy.redaction import checks
from privacy.redaction.patterns import Pattern
from privacy.redaction.spans import Entity

_IBAN_LENGTHS = dict(
    part.split(":")
    for part in """
    AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22
    DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28
    HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25
    MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29
    RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29
    VA:22 VG:24 XK:20 YE:30
""".split()
)
_DIGIT = re.compile(r"\d")


def digits_at_first(text: str, least: int, most: int, check: checks.Check) -> int:
    """Return how many letters of `text` hold the longest run of digits, so many at its start, that passes `check`."""
    places = [m.end() for m in _DIGIT.finditer(text)]
    digits = "".join(c for c in text if c.isdigit())
    for n in range(min(most, len(digits)), least - 1, -1):
        if check(digits[:n]):
            return places[n - 1]
    return 0


def _card(text: str) -> int:
    return digits_at_first(text, 12, 19, checks.card)


def _looks_like_a_card(text: str) -> int:
    """Take a card's number whose check fails, where it is said to be one: a slip of the pen is no protection."""
    return len(text) if 12 <= sum(c.isdigit() for c in text) <= 19 else 0


def iban(text: str) -> int:
    """Return how many letters of `text` are an IBAN, spaces and dashes included."""
    plain = [(c.upper(), i + 1) for i, c in enumerate(text) if c.isalnum()]
    length = int(_IBAN_LENGTHS.get("".join(c for c, _ in plain[:2]), 0))
    if not length or len(plain) < length:
        return 0
    return plain[length - 1][1] if checks.mod97("".join(c for c, _ in plain[:length])) else 0


def _wallet(text: str) -> int:
    return len(text) if checks.base58check(text) else 0


def _mixed(text: str) -> int:
    """Take a password or key that is no plain word: it has a digit, a sign or a capital inside."""
    return len(text) if any(not c.isalpha() for c in text) or any(c.isupper() for c in text[1:]) else 0


def _aba(text: str) -> int:
    return len(text) if checks.weighted((3, 7, 1, 3, 7, 1, 3, 7, 1), 10)(text) else 0


_IS = r"(?:\s+(?:is|was|number|no\.?|nr\.?|num|id|code|of))*\s*[:=#]?\s*[\"']?"
BANKING = (
    Pattern(
        Entity.CARD,
        "card with a right check digit",
        r"\b\d(?:[ -]{0,2}\d){11,18}",
        1.0,
        measure=_card,
        apart="0123456789.",
        across=True,
    ),
    Pattern(
        Entity.CARD,
        "number said to be a card's",
        r"\b\d{4}[ -]?\d{4}[ -]?\d{4}(?:[ -]?\d{1,7})?\b",
        0.6,
        ("card", "visa", "mastercard", "amex", "credit", "debit"),
        measure=_looks_like_a_card,
    ),
    Pattern(
        Entity.CARD,
        "card's security code",
        r"(?i)\b(?:cvv2?|cvc2?|security code)" + _IS + r"(\d{3,4})\b",
        0.9,
        group=1,
    ),
    Pattern(
        Entity.CARD,
        "card's last day",
        r"(?i)\b(?:expir(?:y|es|ation)|exp\.?|valid (?:thru|until))(?:\s+date)?"
        + _IS
        + r"((?:0[1-9]|1[0-2])\s?[/-]\s?(?:20)?\d\d)\b",
        0.8,
        group=1,
    ),
    Pattern(
        Entity.IBAN,
        "IBAN with right check digits",
        r"(?i)\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,32}",
        1.0,
        measure=iban,
        across=True,
    ),
    Pattern(
        Entity.ACCOUNT,
        "SWIFT code",
        r"(?i)\b(?:swift|bic)(?:\s*/\s*(?:swift|bic))?(?:[ -]?code)?"
        + _IS
        + r"([A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)\b",
        0.9,
        group=1,
    ),
    Pattern(
        Entity.ACCOUNT,
        "bank account's number",
        r"(?i)\b(?:account|acct|a/c|konto|kontonummer|compte|cuenta)"
        r"(?:\s+(?:number|no\.?|nr\.?|num|#|is|ending|in))*\s*[:=#]?\s*(\d(?:[ -]?\d){5,17})\b",
        0.8,
        group=1,
    ),
    Pattern(
        Entity.ACCOUNT,
        "bank account's number",
        r"\b\d(?:[ -]?\d){7,16}\b",
        0.6,
        ("account", "acct", "bank", "savings", "checking", "transfer from", "transfer to"),
    ),
    Pattern(Entity.ACCOUNT, "routing number", r"\b\d{9}\b", 0.9, ("routing", "aba", "rtn"), measure=_aba),
    Pattern(
        Entity.ACCOUNT, "sort code", r"\b\d{2}-\d{2}-\d{2}\b", 0.9, ("sort code", "sortcode"), apart="-0123456789"
    ),
    Pattern(Entity.WALLET, "Bitcoin address", r"\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b", 1.0, measure=_wallet),
    Pattern(Entity.WALLET, "Bitcoin address", r"\bbc1[02-9ac-hj-np-z]{25,59}\b", 0.95),
    Pattern(Entity.WALLET, "Ethereum address", r"\b0x[0-9a-fA-F]{40}\b", 0.95),
    Pattern(Entity.SECRET, "key of a cloud", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 1.0),
    Pattern(
        Entity.SECRET,
        "access token",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,64}"
        r"|xox[abprs]-[\w-]{10,250}|sk-(?:[\w-]{20,200})|hf_[A-Za-z0-9]{30,60}|AIza[\w-]{35}|"
        r"[rs]k_live_[A-Za-z0-9]{20,250})",
        1.0,
    ),
    Pattern(Entity.SECRET, "JSON web token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", 1.0),
    Pattern(Entity.SECRET, "private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s:,.-]*", 1.0),
    Pattern(
        Entity.SECRET,
        "password",
        r"(?i)\b(?:pass(?:word|code|phrase|wd)?|pwd|pin(?:\s?code)?|api[_ -]?key|secret(?:[_ -]"
        r"key)?"
        r"|access[_ -]?token|auth[_ -]?token)\b\s*(?:is|was|[:=])\s*[\"']?([^\s\"',;<>(){}]{4,128})",
        0.8,
        group=1,
        measure=_mixed,
    ),
    Pattern(
        Entity.SECRET, "bearer token", r"(?i)\bbearer\s+([A-Za-z0-9._~+/-]{16,500}=*)", 0.9, group=1, measure=_mixed
    ),
    Pattern(
        Entity.SECRET,
        "password in an address",
        r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/:@]{1,64}:([^\s/@]{1,128})@",
        0.95,
        group=1,
    ),
)
