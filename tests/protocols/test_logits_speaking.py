"""Answers symbol by symbol: the same as without drafts, to their end, whatever becomes of a member on the way."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from test_logits_sums import experts, naive
from thinkers import LONGEST, PLAIN, PUBLIC, SYMBOLS, question
from village import Village, village

from protocols.catalog import CATALOG
from protocols.faults import Abort, LocalError, PeerError
from protocols.logits.question import Question, Sends
from protocols.logits.sampling import accepted, pick
from protocols.logits.speaking import Spoken, speak
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId, drive

PROMPT = (1, 4)
RATIOS = {"sends": Sends.RATIOS, "clip": 2.0}
CENTRAL = question(**RATIOS, central=True, experts=24, strength=1.5, most=24, block=4)


@dataclass
class Speaker:
    """Be the coordinator's own side, with numbers that can be drawn again."""

    seed: int = 7
    ends: frozenset[int] = frozenset()
    shown: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.seed)

    def block(self, context, drafts):
        return PUBLIC.block(context, drafts)

    def draft(self, context, count, *, greedy):
        drafts, rows = [], np.zeros((count, SYMBOLS))
        for i in range(count):
            row = np.exp(PUBLIC.logs[[*context, *drafts][-1]])
            drafts.append(int(row.argmax()) if greedy else pick(row, self.numbers.random()))
            rows[i] = row
        return drafts, rows

    def uniform(self) -> float:
        return float(self.numbers.random())

    def emit(self, symbols) -> None:
        self.shown.append(list(symbols))


def said(
    there: Village, name: str, asked: Question, public=None, prompt=PROMPT, terms=PLAIN, session="5e55"
) -> Spoken:
    public = public or Speaker()
    outbox = there.outbox(session, name)
    members = [MemberId(m) for m in sorted(there.houses)]
    return drive(speak(name, members, asked, terms, 2, prompt, public), outbox, CATALOG[name].wire)


def after(there: Village, name: str, asked: Question, context) -> np.ndarray:
    """Return the distribution after a context, by the definition."""
    return naive(name, asked, experts(there), (*context, 0))[-1]


def test_samples_that_are_matched_are_the_answer_without_drafts_to_the_symbol(tmp_path):
    there = village(tmp_path, 3)
    made = said(there, "private_predict", CENTRAL)
    numbers, context = Speaker(), list(PROMPT)
    for _ in range(CENTRAL.most):  # one number for each symbol: drafting greedily takes none
        context.append(pick(after(there, "product", CENTRAL, context), numbers.uniform()))
    assert made.symbols == tuple(context[2:])
    assert sum(made.given) == CENTRAL.most
    assert max(made.given) > 1


def test_an_answer_with_accepted_drafts_follows_the_mixture_symbol_by_symbol(tmp_path):
    """The loop by hand, on distributions by the definition: the same numbers, drafts and symbols."""
    there, asked = village(tmp_path, 3), question(most=20)
    made = said(there, "mixture", asked)
    public, context, given = Speaker(), list(PROMPT), []
    while len(context) < 2 + asked.most:
        drafts, rows = public.draft(context, min(asked.block, 2 + asked.most - len(context)) - 1, greedy=False)
        targets = [after(there, "mixture", asked, [*context, *drafts[:i]]) for i in range(len(drafts) + 1)]
        new = accepted(np.array(targets), rows, drafts, public.uniform)
        context += new
        given.append(len(new))
    assert made.symbols == tuple(context[2:])
    assert made.given == tuple(given)
    assert made.answered == (3,) * len(given)


@pytest.mark.parametrize(("name", "asked"), [
    ("mixture", question(most=9, support=3)), ("product", question(**RATIOS, most=9, support=2)),
    ("contrast", question(**RATIOS, most=9, strength=2.0, plausible=0.2)),
    ("mixture", question(most=9, block=1)), ("mixture", question(most=1, block=1)),
])  # fmt: skip
def test_every_collaboration_speaks_to_the_last_symbol_that_was_asked_for(name, asked, tmp_path):
    there, public = village(tmp_path, 3), Speaker()
    made = said(there, name, asked, public)
    assert len(made.symbols) == sum(made.given) == asked.most
    assert [s for part in public.shown for s in part] == list(made.symbols)
    assert [len(part) for part in public.shown] == list(made.given)


def test_an_answer_ends_with_the_first_symbol_that_ends_it(tmp_path):
    there = village(tmp_path, 3)
    whole = said(there, "mixture", question(most=30))
    end = whole.symbols[5]
    cut = said(there, "mixture", question(most=30), Speaker(ends=frozenset([end])), session="5e56")
    assert cut.symbols == whole.symbols[: whole.symbols.index(end) + 1]


@pytest.mark.parametrize(("prompt", "fault"), [((), LocalError), ((1,) * (LONGEST + 1), PeerError)])
def test_a_prompt_that_nobody_can_read_is_refused_before_anybody_is_asked(prompt, fault, tmp_path):
    there = village(tmp_path, 3)
    with pytest.raises(fault):
        said(there, "mixture", question(), prompt=prompt)
    assert there.road.trip == 0


def test_a_prompt_of_impossible_symbols_is_told_in_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(PUBLIC, "table", np.where(np.arange(SYMBOLS) == 4, -1e9, PUBLIC.table))
    assert len(said(village(tmp_path, 3), "mixture", question(most=4)).symbols) == 4


@pytest.mark.parametrize("mode", list(Mode))
def test_a_member_that_goes_in_the_middle_of_an_answer_ends_it_clearly_or_is_left_out(mode, tmp_path):
    there = village(tmp_path, 4, lost=lambda trip, member, way: member == "m2" and trip > 5)
    terms = Terms(mode, smallest_crowd=3, colluding=1)
    if mode is Mode.STRICT:
        with pytest.raises(Abort, match="3 of 4 members answered, and the sum needs all"):
            said(there, "mixture", question(most=20), terms=terms)
        return
    made = said(there, "mixture", question(most=20), terms=terms)
    assert len(made.symbols) == 20
    assert set(made.answered) == {4, 3}


def test_members_never_see_more_of_an_answer_than_was_shown(tmp_path):
    """Context grows by what was shown; the rest of a block's drafts are guesses of the public model."""
    there, public, asked = village(tmp_path, 3), Speaker(), []
    outbox = there.outbox("5e55", "mixture")
    running = speak(
        "mixture", [MemberId(m) for m in sorted(there.houses)], question(most=12), PLAIN, 2, PROMPT, public
    )

    def watched():
        answers = None
        try:
            while True:
                asks = running.send(answers)
                asked.append((next(iter(asks.values())), len(public.shown)))
                answers = yield asks
        except StopIteration as end:
            return end.value

    drive(watched(), outbox, CATALOG["mixture"].wire)
    context = list(PROMPT)
    thoughts = [(a.strands[0], shown) for a, shown in asked if hasattr(a, "strands")]
    for ask, shown in thoughts:
        context = context[: ask.start] + ask.tokens.tolist()
        assert context == [*PROMPT, *(s for part in public.shown[:shown] for s in part)]
    assert replace(thoughts[0][0]).start == 0
    assert thoughts[1][0].start == len(PROMPT)
