"""Describe days, times of day that come with them, years and ages."""

from privacy.redaction.patterns import Pattern
from privacy.redaction.spans import Entity

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?|januar|februar|m\xe4rz|mai|juni|juli|oktober|dezember|janvier|"
    r"f\xe9vrier|mars|avril|juin|juillet|ao\xfbt|septembre"
    r"|octobre|novembre|d\xe9cembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|"
    r"septiembre|octubre|noviembre|diciembre|gennaio"
    r"|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|januari|februari|"
    r"maart|mei|augustus)"
)
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_NUMBER = r"(?:1[0-2]|0?[1-9])"
_YEAR = r"(?:1[89]|20)\d\d"
_CLOCK = (
    r"(?:[T ,]{1,3}(?:at )?[0-2]?\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?: ?[ap]\.?m\.?)"
    r"?(?:Z| ?[+-]\d\d:?\d\d)?)?"
)
_AGE = r"(1[01]\d|[1-9]?\d)"
_UNIT = r"(?:years?|yrs?|yo|months?|weeks?)"
TIMES = (
    Pattern(
        Entity.DATE,
        "day, year first",
        r"\b" + _YEAR + r"([-/.])" + _NUMBER + r"[-/.]" + _DAY + r"\b" + _CLOCK,
        0.9,
        apart="0123456789-/",
    ),
    Pattern(
        Entity.DATE,
        "day in digits",
        r"\b(?:"
        + _DAY
        + r"[-/.]"
        + _NUMBER
        + r"|"
        + _NUMBER
        + r"[-/.]"
        + _DAY
        + r")[-/.](?:"
        + _YEAR
        + r"|\d\d)\b"
        + _CLOCK,
        0.8,
        apart="0123456789-/.",
    ),
    Pattern(
        Entity.DATE,
        "day and month in digits",
        r"\b" + _DAY + r"/" + _DAY + r"\b",
        0.6,
        ("born", "birth", "dob", "date", " on ", "due"),
        apart="0123456789-/.",
    ),
    Pattern(
        Entity.DATE, "eight digits of a day", r"\b(?:19|20)\d\d[01]\d[0-3]\d\b", 0.7, ("born", "birth", "dob", "date")
    ),
    Pattern(
        Entity.DATE,
        "day and month",
        r"(?i)\b"
        + _DAY
        + r"(?:st|nd|rd|th|\.|er)?(?:[ -]{1,2}(?:of |de )?)"
        + _MONTH
        + r"\b\.?(?:,?[ -]{1,2}(?:de )?(?:"
        + _YEAR
        + r"|'?\d\d))?\b"
        + _CLOCK,
        0.85,
        apart="/",
    ),
    Pattern(
        Entity.DATE,
        "month and day",
        r"(?i)\b" + _MONTH + r"\.? {1,2}" + _DAY + r"(?:st|nd|rd|th)?\b(?:,? {1,2}" + _YEAR + r"\b)?" + _CLOCK,
        0.85,
    ),
    Pattern(
        Entity.DATE, "month and year", r"(?i)\b" + _MONTH + r"\.?,? {1,2}(?:of )?(?:" + _YEAR + r"|'\d\d)\b", 0.8
    ),
    Pattern(
        Entity.DATE,
        "month",
        r"\b(?:January|February|March|April|June|July|August|September|October|November|December)\b",
        0.45,
    ),
    Pattern(Entity.DATE, "day of the week", r"(?i)\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b", 0.45),
    Pattern(
        Entity.DATE,
        "year",
        r"(?i)(?:\b(?:in|since|from|until|till|of|year|during|before|after|around|circa|born|by|"
        r"between|early|late|mid|"
        r"summer|winter|spring|fall|autumn|class|founded|established|and|to|is an?|died|"
        r"graduated|season)|[(,;/\xa9-])\s{0,2}(" + _YEAR + r")s?\b",
        0.6,
        group=1,
        apart="0123456789",
    ),
    Pattern(
        Entity.DATE, "years", r"\b" + _YEAR + r" ?(?:-|to|until|/) ?(?:" + _YEAR + r"|\d\d|present|now|today)\b", 0.7
    ),
    Pattern(
        Entity.DATE, "year before a word", r"\b(?:the|this|a|an|The|A|An) (" + _YEAR + r") [A-Za-z]", 0.5, group=1
    ),
    Pattern(
        Entity.DATE,
        "day of birth",
        r"(?i)\b(?:d\.?o\.?b\.?|date of birth|birth ?date|birthday|born(?: on)?)\s*(?:is|was|:|"
        r"=)?\s*"
        r"([0-9][0-9A-Za-z ,./-]{3,18}[0-9])\b",
        0.9,
        group=1,
    ),
    Pattern(Entity.DATE, "time of day", r"(?i)\b[0-2]?\d:[0-5]\d(?::[0-5]\d)?\s?[ap]\.?m\b", 0.45),
    Pattern(
        Entity.AGE,
        "age",
        r"(?i)\b" + _AGE + r"[\s-]{0,2}(?:and a half )?" + _UNIT + r"[\s-]{1,2}(?:old|of age)\b",
        0.9,
    ),
    Pattern(Entity.AGE, "age", r"(?i)\b" + _AGE + r"\s?(?:y/?\.?o\.?|y\.o\.|yrs? old|jahre alt|ans|a\xf1os)\b", 0.8),
    Pattern(
        Entity.AGE,
        "age",
        r"(?i)\b(?:aged?|ages|age of|age is|age was|turn(?:ed|s|ing)?(?: just)?|just turned)"
        r"\s*[:=]?\s*(?:about |around )?" + _AGE + r"\b",
        0.8,
        group=1,
        apart="%$.:/",
    ),
    Pattern(
        Entity.AGE,
        "age",
        r"(?i)\b(?:i am|i'm|i m|im|he is|he's|she is|she's|they are|when (?:he|she|i) was|who "
        r"is|is now|is only|was only"
        r"|is already)(?: only| just| already| now| about| almost| nearly)? " + _AGE + r"\b",
        0.65,
        group=1,
        apart="%$:/",
    ),
    Pattern(Entity.AGE, "age", r"\b[A-Z\xC0-\xDE][\w\xC0-\xFF'-]+, ?(" + _AGE + r"), ", 0.5, group=1),
    Pattern(
        Entity.AGE,
        "age and sex",
        r"\b(" + _AGE + r" ?[MFmf]|[MF]/?" + _AGE + r"|[MF], ?" + _AGE + r")\b",
        0.6,
        ("patient", "male", "female", "yo", "looking for", "pt "),
        group=1,
    ),
    Pattern(
        Entity.AGE,
        "age",
        r"(?i)\b" + _AGE + r"[\s-]" + _UNIT + r"[\s-](?:male|female|man|woman|boy|girl|patient|lady|gentleman)\b",
        0.9,
    ),
)
