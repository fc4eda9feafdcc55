"""Join a member's model, data and gate into the home that a collaboration may use, one letter at a time.

    House: what the daemon holds in memory. Visit: the powers that one letter gets, and no others.

The private records are within reach of `Visit` alone, and it hands out only what the gate let go.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from dp_accounting import SelfComposedDpEvent
from numpy.typing import NDArray

from client.clipping import Clipper
from client.data import Records, cut
from client.declared import Declared
from client.dp_training import DpSgd, Schedule, UnsafePlainSgd
from client.model import Adapted, Base, layout_of
from client.noise import noise_multiplier, opened
from privacy.config import ConfigError
from privacy.gate import Disclosed, Gate, Released
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Policy
from privacy.randomness import Randomness, SystemRandomness, UnsafeSeededRandomness
from privacy.refusal import LevelForbidden
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.session import MemberId
from protocols.weights.average import Recipe

Vector = NDArray[np.float32]
MOST_STEPS = 100_000  # in one round; a letter may still keep a home busy for very long (THREATS.md)
_TOKENS_AT_ONCE = 1024  # activations of more cost memory and, on a processor, win no time
_ENTRIES_AT_ONCE = 2**26  # of records' gradients: 256 MiB
_MOST_AT_ONCE = 16


@dataclass
class House:
    """Hold one member's model, data, policy and ledger, and open them to letters that the policy allows.

    `documents` and `policy` read anew each time they are called, and `edition` changes whenever the documents do, so
    that an operator's edit counts from the next letter on: what was deleted is trained on no more. `identity` is the
    home's public key, by which two homes of one name on one ledger differ. With `unsafe_seed` the same letters get
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
    _fitted: "tuple[tuple[object, ...], Fitted] | None" = field(default=None, init=False, repr=False)

    def open(self, occasion: Occasion) -> "Visit":
        """Return what a letter may use. Raises: LevelForbidden for a seed that the policy does not allow."""
        gate = Gate(self.policy(), self.ledger, self._randomness(occasion))
        return Visit(self, gate, self._own(occasion))

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

        A ledger charges a session's letter once. A coordinator chooses its session's name and, by its invitations, a
        home's too; it must not get for free what another session or home of that name has paid for.
        """
        who = hashlib.sha256(f"{occasion.partner}\n{self.member}\n{self.identity}".encode()).hexdigest()[:16]
        return replace(occasion, session=f"{occasion.session}@{who}")


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold a model with LoRA matrices in it, and the records cut to the width it is trained on."""

    adapted: Adapted
    records: Records


@dataclass(frozen=True, slots=True)
class Visit:
    """Be the home of one letter."""

    house: House
    gate: Gate
    occasion: Occasion

    def contribution(
        self,
        recipe: Recipe,
        round_: int,
        adapter: Vector,
    ) -> Released[Vector] | Disclosed[Vector]:
        """Train from `adapter` and return the delta (length,), through the gate.

        Learns:  the caller: the delta, noised unless the recipe has no epsilon and the policy allows that.
        Raises:  PeerError for a recipe that does not fit this home; Refused, in which case nothing was charged.
        """
        house, account = self.house, Account(self.house.dataset, self.gate.policy.budget)
        self.gate.policy.permit(self.occasion, noisy=recipe.epsilon is not None)  # before any work for a stranger
        self._require_unit(recipe)
        schedule = self._schedule(recipe)
        fitted = house.fit(recipe)
        if recipe.epsilon is None:
            unprotected = UnsafePlainSgd(fitted.adapted, fitted.records, adapter, schedule)
            return self.gate.disclose(unprotected, account, self.occasion)
        sigma = noise_multiplier(recipe, recipe.epsilon, schedule.rate, opened(house.ledger, account))
        mechanism = DpSgd(fitted.adapted, fitted.records, adapter, schedule, sigma)
        if round_ == 0:  # a run that cannot be finished is refused before it has cost anything
            house.ledger.require_room(account, SelfComposedDpEvent(mechanism.event, recipe.rounds), self.occasion)
        return self.gate.release(mechanism, account, self.occasion)

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
        if recipe.unit is not Unit.RECORD:
            raise PeerError(f"this training protects records, not {recipe.unit.value}s")
        budget = self.gate.policy.budget
        if budget.unit is not Unit.RECORD:
            raise LevelForbidden(f"the budget is per {budget.unit.value}, the recipe per record")
        if budget.record_tokens != recipe.record_tokens:  # else a partner could make a record of one word
            raise LevelForbidden(f"the budget is per {budget.record_tokens} tokens, not {recipe.record_tokens}")


def unsafe_seed(seed: int, member: MemberId, number: int) -> int:
    """Return the seed of one letter's randomness: the same in every engine, another for every member and letter."""
    digest = hashlib.sha256(f"parley/v1/unsafe-seed/{seed}/{member}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _fit_at_once(recipe: Recipe) -> tuple[int, int]:
    """Return how many records fit into memory by their activations, and by their gradients."""
    return _TOKENS_AT_ONCE // recipe.record_tokens, _ENTRIES_AT_ONCE // recipe.length


def _longest(base: Base) -> int:
    return int(getattr(base.model.config, "max_position_embeddings", 2**31))
