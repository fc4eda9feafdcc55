"""Make the experts of one home from what its `home.toml` says under [expert]; nothing is loaded before it is needed.

Memory: adapters share the base model, which is loaded already, and take their own vectors beside it; a `model` of
one's own and its `untuned` start are loaded whole beside it, at the first letter that needs them, and stay.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from client.experts.byte_expert import ByteExpert
from client.experts.byte_table import byte_table
from client.experts.expert import Expert, RememberingExpert
from client.experts.proxy import ProxyExpert
from client.experts.tokens import TokenExpert
from client.experts.trie import Trie
from client.experts.view import View
from client.model import Base, load_base
from client.settings import ExpertSettings
from privacy.artefact import Artefact
from protocols.faults import PeerError


@dataclass(frozen=True, slots=True)
class Experts:
    """Hold the public model, the private ones (one for each shard of the records), and what they were made of.

    `artefact` is the one adapter behind them, if it is one: what was charged when it was trained; `digest` is its
    digest when it was loaded, for whoever asks often. What lets something go takes the digest anew.
    """

    public: Expert
    own: tuple[Expert, ...]
    artefact: Artefact | None = field(default=None, repr=False)
    digest: str | None = None


class House(Protocol):
    """Be what experts need of a home."""

    base: Base
    threads: int

    @property
    def adapters(self) -> Callable[[str], Artefact]:
        """Return what reads an adapter that was trained at home. Raises: PeerError."""

    def dress(self, artefact: Artefact | None) -> None:
        """Put this adapter alone into the base model, or none."""


class HomeExperts:
    """Make a home's experts once for tokens and once for bytes, over the same weights."""

    def __init__(self, settings: ExpertSettings, house: House) -> None:
        self._settings, self._house = settings, house
        self._made: dict[bool, Experts] = {}
        self._loaded: dict[str, Base] = {}
        self._tries: dict[str, Trie] = {}
        self._artefacts: tuple[Artefact, ...] | None = None

    def of(self, *, by_bytes: bool) -> Experts:
        """Return the experts over these symbols. Raises: PeerError, ConfigError."""
        if by_bytes not in self._made:
            self._made[by_bytes] = self._make(by_bytes)
        return self._made[by_bytes]

    def _make(self, by_bytes: bool) -> Experts:
        public = self._expert(self._view(None), by_bytes)
        if self._settings.model is None:
            artefacts = self._trained()
            own = tuple(self._expert(self._view(artefact), by_bytes) for artefact in artefacts)
            return Experts(public, own, *(artefacts[0], artefacts[0].digest) if len(artefacts) == 1 else ())
        tuned = self._expert(self._other(self._settings.model, by_bytes), by_bytes)
        if self._settings.untuned is None:
            return Experts(public, (tuned,))
        untuned = self._expert(self._other(self._settings.untuned, by_bytes), by_bytes)
        return Experts(public, (ProxyExpert(public, tuned, untuned, self._settings.strength),))

    def _trained(self) -> tuple[Artefact, ...]:
        if self._artefacts is None:
            self._artefacts = tuple(self._house.adapters(name) for name in self._settings.adapters)
        return self._artefacts

    def _view(self, artefact: Artefact | None) -> View:
        house = self._house
        return View(house.base, lambda: house.dress(artefact), house.threads)

    def _other(self, source: str, by_bytes: bool) -> View:
        """Return a view of a model that is not the base one. Raises: PeerError if it tells other tokens."""
        if source not in self._loaded:
            self._loaded[source] = load_base(source)
        other, base = self._loaded[source], self._house.base
        view = View(other, threads=self._house.threads)
        if not by_bytes and (
            other.tokenizer.get_vocab() != base.tokenizer.get_vocab()
            or view.vocabulary != self._view(None).vocabulary
        ):
            raise PeerError("this home's expert has another vocabulary than the public model: it tells bytes alone")
        return view

    def _expert(self, view: View, by_bytes: bool) -> RememberingExpert:
        if not by_bytes:
            return TokenExpert(view)
        if view.base.source not in self._tries:
            self._tries[view.base.source] = Trie(byte_table(view.base, view.vocabulary))
        return ByteExpert(view, self._tries[view.base.source])
