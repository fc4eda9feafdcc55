"""Describe what states and offices hand out, in some thirty countries: numbers of people, passports, licences."""

from privacy.redaction import checks
from privacy.redaction.patterns import Measure, Pattern
from privacy.redaction.spans import Entity

_SEPARATORS = str.maketrans("", "", " .-/+")
_IS = r"(?:\s+(?:is|was|number|no\.?|nr\.?|num|id|code|#))*\s*[:=#]?\s*"


def whole(check: checks.Check) -> Measure:
    """Return a measure that takes all of a match, where the letters and digits without separators pass `check`."""

    def measure(text: str) -> int:
        return len(text) if check(text.upper().translate(_SEPARATORS)) else 0

    return measure


def _ssn(text: str) -> int:
    """Refuse what was never given out, but for the 900s: those are taxpayers' numbers."""
    digits = text.translate(_SEPARATORS)
    return 0 if digits[:3] in ("000", "666") or digits[3:5] == "00" or digits[5:] == "0000" else len(text)


def _hetu(text: str) -> int:
    return len(text) if checks.hetu(text.upper()) else 0


def _some_digit(text: str) -> int:
    """Take what has two digits at least: a word after "licence" is no number."""
    return len(text) if sum(c.isdigit() for c in text) >= 2 else 0


_MORE = "0123456789-."
_NUMBERS: tuple[tuple[str, str, Measure | None, tuple[str, ...], float], ...] = (
    # name, regex, measure, context, score without it
    (
        "British National Insurance number",
        r"(?i)\b[ABCEGHJ-PRSTW-Z][ABCEGHJ-NPRSTW-Z]\s?\d{2}\s?\d{2}\s?\d{2}\s?[A-D]\b",
        None,
        ("national insurance", "nino", "ni number"),
        0.8,
    ),
    ("NHS number", r"\b\d{3}[ -]?\d{3}[ -]?\d{4}\b", whole(checks.nhs), ("nhs",), 0.0),
    ("Canadian SIN", r"\b\d{3}[ -]?\d{3}[ -]?\d{3}\b", whole(checks.luhn), ("sin", "social insurance"), 0.0),
    (
        "Australian TFN",
        r"\b\d{3}[ ]?\d{3}[ ]?\d{3}\b",
        whole(checks.weighted((1, 4, 3, 7, 5, 8, 6, 9, 10), 11)),
        ("tfn", "tax file"),
        0.0,
    ),
    (
        "German tax number",
        r"\b[1-9]\d[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}\b",
        whole(checks.mod11_10),
        ("steuer", "idnr", "tax id"),
        0.0,
    ),
    (
        "French social security number",
        r"\b[12]\s?\d{2}\s?(?:0[1-9]|1[0-2]|[2-9]\d)\s?(?:\d{2}|2[AB])\s?\d{3}\s?\d{3}\s?\d{2}\b",
        whole(checks.nir),
        (),
        0.95,
    ),
    ("Spanish DNI or NIE", r"(?i)\b(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]\b", whole(checks.dni), (), 0.8),
    (
        "Italian tax code",
        r"(?i)\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b",
        whole(checks.codice_fiscale),
        (),
        0.95,
    ),
    (
        "Dutch BSN",
        r"\b\d{9}\b",
        whole(checks.weighted((9, 8, 7, 6, 5, 4, 3, 2, -1), 11)),
        ("bsn", "burgerservice", "sofi"),
        0.0,
    ),
    (
        "Belgian national number",
        r"\b\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}\b",
        whole(checks.belgian),
        ("rijksregister", "registre national", "national number"),
        0.0,
    ),
    ("Belgian national number", r"\b\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}\b", whole(checks.belgian), (), 0.95),
    ("Swedish personal number", r"\b(?:19|20)?\d{6}[-+]\d{4}\b", whole(checks.personnummer), (), 0.9),
    (
        "Swedish personal number",
        r"\b(?:19|20)\d{10}\b",
        whole(checks.personnummer),
        ("personnummer", "personal number"),
        0.0,
    ),
    ("Norwegian birth number", r"\b\d{6}[ ]?\d{5}\b", whole(checks.fodselsnummer), (), 0.8),
    ("Danish CPR number", r"\b[0-3]\d[01]\d{3}-\d{4}\b", None, ("cpr",), 0.6),
    ("Finnish identity code", r"(?i)\b[0-3]\d[01]\d{3}[-+ABCDEFUVWXY]\d{3}[0-9A-Y]\b", _hetu, (), 0.95),
    ("Polish PESEL", r"\b\d{11}\b", whole(checks.pesel), ("pesel",), 0.5),
    ("Portuguese NIF", r"\b[1235689]\d{2}[ ]?\d{3}[ ]?\d{3}\b", whole(checks.nif), ("nif", "contribuinte"), 0.0),
    ("Brazilian CPF", r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", whole(checks.cpf), (), 0.95),
    ("Brazilian CPF", r"\b\d{11}\b", whole(checks.cpf), ("cpf",), 0.0),
    ("Brazilian CNPJ", r"\b\d{2}\.?\d{3}\.?\d{3}/\d{4}-?\d{2}\b", whole(checks.cnpj), (), 0.95),
    (
        "Indian Aadhaar number",
        r"\b[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}\b",
        whole(checks.verhoeff),
        ("aadhaar", "aadhar", "uid"),
        0.5,
    ),
    ("Indian PAN", r"\b[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]\b", None, ("pan",), 0.7),
    (
        "Chinese identity number",
        r"\b[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[0-9Xx]\b",
        whole(checks.mod11_2),
        (),
        0.95,
    ),
    ("Korean resident number", r"\b\d{2}[01]\d[0-3]\d-[1-8]\d{6}\b", whole(checks.korean), (), 0.9),
    ("Korean resident number", r"\b\d{2}[01]\d[0-3]\d-[1-8]\d{6}\b", None, ("rrn", "resident"), 0.0),
    (
        "Japanese individual number",
        r"\b\d{4}[ -]?\d{4}[ -]?\d{4}\b",
        whole(checks.japanese),
        ("my number", "mynumber", "individual number"),
        0.0,
    ),
    ("Singaporean NRIC", r"(?i)\b[STFGM]\d{7}[A-Z]\b", whole(checks.nric), (), 0.9),
    (
        "Mexican CURP",
        r"(?i)\b[A-Z][AEIOUX][A-Z]{2}\d{2}[01]\d[0-3]\d[HMX][A-Z]{2}[B-DF-HJ-NP-TV-Z]{3}[0-9A-Z]"
        r"\d\b",
        None,
        (),
        0.95,
    ),
    ("Argentinian CUIT", r"\b\d{2}-\d{8}-\d\b", whole(checks.cuit), (), 0.9),
    ("Chilean RUT", r"(?i)\b\d{1,2}\.?\d{3}\.?\d{3}-[0-9K]\b", whole(checks.rut), (), 0.8),
    ("South African identity number", r"\b\d{6}[ ]?\d{4}[ ]?[01]\d{2}\b", whole(checks.born_south_african), (), 0.6),
    ("Turkish identity number", r"\b[1-9]\d{10}\b", whole(checks.tckn), (), 0.6),
    ("Swiss AHV number", r"\b756\.?\d{4}\.?\d{4}\.?\d{2}\b", whole(checks.weighted((1, 3) * 6 + (1,), 10)), (), 0.95),
    ("Israeli identity number", r"\b\d{9}\b", whole(checks.luhn), ("teudat", "israeli id", "identity number"), 0.0),
)
IDENTITIES = (
    Pattern(
        Entity.SSN,
        "US social security number",
        r"\b\d{3}[- ]\d{2}[- ]\d{4}\b",
        0.9,
        measure=_ssn,
        apart=_MORE,
        across=True,
    ),
    Pattern(
        Entity.SSN, "US social security number", r"\b\d{9}\b", 0.8, ("ssn", "social security", "itin"), measure=_ssn
    ),
    Pattern(
        Entity.SSN,
        "US social security number",
        r"\b\d{3}[-. ]*\d{2}[-. ]*\d{4}\b",
        0.8,
        ("ssn", "social security"),
        measure=_ssn,
    ),
    *(
        Pattern(Entity.NATIONAL_ID, name, regex, max(0.9, bare), context, bare, measure, 0, "0123456789", across=True)
        for name, regex, measure, context, bare in _NUMBERS
    ),
    Pattern(
        Entity.LICENCE,
        "driving licence",
        r"(?i)\b(?:driv(?:er|ing)(?:'?s|s')?\s+licen[cs]e|licen[cs]e|D\.?L\.?|f(?:u|\xfc)"
        r"hrerschein)" + _IS + r"([A-Z0-9](?:[- ]?[A-Z0-9]){4,17})\b",
        0.8,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.PASSPORT,
        "passport",
        r"(?i)\b(?:passport|reisepass|passeport|pasaporte|passaporto)"
        + _IS
        + r"([A-Z]{0,2}\d{6,9}[A-Z]?|[A-Z0-9]{8,9})\b",
        0.85,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.NATIONAL_ID,
        "number said to be a person's",
        r"(?i)\b(?:tax(?:payer)?\s+id(?:entification)?|national\s+id(?:entity)?"
        r"|identity\s+(?:card|number)|id\s+card|vat|e?in)\s*(?:number|no\.?|nr\.?|#)?\s*(?:is|:|"
        r"#|=)\s*"
        r"([A-Z0-9](?:[-. ]?[A-Z0-9]){5,17})\b",
        0.7,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.RECORD,
        "record's number",
        r"(?i)\b(?:mrn|medical\s+record|patient|customer|client|member(?:ship)?|employee|staff|"
        r"student"
        r"|policy|claim|case|invoice|order|ticket|booking|reference|ref|insurance|beneficiary|"
        r"account|contract|loyalty)"
        r"\s*(?:id|number|no\.?|nr\.?|num|code|#)(?:\s+(?:is|was))?\s*[:=#]?\s*([A-Z0-9](?:[-/]"
        r"?[A-Z0-9]){3,24})\b",
        0.7,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.RECORD,
        "record's number",
        r"\b(?:MRN|Mrn|mrn)\s*[:=#]?\s*([A-Z0-9-]{4,16})\b",
        0.85,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.PLATE,
        "number plate",
        r"(?i)\b(?:licen[cs]e|number|registration)\s+plates?" + _IS + r"([A-Z0-9]{1,4}(?:[- ]?[A-Z0-9]{1,4}){1,3})\b",
        0.8,
        group=1,
        measure=_some_digit,
    ),
    Pattern(
        Entity.RECORD,
        "vehicle's number",
        r"\b[A-HJ-NPR-Z0-9]{17}\b",
        0.8,
        ("vin", "chassis", "vehicle"),
        measure=_some_digit,
    ),
)
