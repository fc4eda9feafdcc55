"""Measure what models gain by talking: facts that one member knows, questions of another, all through real gates.

Five members, each with a model of its own that was taught forty facts by notes that name their authors. Each asks
about what any of them knows; beside it, the same question of the best member alone, and of the same talk with nothing
redacted. With a model that is given (`--model`) nothing is trained: every member has that one, and its own notes to
look in. What was planted (names, addresses) is looked for in every letter that crosses.

accuracy_NAME     the share of questions answered right by the collaboration; for `abstain` of the asker's drafts that
                  stand, beside all of its drafts; for `panel` of the answer with most support.
pairs_cards       questions that take two members' facts.
raw_text_gap      the most that `cards`, `debate` or `vote` lose by redaction, in points of accuracy.
canary_leaks      letters that crossed with something planted in them, of all collaborations.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from client.model import Base, load_base
from client.speaking.concluding import UNSURE
from protocols.faults import Abort
from protocols.session import MemberId
from simulations.benches.rows import Row, at_least, at_most
from simulations.facts.hall import Hall, raise_hall
from simulations.facts.school import Schooling, school
from simulations.facts.world import KINDS, Fact, Pair, Share, pairs, share_out
from simulations.talks import Consultation

NAMES = ("cards", "debate", "feedback", "vote", "blend", "blackboard", "abstain", "panel")
BESIDE = ("cards", "debate", "vote")  # beside the same with nothing redacted
_GAP = 0.03
_NOTES = 4  # that a model which was not taught them is shown with a question
_VALUES = frozenset(value for values in KINDS.values() for value in values)


@dataclass(frozen=True, slots=True)
class Size:
    """Say how large the world is, and how many questions are asked of each collaboration."""

    members: int = 5
    facts: int = 40
    authors: int = 4
    questions: int = 100
    seed: int = 11
    schooling: Schooling = field(default_factory=Schooling)


def text(work: Path | None = None, model: str | None = None, size: Size | None = None) -> list[Row]:
    """Return all rows; models that were trained are kept in `work`. With `model` (a path or id) none is.

    Raises: ConfigError for a model that is not there.
    """
    chosen = size or Size()
    shares = share_out([f"clinic-{i}" for i in range(chosen.members)], chosen.facts, chosen.authors, chosen.seed)
    with tempfile.TemporaryDirectory(prefix="parley-") as scratch:
        if model is not None:
            bases = dict.fromkeys((s.member for s in shares), load_base(model))
        else:
            _, bases = school(work or Path(scratch, "models"), shares, chosen.schooling)
        return _measured(shares, bases, Path(scratch), chosen, notes=0 if model is None else _NOTES)


def _measured(
    shares: Sequence[Share], bases: Mapping[str, Base], scratch: Path, size: Size, *, notes: int
) -> list[Row]:
    asked = questions(shares, size.questions, size.seed)
    hall = raise_hall(shares, bases, scratch / "redacted", redacted=True, notes=notes)
    plain = raise_hall(shares, bases, scratch / "plain", redacted=False, notes=notes)
    try:
        best = max(_share(partial(_alone, hall, s.member), asked) for s in shares)
        rows = [Row("best_member", best, "1", f"of {len(asked)} questions, each member's own model alone")]
        found = {name: score(hall, name, asked) for name in NAMES}
        rows += [_row(name, found[name].accuracy, best) for name in NAMES]
        drafts = _share(partial(_drafted, hall), asked)
        rows.append(Row("abstain_drafts", drafts, "1", "right, of all that were drafted"))
        rows.append(Row("abstain_stands", found["abstain"].answered / len(asked), "1", "of the drafts"))
        across = pairs(shares, size.questions, size.seed)
        first = MemberId(shares[0].member)
        asks = [(shares[0].member, pair) for pair in across]
        joint = _share(lambda _, question: hall.ask(first, question, Consultation("cards")).text, asks)
        single = _share(partial(_alone, hall, shares[0].member), asks)
        rows.append(Row("pairs_cards", joint, "1", f"yes or no; the asker alone {single:.3f}"))
        gaps = {name: score(plain, name, asked).accuracy - found[name].accuracy for name in BESIDE}
        rows.append(at_most("raw_text_gap", round(max(gaps.values()), 6), _GAP, "1"))
        rows.append(at_most("canary_leaks", hall.heard.leaks, 0, ""))
        rows.append(Row("letters", hall.heard.letters, "", "crossed, both ways"))
        rows.append(Row("canary_leaks_raw", plain.heard.leaks, "", f"of {plain.heard.letters} letters, not redacted"))
        return rows
    finally:
        hall.close()
        plain.close()


def questions(shares: Sequence[Share], count: int, seed: int) -> list[tuple[str, Fact]]:
    """Return who asks about which fact: as many of each member's as of any other's, askers in turn."""
    random = Random(seed)  # noqa: S311
    of_each = -(-count // len(shares))
    facts = [fact for share in shares for fact in random.sample(list(share.facts), of_each)]
    random.shuffle(facts)
    return [(shares[i % len(shares)].member, fact) for i, fact in enumerate(facts[:count])]


@dataclass(frozen=True, slots=True)
class Score:
    """Hold how many of the questions were answered, and right, of those that count; an abort is no answer."""

    right: int
    answered: int
    counted: int

    @property
    def accuracy(self) -> float:
        """Return the share that is right."""
        return self.right / max(1, self.counted)


def score(hall: Hall, name: str, asked: Sequence[tuple[str, Fact]]) -> Score:
    """Return what comes of the questions by a collaboration: of `abstain` those alone count whose draft stands."""
    right = answered = 0
    for member, fact in asked:
        options = fact.options if name in ("vote", "abstain") else ()
        wishes = Consultation(name, options=options, lead=0.5)
        try:
            said = hall.ask(MemberId(member), fact.question, wishes).text
        except Abort:
            continue
        answered += said != UNSURE
        right += is_right(said.partition("\n")[0], fact.value)
    return Score(right, answered, answered if name == "abstain" else len(asked))


def is_right(said: str, value: str) -> bool:
    """Say whether an answer names this value, and no other."""
    words = {w.strip(".,;:!?()[]\"'").casefold() for w in said.split()}
    return value in words and not (words & _VALUES) - {value}


def _alone(hall: Hall, member: str, _asker: str, question: str) -> str:
    return hall.alone(MemberId(member), question)


def _drafted(hall: Hall, member: str, question: str) -> str:
    options = next(values for kind, values in KINDS.items() if f"the {kind} of" in question)
    return hall.choice(MemberId(member), question, options)


def _share(ask: Callable[[str, str], str], asked: Sequence[tuple[str, Fact | Pair]]) -> float:
    right = 0
    for member, about in asked:
        wanted = about.answer if isinstance(about, Pair) else about.value
        right += is_right(ask(member, about.question), wanted)
    return right / len(asked)


def _row(name: str, found: float, best: float) -> Row:
    measure = f"accuracy_{name}"
    if name not in BESIDE:
        return Row(measure, found, "1", f"alone, at best: {best:.3f}")
    return at_least(measure, found, round(best + 0.1, 3), "1")
