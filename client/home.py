"""Join a member's model, data and gate into the home that a collaboration may use, one letter at a time.

    House: what the daemon holds in memory. Visit: the powers that one letter gets, and no others.

The private records are within reach of `Visit` alone, and it hands out only what the gate let go.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client.adapter import Layout, layout_from
from client.answered import Answered
from client.conversations import records_of
from client.data import Records
from client.declared import Declared
from client.documents import Document, text_of
from client.experts.opening import Experts, HomeExperts
from client.fitted import Cutting, Fitted, Shape
from client.homes import VISITS
from client.model import Adapted, Base, layout_of, longest
from client.personal import Personal
from client.quiet import LOG
from client.settings import ExpertSettings
from client.speaking.mouth import Mouth
from client.state import MemoryStates, States
from client.training.clipping import Clipper
from client.training.objectives import loss_of
from client.training.running import AS_IT_IS, Running
from client.training.whole import Whole
from client.validation import set_apart
from client.visit import Visit
from client.wardrobe import Tested, Wardrobe
from privacy.artefact import Artefact
from privacy.config import ConfigError
from privacy.evidence import Evidence
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion, mark
from privacy.policy import Budget, Policy
from privacy.randomness import Randomness, SystemRandomness, UnsafeSeededRandomness
from privacy.refusal import RosterNotApproved
from privacy.trail import HEAD_LABEL
from protocols.faults import OtherBase, PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum.session import Place
from protocols.secure_sum.sums import Sums
from protocols.session import MemberId
from protocols.weights.recipe import Objective, Recipe

V = TypeVar("V", bound=Visit)


def no_adapters(name: str) -> Artefact:  # noqa: ARG001
    """Refuse: nothing was trained apart. Raises: PeerError."""
    raise PeerError("no adapter of this name was trained here")


def no_stream(stream: str, ticket: bytes, expires: int) -> None:  # noqa: ARG001
    """Refuse: there is no road to dial on. Raises: PeerError."""
    raise PeerError("no stream is dialled from here")


def no_roster() -> Roster:
    """Refuse: there is no approved roster. Raises: RosterNotApproved."""
    raise RosterNotApproved("no roster has been approved here")


@dataclass
class House:
    """Hold one member's model, data, policy and ledger, and open them to letters that the policy allows.

    `documents` and `policy` read anew each time they are called, and `edition` changes whenever the documents do, so
    that an operator's edit counts from the next letter on: what was deleted is trained on no more; `roster` likewise.
    `sums` holds the keys of secure sums; without it the house takes part in none. `adapters` are those that were
    trained at home, by name. `states` remember what training knows between letters. Of an adapter of a higher rank
    than `most_rank` only that is trained here a round. `personal` is trained on top of `shared`, the adapter that the
    last round began with, when the answer is on its way. `dial` opens a stream, `mouth` writes
    and votes. `identity` is the home's public key, by which two homes of one name on one ledger differ. With
    `unsafe_seed` the same letters get the same answers, which protects nothing; the policy must allow it.
    `validation` is the share of records that no training sees.
    `left_out` documents had nothing to train on, or too much for a record, when they were last made into records: the
    operator's to know, and nobody else's. `running` says how the model is run when it trains.
    `wardrobe` holds the base model with the matrices that are in it: the home's own, unless it works in turn with
    others.
    """

    member: MemberId
    base: Base
    documents: Callable[[], Iterable[str | Document]]
    declared: Declared
    policy: Callable[[], Policy]
    ledger: Ledger
    dataset: str
    unsafe_seed: int | None = None
    threads: int = 1
    edition: Callable[[], object] = lambda: None
    identity: str = ""
    roster: Callable[[], Roster] = no_roster
    sums: Sums | None = None
    adapters: Callable[[str], Artefact] = no_adapters
    most_rank: int | None = None
    running: Running = AS_IT_IS
    states: States = field(default_factory=MemoryStates)
    validation: float = 0.0
    personal: Personal | None = None
    expert: ExpertSettings | None = None
    dial: Callable[[str, bytes, int], None] = no_stream
    mouth: Mouth | None = None
    wardrobe: Wardrobe = field(default=None, repr=False)  # type: ignore[assignment]  # made of `base`, below
    whole: Whole | None = field(default=None, init=False, repr=False)
    shared: tuple[Shape, NDArray[np.float32]] | None = field(default=None, init=False, repr=False)
    left_out: int | None = field(default=None, init=False, repr=False)
    answered: Answered = field(default_factory=Answered, init=False, repr=False)
    _fitted: tuple[tuple[object, ...], Fitted] | None = field(default=None, init=False, repr=False)
    _read: tuple[tuple[object, ...], tuple[Records, tuple[str, ...]]] | None = field(
        default=None, init=False, repr=False
    )
    _known: tuple[object, tuple[str, ...]] | None = field(default=None, init=False, repr=False)
    _experts: HomeExperts | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.wardrobe is None or self.wardrobe.base is not self.base:
            self.wardrobe = Wardrobe(self.base)

    def open(self, occasion: Occasion) -> "Visit":
        """Return what a letter may use. Raises: LevelForbidden for a seed that the policy does not allow."""
        return self.at_home(occasion, VISITS.get(occasion.collaboration, Visit))

    def at_home(self, occasion: Occasion, kind: type[V]) -> V:
        """Return a visit of this kind. Raises: LevelForbidden for a seed that the policy does not allow."""
        gate = Gate(self.policy(), self.ledger, self._randomness(occasion))
        place = Place(self.member, occasion.partner, occasion.session, occasion.members)
        return kind(self, gate, self._own(occasion), place)

    def account(self, budget: Budget) -> Account:
        """Return on whose budgets the data draws: by its documents, whatever they are called now."""
        edition = self.edition()
        if self._known is None or self._known[0] != edition:
            self._known = edition, self.ledger.recognise(self.dataset, map(text_of, self.documents()))
        name, *others = self._known[1]
        return Account(name, budget, tuple(others))

    def evidence(self, identity: Identity) -> Evidence:
        """Return what keeps this home's part of the trail, its heads signed by `identity`."""
        return Evidence(
            self.ledger,
            lambda head: identity.sign(HEAD_LABEL, head),
            str(identity.public),
            self._own,
            allowed=lambda occasion: self.policy().require_named(occasion),
        )

    def fit(self, recipe: Shape) -> Fitted:
        """Return model and records made ready for `recipe`; the last ones are kept while the data stays as it is.

        Raises: PeerError for a recipe that does not fit this model or data, or asks for too much; LocalError for a
                model that mixes the records of a batch; ConfigError for a row that does not fit.
        """
        adapter = (recipe.layout, recipe.base, recipe.record_tokens, recipe.length, recipe.rank, recipe.alpha)
        key = (*adapter, recipe.objective, recipe.unit, self.edition())
        known = self._fitted[1] if self._fitted is not None and self._fitted[0] == key else None
        if known is not None and known.adapted is self.wardrobe.worn:
            self._require_isolation(known.adapted, recipe)
            return known
        adapted = self._adapt(recipe)
        try:
            self._require_isolation(adapted, recipe)
            fitted = replace(known, adapted=adapted) if known else Fitted(adapted, *self.records(recipe))
        except BaseException:
            self._undress()
            raise
        self._fitted = key, fitted
        return fitted

    def records(self, recipe: Cutting) -> tuple[Records, Records]:
        """Return the records to train on, and those that no training sees. Raises: PeerError, ConfigError."""
        records = records_of(recipe, self.documents(), self.base.tokenizer)
        if self.left_out != records.left_out:
            LOG.info(
                "the data is read: %d documents are left out: too long, or nothing to train on", records.left_out
            )
        self.left_out = records.left_out
        return set_apart(records, self.validation, self.dataset)

    def read(self, recipe: Cutting) -> tuple[Records, tuple[str, ...]]:
        """Return the records to train on, and each one's text; the last ones are kept while the data stays as it is.

        Raises: PeerError, ConfigError.
        """
        key = (recipe.record_tokens, recipe.objective, recipe.unit, self.edition())
        if self._read is None or self._read[0] != key:
            records = self.records(recipe)[0]
            said = zip(records.tokens, records.lengths, strict=True)
            texts = (self.base.tokenizer.decode(row[:length], skip_special_tokens=True) for row, length in said)
            self._read = key, (records, tuple(texts))
        return self._read[1]

    def experts(self, *, by_bytes: bool) -> Experts:
        """Return the models that this home thinks with, loaded when they are first asked for.

        Raises: PeerError if it has none, or none for these symbols; ConfigError for one that cannot be loaded.
        """
        if self.expert is None:
            raise PeerError("no expert here")
        if self._experts is None:
            self._experts = HomeExperts(self.expert, self)
        return self._experts.of(by_bytes=by_bytes)

    def dress(self, artefact: Artefact | None) -> None:
        """Put this adapter alone into the base model, or none. Raises: ConfigError for one that does not fit."""
        if artefact is not None:
            self.wardrobe.wear(layout_from(artefact.shape)).set(artefact.values)
        elif (worn := self.wardrobe.worn) is not None:
            worn.set(np.zeros(worn.layout.size, np.float32))

    def rest(self) -> None:
        """Train the personal adapter on the shared one that was last heard of, if there is anything new."""
        heard, self.shared = self.shared, None
        if self.personal is not None and heard is not None:
            recipe, adapter = heard
            self.personal.train(self.fit(recipe), adapter, self.threads, self.running)

    def close(self) -> None:
        """Give the model back as it was, and close the ledger."""
        self._undress()
        if self.sums is not None:
            self.sums.close()
        self.ledger.close()

    def _require_isolation(self, adapted: Adapted, recipe: Shape) -> None:
        """Refuse a model that mixes records under this recipe's own loss; once for each loss. Raises: LocalError.

        Before the gate: a model on which clipping bounds nothing must cost no budget.
        """
        beta = recipe.beta if isinstance(recipe, Recipe) else 1.0
        test = Tested(recipe.objective, beta, recipe.record_tokens, self.running)
        if test in self.wardrobe.tested:
            return
        zeros = np.zeros(recipe.length)
        clipper = Clipper(adapted, None, 1, loss_of(recipe.objective, beta, zeros), running=self.running)
        paired = recipe.objective is Objective.PREFERENCE
        clipper.check_isolation(zeros, recipe.record_tokens, paired=paired)
        self.wardrobe.tested.add(test)

    def _adapt(self, recipe: Shape) -> Adapted:
        if recipe.base != self.base.digest:
            raise OtherBase("a recipe for another base model")
        if not 2 <= recipe.record_tokens <= longest(self.base):
            raise PeerError("records longer than this model reads, or shorter than two tokens")
        layout = self._layout(recipe)
        if recipe.rank > max(min(slot.outputs, slot.inputs) for slot in layout.slots):
            raise PeerError("a rank above every width it could serve")  # its matrices would fill the memory
        return self.wardrobe.wear(layout)

    def _undress(self) -> None:
        """Take all matrices out of the base model."""
        self.wardrobe.take_off()
        self._fitted = None

    def _layout(self, recipe: Shape) -> Layout:
        """Return the layout that the recipe names by its digest: of B's alone, or of A's too. Raises: PeerError."""
        rank, alpha, targets, seed = recipe.rank, recipe.alpha, recipe.targets, recipe.adapter_seed
        try:
            for half_a in (False, True):
                layout = layout_of(
                    self.base, rank=rank, alpha=alpha, targets=targets, adapter_seed=seed, half_a=half_a
                )
                if layout.digest == recipe.layout and layout.size == recipe.length:
                    return layout
        except (ConfigError, ValueError):
            raise PeerError("a recipe whose targets this model does not have") from None
        raise PeerError("a recipe for an adapter of another layout")

    def _randomness(self, occasion: Occasion) -> Randomness:
        if self.unsafe_seed is None:
            return SystemRandomness()
        return UnsafeSeededRandomness(unsafe_seed(self.unsafe_seed, self.member, occasion.number))

    def _own(self, occasion: Occasion) -> Occasion:
        """Return the occasion with a session that no other partner, and no other home on this ledger, can name.

        A ledger charges a session's letter once; nobody gets for free what another session of that name has paid for.
        """
        who = mark(occasion.partner, self.member, self.identity)
        return replace(occasion, session=f"{occasion.session}@{who}")


def unsafe_seed(seed: int, member: MemberId, number: int) -> int:
    """Return the seed of one letter's randomness: the same in every engine, another for every member and letter."""
    digest = hashlib.sha256(f"parley/v1/unsafe-seed/{seed}/{member}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
