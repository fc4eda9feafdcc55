"""Be the home that is consulted, and whose models vote: see `protocols/text/talk.py` and `poll.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from client.homes.counting import CountingVisit
from client.masking import Masked
from client.speaking.mouth import Mouth
from client.speaking.prompts import Prompt
from client.speaking.speaker import Silent, Speaker
from client.training.noise import require_promise
from client.visit import Begun, Noise, Summand, Visit
from privacy.gate import Disclosed, Released, Said
from privacy.randomness import Randomness
from privacy.redaction.redacted import Redacted
from privacy.sampled_sum import noised_sum, sum_of_shards
from privacy.units import Unit
from protocols.faults import PeerError
from protocols.secure_sum.messages import Request, Slip, Upload
from protocols.text.poll import Judge, Mark, Poll, context_of
from protocols.text.talk import Consult, Reply, Step

_UNITS = (Unit.RECORD, Unit.GROUP, Unit.MEMBER)


@dataclass(frozen=True, slots=True)
class TalkingVisit(Visit):
    """Write and vote, and let only redacted text and masked votes go."""

    def replied(self, consult: Consult) -> Disclosed[Reply]:
        """Have the home's model write, and let its words go once they were redacted.

        What it wrote stays at home where the policy does not want it to leave as this home redacts it: that is asked
        before it writes, so that nobody can make it work for nothing.
        Learns:  the caller: the text, but for what was detected in it; it is a disclosure, and has no epsilon.
        Raises:  PeerError if nothing writes here, or for a question that is too long; Refused, also if the model is
                 silent.
        """
        mouth, place = self._mouth, self.place
        occasion = replace(self.occasion, plan=consult.brief.plan)
        self.gate.require_text(mouth.profile, self.account, occasion)
        prompt = Prompt.of(consult, mouth.near(consult.question))
        said = prompt.taken(mouth.speaker().say(prompt))
        heard = (consult.question, consult.draft, *consult.heard)
        at = sorted(place.members).index(place.me)
        redacted = mouth.redact(said, self.occasion.session, at, heard, consult.brief.longest)
        return self.gate.pass_on(redacted, self.account, occasion, _reply)

    def judged(self, ask: Judge, request: Request, slips: Sequence[Slip]) -> Released[Upload] | Disclosed[Upload]:
        """Have the home's models vote, and return their votes masked for `request`, through the gate.

        Learns:  the caller: nothing but sizes, until all others' words are added; then the tally.
        Raises:  PeerError for a poll or a request that does not fit this home; Refused: nothing was charged.
        """
        name, poll = self.occasion.collaboration, ask.poll
        noise = Noise.NONE if poll.noise_multiplier is None else Noise.SHARED
        self.consider(self.summed(poll.plan, request), noisy=noise is not Noise.NONE)
        voters = self._voters(poll)
        summand = Summand(
            purpose=name,
            plan=poll.plan,
            context=context_of(name, ask),
            query=ask.poll_number,
            noise=noise,
            spec=lambda terms, members: poll.spec(terms, members, len(ask.options)),
            make=lambda begun: self._vote(Papers(voters, ask, self._notes(ask)), begun),
            times=poll.polls if ask.poll_number == 0 else 0,
        )
        return self.add(summand, request, slips)

    def close(self) -> Said[bytes]:
        """Forget the session's keys and tokens, and say nothing more. Raises: Refused."""
        if self.house.mouth is not None:
            self.house.mouth.leave(self.occasion.session)
        return Visit.close(self)

    @property
    def _mouth(self) -> Mouth:
        if self.house.mouth is None:
            raise PeerError("nothing writes here: home.toml has no [text]")
        return self.house.mouth

    def _voters(self, poll: Poll) -> tuple[Speaker, ...]:
        """Return the models that vote here: for an epsilon, those on disjoint shards of the records."""
        mouth = self._mouth
        voters = mouth.voters()
        if poll.noise_multiplier is None:  # of more voters than there may be, the one that writes votes for all
            return voters if 0 < len(voters) <= poll.voters else (mouth.speaker(),)
        self.require_unit(poll.unit, self.gate.policy.budget.record_tokens, _UNITS)
        if not voters:
            raise PeerError("no models on shards of the records vote here: home.toml has no text.shards")
        if len(voters) > poll.voters:
            raise PeerError(f"{poll.voters} voters in all, and this home alone has more")
        return voters

    def _notes(self, ask: Judge) -> tuple[str, ...]:
        """Return the notes that voters are shown: none where a record must be in one shard alone."""
        return () if ask.poll.noise_multiplier is not None else self._mouth.near(ask.question)

    def _vote(self, papers: "Papers", begun: Begun) -> "Masked | NoisyPapers":
        if papers.ask.poll.noise_multiplier is None:
            return Masked(papers, begun.spec, begun.mask)
        noisy = NoisyPapers(papers, begun)
        require_promise(papers.ask.poll, noisy.event)
        return noisy


@dataclass(frozen=True, slots=True)
class ElectingVisit(TalkingVisit, CountingVisit):
    """Write and vote, and have the records vote too."""


@dataclass(frozen=True, slots=True)
class Papers:
    """Be the voters of a home, each with one paper."""

    voters: tuple[Speaker, ...]
    ask: Judge
    notes: tuple[str, ...]

    def each(self) -> list[NDArray[np.float64]]:
        """Return each voter's paper, (options,), of norm at most 1 if the poll is for one vote.

        A voter that cannot read what it is asked, or is silent, is sure of nothing: the others' votes are charged.
        """
        prompt = Prompt(Step.ANSWER, self.ask.question, notes=self.notes)
        return [self._paper(voter, prompt) for voter in self.voters]

    def _paper(self, voter: Speaker, prompt: Prompt) -> NDArray[np.float64]:
        ask = self.ask
        try:
            shares = voter.weigh(prompt, ask.options)
        except (PeerError, Silent):
            shares = np.zeros(len(ask.options))
        return paper(ask.poll, shares)

    def draw(self, _randomness: Randomness) -> NDArray[np.float64]:
        """Return the votes, without noise: (options,) float64."""
        return np.asarray(np.sum(self.each(), axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class NoisyPapers:
    """Add up the papers as integers, and this member's share of the noise, and mask them.

    Trusts:  that the honest members add their noise and tell nobody what it was.
    """

    papers: Papers
    begun: Begun

    @property
    def event(self) -> DpEvent:
        """Return what it costs: a record was in one shard, so it moves one vote from one option to another."""
        begun, poll = self.begun, self.papers.ask.poll
        return sum_of_shards(poll.unit, len(self.papers.voters), 2.0**0.5, begun.spec, begun.terms.honest)

    def draw(self, randomness: Randomness) -> Upload:
        """Return the masked words."""
        return self.begun.mask(noised_sum(self.papers.each(), self.begun.spec, randomness))


def paper(poll: Poll, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a voter that finds the options so probable puts on its paper, (options,)."""
    shares = np.nan_to_num(shares, nan=0.0)  # of a model whose numbers overflow
    if poll.mark is Mark.RANKS:
        beaten = (shares[:, None] > shares).sum(axis=1)
        alike = (shares[:, None] == shares).sum(axis=1) - 1
        return np.asarray((beaten + alike / 2) / (len(shares) - 1), np.float64)
    order = np.argsort(-shares, kind="stable")
    vote = np.zeros(len(shares))
    best, second = shares[order[0]], shares[order[1]]
    if best > second and best - second >= poll.lead:
        vote[order[0]] = 1.0
    return vote


def _reply(redacted: Redacted) -> Reply:
    return Reply(redacted.text, redacted.protection.as_json())
