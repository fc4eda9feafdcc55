"""Find names by what stands around them: forms of address, "my name is", company suffixes, lists of names.

These rules need no training. They stand beside the recogniser, which sees the rest.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from privacy.redaction.ner.features import folded
from privacy.redaction.patterns import Pattern, PatternDetector
from privacy.redaction.spans import Entity, Span
from privacy.redaction.view import View
from privacy.redaction.wordlists import countries, given_names, nationalities, surnames

_CAP = r"[A-Z\xC0-\xDE][\w\xC0-\xFF'-]*\.?"
_NAME = r"(?:" + _CAP + r"[ \t]){0,3}[A-Z\xC0-\xDE][\w\xC0-\xFF'-]*"
_LOW = r"[A-Za-z\xC0-\xFF][\w\xC0-\xFF'-]*"
_COMPANY = (
    r"(?:Inc|Incorporated|Ltd|Limited|LLC|L\.L\.C|LLP|PLC|plc|Corp|Corporation|Co|Company|"
    r"GmbH|AG|KG|OHG|UG|SE|SA|S\.A|SAS|SARL|S\.r\.l|SpA|S\.p\.A"
    r"|BV|B\.V|NV|N\.V|AB|AS|ASA|Oy|Oyj|ApS|A/S|Kft|Zrt|s\.r\.o|Sp\. z o\.o|Pty|Pte|"
    r"Holdings?|Group|Partners|Associates|Foundation|Bank|Hospital|Clinic"
    r"|University|College|Institute|School|Academy|Laboratories|Labs|Technologies|"
    r"Industries|Enterprises|Solutions|Insurance|Airlines|Church|Council"
    r"|Ministry|Museum|Library|Society|Association|Union|Orchestra|Bancorp|Pharmaceuticals|"
    r"Systems|Capital|Ventures|Consulting)"
)
_LINE = r"[ \t]*(?:$|[\n,.;!?()\"])"
_CUES = (
    Pattern(
        Entity.PERSON,
        "after a form of address",
        r"\b(?i:mr|mrs|ms|mx|dr|prof|miss|mister|madam|professor|herr|frau|monsieur|madame|sra?|"
        r"se\xf1ora?|sig|signora|mme|mlle"
        r"|uncle|aunt|pastor|sgt|capt|col|lt|rev)\b\.?[ \t]+(" + _NAME + r")",
        0.85,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "after a form of address, in small letters",
        r"\b(?i:mr|mrs|ms|dr|prof)\.?[ \t]+([a-z\xDF-\xFF]{2,20}(?:[ \t][a-z\xDF-\xFF]{2,20})?)\b",
        0.45,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "said to be a name",
        r"(?i:\bmy name(?: is|'s|:)|\bname is|\bnamed|\bI'm called|\bthis is(?: my (?:friend|"
        r"son|wife|husband|boss|daughter|colleague))?|\bcall me"
        r"|\bsigned,?|\bmy (?:son|daughter|wife|husband|boss|friend|brother|sister|mother|"
        r"father|doctor|colleague|manager|landlord|teacher|boyfriend|girlfriend|fianc\xe9e?"
        r"|uncle|aunt|partner|client|neighbou?r)(?: is|,| named)?)[ \t]+(" + _NAME + r")",
        0.75,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "said to be a name, in small letters",
        r"(?i)\bmy name(?: is|'s)[ \t]+(" + _LOW + r"(?:[ \t]" + _LOW + r")?)" + _LINE,
        0.75,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "in a field for names",
        r"(?im)^[ \t>*-]*(?:full |first |last |sur|given |family |middle |maiden )?(?:name|"
        r"patient|customer|client|employee|applicant|author|attn|attention|contact"
        r"|from|to|cc|signature|physician|doctor|tenant|student|teacher|manager|user|recipient|"
        r"sender)[ \t]*[:=][ \t]*(" + _NAME + r")",
        0.7,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "greeted",
        r"(?m)(?:^|[\n.!?][ \t]*)(?:Dear|Hi|Hello|Hey|Hallo|Liebe[rs]?|Cher|Ch\xe8re|Hola|Ciao|"
        r"Bonjour|Good (?:morning|evening|afternoon))[ \t,]+(" + _NAME + r")"
        r"[ \t]*(?:$|[,\n!.:])",
        0.7,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "signed",
        r"(?im)\b(?:regards|sincerely|cheers|best wishes|thanks|thank you|yours truly|yours "
        r"faithfully|love|gr\xfc\xdfe|cordially|respectfully)[,!.]?[ \t]*\n\s{0,6}(?-i:(" + _NAME + r"))",
        0.75,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "born with the name",
        r"(?i)\b(?:maiden name|mother's name|father's name|surname|last name|first name|"
        r"nickname)(?:[ \t]+(?:is|was|:)|:)[ \t]+(" + _LOW + r")",
        0.75,
        group=1,
    ),
    Pattern(
        Entity.PERSON,
        "initials and surname",
        r"\b(?:[A-Z]\.[ \t]?){1,3}[A-Z\xC0-\xDE][a-z\xDF-\xFF'-]{2,}(?:-[A-Z][a-z]+)?\b",
        0.6,
    ),
    Pattern(
        Entity.ORGANIZATION,
        "with a company's suffix",
        r"\b(?:[A-Z\xC0-\xDE0-9][\w\xC0-\xFF&'.-]*[ \t,]{1,2}(?:(?:of|and|&|for|the|de|und|et)[ "
        r"\t])?){1,5}" + _COMPANY + r"\b\.?",
        0.7,
    ),
    Pattern(
        Entity.ORGANIZATION,
        "university of a place",
        r"\b(?:University|College|Institute|School|Bank|Ministry|Department|Bishop|Council|"
        r"Church|Republic|City|State) of (?:the )?" + _NAME,
        0.7,
    ),
    Pattern(
        Entity.ORGANIZATION,
        "where somebody works",
        r"\b(?:(?:work|works|worked|working|employed|job|interview|internship|position|intern)[ "
        r"\t](?:at|for|with)|employer(?: is|:)|company(?: is|:| called| named))[ \t]+(" + _NAME + r")",
        0.65,
        group=1,
    ),
    Pattern(
        Entity.LOCATION,
        "where somebody lives",
        r"\b(?:live|lives|lived|living|born|raised|grew up|based|located|moved|moving|flew|"
        r"travell?ed|travell?ing|trip|flight|flying|relocat(?:ed|ing)|resid(?:e|es|ing)|located)"
        r"[ \t](?:in|to|from|near)[ \t](?:the[ \t])?(" + _NAME + r")",
        0.6,
        group=1,
    ),
)


@functools.cache
def cues() -> PatternDetector:
    """Return the rules about what stands around a name."""
    return PatternDetector("cues", _CUES)


@dataclass(frozen=True, slots=True)
class ListDetector:
    """Find the listed countries, nationalities and first names; behind a first name, what looks like a surname."""

    name: str = "lists"

    def find(self, view: View) -> Iterator[Span]:
        """Yield what stands on a list. A single first name counts little: many are words as well."""
        text, places = view.text, view.words
        words = [text[a:b] for a, b in places]
        given, family, groups, lands = _lists()
        taken = -1
        for i, word in enumerate(words):
            if i <= taken or not word[0].isalpha():
                continue
            low = view.folded[i]
            if low in groups and (word[0].isupper() or low in _ALWAYS):
                yield Span(*places[i], Entity.GROUP, 0.6, "list of nationalities")
            for n in lands.get(low, ()):
                if tuple(view.folded[i : i + len(n)]) == n and word[0].isupper():
                    yield Span(places[i][0], places[i + len(n) - 1][1], Entity.LOCATION, 0.75, "list of countries")
                    taken = i + len(n) - 1
            if not word[0].isupper() or (word.isupper() and len(word) < 4):
                continue
            if low in given:
                end = _behind(words, i)
                known = end > i and view.folded[end] in family
                score = 0.9 if known else 0.65 if end > i else 0.45 if low not in _WORDS else 0.2
                yield Span(places[i][0], places[end][1], Entity.PERSON, score, "list of first names")
                taken = end


def _behind(words: list[str], i: int) -> int:
    """Return the number of the last word that goes with the first name at `i`."""
    end = i
    while end + 1 < len(words) and end - i < 3 and words[end + 1][0].isupper() and words[end + 1][0].isalpha():
        end += 1
    return end


@functools.cache
def _lists() -> tuple[frozenset[str], frozenset[str], frozenset[str], dict[str, list[tuple[str, ...]]]]:
    lands: dict[str, list[tuple[str, ...]]] = {}
    for country in countries():
        parts = tuple(folded(p) for p in country.split())
        lands.setdefault(parts[0], []).append(parts)
    for found in lands.values():
        found.sort(key=len, reverse=True)
    return (
        frozenset(map(folded, given_names())),
        frozenset(map(folded, surnames())),
        frozenset(map(folded, nationalities())),
        lands,
    )


_ALWAYS = frozenset(
    n for n in map(str.lower, nationalities()) if n not in {"polish", "thai", "swiss", "orthodox", "poles"}
)
_WORDS = frozenset(
    """
    april august june may grace hope faith joy rose ivy daisy lily violet pearl amber jade crystal ruby dawn
    eve summer autumn mark will bill bob art frank grant drew jack john chase max rich rob pat sue gene guy
    ray dean earl duke king prince christian angel jesus virginia georgia charlotte florence paris austin
    jordan chad israel carolina victoria adelaide alexandria madison preston per jin min ming kim lee long an
    al jean penny melody harmony destiny star sky rain river brook lane cliff glen dale heath forest hunter
    mason carter taylor baker cook page sage rosemary basil olive cherry candy sandy misty windy stormy sunny
    happy lucky rusty dusty scott blake reed heath wade lance pierce drake carol harry barry kay bart ben luna
    aurora roman august kent kai cora ada
""".split()
)
