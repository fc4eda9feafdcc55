"""Describe street addresses and postcodes, of Europe and America, and what people are called before their names."""

from privacy.redaction.patterns import Pattern
from privacy.redaction.spans import Entity

_CAP = r"[A-Z\xC0-\xDE][\w\xC0-\xFF'.-]*"
_SPACE = r"[ \t]{1,2}"
_WORDS = r"(?:" + _CAP + _SPACE + r"){0,4}"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Av|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Courts|"
    r"Place|Pl|Square|Sq|Terrace|Ter|Way|Close"
    r"|Crescent|Cres|Gardens|Gdns|Grove|Hill|Mews|Parade|Parkway|Pkwy|Plaza|Quay|Row|Walk|"
    r"Highway|Hwy|Circle|Cir|Trail|Trl|Alley"
    r"|Turnpike|Pike|Loop|Path|Pass|Extension|Extensions|Fort|Gateway|Mall|Parks?|Union|"
    r"Club|Rue|Str|utca|u|\xfat|t\xe9r)"
)
_FLAT = (
    r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Rm|Floor|Fl|Bldg|Building|Office|apt|"
    r"suite|unit|flat|room)\.?" + _SPACE + r"#?\d{1,5}[A-Za-z]?)"
)
_TOWN = (
    r"(?:[ \t]*[,\n>]{1,3}[ \t>]*(?:[A-Z\xC0-\xDE][\w\xC0-\xFF'.-]*[ \t,]{0,2}\n?[ \t>,]"
    r"{0,4}){1,5}(?:\d{3,6}(?:-\d{3,4})?\b)?)?"
)
_MORE = r"(?:[ \t,\n>]{1,4}" + _FLAT + r"){0,2}"
_JOB = (
    r"(?:manager|engineer|technician|operator|clerk|driver|librarian|administrator|"
    r"consultant|specialist|director|nurse|accountant"
    r"|scientist|installer|cleaner|controller|attendant|assistant|officer|analyst|developer|"
    r"designer|teacher|professor|lawyer|attorney"
    r"|surgeon|physician|dentist|pharmacist|therapist|plumber|electrician|carpenter|"
    r"mechanic|cook|chef|waiter|waitress|baker|butcher"
    r"|farmer|fisherman|soldier|singer|actor|actress|writer|editor|journalist|photographer|"
    r"cinematographer|producer|distributor"
    r"|packager|fumigator|midwife|echocardiographer|secretary|receptionist|salesperson|"
    r"salesman|cashier|architect|artist|musician"
    r"|translator|interpreter|supervisor|inspector|instructor|trainer|coach|pilot|sailor|"
    r"captain|firefighter|policeman|detective|guard"
    r"|judge|economist|statistician|biologist|chemist|physicist|psychologist|sociologist|"
    r"researcher|programmer|tester|worker|maker"
    r"|cutter|painter|welder|setter|builder|packer|dispatcher|coordinator|planner|buyer|"
    r"agent|broker|trader|auditor|banker|barber"
    r"|hairdresser|tailor|jeweler|gardener|janitor|housekeeper|caretaker|nanny|tutor|"
    r"counselor|advisor|representative|executive)s?"
)
STREETS = (
    Pattern(
        Entity.ADDRESS,
        "street with its kind",
        r"\b\d{1,5}[A-Za-z]?,?"
        + _SPACE
        + r"(?:\d{1,5}"
        + _SPACE
        + r")?(?:[NSEW]\.?"
        + _SPACE
        + r")?(?:(?:"
        + _CAP
        + r"|\d{1,3}(?:st|nd|rd|th)|de|du|la|of|the)"
        + _SPACE
        + r"){1,5}"
        + _STREET
        + r"\b\.?"
        + _MORE
        + _TOWN,
        0.85,
    ),
    Pattern(
        Entity.ADDRESS,
        "street in small letters",
        r"(?i)\b\d{1,5}" + _SPACE + r"(?:[a-z\xC0-\xFF'.]+" + _SPACE + r"){1,3}(?:street|road|avenue|ave"
        r"|boulevard|blvd|lane|drive|terrace|crescent|highway|parkway)\b\.?" + _MORE,
        0.8,
    ),
    Pattern(
        Entity.ADDRESS,
        "street, its kind first",
        r"\b(?:\d{1,5},?" + _SPACE + r"){0,2}(?:(?i:rue|avenue|boulevard|chemin|place|via|viale|piazza|corso|vicolo"
        r"|calle|avenida|carrera|paseo|plaza|rua|travessa|pra\xe7a|ulica|ul\.|al\.|os\.|rruga|"
        r"bulevar|strada|str\.))"
        + _SPACE
        + r"(?:(?:de|del|della|la|le|les|du|des|do|da|dos|das|di|el|al|Al|"
        + _CAP
        + r")"
        + _SPACE
        + r"){0,4}"
        + _CAP
        + r"(?:,?"
        + _SPACE
        + r"(?:n\.?|no\.?)?"
        + r"\d{1,5}[a-zA-Z]?\b)?"
        + _MORE
        + _TOWN,
        0.7,
    ),
    Pattern(
        Entity.ADDRESS,
        "street and number",
        r"\b(?:\d{3,6}"
        + _SPACE
        + r")?"
        + _WORDS
        + r"[A-Z\xC0-\xDE][\w\xC0-\xFF-]*(?:stra(?:\xdf|ss)e|strasse|str\.|gasse|weg"
        r"|platz|allee|damm|ufer|ring|gatan|gata|gate|gaten|v\xe4gen|veien|vegen|vegur|vej|gade|"
        r"katu|tie|kuja|polku|straat|laan|plein|gracht"
        r"|dijk|kade|utca|\xfatja|k\xf6rut)" + _SPACE + r"\d{1,4}[a-zA-Z]?\b" + _MORE + _TOWN,
        0.8,
    ),
    Pattern(
        Entity.ADDRESS,
        "number, street, number",
        r"\b\d{3,6}"
        + _SPACE
        + _WORDS
        + _CAP
        + r"(?:"
        + _SPACE
        + r"(?:u|utca|\xfat|t\xe9r)\.?)?"
        + _SPACE
        + r"\d{1,4}\b\.?"
        + _MORE
        + _TOWN,
        0.6,
    ),
    Pattern(
        Entity.ADDRESS,
        "street and number",
        _WORDS + _CAP + _SPACE + r"(?:u|utca|\xfat|\xfatja|t\xe9r|k\xf6z)\.?" + _SPACE + r"\d{1,4}\b\.?" + _TOWN,
        0.7,
    ),
    Pattern(
        Entity.ADDRESS,
        "street and number, where an address is spoken of",
        r"(?:(?i:address|lives? (?:at|on|in)|located at|live at|side of|corner of"
        r"|(?:office|station|store|shop|house) is (?:at|on)|meet (?:me |you )?at|deliver to|"
        r"send (?:it )?to|moved to)):?\s{1,3}(?:the )?("
        + r"(?:\d{1,6}"
        + _SPACE
        + r")?"
        + _WORDS
        + _CAP
        + _SPACE
        + r"\d{1,4}\b\.?"
        + _MORE
        + _TOWN
        + r")",
        0.75,
        group=1,
    ),
    Pattern(
        Entity.ADDRESS,
        "box",
        r"(?i)\b(?:p\.?\s?o\.?\s?box|postbox|post office box|postfach|bo\xeete postale|apartado)"
        r"\s{0,2}\d{1,6}\b" + _MORE,
        0.9,
    ),
    Pattern(
        Entity.ADDRESS,
        "military address",
        r"(?i)\b(?:psc|unit|cmr)\s\d{1,5},?\s{1,2}box\s\d{1,5}\s{1,3}(?:apo|fpo|dpo)\s[a-z]"
        r"{2}\s\d{5}\b",
        0.95,
    ),
    Pattern(
        Entity.ADDRESS,
        "corner",
        r"\bcorner of (?:\d{1,4} )?"
        + _WORDS
        + r"[\w\xC0-\xFF.]+(?: \d{1,4}\.?)? and (?:\d{1,4} )?"
        + _WORDS
        + r"[\w\xC0-\xFF.]+(?: (?:Street|St|Road|Courts?|Pass|Park)\b\.?)?",
        0.7,
    ),
    Pattern(Entity.ADDRESS, "flat", r"\b" + _FLAT + r"\b", 0.6),
    Pattern(Entity.POSTCODE, "British postcode", r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}\b", 0.8),
    Pattern(Entity.POSTCODE, "Canadian postcode", r"(?i)\b[ABCEGHJ-NPRSTVXY]\d[A-Z][ -]?\d[A-Z]\d\b", 0.85),
    Pattern(
        Entity.POSTCODE,
        "state and ZIP code",
        r"\b(?:A[AEKLPRZ]|C[AOT]|D[CE]|FL|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|"
        r"O[HKR]|P[AR]|RI|S[CD]"
        r"|T[NX]|UT|V[AIT]|W[AIVY]),?\s{1,3}(\d{4,5}(?:-\d{3,4})?)\b",
        0.7,
        group=1,
    ),
    Pattern(Entity.POSTCODE, "ZIP code with four more", r"\b\d{5}-\d{4}\b", 0.7, apart="-0123456789"),
    Pattern(
        Entity.POSTCODE,
        "postcode that is said to be one",
        r"(?i)\b(?:zip(?:\s?code)?|post(?:al)?\s?code|plz|pin\s?code|cap|cep|code postal)"
        r"\s*(?:is|:|=)?\s*"
        r"([A-Z]{0,2}[ -]?\d[A-Z0-9]{2,5}(?:[ -]\d?[A-Z0-9]{2,3})?)\b",
        0.9,
        group=1,
    ),
    Pattern(
        Entity.POSTCODE,
        "postcode before a town",
        r"\b(?:[A-Z]{1,2}-)?\d{4,5}(?: [A-Z]{2})?" + _SPACE + r"[A-Z\xC0-\xDE][a-z\xDF-\xFF]{2,}",
        0.6,
        ("address", "street", "str.", "stra", "city", "straat", "lives", "post", "weg ", "apt", "via ", "rue "),
        apart="0123456789.,",
    ),
    Pattern(
        Entity.POSTCODE,
        "postcode after a town",
        r"\b[A-Z\xC0-\xDE][\w\xC0-\xFF'-]+,?[ \t]{1,2}(?:[A-Z]{2}[ \t])?(\d{3,5}(?:[- ]\d{2,3})"
        r"?(?: [A-Z]{2})?)[ \t]*(?:$|[\n?,.])",
        0.5,
        group=1,
    ),
    Pattern(
        Entity.POSTCODE,
        "postcode after a town",
        r"\b(?:in|to|from|at|near) [A-Z\xC0-\xDE][\w\xC0-\xFF'-]+(?: [A-Z\xC0-\xDEa-z]"
        r"[\w\xC0-\xFF'-]*){0,4} (\d{3,5}(?:[- ]\d{2,3})?(?: [A-Z]{2})?) [a-z]",
        0.5,
        group=1,
    ),
    Pattern(
        Entity.POSTCODE,
        "postcode at the end of an address",
        r"\d[^\n]{0,40}\n[ \t>]*(?:[\w\xC0-\xFF'.-]+[ ,\t]{1,3}){1,4}(\d{3,5}(?:[ -]\d{2,4})"
        r"?(?: [A-Z]{2})?)[ \t]*(?:\n|$)",
        0.5,
        group=1,
    ),
    Pattern(
        Entity.POSTCODE,
        "digits alone on a line below a town",
        r"\n[ \t>]*(?:[\w\xC0-\xFF'-]+[ \t]*){1,3}\n[ \t>]*(\d{3,6}(?:-\d{2,4})?|\d{2}-\d{3})[ "
        r"\t]*(?:\n|$)",
        0.6,
        group=1,
    ),
    Pattern(
        Entity.TITLE,
        "form of address",
        r"(?i)\b((?:mr|mrs|ms|mx|dr|prof|messrs|mme|mlle)(?:\.|\b))(?:\s|$)",
        0.5,
        group=1,
    ),
    Pattern(
        Entity.TITLE,
        "form of address",
        r"\b((?:Miss|Mister|Madam|Professor|Doctor|Sir|Dame|Lord|Lady|Rabbi|Imam|Reverend|"
        r"Rev\.?|Herr|Frau|Monsieur|Madame"
        r"|Mademoiselle|Se\xf1ora?|Signora?|Don|Do\xf1a|Captain|Sergeant|Colonel|General|"
        r"Lieutenant|Senator|President|Chancellor|Judge|Justice|Pastor"
        r"|Father|Sister|Brother|Uncle|Aunt))[ \t][A-Z\xC0-\xDE]",
        0.5,
        group=1,
    ),
    Pattern(
        Entity.TITLE,
        "work of a person",
        r"(?i)(?:\b(?:as an?|as|i am an?|i'm an?|(?:he|she) is an?|works? as an?|worked as an?|"
        r"job as an?|the|occupation:|job:|title:"
        r"|position:|profession:)[ \t])((?:[A-Za-z,'-]+[ \t]){0,5}" + _JOB + r")\b",
        0.45,
        ("name", "work", "job", "used to", "i am", "i'm", "said", "hire", "group", " was ", "retired"),
        group=1,
    ),
    Pattern(
        Entity.TITLE,
        "work of a person, alone on a line",
        r"(?i)(?:^|\n)[ \t]*((?:[A-Za-z,'-]+[ \t]){0,5}" + _JOB + r")[ \t]*(?:\n|$)",
        0.45,
        group=1,
    ),
    Pattern(
        Entity.TITLE,
        "work of a person, behind the name",
        r"(?i), (?:the |an? )?((?:[A-Za-z'-]+ ){0,4}" + _JOB + r"),",
        0.45,
        group=1,
    ),
)
