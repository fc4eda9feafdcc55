"""Join a member's model, data and gate into the home that a collaboration may use, one letter at a time.

    House: what the daemon holds in memory. Visit: the powers that one letter gets, and no others.

The private records are within reach of `Visit` alone, and it hands out only what the gate let go.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from dp_accounting import SelfComposedDpEvent
from numpy.typing import NDArray

from client.clipping import Clipper
from client.data import Records, cut
from client.declared import Declared
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.masking import Integers, Masked, MaskedRelease, MaskedShare
from client.model import Adapted, Base, layout_of
from client.noise import noise_multiplier, opened, require_promise
from privacy.config import ConfigError
from privacy.evidence import Evidence
from privacy.fixed_point import FixedPoint
from privacy.gate import Disclosed, Gate, Released, Said
from privacy.ledger import Account, Ledger
from privacy.mechanisms import Mechanism
from privacy.occasion import Occasion, mark
from privacy.policy import Budget, Policy
from privacy.randomness import Randomness, SystemRandomness, UnsafeSeededRandomness
from privacy.refusal import LevelForbidden, RosterNotApproved
from privacy.trail import HEAD_LABEL
from privacy.units import Relation, Unit
from protocols.faults import PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum.aggregation import Expected
from protocols.secure_sum.messages import (
    Acknowledge,
    Acknowledged,
    Agree,
    Agreed,
    Introduced,
    Request,
    Reveal,
    Revealed,
    Slip,
    Upload,
)
from protocols.secure_sum.session import Place
from protocols.secure_sum.sums import Sums
from protocols.secure_sum.terms import Terms
from protocols.session import MemberId
from protocols.weights.average import NAME as AVERAGE
from protocols.weights.average import Recipe
from protocols.wire import Message

Vector = NDArray[np.float32]
MOST_STEPS = 100_000  # in one round; a letter may still keep a home busy for very long (THREATS.md)
_TOKENS_AT_ONCE = 1024  # activations of more cost memory and, on a processor, win no time
_ENTRIES_AT_ONCE = 2**26  # of records' gradients: 256 MiB
_MOST_AT_ONCE = 16


def no_roster() -> Roster:
    """Refuse: there is no approved roster. Raises: RosterNotApproved."""
    raise RosterNotApproved("no roster has been approved here")


@dataclass
class House:
    """Hold one member's model, data, policy and ledger, and open them to letters that the policy allows.

    `documents` and `policy` read anew each time they are called, and `edition` changes whenever the documents do, so
    that an operator's edit counts from the next letter on: what was deleted is trained on no more; `roster` likewise.
    `sums` holds the keys of secure sums; without it the house takes part in none. `identity` is the home's public
    key, by which two homes of one name on one ledger differ. With `unsafe_seed` the same letters get
    the same answers, which protects nothing; the policy must allow it.
    """

    member: MemberId
    base: Base
    documents: Callable[[], Iterable[str]]
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
    _fitted: "tuple[tuple[object, ...], Fitted] | None" = field(default=None, init=False, repr=False)
    _known: tuple[object, tuple[str, ...]] | None = field(default=None, init=False, repr=False)

    def open(self, occasion: Occasion) -> "Visit":
        """Return what a letter may use. Raises: LevelForbidden for a seed that the policy does not allow."""
        gate = Gate(self.policy(), self.ledger, self._randomness(occasion))
        place = Place(self.member, occasion.partner, occasion.session, occasion.members)
        return Visit(self, gate, self._own(occasion), place)

    def account(self, budget: Budget) -> Account:
        """Return on whose budgets the data draws: by its documents, whatever they are called now."""
        edition = self.edition()
        if self._known is None or self._known[0] != edition:
            self._known = edition, self.ledger.recognise(self.dataset, self.documents())
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

    def fit(self, recipe: Recipe) -> "Fitted":
        """Return model and records made ready for `recipe`; the last ones are kept while the data stays as it is.

        Raises: PeerError for a recipe that does not fit this model or asks for too much; LocalError for a model
                that mixes the records of a batch.
        """
        adapter = (recipe.layout, recipe.base, recipe.record_tokens, recipe.length, recipe.rank, recipe.alpha)
        key = (*adapter, self.edition())
        if self._fitted is not None and self._fitted[0] == key:
            return self._fitted[1]
        adapted = self._adapt(recipe)
        try:
            # Before the gate: a model on which clipping bounds nothing must cost no budget.
            Clipper(adapted, recipe.clipping_norm, 1).check_isolation(np.zeros(recipe.length), recipe.record_tokens)
            fitted = Fitted(adapted, cut(self.documents(), self.base.tokenizer, recipe.record_tokens))
        except BaseException:
            adapted.remove()
            raise
        self._fitted = key, fitted
        return fitted

    def close(self) -> None:
        """Give the model back as it was, and close the ledger."""
        if self._fitted is not None:
            self._fitted[1].adapted.remove()
            self._fitted = None
        if self.sums is not None:
            self.sums.close()
        self.ledger.close()

    def _adapt(self, recipe: Recipe) -> Adapted:
        if recipe.base != self.base.digest:
            raise PeerError("a recipe for another base model")
        if not 2 <= recipe.record_tokens <= _longest(self.base):
            raise PeerError("records longer than this model reads, or shorter than two tokens")
        try:
            layout = layout_of(
                self.base,
                rank=recipe.rank,
                alpha=recipe.alpha,
                targets=recipe.targets,
                adapter_seed=recipe.adapter_seed,
            )
        except (ConfigError, ValueError):
            raise PeerError("a recipe whose targets this model does not have") from None
        if layout.size != recipe.length or layout.digest != recipe.layout:
            raise PeerError("a recipe for an adapter of another layout")
        if recipe.rank > max(min(slot.outputs, slot.inputs) for slot in layout.slots):
            raise PeerError("a rank above every width it could serve")  # its matrices would fill the memory
        if self._fitted is not None:
            self._fitted[1].adapted.remove()
            self._fitted = None
        return Adapted(self.base, layout)

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


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold a model with LoRA matrices in it, and the records cut to the width it is trained on."""

    adapted: Adapted
    records: Records


@dataclass(frozen=True, slots=True)
class Visit:
    """Be the home of one letter. `place` says who this member is in the letter's session."""

    house: House
    gate: Gate
    occasion: Occasion
    place: Place

    def contribution(self, recipe: Recipe, round_: int, adapter: Vector) -> Released[Vector] | Disclosed[Vector]:
        """Train from `adapter` and return the delta (length,) as it is, through the gate.

        Learns:  the caller: the delta, noised unless the recipe has no epsilon and the policy allows that.
        Raises:  PeerError for a recipe that does not fit this home; Refused, in which case nothing was charged.
        """
        occasion = replace(self.occasion, plan=recipe.plan)
        self._permit(recipe, occasion)
        if recipe.noise_multiplier is not None:
            raise PeerError("noise that only a sum has, and no sum")
        task = self._task(recipe, adapter)
        if isinstance(task, UnsafePlainSgd):
            return self.gate.disclose(task, self._account, occasion)
        self._require_room(recipe, round_, task, occasion)
        return self.gate.release(task, self._account, occasion)

    def masked(
        self, recipe: Recipe, round_: int, adapter: Vector, request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Train from `adapter` and return the delta masked for the sum `request`, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a recipe or a request that does not fit this home; Refused: nothing was charged.
        """
        crowd = len(request.members)
        occasion = replace(self.occasion, crowd=crowd, members=request.members, summed=True, plan=recipe.plan)
        self._permit(recipe, occasion)
        sum_ = self._begin(recipe, round_, adapter, request, slips)
        task = self._task(recipe, adapter)
        if recipe.noise_multiplier is not None:
            share = MaskedShare(task, sum_.spec, sum_.terms.honest, sum_.mask)
            self._require_room(recipe, round_, share, occasion)
            require_promise(recipe, share.event)
            return self.gate.release(share, self._account, occasion)
        if isinstance(task, UnsafePlainSgd):
            return self.gate.disclose(Masked(task, sum_.spec, sum_.mask), self._account, occasion)
        self._require_room(recipe, round_, task, occasion)
        return self.gate.release(MaskedRelease(task, sum_.spec, sum_.mask), self._account, occasion)

    def say(self, make: Callable[[], Message]) -> Said[Message]:
        """Let a message of the secure sum go, which says nothing about the data. Raises: Refused."""
        return self.gate.say(make, self._account, self.occasion)

    def close(self) -> Said[bytes]:
        """Forget the keys of this session, and say nothing more. Raises: Refused."""
        if self.house.sums is not None:
            self.house.sums.leave(self.occasion.session)
        return self.gate.say(lambda: b"", self._account, self.occasion)

    def introduce(self, terms: Terms) -> Introduced:
        """Make keys for this session's sums. Raises: Refused, PeerError."""
        self._permit_sum(terms, self.occasion, local_noise=True)  # what is summed is judged when it is asked for
        return self._sums.introduce(self.occasion.session, self.place, terms, self.house.roster())

    def acknowledge(self, ask: Acknowledge) -> Acknowledged:
        """Check everybody's keys against the approved roster. Raises: Refused, PeerError."""
        return self._permitted().acknowledge(self.occasion.session, ask)

    def agree(self, ask: Agree) -> Agreed:
        """Sign who is in the sum. Raises: Refused, PeerError."""
        return self._permitted().agree(self.occasion.session, ask)

    def reveal(self, ask: Reveal) -> Revealed:
        """Reveal what unmasks the sum. Raises: Refused, PeerError."""
        return self._permitted().reveal(self.occasion.session, ask)

    @property
    def _account(self) -> Account:
        return self.house.account(self.gate.policy.budget)

    @property
    def _sums(self) -> Sums:
        if self.house.sums is None:
            raise RosterNotApproved("this home takes part in no secure sum")
        return self.house.sums

    def _permit(self, recipe: Recipe, occasion: Occasion) -> None:
        """Refuse before any work for a stranger."""
        self.gate.policy.consider(occasion, noisy=recipe.epsilon is not None, summed=occasion.summed)
        self._require_unit(recipe)

    def _permit_sum(self, terms: Terms, occasion: Occasion, local_noise: bool, shared_noise: bool = False) -> None:
        self.gate.policy.permit_sum(
            occasion, terms.smallest_crowd, terms.colluding, terms.attempts, local_noise, shared_noise
        )

    def _permitted(self) -> Sums:
        """Return the sums, if policy and roster allow this session still: an edit counts from the next letter on."""
        sums = self._sums
        self._permit_sum(sums.terms(self.occasion.session, self.house.roster()), self.occasion, local_noise=True)
        return sums

    def _begin(self, recipe: Recipe, round_: int, adapter: Vector, request: Request, slips: Sequence[Slip]) -> "_Sum":
        """Compare the request with what this home makes of the recipe by itself."""
        name, sums = self.occasion.session, self._sums
        terms = sums.terms(name, self.house.roster())
        occasion = replace(self.occasion, crowd=len(request.members), summed=True)
        shared = recipe.noise_multiplier is not None
        whole = not shared or terms.honest == 1  # else a member adds a share of the noise
        self._permit_sum(terms, occasion, recipe.epsilon is not None and whole, shared)
        try:
            spec = recipe.spec(terms, len(request.members))
        except ValueError:
            raise PeerError("words too narrow for this recipe and crowd") from None
        expected = Expected(AVERAGE, spec, recipe.context(round_, adapter), round_)
        begun = sums.begin(name, request, slips, expected)
        return _Sum(terms, spec, lambda values: sums.upload(name, begun, values, self.house.threads))

    def _task(self, recipe: Recipe, adapter: Vector) -> DpSgd | UnsafePlainSgd:
        """Return this round's training: by DP-SGD, where records are to be protected."""
        schedule, fitted = self._schedule(recipe), self.house.fit(recipe)
        if recipe.epsilon is None or recipe.noise_multiplier is not None:
            return UnsafePlainSgd(fitted.adapted, fitted.records, adapter, schedule)
        budget = opened(self.house.ledger, self._account)
        sigma = noise_multiplier(recipe, recipe.epsilon, schedule.rate, budget)
        return DpSgd(fitted.adapted, fitted.records, adapter, schedule, sigma)

    def _require_room(self, recipe: Recipe, round_: int, mechanism: Mechanism[object], occasion: Occasion) -> None:
        """Refuse a run that cannot be finished, within the partner's share too, before it has cost anything."""
        if round_ == 0:
            whole = SelfComposedDpEvent(mechanism.event, recipe.rounds)
            limits = self.gate.policy.permission(occasion).limits
            self.house.ledger.require_room(self._account, whole, occasion, limits)

    def _schedule(self, recipe: Recipe) -> Schedule:
        if recipe.steps > MOST_STEPS:
            raise PeerError(f"{recipe.steps} steps in a round, at most {MOST_STEPS} here")
        try:
            return Schedule(
                steps=recipe.steps,
                batch_size=recipe.batch_size,
                declared_records=self.house.declared.records(recipe.record_tokens),
                learning_rate=recipe.learning_rate,
                clipping_norm=recipe.clipping_norm,
                optimizer=recipe.optimizer,
                micro_batch=max(1, min(_MOST_AT_ONCE, *_fit_at_once(recipe))),
                threads=self.house.threads,
            )
        except ValueError:
            raise PeerError("a recipe whose batches are larger than this data, or with no such optimizer") from None

    def _require_unit(self, recipe: Recipe) -> None:
        """Refuse to charge what protects a record to an account that promises more, or to nobody's account."""
        budget = self.gate.policy.budget
        if recipe.unit not in (Unit.RECORD, Unit.MEMBER):
            raise PeerError(f"this training protects records or whole members, not {recipe.unit.value}s")
        if budget.unit is not recipe.unit:
            raise LevelForbidden(f"the budget is per {budget.unit.value}, the recipe per {recipe.unit.value}")
        if recipe.unit is Unit.MEMBER and budget.relation is not Relation.ZERO_OUT:  # that is what is proven of sums
            raise LevelForbidden(f"the budget is for {budget.relation.value} and not for zero-out")
        if recipe.unit is Unit.RECORD and budget.record_tokens != recipe.record_tokens:
            # else a partner could make a record of one word
            raise LevelForbidden(f"the budget is per {budget.record_tokens} tokens, not {recipe.record_tokens}")


@dataclass(frozen=True, slots=True)
class _Sum:
    """Hold a sum that was begun: its terms, how values become words, and what masks and uploads them, once."""

    terms: Terms
    spec: FixedPoint
    mask: Callable[[Integers], Upload]


def unsafe_seed(seed: int, member: MemberId, number: int) -> int:
    """Return the seed of one letter's randomness: the same in every engine, another for every member and letter."""
    digest = hashlib.sha256(f"parley/v1/unsafe-seed/{seed}/{member}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _fit_at_once(recipe: Recipe) -> tuple[int, int]:
    """Return how many records fit into memory by their activations, and by their gradients."""
    return _TOKENS_AT_ONCE // recipe.record_tokens, _ENTRIES_AT_ONCE // recipe.length


def _longest(base: Base) -> int:
    return int(getattr(base.model.config, "max_position_embeddings", 2**31))
