"""Consult members in words: one ask for all collaborations in which models talk, each text redacted where it leaves.

    coordinator                                          member
      Consult(brief, number, step, question, ──────────▶ its own model writes, told what to do by its own home; what
              draft, heard)                              it wrote is redacted there, and let go by its gate
      ◀───────────────────────────────────────────────── Reply(redacted text, what the redaction is worth)

It is a star: a member hears of the others what the coordinator passes on, and no more. All that it hears is data: a
`step` is one of a public list, and what a model is told to do in it stands in the home's own files. What others wrote
can change a model's words, and nothing else: there is no tool to call, and what the model writes is redacted whatever
it was made to say. The tokens of a question stand for the asker's own values; a member's are numbered apart from them
(`privacy/redaction/vault.py`), and nobody puts back another's.

Learns:  the coordinator: every reply, but for what was taken out of it. Members: the question, and what is passed on.
Trusts:  nobody with what the redactors found; all who hear it with the rest of the text. There is no epsilon.
Cites:   Feng et al. 2025, MoCo; Du et al. 2023 (debate), each changed so that no text crosses as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from protocols.faults import Abort, LocalError, PeerError
from protocols.plans import plan_of
from protocols.session import Coordinator, MemberId
from protocols.wire import Message, Wire

if TYPE_CHECKING:  # a coordinator needs no accountant, and starts seconds sooner without
    from privacy.cleared import Cleared, Disclosed

LONGEST = 2**16  # characters of one text
MOST_HEARD = 256
MOST_TURNS = 1000


class Step(Enum):
    """Name what a member's model is to do.

    ANSWER the question; REFINE its own draft, having heard the others'; CRITICISE a draft that is somebody else's;
    INFORM whoever asks of what it knows that bears on the question; PROPOSE what the board that it heard still
    misses, or nothing; CHALLENGE a draft with what speaks against it; SPEAK for its own community.
    """

    ANSWER = "answer"
    REFINE = "refine"
    CRITICISE = "criticise"
    INFORM = "inform"
    PROPOSE = "propose"
    CHALLENGE = "challenge"
    SPEAK = "speak"


@dataclass(frozen=True, slots=True)
class Brief(Message):
    """State by which public terms members are consulted: the same for every member and every ask.

    Units:   one member is asked for at most `turns` texts, of `longest` characters each; it is shown `heard` texts of
             others, as long at the most, with one question.
    """

    turns: int
    longest: int
    heard: int

    def __post_init__(self) -> None:
        if not 1 <= self.turns <= MOST_TURNS:
            raise ValueError(f"turns: expected 1 to {MOST_TURNS}")
        if not 1 <= self.longest <= LONGEST:
            raise ValueError(f"longest: expected 1 to {LONGEST} characters")
        if not 0 <= self.heard <= MOST_HEARD:
            raise ValueError(f"heard: expected 0 to {MOST_HEARD} texts")

    @property
    def plan(self) -> str:
        """Return the brief as canonical JSON of at most 4 KiB, for whoever approves or audits it."""
        return plan_of(self)


@dataclass(frozen=True, slots=True)
class Consult(Message):
    """Ask for a text. `draft` is what is refined, criticised or challenged; `heard` are texts of others.

    `number` counts all asks of the session, and only grows.
    """

    brief: Brief
    number: int
    step: Step
    question: str = field(repr=False)
    draft: str = field(repr=False)
    heard: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply(Message):
    """Hold a redacted text, and `protection`: what its redaction is worth, as JSON that says "guarantee": "none"."""

    text: str = field(repr=False)
    protection: str


@dataclass(frozen=True, slots=True)
class Entry(Message):
    """Hold who wrote which redacted text in which `round` of a talk; all texts of a round were asked for at once."""

    member: str
    round: int
    step: Step
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Talked(Message):
    """Be the result: every redacted text, and those that the asker is to make its answer of, the best first."""

    entries: tuple[Entry, ...]
    answers: tuple[str, ...] = field(repr=False)


class Home(Protocol):
    """What being consulted asks of a member's home."""

    def replied(self, consult: Consult) -> "Disclosed[Reply]":
        """Have the home's model write, redact that, and return it by the gate.

        Raises: PeerError for an ask that this home has no model for; Refused, also if it does not answer.
        """


@dataclass(frozen=True, slots=True)
class Guest(Message):
    """Wait for an ask not before `next_number`; `turns` texts were written in this session, as `brief` allows."""

    brief: Brief | None
    next_number: int
    turns: int

    def answer(self, ask: Message, home: Home) -> "tuple[Guest, Cleared[Any]]":
        """Write, and answer with what the gate let go."""
        if not isinstance(ask, Consult):
            raise PeerError(f"{type(ask).__name__} is no ask of this collaboration")
        return self.after(ask), home.replied(ask)

    def after(self, ask: Consult) -> "Guest":
        """Return the state after an ask. Raises: PeerError for one out of order, or against its brief."""
        if self.brief is not None and ask.brief != self.brief:
            raise PeerError("another brief than this session's")
        if ask.number < self.next_number:
            raise PeerError("an ask out of order")
        if self.turns >= ask.brief.turns:
            raise PeerError(f"more texts than the {ask.brief.turns} of the brief")
        _require_short(ask)
        return Guest(ask.brief, ask.number + 1, self.turns + 1)


def _require_short(ask: Consult) -> None:
    """Refuse more, or longer, texts than the brief says. Raises: PeerError, which quotes none of them."""
    if len(ask.heard) > ask.brief.heard:
        raise PeerError(f"{len(ask.heard)} texts of others, the brief says at most {ask.brief.heard}")
    if not ask.question.strip():
        raise PeerError("an empty question")
    if len(ask.question) > LONGEST or max(map(len, (ask.draft, *ask.heard))) > ask.brief.longest:
        raise PeerError("a text longer than the brief says")


@dataclass
class Table:
    """Ask the members of a session for texts, one round after the other; be the coordinator's side.

    `entries` has all that was written, in the order of rounds and members. At least `quorum` must reply in each.
    """

    brief: Brief
    members: tuple[MemberId, ...]
    quorum: int
    entries: list[Entry] = field(default_factory=list)
    number: int = 0
    rounds: int = 0

    def ask(
        self, step: Step, question: str, parts: Mapping[MemberId, tuple[str, Sequence[str]]] | None = None
    ) -> Coordinator[dict[MemberId, str]]:
        """Return the replies, of those who are in `parts` (member -> draft and what it hears), or of all members.

        An empty reply is one: its writer had nothing to say. Raises: Abort below the quorum.
        """
        of: Mapping[MemberId, tuple[str, Sequence[str]]] = (
            dict.fromkeys(self.members, ("", ())) if parts is None else parts
        )
        asks = {m: Consult(self.brief, self.number, step, question, d, self._heard(h)) for m, (d, h) in of.items()}
        answers = yield asks
        self.number += 1
        replies = {
            m: a.text for m, a in answers.items() if isinstance(a, Reply) and len(a.text) <= self.brief.longest
        }
        if len(replies) < self.quorum:
            raise Abort(f"{len(replies)} of {len(self.members)} members replied; {self.quorum} are needed")
        self.entries += [Entry(m, self.rounds, step, replies[m]) for m in of if m in replies]
        self.rounds += 1
        return {m: replies[m] for m in of if m in replies}

    def _heard(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return as many of the texts as the brief allows: the last ones."""
        said = [text for text in texts if text.strip()]
        return tuple(said[len(said) - min(len(said), self.brief.heard) :])


def distinct(texts: Iterable[str], most: int) -> tuple[str, ...]:
    """Return at most so many texts that differ in more than case and spaces, what was said most often first.

    Of those that do not differ the first one stands for all; blank ones are none.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        if text.strip():
            found.setdefault(" ".join(text.casefold().split()), []).append(text)
    return tuple(said[0] for said in sorted(found.values(), key=len, reverse=True))[:most]


def others(replies: Mapping[MemberId, str], member: MemberId) -> tuple[str, ...]:
    """Return what all but one member replied, in the members' order."""
    return tuple(text for m, text in replies.items() if m != member)


def require_question(question: str, quorum: int, members: Sequence[MemberId]) -> None:
    """Return if a talk can begin. Raises: LocalError, which does not quote the question."""
    if not question.strip() or len(question) > LONGEST:
        raise LocalError(f"a question: expected 1 to {LONGEST} characters that are not blank")
    if not 1 <= quorum <= len(members):
        raise LocalError(f"quorum: expected 1 to {len(members)}, the members that are asked")


BEGIN = Guest(None, 0, 0)
STATES = Wire(Guest)
KINDS = (Consult, Reply)  # what each collaboration here has beside its task and its result
