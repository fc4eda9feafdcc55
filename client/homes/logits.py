"""Let a home's experts think along, one block of positions at a time: see `protocols/logits/block.py`.

What a block costs depends on where its privacy comes from:

    nowhere           the sum is exact and the models are what they are: a disclosure, counted
    the training      the one adapter behind the expert was charged when it was trained: nothing more is due
    the sum           every member adds a share of Gaussian noise: charged, block by block
    the sampling      the coordinator draws one symbol from the sum: charged for the session with its first block
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from dp_accounting import DpEvent, SelfComposedDpEvent, ZCDpEvent
from numpy.typing import NDArray

from client.experts.expert import Thought
from client.experts.opening import Experts
from client.homes.positions import entries
from client.visit import Begun, Noise, Summand, Visit
from privacy.accounting.events import PMixedDpEvent
from privacy.artefact import Artefact
from privacy.fixed_point import FixedPoint
from privacy.gate import Disclosed, Released
from privacy.randomness import Randomness
from privacy.sampled_sum import noised_sum, sum_of_shards
from privacy.units import Unit
from protocols.faults import LocalError, OtherBase, PeerError
from protocols.logits import contrast, distill, mixture, private_predict, product
from protocols.logits.block import Batch
from protocols.logits.question import Alphabet, Question, Sends
from protocols.secure_sum.messages import Request, Slip, Upload

FITS: Mapping[str, Callable[[Question], bool]] = {
    made.NAME: made.fits for made in (contrast, distill, mixture, private_predict, product)
}
_UNITS = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)


@dataclass(frozen=True, slots=True)
class Adding:
    """Run the experts, add up what each says as integers, add this member's share of noise if any, and mask it.

    `event` is what it costs, known beforehand; `artefact` what it is made of, where that was charged.
    Trusts:  for noise in the sum, that the honest members add theirs and tell nobody what it was.
    """

    batch: Batch
    number: int
    experts: Experts
    begun: Begun
    note: Callable[[], None]
    event: DpEvent | None = None
    artefact: Artefact | None = None

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words. Raises: LocalError, since it was charged: another draw would be a second look."""
        self.note()
        try:
            total = noised_sum(self._vectors(), self.begun.spec, randomness)
        except PeerError:
            raise LocalError("an expert could not read what it was asked, and that was charged") from None
        return self.begun.mask(total)

    def _vectors(self) -> Iterator[NDArray[np.float64]]:
        """Yield each expert's entries (length,), strand after strand."""
        strands = [(asked, asked.context.tolist(), asked.drafts.tolist()) for asked in self.batch.strands]
        public: list[Thought | None] = [None] * len(strands)
        if self.batch.question.sends in (Sends.RATIOS, Sends.MIXED):
            public = [self.experts.public.block(context, drafts) for _, context, drafts in strands]
        number, scale = self.number, self.begun.spec.scale
        for expert in self.experts.own:
            said = [
                entries(asked, number, expert.block(context, drafts), before, scale).ravel()
                for (asked, context, drafts), before in zip(strands, public, strict=True)
            ]
            yield np.concatenate(said)


@dataclass(frozen=True, slots=True)
class LogitsVisit(Visit):
    """Think along, and let only what goes into a sum go."""

    def thought(
        self, batch: Batch, number: int, request: Request, slips: Sequence[Slip]
    ) -> Released[Upload] | Disclosed[Upload]:
        """Return what this home's experts add at each position, masked for the sum `request`, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the sum.
        Raises:  PeerError for a question or a request that does not fit this home; Refused: nothing was charged.
        """
        question, name = batch.question, self.occasion.collaboration
        if not FITS[name](question):
            raise PeerError(f"a question of another collaboration than {name}")
        self.consider(self.summed(question.plan, request), noisy=True)  # whether without any is for the gate
        experts = self._experts(batch, request)
        noise = self._noise(question, experts)
        if noise in (Noise.SHARED, Noise.CENTRAL):
            self._require_unit(question, experts)
        if noise is not Noise.SHARED:
            attempts = self.gate.policy.permission(self.occasion).attempts
            self.house.answered.require(batch, request.members, attempts)
        summand = Summand(
            purpose=name,
            plan=question.plan,
            context=batch.digest(name),
            query=number,
            noise=noise,
            spec=lambda terms, members: question.spec(terms, members, batch.positions),
            make=lambda begun: self._adding(batch, number, experts, noise, begun),
            paid=self.house.answered.paid(self.occasion.session) if noise is Noise.CENTRAL else None,
        )
        return self.add(summand, request, slips)

    def _experts(self, batch: Batch, request: Request) -> Experts:
        """Return the experts for these symbols, if they can read what is asked. Raises: PeerError.

        Each member of the sum has one expert at least: more than the question counts would not fit into the words.
        """
        question = batch.question
        if question.base != self.house.base.digest:
            raise OtherBase("a question about another base model")
        experts = self.house.experts(by_bytes=question.alphabet is Alphabet.BYTES)
        if any(e.symbols != question.symbols for e in (experts.public, *experts.own)):
            raise PeerError(f"{question.symbols} symbols, and this home's experts know another number of them")
        if len(experts.own) > question.experts:
            raise PeerError(f"{question.experts} experts in all, and this home alone has more")
        if len(experts.own) > 1 and len(experts.own) + len(request.members) - 1 > question.experts:
            raise PeerError(f"{question.experts} experts in all, and this home and one at each other member are more")
        for expert in (experts.public, *experts.own):
            for asked in batch.strands:
                expert.require_room(asked.context.size + asked.drafts.size)
        return experts

    def _require_unit(self, question: Question, experts: Experts) -> None:
        """Refuse to charge what protects less than the account promises. Raises: PeerError, LevelForbidden."""
        self.require_unit(question.unit, self.gate.policy.budget.record_tokens, _UNITS)
        if question.unit is Unit.MEMBER and question.sends is Sends.MIXED and len(experts.own) > 1:
            raise PeerError("mixed distributions protect a whole member only where it has one expert")

    def _adding(self, batch: Batch, number: int, experts: Experts, noise: Noise, begun: Begun) -> Adding:
        question, session, letter = batch.question, self.occasion.session, self.occasion.number
        answered, members = self.house.answered, begun.members

        def note() -> None:
            if noise is not Noise.SHARED:
                answered.note(batch, members)
            if noise is Noise.CENTRAL and answered.paid(session) is None:
                answered.pay(session, letter)

        event = None
        if noise is Noise.SHARED:
            event = noised(question, len(experts.own), begun.spec, begun.terms.honest)
        elif noise is Noise.CENTRAL:
            event = SelfComposedDpEvent(sampled(question, len(experts.own), begun.spec), question.most)
        return Adding(batch, number, experts, begun, note, event, experts.artefact)

    def _noise(self, question: Question, experts: Experts) -> Noise:
        """Return where the privacy comes from. An adapter that was trained without noise was never charged."""
        if question.central:
            return Noise.CENTRAL
        if question.noise_multiplier is not None:
            return Noise.SHARED
        if experts.digest is None or not self.house.ledger.was_charged(experts.digest):
            return Noise.NONE
        return Noise.EARLIER


def noised(question: Question, shards: int, spec: FixedPoint, honest: int) -> DpEvent:
    """Return what one sum costs in which all members add noise.

    What one expert says with a record and without it is within the bound both times; of two votes a position, at
    most two entries differ by one.
    """
    apart = 2.0 if question.sends is Sends.RATIOS else 2.0**0.5
    return sum_of_shards(question.unit, shards, apart, spec, honest)


def sampled(question: Question, shards: int, spec: FixedPoint) -> DpEvent:
    """Return what one symbol costs that the coordinator draws from the sum: see `private_predict.py`.

    A ratio that is rounded to a whole number of steps is above its clip by half a step at the most.
    """
    if question.sends is Sends.MIXED:
        return PMixedDpEvent(question.experts, question.order, question.radius)
    shift = question.shift * (1 + 0.5 / (spec.scale * question.clip))
    return ZCDpEvent(2 * shift**2 if question.unit is not Unit.MEMBER else (shards * shift) ** 2 / 2)
