"""Ask another recogniser beside our own: Presidio, spaCy, transformers or GLiNER, where the user names it and has it.

A fixed table of names; none of them is imported, or downloads anything, unless it is asked for by name. spaCy,
transformers and GLiNER need a model that is on this machine already.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from privacy.config import ConfigError
from privacy.redaction.spans import Detector, Entity, Span
from privacy.redaction.view import View

_KINDS: Mapping[str, Entity] = {
    "PER": Entity.PERSON,
    "PERSON": Entity.PERSON,
    "ORG": Entity.ORGANIZATION,
    "ORGANIZATION": Entity.ORGANIZATION,
    "LOC": Entity.LOCATION,
    "LOCATION": Entity.LOCATION,
    "GPE": Entity.LOCATION,
    "FAC": Entity.LOCATION,
    "NORP": Entity.GROUP,
    "NRP": Entity.GROUP,
    "MISC": Entity.MISC,
    "WORK_OF_ART": Entity.MISC,
    "EVENT": Entity.MISC,
    "PRODUCT": Entity.MISC,
    "EMAIL_ADDRESS": Entity.EMAIL,
    "EMAIL": Entity.EMAIL,
    "PHONE_NUMBER": Entity.PHONE,
    "CREDIT_CARD": Entity.CARD,
    "IBAN_CODE": Entity.IBAN,
    "US_SSN": Entity.SSN,
    "IP_ADDRESS": Entity.IP,
    "MAC_ADDRESS": Entity.MAC,
    "URL": Entity.URL,
    "DATE_TIME": Entity.DATE,
    "DATE": Entity.DATE,
    "CRYPTO": Entity.WALLET,
    "US_PASSPORT": Entity.PASSPORT,
    "ADDRESS": Entity.ADDRESS,
    "US_DRIVER_LICENSE": Entity.LICENCE,
    "US_BANK_NUMBER": Entity.ACCOUNT,
    "MEDICAL_LICENSE": Entity.RECORD,
    "AGE": Entity.AGE,
}
Finder = Callable[[str], Iterator[tuple[int, int, str, float]]]


@dataclass(frozen=True, slots=True)
class Plug:
    """Be a detector that asks another library."""

    name: str
    finder: Finder

    def find(self, view: View) -> Iterator[Span]:
        """Yield what the library finds, of the kinds that have a name here; the rest as CUSTOM."""
        for start, end, kind, score in self.finder(view.text):
            if 0 <= start < end <= len(view.text):
                yield Span(start, end, _KINDS.get(kind.upper(), Entity.CUSTOM), min(1.0, max(0.0, score)), self.name)


def plugged(names: Sequence[str], model: str | None) -> tuple[Detector, ...]:
    """Return the detectors of these names. Raises: ConfigError for one that is not installed, or has no model."""
    found: list[Detector] = []
    for name in names:
        try:
            found.append(Plug(name, _PLUGS[name](model)))
        except ImportError:
            raise ConfigError("--plug", name, "is not installed") from None
        except OSError as missing:  # what the libraries raise where a model is not on this machine
            raise ConfigError("--plug", name, f"its model cannot be loaded ({type(missing).__name__})") from None
    return tuple(found)


def _presidio(_model: str | None) -> Finder:
    from client.presidio import finder

    return finder()


def _spacy(model: str | None) -> Finder:
    import spacy

    nlp = spacy.load(_named(model, "spacy"))

    def find(text: str) -> Iterator[tuple[int, int, str, float]]:
        for entity in nlp(text).ents:
            yield entity.start_char, entity.end_char, entity.label_, 0.85

    return find


def _transformers(model: str | None) -> Finder:
    from transformers import pipeline

    run = pipeline("token-classification", model=_named(model, "transformers"), aggregation_strategy="simple")

    def find(text: str) -> Iterator[tuple[int, int, str, float]]:
        for found in run(text):
            yield int(found["start"]), int(found["end"]), str(found["entity_group"]), float(found["score"])

    return find


def _gliner(model: str | None) -> Finder:
    from gliner import GLiNER

    made = GLiNER.from_pretrained(_named(model, "gliner"), local_files_only=True)
    labels = ["person", "organization", "location", "email", "phone_number", "address", "date"]

    def find(text: str) -> Iterator[tuple[int, int, str, float]]:
        for found in made.predict_entities(text, labels):
            yield int(found["start"]), int(found["end"]), str(found["label"]), float(found["score"])

    return find


def _named(model: str | None, plug: str) -> str:
    if not model:
        raise ConfigError("--model", plug, "expected the model's folder, or a name that it knows on this machine")
    return model


_PLUGS: Mapping[str, Callable[[str | None], Finder]] = {
    "presidio": _presidio,
    "spacy": _spacy,
    "transformers": _transformers,
    "gliner": _gliner,
}
