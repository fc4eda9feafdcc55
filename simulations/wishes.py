"""Say by which public terms private models are asked together, and what an answer may cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dp_accounting import SelfComposedDpEvent

from client.homes.logits import sampled
from privacy.accounting.accountant import NAME, Filter, default_orders, price
from privacy.config import ConfigError, nearest
from privacy.units import Guarantee, Relation
from protocols.logits.block import MOST_STRANDS
from protocols.logits.question import BITS, Alphabet, Question, Sends
from protocols.secure_sum.terms import Mode, Terms
from simulations.allowances import rho_of

_SUPPORT = 64  # of a vocabulary of tokens; of bytes all
_KINDS: dict[str, dict[str, Any]] = {
    "mixture": {"sends": Sends.WEIGHTED},
    "product": {"sends": Sends.RATIOS},
    "contrast": {"sends": Sends.RATIOS, "strength": 1.5, "plausible": 0.1},
    "private_predict": {"sends": Sends.RATIOS, "central": True},
}
_ASSUMED = (
    "a record is so many tokens of one document as each home's own policy says",
    "nothing else was charged at a home, whose own ledger adds up all that was",
    "no record is in two shards, or held by two members",
    "the coordinator draws each symbol by chance that nobody knows, and shows nobody the sums",
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """Say how to ask: by which collaboration, whom (all who have enrolled, if nobody is named), and by which terms.

    At most `most` symbols an answer, `block` of them in one round trip, each from `support` symbols that the public
    model finds likeliest (None: 64 tokens, or all bytes). At least `smallest_crowd` members are in every sum,
    `colluding` of them with the coordinator. One round trip takes `deadline_s` at the most. `experts` is the public
    number of the members' models, by default one each. `spend` is for private_predict alone.
    """

    collaboration: str = "mixture"
    members: tuple[str, ...] = ()
    most: int = 64
    block: int = 4
    support: int | None = None
    smallest_crowd: int = 3
    colluding: int = 1
    deadline_s: float = 60.0
    purpose: str = ""
    alphabet: Alphabet = Alphabet.TOKENS
    experts: int | None = None
    spend: Spend | None = None

    @property
    def terms(self) -> Terms:
        """Return the terms of the sums."""
        return Terms(Mode.STRICT, self.smallest_crowd, self.colluding, BITS)


@dataclass(frozen=True, slots=True)
class Spend:
    """Say what answers may cost a record at each home, all their symbols together; it follows how far each is moved.

    Units:   `epsilon` at `delta`, if nothing else was charged; `clip` in nats of one model's log-ratios,
             which `lean` to what it finds likelier.
    """

    epsilon: float
    delta: float = 1e-5
    clip: float = 2.0
    lean: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1000 or not 0 < self.delta < 1e-2:
            raise ConfigError("parley ask", "--epsilon, --delta", "expected above 0 and below 1000, and below 0.01")


def question_for(base: str, symbols: int, wishes: Wishes, members: int, ahead: int = 0, answers: int = 1) -> Question:
    """Return the public terms of a session on the base model of this digest, over so many symbols.

    It is for so many `answers`: each may have `most` symbols, and what is spent is for all of them together.
    `ahead` positions more are for prompts that are summed over, too. Raises: ConfigError.
    """
    if wishes.collaboration not in _KINDS:
        hint = nearest(wishes.collaboration, list(_KINDS))
        raise ConfigError("parley ask", "--collaboration", f"one of {', '.join(_KINDS)} ({hint})")
    kind = _KINDS[wishes.collaboration]
    if kind.get("central", False) is not (wishes.spend is not None):
        raise ConfigError("parley ask", "--epsilon", "expected with private_predict, and with nothing else")
    widest = 0 if wishes.alphabet is Alphabet.BYTES else _SUPPORT
    try:
        question = Question(
            base=base,
            alphabet=wishes.alphabet,
            symbols=symbols,
            support=min(widest if wishes.support is None else wishes.support, symbols),
            block=min(wishes.block, wishes.most) * min(answers, MOST_STRANDS) + ahead,
            most=wishes.most * answers + ahead,
            experts=wishes.experts or members,
            **kind,
        )
        return question if wishes.spend is None else _priced(question, wishes, wishes.spend, members)
    except ValueError as wrong:
        raise ConfigError("parley ask", "", str(wrong)) from None


def promised(question: Question, wishes: Wishes, members: int) -> Guarantee | None:
    """Return what all answers of a session together promise a record at each home; None where nothing is charged."""
    if wishes.spend is None:
        return None
    spend, orders = wishes.spend, default_orders(wishes.spend.epsilon, wishes.spend.delta)
    one = sampled(question, 1, question.spec(wishes.terms, members, question.block))
    spent = price(SelfComposedDpEvent(one, question.most), orders, Relation.ADD_OR_REMOVE)
    return Guarantee(
        Filter(orders, spend.delta).epsilon(spent),
        spend.delta,
        question.unit,
        Relation.ADD_OR_REMOVE,
        f"{NAME} ({', '.join(f'{order:g}' for order in orders)})",
        _ASSUMED,
        ("who asks: the coordinator's machine sees the sums", "the prompts: every member sees them"),
    )


def _priced(question: Question, wishes: Wishes, spend: Spend, members: int) -> Question:
    """Return the question with the strength at which all its symbols together cost what may be spent.

    A record is in one shard, and a home charges each symbol by `sampled`: twice the square of what a shard can move.
    """
    clipped = replace(question, clip=spend.clip, lean=spend.lean, temperature=spend.temperature, strength=1.0)
    one = sampled(clipped, 1, clipped.spec(wishes.terms, members, clipped.block))
    allowed = rho_of(spend.epsilon, spend.delta, question.most)
    return replace(clipped, strength=(allowed / one.rho) ** 0.5)
