"""Describe addresses of the net: e-mail, URLs, hosts, IP and MAC addresses, handles; not code that looks like them.

A bare `a.b` is a host only if its ending is a public suffix of the selection below, and if it does not look like
code. Endings that are also words, files or attributes (`.py`, `.is`, `.sh`) need `www.`, or a path, or a word such
as "site" before them.
"""

import ipaddress

from privacy.redaction.patterns import Pattern
from privacy.redaction.spans import Entity
from privacy.redaction.wordlists import plain_words

_SAFE = """
    com org net edu gov mil int biz coop museum aero jobs mobi tel travel asia de fr uk nl ch it es pt se fi
    dk cz hu ro bg gr ie jp cn kr tw hk sg nz za br mx ar cl pe ve ru ua tr il ae ir eu ca us co.uk org.uk
    ac.uk gov.uk com.au net.au org.au edu.au co.nz co.za com.br com.mx com.ar com.tr co.jp co.kr com.cn co.in
    co.il com.sg com.hk com.pl edu.pl online website xyz tech store blog cloud agency company email global
    digital
""".split()
_MORE = """
    ac ad af ag ai al am ao at az ba bb bd be bh bi bj bm bn bo bs bt bw by bz cc cd cf cg ci ck cm co cr cu
    cv cw cx cy dj dm do dz ec ee eg et fj fk fm fo ga gd ge gg gh gi gl gm gn gp gt gy hn hr ht id im in io
    iq is je jm jo ke kg kh ki km kp kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mk ml mm mn mo
    mp mr ms mt mu mv mw my mz na nc ne nf ng ni no np nr nu om pa pf pg ph pk pl pm pr ps pw py qa re rs rw
    sa sb sc sd sh si sk sl sm sn so sr st sv sy sz tc td tg th tj tk tl tm tn to tt tv tz ug uy uz va vc vg
    vi vn vu wf ws ye yt zm zw app dev info name pro shop site live life world news media design club
""".split()
_FILES = """
    py sh rs md ps pl so cc ai me is in it id at be do my no am as to name info app so st java zip int email
    store global digital
    company cloud tech travel jobs coop agency blog online website
""".split()
_SUFFIX = "|".join(sorted({*_SAFE} - {*_FILES}, key=lambda s: -len(s)))
_ANY = "|".join(sorted({*_SAFE, *_MORE}, key=lambda s: -len(s)))
_HOST = r"(?:[A-Za-z0-9\xC0-\xFF](?:[A-Za-z0-9\xC0-\xFF-]{0,61}[A-Za-z0-9\xC0-\xFF])?\.)"
_PATH = r"(?::\d{1,5})?(?:[/?#][^\s<>\"'`{}|\\^\[\]]*)?"
_DOT = r"\s{0,2}(?:\.|\(dot\)|\[dot\]|\{dot\}|<dot>|\sdot\s)\s{0,2}"


def _url(text: str) -> int:
    """Leave the full stop after an address, and a bracket that was opened before it."""
    end = len(text)
    while end and (text[end - 1] in ".,;:!?'\"*" or (text[end - 1] == ")" and "(" not in text[:end])):
        end -= 1
    return end


def _host(text: str) -> int:
    """Refuse what is written like code: capitals inside a word, underscores, a call, an attribute of `self`."""
    end = _url(text)
    host = text[:end].split("/", maxsplit=1)[0].split(":", maxsplit=1)[0]
    labels = host.split(".")
    first = labels[0].lower()
    if first in _CODE_OWNERS or labels[-1] != labels[-1].lower():
        return 0
    return (
        end if all(part == part.lower() or part[1:] == part[1:].lower() for part in labels) or first == "www" else 0
    )


_CODE_OWNERS = frozenset(
    """
    self this cls os sys np pd tf plt torch math time date datetime json re df data obj object res req request
    response result console window document event user item node row list array string str int float args
    kwargs app module exports props state config settings options params model file path java javax org.junit
    system import package e i j k x y z s
""".split()
)


def _v4(text: str) -> int:
    return len(text) if all(int(part) < 256 for part in text.split(".")) else 0


def _v6(text: str) -> int:
    """Take an IPv6 address; `::` alone, and a time such as 10:20, are none."""
    plain = text.rstrip(":") if not text.endswith("::") else text
    if plain.count(":") < 2 or not any(c.isalnum() for c in plain):
        return 0
    try:
        ipaddress.IPv6Address(plain)
    except ValueError:
        return 0
    return len(plain) if plain.count(":") >= 3 or ("::" in plain and len(plain) > 4) else 0


CONTACTS = (
    Pattern(
        Entity.EMAIL,
        "e-mail address",
        r"[A-Za-z0-9\xC0-\xFF_!#$%&'*+/=?^{|}~-](?:[A-Za-z0-9\xC0-\xFF._!#$%&'*+/=?^{|}~-]{0,63})"
        r"\s{0,2}@\s{0,2}(?:[A-Za-z0-9\xC0-\xFF](?:[A-Za-z0-9\xC0-\xFF-]{0,62})\.)"
        r"+[A-Za-z\xC0-\xFF][A-Za-z0-9\xC0-\xFF-]{1,23}",
        1.0,
        across=True,
        measure=lambda text: len(text) if " " not in text.strip() or "@ " not in text else 0,
    ),
    Pattern(
        Entity.EMAIL,
        "e-mail address with its host's number",
        r"[A-Za-z0-9._%+-]{1,64}@\[?\d{1,3}(?:\.\d{1,3}){3}\]?",
        0.95,
    ),
    Pattern(
        Entity.EMAIL,
        "e-mail address in disguise",
        r"(?i)\b[A-Z0-9._%+-]{1,64}\s{0,2}(?:(?:\(at\)|\[at\]|\{at\}|<at>)\s{0,2}[A-Z0-9-]{1,63}(?:"
        + _DOT
        + r"[A-Z0-9-]{1,63}){0,3}(?:\.|"
        + _DOT
        + r")|\sat\s[A-Z0-9-]{1,63}\s{1,2}dot\s{1,2})"
        r"(?:com|org|net|edu|gov|de|fr|uk|co|io|us|ca|eu|info)\b",
        0.9,
    ),
    Pattern(
        Entity.URL,
        "URL",
        r"(?i)\b(?:https?|ftps?|sftp|ssh|wss?|file|git|s3|gs)://[^\s<>\"'`{}|\\^]+",
        1.0,
        measure=_url,
    ),
    Pattern(
        Entity.URL,
        "URL with www",
        r"(?i)\bwww\d?\." + _HOST + r"+(?:" + _ANY + r"|[a-z]{2,12})\b" + _PATH,
        1.0,
        measure=_url,
    ),
    Pattern(
        Entity.URL,
        "host",
        r"\b" + _HOST + r"{1,5}(?:" + _SUFFIX + r")\b" + _PATH,
        0.8,
        measure=_host,
        apart="@(=_-\\$.\x27[/",
    ),
    Pattern(
        Entity.URL,
        "host with a path",
        r"\b" + _HOST + r"{1,5}(?:" + _ANY + r")/[\w\xC0-\xFF./?=&%#~+:@-]+",
        0.7,
        ("visit", "site", "page", "link", "url", "see", "at ", "http", "web", "domain"),
        measure=_host,
        apart="@(=_-\\$.\x27[/",
    ),
    Pattern(
        Entity.URL,
        "host that is said to be one",
        r"(?i)\b(?:web\s?site|site|domain|web\s?page|url|homepage|host)\s*(?:is|:|at)?\s*("
        + _HOST
        + r"{1,5}(?:"
        + _ANY
        + r"))\b",
        0.8,
        group=1,
        measure=_host,
    ),
    Pattern(
        Entity.IP,
        "IPv4 address",
        r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
        0.95,
        measure=_v4,
        apart=".",
        across=True,
    ),
    Pattern(
        Entity.IP,
        "IPv6 address",
        r"(?i)(?:[0-9A-F]{1,4}:|::)(?:[0-9A-F]{0,4}:){1,7}[0-9A-F]{0,4}",
        0.95,
        measure=_v6,
        apart=":.%ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ_",
    ),
    Pattern(
        Entity.MAC,
        "MAC address",
        r"(?i)\b[0-9A-F]{2}(?::[0-9A-F]{2}){5}\b|\b[0-9A-F]{2}(?:-[0-9A-F]{2}){5}\b",
        0.95,
        apart=":-",
    ),
    Pattern(
        Entity.HANDLE,
        "handle",
        r"(?:^|[\s(,:])(@[A-Za-z_][A-Za-z0-9_]{2,30})\b",
        0.5,
        ("twitter", "instagram", "telegram", "follow", "handle", "github", "tiktok", "username", " dm ", "rt "),
        group=1,
    ),
    Pattern(
        Entity.HANDLE,
        "user's name",
        r"(?i)\b(?:(?:user\s?name|user\s?id|login|skype|telegram|discord|screen name"
        r"|(?:my|your|his|her|their|our|s)\s+handle)\s*(?:is|:|=)|handle\s*[:=])"
        r"\s*[\"']?@?([A-Za-z0-9][\w.#-]{2,40})",
        0.7,
        group=1,
    ),
    Pattern(
        Entity.HANDLE,
        "user's name, or a thing's handle",
        r"(?i)\bhandle\s+is\s*[\"']?@?([A-Za-z0-9][\w.#-]{2,40})",
        0.7,
        measure=lambda name: 0 if name.rstrip(".") in plain_words() else len(name),
        group=1,
    ),
)
