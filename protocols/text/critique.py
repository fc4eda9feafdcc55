"""Critique: the members debate public questions, label them by secret votes, and each trains on the labels at home.

    coordinator                                          member
      (a secure sum is opened)
      for each public question:
        Consult(ANSWER, question), ────────────────────▶ its model answers, and mends its answer
        Consult(REFINE, ...)                         ◀── Reply(redacted answers)
        Judge(poll, question, answers) ────────────────▶ its models vote
        the answer with most votes, if enough stand  ◀── Upload(masked votes)
        behind it, is the question's label

What comes of it are pairs of a public question and a label, for every member to fine-tune on (`parley member train`):
only labels cross between the models, and with noise on the votes their price is that of all polls together.

Learns:  the coordinator: redacted answers, tallies, labels. Members: the same, but for the tallies.
Trusts:  as `talk.py` and `poll.py`.
Cites:   Subramaniam et al. 2025 (multiagent finetuning); Papernot et al. 2018 (labels by noisy votes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.faults import Abort, LocalError
from protocols.secure_sum.terms import Terms
from protocols.session import Coordinator, MemberId
from protocols.text import poll as polls
from protocols.text.debate import debated
from protocols.text.poll import Mark, Poll, Tally, open_booth, require_poll
from protocols.text.talk import Brief, Entry, Table, distinct, require_question
from protocols.wire import Message, Wire

MOST_QUESTIONS = 1000


@dataclass(frozen=True, slots=True)
class Critique(Message):
    """Be the task: label public `questions`, debated for `rounds` each; a label leads by `least` votes.

    The poll has one poll for each question; where noise is added, `least` is above it.
    """

    brief: Brief
    quorum: int
    terms: Terms
    questions: tuple[str, ...]
    rounds: int
    least: float
    poll: Poll


@dataclass(frozen=True, slots=True)
class Label(Message):
    """Hold a public question, the redacted answer that stood, and by how many votes it led."""

    question: str = field(repr=False)
    answer: str = field(repr=False)
    lead: float


@dataclass(frozen=True, slots=True)
class Labelled(Message):
    """Be the result: the labels that stood, every redacted text, and the tally of each poll."""

    labels: tuple[Label, ...]
    entries: tuple[Entry, ...]
    tallies: tuple[Tally, ...]


def coordinate(members: Sequence[MemberId], task: Message) -> Coordinator[Message]:
    """Return `Labelled`. Raises: Abort below the quorum, or if no label stood."""
    if not isinstance(task, Critique):
        raise LocalError("this collaboration runs Critique")
    require_poll(task.poll, Mark.BEST, task.terms, members)
    if not (task.poll.noise_multiplier or 0.0) <= task.least <= task.poll.voters:
        raise LocalError("least: expected at least the votes' noise, and no more than all votes")
    if not 1 <= len(task.questions) <= min(MOST_QUESTIONS, task.poll.polls):
        raise LocalError("questions: expected 1 to as many as the poll has polls")
    if not 1 <= task.rounds <= task.brief.turns // len(task.questions):
        raise LocalError("rounds: expected 1 to the turns of the brief for each question")
    for question in task.questions:
        require_question(question, task.quorum, members)
    booth = yield from open_booth(NAME, members, task.poll, task.quorum, task.terms)
    table, labels = Table(task.brief, tuple(members), task.quorum), list[Label]()
    for question in task.questions:
        said = yield from debated(table, question, task.rounds)
        answers = distinct(said.values(), task.poll.options)
        if len(answers) < 2:
            continue  # nobody contests it: it tells the members nothing that they do not say themselves
        tally = yield from booth.vote(table.number, question, answers)
        table.number += 1
        first, second = sorted(tally.votes, reverse=True)[:2]
        if tally.members and first - second >= task.least:
            labels.append(Label(question, answers[int(tally.votes.argmax())], float(first - second)))
    if not labels:
        raise Abort(f"no label of {len(task.questions)} stood, of {len(members)} members")
    return Labelled(tuple(labels), tuple(table.entries), tuple(booth.tallies))


NAME = "critique"
BEGIN = polls.BEGIN
STATES = polls.STATES
WIRE = Wire(Critique, Labelled, *polls.KINDS)
