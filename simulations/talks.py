"""Plan a talk at the text level from what the asker wishes, and make one answer of what comes of it.

One table says, for each collaboration, which task it runs and how its result is concluded at the asker's home. The
same is used on real nodes (`simulations/consulting.py`) and in a simulation (`simulations/facts/`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.asker import Asker
from client.speaking.concluding import Concluded, Concluding
from privacy.accounting.accountant import NAME
from privacy.config import ConfigError, nearest
from privacy.sampled_sum import least_sampled_noise
from privacy.units import Relation, Unit, rounded_up
from protocols.secure_sum.terms import Mode, Terms
from protocols.text.abstain import Abstain, Way
from protocols.text.blackboard import Blackboard
from protocols.text.blend import Blend
from protocols.text.cards import Cards
from protocols.text.debate import Debate
from protocols.text.feedback import Feedback
from protocols.text.panel import Panel
from protocols.text.poll import LEAST_VOTERS, MOST_OPTIONS, Mark, Poll, Polled
from protocols.text.talk import Brief, Talked
from protocols.text.vote import Vote
from protocols.wire import Message
from simulations.counting_noise import ORDERS

HIDDEN = "the tally is hidden: only the sum of all votes is seen; no epsilon"


@dataclass(frozen=True, slots=True)
class Consultation:
    """Say how members are to be consulted.

    Units:   `longest` characters of one text; `rounds` of a debate or a board, `critics` of each answer, the best
             `fuse` of a blend; a model votes if its choice leads by `lead` of its probability. `options` are the
             answers to choose from, none for those that members give. With `epsilon` at `delta` a vote of `voters`
             models on shards of the records is noised. At least `quorum` members must reply, and
             `smallest_crowd` be in each sum, of whom `colluding` may work with the coordinator. `members` are asked,
             or all who have enrolled; a round trip takes `deadline_s` at the most.
    """

    collaboration: str = "debate"
    rounds: int = 2
    critics: int = 1
    fuse: int = 3
    longest: int = 4000
    lead: float = 0.2
    options: tuple[str, ...] = ()
    way: Way = Way.COOPERATE
    made: tuple[str, ...] = ()
    epsilon: float | None = None
    delta: float = 1e-5
    voters: int | None = None
    quorum: int = 2
    smallest_crowd: int = 3
    colluding: int = 1
    members: tuple[str, ...] = ()
    deadline_s: float = 180.0
    purpose: str = ""

    @property
    def terms(self) -> Terms:
        """Return the terms of the secure sum."""
        return Terms(Mode.STRICT, self.smallest_crowd, self.colluding)

    def poll(self, mark: Mark, members: int) -> Poll:
        """Return the terms of the vote, its noise found for `epsilon` if there is one. Raises: ConfigError."""
        options = max(2, len(self.options), min(MOST_OPTIONS, members))
        noise = None
        if self.epsilon is not None:
            if (self.voters or 0) < LEAST_VOTERS or not self.options:
                what = f"expected none without --option, or for fewer than {LEAST_VOTERS} --voters: {HIDDEN}"
                raise ConfigError("parley consult", "--epsilon", what)
            unit_norms, _ = least_sampled_noise(
                rate=1.0, steps=1, epsilon=self.epsilon, delta=self.delta, orders=ORDERS,
                honest=self.terms.honest, length=options,
            )  # fmt: skip
            noise = 2.0**0.5 * unit_norms  # one record moves one vote from one option to another
        voters = self.voters or members
        return Poll(mark, options, 1, voters, self.lead, Unit.RECORD, self.epsilon, self.delta, noise)

    @property
    def claim(self) -> str:
        """Return what a tally promises, and on what that rests; or that it promises nothing."""
        if self.epsilon is None:
            return HIDDEN
        return (
            f"the tally: epsilon {rounded_up(self.epsilon)} at delta {self.delta:g}, per {Unit.RECORD.value},"
            f" {Relation.ADD_OR_REMOVE.value}, by {NAME}; {self.terms.honest} members at least add their noise and"
            f" tell nobody what it was, and no record is in two shards, or held by two members"
        )

    def brief(self, members: int) -> Brief:
        """Return the terms of the texts."""
        return Brief(turns=self.rounds + self.critics + 2, longest=self.longest, heard=max(8, 2 * members))


@dataclass(frozen=True, slots=True)
class Kind:
    """Say what one collaboration runs, and what is made of its result.

    With a draft, it judges the asker's own; where nobody votes, there is nothing that noise could go into.
    """

    task: Callable[[Consultation, str, str, int], Message]
    conclude: Callable[[Concluding, str, str, Any], Concluded]
    drafts: bool = False
    votes: bool = True


def _fused(at: Concluding, question: str, _draft: str, result: Talked | Polled) -> Concluded:
    return at.fused(question, result)


def _elected(at: Concluding, _question: str, _draft: str, result: Polled) -> Concluded:
    return at.elected(result)


KINDS: Mapping[str, Kind] = {
    "abstain": Kind(
        lambda w, q, d, n: Abstain(w.brief(n), w.quorum, w.terms, q, d, w.way, w.poll(Mark.BEST, n)),
        lambda at, q, d, result: at.upheld(q, d, result),
        drafts=True,
    ),
    "blackboard": Kind(
        lambda w, q, _, n: Blackboard(w.brief(n), w.quorum, w.terms, q, w.rounds, w.poll(Mark.BEST, n)), _elected
    ),
    "blend": Kind(lambda w, q, _, n: Blend(w.brief(n), w.quorum, w.terms, q, w.fuse, w.poll(Mark.RANKS, n)), _fused),
    "cards": Kind(lambda w, q, _, n: Cards(w.brief(n), w.quorum, q, w.made), _fused, votes=False),
    "debate": Kind(lambda w, q, _, n: Debate(w.brief(n), w.quorum, q, w.rounds), _fused, votes=False),
    "feedback": Kind(lambda w, q, _, n: Feedback(w.brief(n), w.quorum, q, w.critics), _fused, votes=False),
    "panel": Kind(
        lambda w, q, _, n: Panel(w.brief(n), w.quorum, w.terms, q, w.poll(Mark.BEST, n), None),
        lambda at, _q, _d, result: at.all_of(result),
    ),
    "vote": Kind(
        lambda w, q, _, n: Vote(w.brief(n), w.quorum, w.terms, q, w.options, w.poll(Mark.BEST, n), None), _elected
    ),
}


def kind_of(name: str) -> Kind:
    """Return the collaboration of this name. Raises: ConfigError."""
    if name not in KINDS:
        hint = nearest(name, list(KINDS))
        raise ConfigError("parley consult", "--collaboration", f"one of {', '.join(KINDS)} ({hint})")
    return KINDS[name]


def require_votes(wishes: Consultation, members: int) -> None:
    """Return if `wishes` ask for no epsilon, or for one that their votes can have. Raises: ConfigError."""
    if wishes.epsilon is None:
        return
    challenged = wishes.collaboration == "abstain" and wishes.way is Way.COMPETE
    if challenged or not kind_of(wishes.collaboration).votes:
        what = f"expected none in {wishes.collaboration}: nobody votes there, and redacted text has no epsilon"
        raise ConfigError("parley consult", "--epsilon", what)
    wishes.poll(Mark.BEST, members)


def task_for(wishes: Consultation, question: str, draft: str, members: Sequence[str]) -> Message:
    """Return the task for a question, and a draft of an answer, that may cross. Raises: ConfigError."""
    try:
        return kind_of(wishes.collaboration).task(wishes, question, draft, len(members))
    except ValueError as wrong:
        raise ConfigError("parley consult", "", str(wrong)) from None


@dataclass(frozen=True, slots=True)
class Consulted:
    """Hold what a talk came to at the asker's home, and its result as it crossed."""

    concluded: Concluded
    result: Talked | Polled
    claim: str | None = None

    @property
    def lines(self) -> list[str]:
        """Return what stands beside the answer: how many texts crossed, how the votes fell, what a tally promises."""
        texts = (
            f"{len(self.result.entries)} redacted texts of members crossed, and the question: guarantee none,"
            " each counted by its owner's ledger"
        )
        votes = (f"{votes:g} for: {text}" for text, votes in self.concluded.support)
        return [texts, *votes, *([] if self.claim is None else [self.claim])]


def consulted(
    asker: Asker,
    question: str,
    wishes: Consultation,
    members: Sequence[str],
    carry: Callable[[Message], Message],
) -> Consulted:
    """Let a question go from the asker's home, have `carry` run the talk, and conclude it there.

    Learns:  the coordinator and the members: the redacted question, and of `abstain` the redacted draft.
    Raises:  ConfigError for what the asker's policy does not let go; Silent, PeerError from its own model; Abort.
    """
    mouth = asker.house.mouth
    if mouth is None:
        raise ConfigError(
            asker.policy_file.with_name("home.toml"), "text", "expected what writes here: an answer is made at home"
        )
    kind, at = kind_of(wishes.collaboration), Concluding(mouth, asker.restored)
    require_votes(wishes, len(members))
    draft = ""
    if kind.drafts:
        draft = at.choose(question, wishes.options) if wishes.options else at.answer(question)
    crossing = asker.let_go(question, members, wishes.purpose)
    drafted = asker.let_go(draft, members, wishes.purpose) if draft else ""
    result = carry(task_for(wishes, crossing, drafted, members))
    assert isinstance(result, Talked | Polled)  # noqa: S101  what these collaborations come to
    claim = wishes.claim if isinstance(result, Polled) and result.tallies else None
    return Consulted(kind.conclude(at, question, draft, result), result, claim)
