"""Make HTML whose texts are escaped by construction: only what `tag` made is taken as it is."""

import html
import re
from dataclasses import dataclass

_NAME = re.compile(r"[a-z][A-Za-z0-9-]*")
_EMPTY = frozenset({"meta", "rect", "br"})


@dataclass(frozen=True, slots=True)
class Html:
    """Hold HTML that `tag` made."""

    text: str


def tag(name: str, /, *children: "str | Html", **attributes: str) -> Html:
    """Return an element; a child that is a string is text.

    A trailing _ of an attribute's name is dropped, any other becomes -; an attribute without a value is left out.
    """
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value}
    if not all(_NAME.fullmatch(part) for part in (name, *named)):
        raise ValueError("a name of an element or an attribute is a word of ours")
    inside = "".join(f' {key}="{html.escape(value)}"' for key, value in named.items())
    if name in _EMPTY:
        return Html(f"<{name}{inside}>" if name != "rect" else f"<{name}{inside}/>")
    body = "".join(c.text if isinstance(c, Html) else html.escape(c) for c in children)
    return Html(f"<{name}{inside}>{body}</{name}>")


def style(sheet: str) -> Html:
    """Return a style sheet of ours. Raises: ValueError for one that would end early."""
    if "<" in sheet:
        raise ValueError("a style sheet has no <")
    return Html(f"<style>{sheet}</style>")
