"""Read the short word lists that ship with the redactor: first names, surnames, countries, plain words."""

import functools
from pathlib import Path

_FOLDER = Path(__file__).parent / "words"


@functools.cache
def given_names() -> tuple[str, ...]:
    """Return common first names, of many countries."""
    return tuple(_read("given").split())


@functools.cache
def surnames() -> tuple[str, ...]:
    """Return common surnames, of many countries."""
    return tuple(_read("surnames").split())


@functools.cache
def countries() -> tuple[str, ...]:
    """Return the countries' usual English names."""
    return tuple(_read("countries").splitlines())


@functools.cache
def nationalities() -> tuple[str, ...]:
    """Return what people of a country, a faith or an origin are called in English."""
    return tuple(_read("nationalities").split())


@functools.cache
def plain_words() -> frozenset[str]:
    """Return English words that are hardly ever part of a name; `simulations/redaction/plain.py` makes the list."""
    return frozenset(_read("plain").split())


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.txt").read_text(encoding="utf-8")
