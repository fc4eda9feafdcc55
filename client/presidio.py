"""Ask Presidio's pattern recognisers, without a model: an empty spaCy pipeline with words for lemmas.

Imported only where the user names the plug: Presidio is no dependency of ours.
"""

from collections.abc import Callable, Iterator
from typing import Any

import spacy
import tldextract.tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine


class Words(NlpEngine):  # type: ignore[misc]
    """Give Presidio words for lemmas: without any, its context words count for nothing."""

    def __init__(self) -> None:
        self.nlp: Any = spacy.blank("en")
        self.nlp.max_length = 64 * 2**20

    def load(self) -> None:
        """Be ready."""

    def is_loaded(self) -> bool:
        """Return true."""
        return True

    def process_text(self, text: str, language: str) -> Any:
        """Return the tokens."""
        doc = self.nlp(text)
        lemmas = [t.text.lower() for t in doc]
        return NlpArtifacts([], doc, [t.idx for t in doc], lemmas, self, language)

    def process_batch(self, texts: Any, language: str, **_options: Any) -> Iterator[tuple[str, Any]]:
        """Yield each text with its tokens."""
        yield from ((text, self.process_text(text, language)) for text in texts)

    def is_stopword(self, word: str, _language: str) -> bool:
        """Say whether a word is a common one."""
        return bool(self.nlp.vocab[word].is_stop)

    def is_punct(self, word: str, _language: str) -> bool:
        """Say whether a word is a sign."""
        return bool(self.nlp.vocab[word].is_punct)

    def get_supported_entities(self) -> list[str]:
        """Return no kinds: there is no recogniser of names in it."""
        return []

    def get_supported_languages(self) -> list[str]:
        """Return English."""
        return ["en"]


def finder() -> Callable[[str], Iterator[tuple[int, int, str, float]]]:
    """Return what yields (start, end, kind, score) of all that Presidio finds in an English text."""
    # Presidio asks tldextract for hosts, which would fetch its list from the network: the copy that it ships will do.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    engine = AnalyzerEngine(nlp_engine=Words(), supported_languages=["en"])

    def find(text: str) -> Iterator[tuple[int, int, str, float]]:
        for result in engine.analyze(text, language="en"):
            yield result.start, result.end, result.entity_type, result.score

    return find
