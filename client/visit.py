"""Be the home of one letter: the powers that every collaboration has, each through the gate.

    Summand   what one member adds to one secure sum, and what that costs
    Visit     checks it against policy, budget and its own view of the sum; then masks and lets go

What a collaboration may do beside this stands in its own file of `client/homes/`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
from dp_accounting import SelfComposedDpEvent
from numpy.typing import NDArray

from client.answered import Answered
from client.data import Records
from client.declared import Declared
from client.documents import Document
from client.experts.opening import Experts
from client.fitted import Cutting, Fitted, Shape
from client.model import Base
from client.speaking.mouth import Mouth
from client.state import States
from client.training.running import Running
from client.training.whole import Whole
from privacy.artefact import Artefact
from privacy.fixed_point import FixedPoint
from privacy.gate import Disclosed, Gate, Released, Said
from privacy.ledger import Account, Ledger
from privacy.mechanisms import Mechanism
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.refusal import LevelForbidden, RosterNotApproved
from privacy.units import Relation, Unit
from protocols.faults import PeerError
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
from protocols.wire import Message

Vector = NDArray[np.float32]
Integers = NDArray[np.signedinteger[Any]]
UNITS = {Unit.RECORD: "records", Unit.GROUP: "groups", Unit.MEMBER: "whole members"}


class House(Protocol):
    """Be the house around a visit: see `client/home.py`."""

    member: MemberId
    base: Base
    declared: Declared
    ledger: Ledger
    threads: int
    sums: Sums | None
    states: States
    shared: tuple[Shape, Vector] | None
    most_rank: int | None
    running: Running
    whole: Whole | None
    validation: float
    answered: Answered
    mouth: Mouth | None

    @property
    def roster(self) -> Callable[[], Roster]:
        """Return what reads the approved roster."""

    @property
    def documents(self) -> Callable[[], Iterable[str | Document]]:
        """Return what reads the documents anew."""

    @property
    def adapters(self) -> Callable[[str], Artefact]:
        """Return what reads an adapter that was trained at home. Raises: PeerError."""

    @property
    def dial(self) -> Callable[[str, bytes, int], None]:
        """Return what dials a stream by its name, with a ticket, until a time. Raises: PeerError."""

    def account(self, budget: Budget) -> Account:
        """Return on whose budgets the data draws."""

    def experts(self, *, by_bytes: bool) -> Experts:
        """Return the models that this home thinks with. Raises: PeerError if it has none for these symbols."""

    def records(self, recipe: Cutting) -> tuple[Records, Records]:
        """Return the records to train on, and those that no training sees. Raises: PeerError, ConfigError."""

    def read(self, recipe: Cutting) -> tuple[Records, tuple[str, ...]]:
        """Return the records to train on, and each one's text. Raises: PeerError, ConfigError."""

    def fit(self, recipe: Shape) -> Fitted:
        """Return model and records made ready for `recipe`. Raises: PeerError, LocalError."""


class Noise(Enum):
    """Say where the noise of a summand is: nowhere, in the summand itself, or in full only in the sum.

    EARLIER: in what the summand is made of, which was charged when it was drawn. CENTRAL: in what the coordinator
    draws from the sum, which it sees as it is: the guarantee is against everybody else, and rests on its word.
    """

    NONE = "none"
    OWN = "own"
    SHARED = "shared"
    EARLIER = "earlier"
    CENTRAL = "central"


@dataclass(frozen=True, slots=True)
class Begun:
    """Hold a sum that was begun: its terms, how values become words, and what masks and uploads them, once."""

    terms: Terms
    spec: FixedPoint
    members: tuple[str, ...]
    mask: Callable[[Integers], Upload]


@dataclass(frozen=True, slots=True)
class Summand:
    """Say what a member adds to a secure sum. Nothing is computed before the gate has charged it.

    `purpose` is the collaboration, `plan` what an operator approves, `context` the digest of all that the value is
    made from but the private records, `query` the sum's number in the collaboration. `spec` sizes the words for so
    many members; `make` returns the mechanism (or, for Noise.NONE, the unprotected value), whose draw
    returns the upload. `times` is how often the run will ask for the like, where this is the first, else 0. `paid` is
    the number of the letter in this session whose charge paid for this one too; None charges.
    """

    purpose: str
    plan: str
    context: bytes
    query: int
    noise: Noise
    spec: Callable[[Terms, int], FixedPoint]
    make: Callable[[Begun], Any]
    times: int = 0
    paid: int | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """Be the home of one letter. `place` says who this member is in the letter's session."""

    house: House
    gate: Gate
    occasion: Occasion
    place: Place

    def add(self, summand: Summand, request: Request, slips: Sequence[Slip]) -> Released[Upload] | Disclosed[Upload]:
        """Compute, mask and let go what this member adds to the sum `request`.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a request that this home would not make itself; Refused: nothing was charged.
        """
        occasion = self.summed(summand.plan, request)
        self.consider(occasion, noisy=summand.noise is not Noise.NONE)
        if summand.noise is Noise.CENTRAL:
            self.gate.policy.permit_central(occasion)
        made = summand.make(self._begin(summand, request, slips))
        if summand.noise is Noise.NONE:
            return self.gate.disclose(made, self.account, occasion)
        if summand.noise is Noise.EARLIER:
            return self.gate.derive(made, self.account, occasion)
        if summand.paid is not None:
            return self.gate.go_on(made, self.account, occasion, summand.paid)
        self.require_room(made, summand.times, occasion)
        return self.gate.release(made, self.account, occasion)

    def say(self, make: Callable[[], Message]) -> Said[Message]:
        """Let a message of the secure sum go, which says nothing about the data. Raises: Refused."""
        return self.gate.say(make, self.account, self.occasion)

    def close(self) -> Said[bytes]:
        """Forget the keys of this session, and say nothing more. Raises: Refused."""
        if self.house.sums is not None:
            self.house.sums.leave(self.occasion.session)
        return self.gate.say(lambda: b"", self.account, self.occasion)

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
    def account(self) -> Account:
        """Return on whose budgets the data draws."""
        return self.house.account(self.gate.policy.budget)

    def summed(self, plan: str, request: Request) -> Occasion:
        """Return the occasion of a value that goes into the sum `request`, for whoever approves `plan`."""
        crowd = len(request.members)
        return replace(self.occasion, crowd=crowd, members=request.members, summed=True, plan=plan)

    def consider(self, occasion: Occasion, *, noisy: bool) -> None:
        """Refuse before any work for a stranger. Raises: Refused."""
        self.gate.policy.consider(occasion, noisy=noisy, summed=occasion.summed)

    def require_unit(self, unit: Unit, record_tokens: int, known: Sequence[Unit]) -> None:
        """Refuse to charge what protects a record to an account that promises more, or to nobody's account.

        Raises: PeerError for a unit that is not among the `known` ones; LevelForbidden.
        """
        budget = self.gate.policy.budget
        if unit not in known:
            raise PeerError(f"this protects {' or '.join(UNITS[u] for u in known)}, not {UNITS[unit]}")
        if budget.unit is not unit:
            raise LevelForbidden(f"the budget is per {budget.unit.value}, the recipe per {unit.value}")
        if unit is Unit.MEMBER and budget.relation is not Relation.ZERO_OUT:  # that is what is proven of sums
            raise LevelForbidden(f"the budget is for {budget.relation.value} and not for zero-out")
        if unit is Unit.RECORD and budget.record_tokens != record_tokens:
            # else a partner could make a record of one word
            raise LevelForbidden(tokens_apart(budget.record_tokens, record_tokens))
        if record_tokens > budget.record_tokens:  # the wider the records, the more memory a letter takes
            raise LevelForbidden(f"records of {record_tokens} tokens, the policy says {budget.record_tokens} at most")

    def require_room(self, mechanism: Mechanism[object], times: int, occasion: Occasion) -> None:
        """Refuse a run that cannot be finished, within the partner's share too, before it has cost anything."""
        if times:
            whole = SelfComposedDpEvent(mechanism.event, times)
            limits = self.gate.policy.permission(occasion).limits
            self.house.ledger.require_room(self.account, whole, occasion, limits)

    @property
    def _sums(self) -> Sums:
        if self.house.sums is None:
            raise RosterNotApproved("this home takes part in no secure sum")
        return self.house.sums

    def _permit_sum(self, terms: Terms, occasion: Occasion, local_noise: bool, shared_noise: bool = False) -> None:
        self.gate.policy.permit_sum(
            occasion, terms.smallest_crowd, terms.colluding, terms.attempts, local_noise, shared_noise
        )

    def _permitted(self) -> Sums:
        """Return the sums, if policy and roster allow this session still: an edit counts from the next letter on."""
        sums = self._sums
        self._permit_sum(sums.terms(self.occasion.session, self.house.roster()), self.occasion, local_noise=True)
        return sums

    def _begin(self, summand: Summand, request: Request, slips: Sequence[Slip]) -> Begun:
        """Compare the request with what this home makes of the ask by itself."""
        name, sums = self.occasion.session, self._sums
        terms = sums.terms(name, self.house.roster())
        occasion = replace(self.occasion, crowd=len(request.members), summed=True)
        shared = summand.noise is Noise.SHARED
        whole = not shared or terms.honest == 1  # else a member adds a share of the noise
        alone = summand.noise not in (Noise.NONE, Noise.CENTRAL) and whole
        self._permit_sum(terms, occasion, alone, shared)
        try:
            spec = summand.spec(terms, len(request.members))
        except ValueError:
            raise PeerError("words too narrow for this recipe and crowd") from None
        expected = Expected(summand.purpose, spec, summand.context, summand.query)
        begun = sums.begin(name, request, slips, expected)
        return Begun(
            terms, spec, request.members, lambda values: sums.upload(name, begun, values, self.house.threads)
        )


def tokens_apart(budget: int, asked: int) -> str:
    """Say that a budget is for records of another width than is asked for, and where both are written."""
    where = "budget.record_tokens of policy.toml, and training.record_tokens of what is asked"
    return f"the budget is per {budget} tokens, not {asked}: {where}"
